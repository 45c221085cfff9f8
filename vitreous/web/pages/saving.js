// What can be taken away: the link, the Python lines, and files of what is shown.
import {Cancelled, getBlob, getJson, imageUrl} from "./api.js";
import {at, made} from "./dom.js";
import {blobToDataUri, compose, toDataUri, toPng, toSvg} from "./drawing.js";
import {describeIntervention, interventionOf} from "./intervention.js";
import {Menu} from "./menu.js";
import {showError, toast, withBusy} from "./notices.js";
import {doubles, floats, integers, text, texts, toNpz} from "./npz.js";
import {toOneFile} from "./one_file.js";
import {explainOptions, pythonOf, stemOf} from "./python.js";
import {clipOf, frameNumber, isFrame, nameOf} from "./view.js";

// Each file: its item in the menu, the end of its name, and how it is made of what is shown.
const FILES = {
  "save-png": [".png", async all => toPng(await draw(all))],
  "save-svg": [".svg", async all => new Blob([(await draw(all)).markup], {type: "image/svg+xml"})],
  "save-npz": [".npz", (all, active) => makeArrays(all[active])],
  "save-html": [".html", (all, active) => makePage(all[active])],
};

export function addSaving(explorer) {
  const whenReady = action => () => explorer.attention ? action() : toast("open an image first");
  at("copy-link").onclick = whenReady(async () => {
    await copy(`${location.href.split("#")[0]}#${explorer.toLink()}`);
    toast(/^(upload|clip)-/.test(explorer.view.image) && !explorer.camera.isRunning ? "Link copied; it works while this session lasts" : "Link copied");
  });
  at("show-python").onclick = whenReady(() => lacksPatch(explorer.pane) ? toast("choose a patch first") : showPython(pythonOf(snapshot(explorer.pane))));
  at("copy-python").onclick = async () => {
    await copy(at("python").textContent, at("python-panel"));
    at("copy-python").textContent = "Copied";
  };
  at("close-python").onclick = () => at("python-panel").close();
  for (const [id, [suffix, make]] of Object.entries(FILES)) at(id).onclick = whenReady(() => save(explorer, suffix, make));
  at("save-image").onclick = whenReady(() => withBusy("writing the file", async () => {
    const {view} = explorer, blob = await getBlob(imageUrl(view.image, "pixels"));
    download(blob, `${stemOf(view)}${blob.type === "image/png" ? ".png" : ".jpg"}`);
  }));
  at("save-video").onclick = whenReady(() => saveVideo(explorer));
  explorer.on("image", () => { at("save-video").hidden = !isFrame(explorer.view.image); });
  new Menu(at("save"), at("save-menu"));
}

function showPython(lines) {
  at("python").textContent = lines;
  at("copy-python").textContent = "Copy";
  at("python-panel").showModal();
}

const lacksPatch = pane => pane.source === "similarity" && !pane.reference;

// Saves the active pane; where the file has room for both, the other one beside it.
async function save({panes, active, pane}, suffix, make) {
  for (const {stage} of panes) stage.hover(null); // the view is that of the pinned patch
  if (lacksPatch(pane)) return toast("choose a patch first");
  if (!pane.stage.drawn) return toast("there is no map yet: wait for it");
  const shown = panes.map((one, number) => number === active || one.stage.drawn ? snapshot(one) : null).filter(Boolean);
  const {view} = shown.length > 1 ? shown[active] : shown[0];
  await withBusy("writing the file", async () => download(await make(shown, shown.length > 1 ? active : 0), `${stemOf(view)}-${view.method}${suffix}`));
}

// Saves the whole clip with the map of the active pane, as `vitreous video` draws it.
async function saveVideo({pane, writing}) {
  const {view} = pane, options = explainOptions(pane);
  if (pane.maps.sharesComponents() || pane.reference?.pane.view.image !== undefined && pane.reference.pane !== pane) return toast("a video has one image at a time: close the other pane first");
  if (interventionOf(view)) return toast("a video shows the unchanged clip and model: clear the changes first");
  if (!options) return toast("a video takes all heads or one, seen from the output or from a patch: choose those");
  const {target, query, ...others} = options, path = `/api/clips/${encodeURIComponent(clipOf(view.image))}/video`;
  const fields = {model: view.model, method: view.method, options: others, target: target ?? null, query: query ?? null, opacity: view.opacity / 100};
  try {
    const {data, description} = await writing.run(fields, {purpose: "video", label: "writing the video", path});
    download(new Blob([data], {type: "video/mp4"}), `${stemOf({...view, image: null})}-${view.method}.mp4`);
    if (description.notes.length) toast(description.notes.join(" · "));
  } catch (error) {
    if (!(error instanceof Cancelled)) showError(error);
  }
}

// What is shown now: writing a file may take a while, in which a person goes on.
function snapshot(pane) {
  const {view, image, model, method, observed, attention, stage, caption, reading, source, explorer} = pane, {drawn, legend, size, geometry} = stage;
  const tokens = source === "similarity" ? explorer.tokens.find(pane.tokensOf(pane)) : null;
  const photo = pane.masks.masked.size ? pane.masks.paintOn(stage.photo) : null; // with its masked patches
  const isCompared = source === "similarity" ? pane.reference && pane.reference.pane !== pane : pane.maps.sharesComponents();
  return {
    view: {...view}, name: nameOf(pane), image, model, method, observed, attention, drawn, legend, size, geometry, caption, reading, source,
    palettes: explorer.palettes, tables: explorer.start.palettes, tokens,
    weights: {attention: observed, similarity: tokens, server: pane.maps.shown}[source]?.weights,
    pair: isCompared ? {view: {...pane.partner.view}, image: pane.partner.image, patch: pane.reference?.patch} : null,
    intervention: pane.intervention, photo, blended: compose({...stage, photo: photo ?? stage.photo}), isPixelated: stage.photo.classList.contains("pixels"), patchBox: view.patch && stage.boxOf(view.patch),
    target: source === "server" ? pane.maps.shown?.target ?? "" : "", title: `${nameOf(pane)}: ${[caption, reading].filter(Boolean).join(". ")}`,
  };
}

async function copy(content, parent = document.body) {
  try {
    await navigator.clipboard.writeText(content);
  } catch { // pages without a secure origin have no clipboard
    const area = made("textarea", {value: content, className: "hidden"});
    parent.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// What the model says about the image, in a few words.
function predictionOf({observed: {prediction}}, count) {
  const format = score => prediction.problem_type === "regression" ? score.toPrecision(3) : `${(100 * score).toFixed(1)} %`;
  return prediction.scores.slice(0, count).map(([label, score]) => `${label} ${format(score)}`).join(", ");
}

// The image as the server sends it, or with its masked patches, as a data URI.
async function photoOf({view, photo}) {
  const blob = await getBlob(imageUrl(view.image, "pixels")), isLossless = blob.type === "image/png";
  return {photoUri: photo ? toDataUri(photo, isLossless) : await blobToDataUri(blob), isLossless};
}

async function draw(all) {
  return toSvg(await Promise.all(all.map(async shown => {
    const {name, model, caption, reading} = shown, origin = [model.name, name, predictionOf(shown, 1)].filter(Boolean).join(" · ");
    return {...shown, ...await photoOf(shown), lines: [caption, reading, origin, describeIntervention(shown.intervention)].filter(Boolean)};
  })));
}

const fingerprintOf = async ({weights}) => (await getJson(`/api/fingerprints/${encodeURIComponent(weights)}`)).fingerprint;

// The map as `Explanation.save` writes it, and what it belongs to.
async function makeArrays(shown) {
  const {view, model, drawn, geometry, size, observed: {prediction}} = shown, {rows, columns, values, offset, colors} = drawn;
  const arrays = {
    patch_map: floats(values.subarray(offset, offset + rows * columns), [rows, columns]), box: doubles(drawn.box),
    visible_box: doubles(geometry.visible_box), image_size: integers([size.height, size.width]), method: text(view.method),
    caption: text(shown.caption), reading: text(shown.reading), target: text(shown.target),
    labels: texts(prediction.scores.map(([label]) => label)), scores: doubles(prediction.scores.map(([, score]) => score)),
    image_name: text(view.name), model: text(model.origin), fingerprint: text(await fingerprintOf(shown)),
    settings: text(JSON.stringify(view)), python: text(pythonOf(shown)),
  };
  if (isFrame(view.image)) Object.assign(arrays, {frame: integers([frameNumber(view.image)]), time_seconds: doubles([shown.image.seconds])});
  if (colors) arrays.patch_colors = floats(colors, [rows, columns, 3]);
  return toNpz(arrays);
}

async function makePage(shown) {
  const {name, model, image, caption} = shown, best = predictionOf(shown, 1), photo = await photoOf(shown); // of a camera, before it is gone
  const facts = {
    Image: `${name}, ${image.width} × ${image.height}`, Model: model.origin, Fingerprint: await fingerprintOf(shown),
    Prediction: predictionOf(shown, 5), Truth: image.truth, Map: caption, Target: shown.target, Changed: describeIntervention(shown.intervention), Saved: new Date().toISOString().slice(0, 10),
  };
  return toOneFile(shown, {...photo, facts, python: pythonOf(shown), heading: [model.name, best].filter(Boolean).join(" · ")});
}

// Saves bytes as a file of the browser's download folder.
export function download(blob, name) {
  const link = made("a", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
