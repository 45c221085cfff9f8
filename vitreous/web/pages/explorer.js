// The explorer: one view, what it needs from the server, and everything that shows it.
import {Attention} from "./attention.js";
import {Cancelled, getJson, imageUrl, runJob, upload} from "./api.js";
import {Gallery} from "./gallery.js";
import {HeadPlots, SmallMultiples} from "./heads.js";
import {Palettes} from "./heatmap.js";
import {Controls, showPrediction} from "./panel.js";
import {Stage} from "./stage.js";
import {IN_BROWSER, captionOf, clampView, fromFragment, methodOptions, pythonOf, queryPoint, targetOf, toFragment, tokenName} from "./view.js";

const at = id => document.getElementById(id);
const MAPS_KEPT = 24;

let start, view, stage, multiples, plots, controls, gallery;
let meta = null, observed = null, attention = null; // of the image that is open
let pending = null; // what the server computes now: {controller, key}
let maps = new Map(), shownMap = null;

const method = () => start.methods[view.method];
const startToken = patch => patch ? attention.tokenOf(...patch) : view.token;
const startPatch = () => stage.hovered ?? view.patch;

async function begin() {
  setTheme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  start = await getJson("/api/start");
  view = fromFragment(location.hash.slice(1));
  if (!Object.hasOwn(start.methods, view.method)) view.method = "rollout";
  const palettes = new Palettes(start.palettes);
  if (!palettes.names.includes(view.palette)) view.palette = "inferno";
  if (!start.models[view.model]) view.model = 0;
  stage = new Stage(palettes, {onHover: () => refreshMap(), onPin: patch => patch && change({patch: String(patch) === String(view.patch) ? null : patch})});
  multiples = new SmallMultiples(palettes, chooseHead);
  plots = new HeadPlots(chooseHead);
  controls = new Controls(start.methods, palettes, change);
  at("model").append(...start.models.map((model, index) => new Option(model.name, index)));
  at("model").value = view.model;
  at("model").addEventListener("change", () => changeModel(Number(at("model").value)));
  if (start.gallery) {
    gallery = new Gallery(start.gallery, {onOpen: item => openStored(item.image), modelOf: () => view.model, onError: showError});
    gallery.load().then(() => view.image || gallery.items[0] && openStored(gallery.items[0].image));
  }
  setButtons();
  if (view.image) await openStored(view.image, view.name);
  document.body.dataset.ready = "true";
}

// ---- images

async function openFile(file) {
  if (!file) return;
  await withBusy("reading the image", async () => {
    const found = await upload(file);
    await openImage({...found, name: file.name && file.name !== "image.png" ? file.name : "pasted image"});
  });
}

async function openStored(image, name) {
  gallery?.choose(image);
  await withBusy("opening the image", async () => {
    const found = await getJson(imageUrl(image, "").slice(0, -1));
    await openImage({...found, name: name || found.name});
  });
}

async function openImage(found) {
  const isNew = found.image !== view.image;
  if (isNew) Object.assign(view, {patch: null, target: "", contrast: ""});
  meta = found;
  view.image = found.image;
  view.name = found.name;
  gallery?.choose(found.image);
  at("image-name").textContent = `${found.name} · ${found.width} × ${found.height}`;
  const picture = new Image();
  picture.src = imageUrl(found.image, "pixels");
  const drawn = picture.decode().then(() => meta === found && stage.setImage(picture, found));
  await Promise.all([drawn, observe(drawn)]);
}

async function changeModel(index) {
  Object.assign(view, {model: index, layer: -1, first: 0, heads: null, patch: null, token: -1, target: "", contrast: ""});
  gallery?.load();
  stage.hideMap();
  if (meta) await withBusy("running the model", () => observe(Promise.resolve()));
}

// Gets all attention matrices of the model on the image, from one forward pass.
async function observe(drawn) {
  observed = attention = shownMap = null;
  maps = new Map();
  const image = meta;
  const {description, data} = await runPending("attention", {kind: "attention", model: view.model, image: image.image});
  await drawn;
  if (meta !== image) return;
  observed = description;
  attention = new Attention(description, data);
  clampView(view, attention);
  if (description.rollout_obstacle && view.method === "rollout") view.method = "attention";
  stage.setGeometry(description.geometry, attention.rows, attention.columns);
  multiples.setAttention(attention, description.geometry);
  show();
  plots.measure(attention);
}

// ---- the map

function change(fields) {
  const before = view.method;
  Object.assign(view, fields);
  if ("target" in fields || "contrast" in fields) {
    if ((view.target || view.contrast) && !method().is_class_specific) view.method = "gradient-rollout";
    if (view.contrast && view.contrast === (view.target || observed?.prediction.scores[0]?.[0])) view.contrast = "";
  }
  if (!attention) return;
  if ("first" in fields && view.first > view.layer) view.layer = view.first;
  if ("layer" in fields && view.first > view.layer) view.first = view.layer;
  if (view.method === "rollout" && before !== "rollout") Object.assign(view, {first: 0, layer: attention.depth - 1, heads: null});
  if (view.method === "rollout" && observed.rollout_obstacle) {
    view.method = before === "rollout" ? "attention" : before;
    showError(new Error(observed.rollout_obstacle));
  }
  if (!IN_BROWSER.includes(view.method) && view.heads?.length > 1) view.heads = null;
  clampView(view, attention);
  show();
}

function chooseHead(layer, head) {
  change({method: "attention", layer, heads: [head]});
  if (innerWidth <= 860) at("stage").scrollIntoView({behavior: "smooth", block: "start"});
}

function show() {
  controls.show(view, attention);
  showPrediction({prediction: observed.prediction, truth: meta.truth, view, method: method(), model: start.models[view.model]}, target => change({target}));
  stage.mark(at("pin"), view.patch);
  const head = view.method === "attention" && view.heads?.length === 1 ? view.heads[0] : null;
  multiples.choose(head === null ? null : view.layer, head);
  plots.choose(head === null ? null : `${view.layer} ${head}`);
  history.replaceState(null, "", `#${toFragment(view)}`);
  if (!IN_BROWSER.includes(view.method)) requestMap();
  else if (pending?.key !== "attention") { pending?.controller.abort(); shownMap = null; }
  refreshMap();
}

// Draws the map and the small maps for the patch under the pointer, or the one that is pinned.
function refreshMap() {
  if (!attention) return;
  const patch = startPatch(), token = startToken(patch), toward = view.toward && token >= 0;
  at("all-heads-note").textContent = `${toward ? "What attends in each head to" : "What each head attends to from"} ` +
    `the ${patch ? "patch" : tokenName(token, attention)}. Choose one to see it large.`;
  multiples.draw({start: token, toward, palette: view.palette, ownScale: at("own-scale").checked});
  if (!IN_BROWSER.includes(view.method)) return drawServerMap();
  const settings = {...view, start: token, toward, last: view.layer};
  const weights = view.method === "rollout" ? attention.rollout(settings) : attention.attention(settings);
  stage.draw({values: weights, offset: attention.prefix, rows: attention.rows, columns: attention.columns,
    box: observed.geometry.box, unit: attention.patches}, view);
  setCaption(captionOf(view, attention, patch), describeWeights(weights, patch, toward));
}

function describeWeights(weights, patch, toward) {
  const {prefix, columns, patches} = attention, parts = [];
  let best = prefix, onPrefix = 0;
  for (let i = 0; i < weights.length; i++) {
    if (i < prefix) onPrefix += weights[i];
    else if (weights[i] > weights[best]) best = i;
  }
  const place = `row ${Math.floor((best - prefix) / columns)}, column ${(best - prefix) % columns}`;
  if (!toward && prefix && view.fusion === "mean") parts.push(`${Math.round(100 * onPrefix)} % on ${prefix > 1 ? "prefix tokens" : "the class token"}`);
  if (patch) {
    const own = weights[attention.tokenOf(...patch)];
    parts.push(toward ? `from itself ${(own * patches).toFixed(1)} ×` : `${Math.round(100 * own)} % on itself`);
  }
  parts.push(`most ${toward ? "from" : "on"} ${place}: ${(weights[best] * patches).toFixed(1)} × uniform`);
  return parts.join(" · ");
}

function setCaption(caption, reading) {
  at("caption").textContent = caption;
  at("reading").textContent = reading;
  at("photo").setAttribute("aria-label", `${view.name}: ${caption}. ${reading}`);
}

function mapFields() {
  const fields = {kind: "map", model: view.model, image: view.image, method: view.method, options: methodOptions(view, method())};
  if (method().is_class_specific) fields.target = targetOf(view, observed.prediction);
  if (view.patch && method().options.includes("query") && !(view.method === "features" && view.feature !== "similarity")) {
    fields.query = queryPoint(view.patch, observed.geometry, attention);
  }
  return fields;
}

async function requestMap() {
  const fields = mapFields(), key = JSON.stringify(fields);
  if (maps.has(key)) { pending?.controller.abort(); shownMap = maps.get(key); return; }
  if (pending?.key === key) return;
  shownMap = null;
  await withBusy(view.method, async () => {
    const {description, data} = await runPending(key, fields), cells = description.rows * description.columns;
    const found = {...description, values: new Float32Array(data, 0, cells), colors: description.has_colors ? new Float32Array(data, 4 * cells) : null};
    maps.set(key, found);
    if (maps.size > MAPS_KEPT) maps.delete(maps.keys().next().value);
    if (attention && key === JSON.stringify(mapFields())) { shownMap = found; refreshMap(); }
  });
}

function drawServerMap() {
  if (!shownMap) {
    stage.hideMap();
    return setCaption(view.method, "");
  }
  const {rows, columns, geometry, scale_kind, values, colors, caption, target, score} = shownMap;
  const unit = scale_kind === "proportion" ? rows * columns : 1;
  stage.draw({values, rows, columns, box: geometry.box, signed: scale_kind === "signed" && !colors, colors, unit}, view);
  const isDifference = target?.includes(" rather than ") && !start.models[view.model].class_names.includes(target);
  const name = target === "predicted class" ? `${shownMap.prediction.scores[0][0]}, the predicted class` : target;
  const number = score === null ? "" : isDifference ? ` (logits differ by ${score.toFixed(2)})` : ` (${(100 * score).toFixed(1)} %)`;
  setCaption(caption, target ? `for ${name}${number}${scale_kind === "signed" ? ", orange for it, blue against it" : ""}` : "");
}

// ---- work of the server

async function runPending(key, fields) {
  pending?.controller.abort();
  const controller = new AbortController(), own = pending = {key, controller};
  try {
    return await runJob(fields, {signal: controller.signal, onStatus: status => pending === own && showStatus(status)});
  } finally {
    if (pending === own) pending = null;
  }
}

let busy = 0;

async function withBusy(text, work) {
  const own = ++busy;
  const timer = setTimeout(() => own === busy && showBusy(text), 180);
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Cancelled)) showError(error);
  } finally {
    clearTimeout(timer);
    if (own === busy) at("busy").hidden = true;
  }
}

function showBusy(text) {
  at("busy").hidden = false;
  at("busy-text").textContent = text;
  at("busy-bar").removeAttribute("value");
}

function showStatus({state, before, done, total, message}) {
  if (at("busy").hidden) return;
  const what = view.method !== "attention" && pending?.key !== "attention" ? view.method : "running the model";
  at("busy-text").textContent = state === "queued" && before ? `waiting: ${before} before this`
    : done ? `${what}: ${done}${total ? ` of ${total}` : ""} ${message}` : what;
  if (total) Object.assign(at("busy-bar"), {max: total, value: Math.min(done, total)});
  else at("busy-bar").removeAttribute("value");
}

// ---- buttons, keys, files

let toastTimer;

function toast(text, isError = false) {
  clearTimeout(toastTimer);
  at("toast").textContent = text;
  at("toast").className = `shown${isError ? " error" : ""}`;
  toastTimer = setTimeout(() => { at("toast").className = ""; }, isError ? 7000 : 2500);
}

function showError(error) { toast(error.message, true); }

function setTheme(theme) { document.documentElement.dataset.theme = theme; }

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // pages without a secure origin have no clipboard
    const area = Object.assign(document.createElement("textarea"), {value: text, className: "hidden"});
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(said);
}

function python() {
  const model = start.models[view.model];
  return pythonOf(view, {model, gallery: start.gallery, attention, geometry: observed.geometry, prediction: observed.prediction, method: method()});
}

async function savePng() {
  const top = observed.prediction.scores[0];
  const blob = await stage.toPng([at("caption").textContent, [start.models[view.model].name, view.name,
    ...(top && observed.prediction.problem_type !== "regression" ? [`${top[0]} ${(100 * top[1]).toFixed(1)} %`] : [])].join(" · ")]);
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: `${view.name.replace(/\.\w+$/, "")}-${view.method}.png`});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function setButtons() {
  at("open").onclick = at("choose").onclick = () => at("file").click();
  at("file").onchange = () => { openFile(at("file").files[0]); at("file").value = ""; };
  at("cancel").onclick = () => { pending?.controller.abort(); at("busy").hidden = true; };
  at("theme").onclick = () => {
    const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    setTheme(theme);
    localStorage.setItem("theme", theme);
  };
  at("own-scale").onchange = refreshMap;
  const whenReady = action => () => attention ? action() : toast("open an image first");
  at("copy-link").onclick = whenReady(() => copy(location.href, view.image.startsWith("upload-")
    ? "Link copied; it works while this session lasts" : "Link copied"));
  at("copy-python").onclick = whenReady(() => copy(python(), "Python copied"));
  at("save-png").onclick = whenReady(savePng);
  at("stage").addEventListener("keydown", onKey);
  addEventListener("hashchange", () => location.reload());
  addEventListener("paste", event => {
    const item = [...event.clipboardData?.items ?? []].find(one => one.kind === "file");
    if (item) openFile(item.getAsFile());
  });
  addEventListener("dragover", event => { event.preventDefault(); at("drop").hidden = false; });
  addEventListener("dragleave", event => { if (!event.relatedTarget) at("drop").hidden = true; });
  addEventListener("drop", event => {
    event.preventDefault();
    at("drop").hidden = true;
    openFile(event.dataTransfer.files[0]);
  });
}

function onKey(event) {
  if (!attention || event.ctrlKey || event.metaKey || event.altKey || event.target !== at("stage")) return;
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
  const names = Object.keys(start.methods), heads = [null, ...Array.from({length: attention.heads[view.layer]}, (_, head) => [head])];
  const next = (list, now) => list[(list.findIndex(one => String(one) === String(now)) + 1) % list.length];
  const actions = {
    Enter: () => stage.hovered && change({patch: stage.hovered}),
    Escape: () => change({patch: null, token: -1}),
    d: () => change({toward: !view.toward}),
    m: () => change({method: next(names, view.method)}),
    "[": () => change({layer: Math.max(0, view.layer - 1)}),
    "]": () => change({layer: Math.min(attention.depth - 1, view.layer + 1)}),
    h: () => change({heads: next(heads, view.heads)}),
    o: () => change({opacity: view.opacity ? 0 : 100}),
  };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!step && !action) return;
  event.preventDefault();
  if (action) return action();
  const [row, column] = view.patch ?? [Math.floor(attention.rows / 2), Math.floor(attention.columns / 2)];
  const moved = view.patch ? [row + step[0], column + step[1]] : [row, column];
  const inside = (value, count) => Math.min(count - 1, Math.max(0, value));
  stage.hover(null);
  change({patch: [inside(moved[0], attention.rows), inside(moved[1], attention.columns)]});
}

begin().catch(showError);
