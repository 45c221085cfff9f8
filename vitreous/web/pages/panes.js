// Side by side: a second pane with a model, a method and an image of its own, and which of the two is active.
import {at, isPlain} from "./dom.js";
import {toast, withBusy} from "./notices.js";
import {fromFragment, isFrame, isText} from "./view.js";

const LETTERS = ["A", "B"];

export function addPanes(explorer) {
  const toggle = () => explorer.panes[1] ? close(explorer, explorer.panes[1]) : explorer.attention ? compare(explorer) : toast("open an image first");
  at("compare").onclick = toggle;
  at("panes").addEventListener("keydown", event => {
    if (event.key.toLowerCase() !== "c" || !isPlain(event) || event.target !== explorer.stage.stage) return;
    event.preventDefault();
    toggle();
    explorer.stage.stage.focus({preventScroll: true});
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
  find("pane-close").onclick = () => close(explorer, pane);
}

function showHeads(explorer) {
  const {panes, active, opensInBoth} = explorer, areTwo = panes.length > 1;
  document.body.classList.toggle("two-panes", areTwo);
  at("compare").ariaPressed = areTwo;
  at("same-image-row").hidden = !areTwo;
  at("same-image").checked = opensInBoth;
  for (const place of document.querySelectorAll(".pane-letter")) place.textContent = areTwo ? LETTERS[active] : "";
  panes.forEach((pane, number) => {
    const find = pane.stage.find;
    find("pane-head").hidden = !areTwo;
    find("pane").classList.toggle("active", areTwo && number === active);
    find("pane-choose").ariaPressed = number === active;
    find("pane-choose").textContent = LETTERS[number];
    find("pane-title").textContent = [pane.model.name, pane.view.name].join(" · ");
  });
}

// Opens the second pane with what is most likely to be compared: the next model, or another method.
function compare(explorer) {
  const {pane, start} = explorer, view = {...pane.view}, all = {layer: -1, first: 0, heads: null};
  if (start.models.length > 1) Object.assign(view, all, {model: (view.model + 1) % start.models.length, masked: "", ablated: ""});
  else if (view.method === "rollout") view.method = "attention";
  else Object.assign(view, all, {method: "rollout"});
  const {class_names, takes_text} = start.models[view.model], has = name => isText(name) ? takes_text : class_names.includes(name);
  for (const field of ["target", "contrast"]) if (!has(view[field])) view[field] = "";
  explorer.opensInBoth = true;
  const second = open(explorer, view);
  explorer.activate(second);
  return withBusy("running the model", () => second.openImage(pane.image));
}

function open(explorer, view) {
  const section = at("pane").cloneNode(true), find = id => at(section.id.replace("pane", id)); // it may become the first pane
  for (const element of [section, ...section.querySelectorAll("[id]")]) element.id = `b-${element.id}`;
  for (const id of ["empty", "busy"]) section.querySelector(`#b-${id}`)?.remove();
  for (const id of ["caption", "reading"]) section.querySelector(`#b-${id}`).textContent = "";
  describe(section, "Second image and map", "b-");
  at("panes").append(section);
  const [first] = explorer.panes, second = explorer.addPane(view, find);
  second.stage.clear();
  Object.assign(first, {partner: second});
  Object.assign(second, {partner: first});
  listen(explorer, second, find);
  explorer.emit("pane");
  return second;
}

function describe(section, label, prefix) {
  section.ariaLabel = label;
  section.querySelector(".stage").setAttribute("aria-describedby", `keys ${prefix}caption`);
  section.querySelector(".pane-head button").setAttribute("aria-describedby", `${prefix}pane-title`);
}

// Closes a pane; the other one is the only one then.
function close(explorer, pane) {
  const {partner: kept, stage} = pane, section = stage.find("pane"), hadFocus = section.contains(document.activeElement);
  pane.jobs.cancel();
  if (explorer.camera.home === pane && !kept.image?.isLive) explorer.camera.stop();
  explorer.activate(kept);
  for (const id of ["empty", "busy"]) if (section.contains(at(id))) kept.stage.stage.append(at(id));
  at("empty").hidden = Boolean(kept.image);
  section.remove();
  if (section.id === "pane") becomeFirst(kept.stage.find("pane"));
  Object.assign(explorer, {panes: [kept], active: 0, opensInBoth: true});
  Object.assign(kept, {partner: null, linked: null});
  explorer.emit("pane");
  if (hadFocus) at("compare").focus();
  if (kept.attention) kept.show();
}

function becomeFirst(section) {
  for (const element of [section, ...section.querySelectorAll("[id]")]) element.id = element.id.replace(/^b-/, "");
  describe(section, "Image and map", "");
}

// Opens the second pane that a link describes.
export async function restorePanes(explorer, link) {
  const parts = new URLSearchParams(link), {image, view, camera, clip} = explorer;
  if (!parts.has("b") || !image && !camera.isRunning) return;
  const other = fromFragment(link, "b."), {live, name} = other, key = live ? null : other.image ?? view.image;
  const isSame = explorer.opensInBoth = !live && key === view.image;
  const second = open(explorer, Object.assign(other, {image: key, name: name || (live ? "" : view.name), live: ""}));
  if (parts.get("on") === "b") explorer.activate(second);
  if (live) return void camera.start(live, second);
  if (isSame && !image) return; // the camera's first one comes
  if (!isSame && isFrame(key) && !clip.has(key)) return clip.openFrame(key, name, second);
  await withBusy("opening the image", async signal => {
    await second.openImage(isSame ? image : await explorer.describe(key, name, signal));
  });
}
