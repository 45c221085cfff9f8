// Side by side: a second pane with a model, a method and an image of its own, and which of the two is active.
import {getJson, imageUrl} from "./api.js";
import {at} from "./dom.js";
import {toast, withBusy} from "./notices.js";
import {fromFragment, isText} from "./view.js";

const LETTERS = ["A", "B"];

export function addPanes(explorer) {
  const toggle = () => explorer.panes[1] ? close(explorer) : explorer.attention ? compare(explorer) : toast("open an image first");
  at("compare").onclick = toggle;
  at("panes").addEventListener("keydown", event => {
    if (event.key.toLowerCase() !== "c" || event.ctrlKey || event.metaKey || event.altKey || event.target !== explorer.stage.stage) return;
    event.preventDefault();
    toggle();
  });
  at("same-image").onchange = () => {
    explorer.opensInBoth = at("same-image").checked;
    const {pane} = explorer, {partner} = pane;
    if (explorer.opensInBoth && partner.view.image !== pane.view.image) {
      withBusy("opening the image", () => partner.openImage(pane.image));
    }
  };
  listen(explorer, explorer.pane, at);
  for (const event of ["pane", "image", "model"]) explorer.on(event, () => showHeads(explorer));
}

// A pane becomes active when a person works in it.
function listen(explorer, pane, find) {
  for (const event of ["pointerdown", "focusin"]) find("pane").addEventListener(event, () => explorer.activate(pane));
  find("pane-close").onclick = () => close(explorer);
}

function showHeads(explorer) {
  const {panes, active, opensInBoth} = explorer, areTwo = panes.length > 1;
  document.body.classList.toggle("two-panes", areTwo);
  at("compare").setAttribute("aria-pressed", areTwo);
  at("same-image-row").hidden = !areTwo;
  at("same-image").checked = opensInBoth;
  for (const place of document.querySelectorAll(".pane-letter")) place.textContent = areTwo ? LETTERS[active] : "";
  panes.forEach((pane, number) => {
    const find = pane.stage.find;
    find("pane-head").hidden = !areTwo;
    find("pane").classList.toggle("active", areTwo && number === active);
    find("pane-choose").setAttribute("aria-pressed", number === active);
    find("pane-choose").textContent = LETTERS[number];
    find("pane-title").textContent = [pane.model.name, pane.view.name].join(" · ");
  });
}

// Opens the second pane with what is most likely to be compared: the next model, or another method.
function compare(explorer) {
  const {pane, start} = explorer, view = {...pane.view, live: ""};
  if (start.models.length > 1) Object.assign(view, {model: (view.model + 1) % start.models.length, layer: -1, first: 0, heads: null,
    masked: "", ablated: ""});
  else view.method = view.method === "rollout" ? "attention" : "rollout";
  const {class_names, takes_text} = start.models[view.model], has = name => isText(name) ? takes_text : class_names.includes(name);
  for (const field of ["target", "contrast"]) if (!has(view[field])) view[field] = "";
  explorer.opensInBoth = true;
  const second = open(explorer, view);
  explorer.activate(second);
  return withBusy("running the model", () => second.openImage(pane.image));
}

function open(explorer, view) {
  const section = at("pane").cloneNode(true), find = id => at(`b-${id}`);
  for (const element of [section, ...section.querySelectorAll("[id]")]) element.id = `b-${element.id}`;
  for (const id of ["empty", "busy"]) section.querySelector(`#b-${id}`)?.remove();
  for (const id of ["caption", "reading"]) section.querySelector(`#b-${id}`).textContent = "";
  section.setAttribute("aria-label", "Second image and map");
  section.querySelector(".stage").setAttribute("aria-describedby", "keys b-caption");
  section.querySelector("[aria-describedby=pane-title]")?.setAttribute("aria-describedby", "b-pane-title");
  at("panes").append(section);
  const [first] = explorer.panes, second = explorer.addPane(view, find);
  second.stage.clear();
  Object.assign(first, {partner: second});
  Object.assign(second, {partner: first});
  listen(explorer, second, find);
  explorer.emit("pane");
  return second;
}

function close(explorer) {
  const [first, second] = explorer.panes;
  second.jobs.cancel();
  if (at("b-pane").contains(at("busy"))) first.stage.stage.append(at("busy"));
  const hadFocus = at("b-pane").contains(document.activeElement);
  explorer.activate(first);
  explorer.panes.pop();
  Object.assign(first, {partner: null, linked: null});
  at("b-pane").remove();
  explorer.opensInBoth = true;
  explorer.emit("pane");
  if (hadFocus) at("compare").focus();
  if (first.attention) first.show();
}

// Opens the second pane that a link describes.
export async function restorePanes(explorer, link) {
  const parts = new URLSearchParams(link), {image, view} = explorer;
  if (!parts.has("b") || !image) return;
  const other = fromFragment(link, "b."), key = other.image ?? view.image, name = other.name;
  explorer.opensInBoth = key === view.image;
  const second = open(explorer, Object.assign(other, {image: key, name: name || view.name}));
  if (parts.get("on") === "b") explorer.activate(second);
  await withBusy("opening the image", async () => {
    const found = key === view.image ? image : await getJson(imageUrl(key, "").slice(0, -1));
    await second.openImage({...found, name: name || found.name});
  });
}
