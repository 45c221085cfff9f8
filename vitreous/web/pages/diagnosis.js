// What `vitreous doctor` says about the model on this image: outlier tokens are marked, and its words are one click away.
import {Cancelled, runJob} from "./api.js";
import {at, made} from "./dom.js";

const PAUSE_MS = 500; // the map comes first
const KEPT = 16;
const LEVELS = {fault: "fault", note: "note", ok: "fine", unknown: "not measured"};

export function addDiagnosis(explorer) {
  const diagnosis = new Diagnosis(explorer);
  explorer.diagnosis = null; // {findings, outliers} of the unchanged image, once the server has them
  for (const event of ["image", "model", "pane"]) explorer.on(event, () => diagnosis.show());
  for (const event of ["observed", "still"]) explorer.on(event, () => diagnosis.ask());
  explorer.on("view", () => diagnosis.mark());
  explorer.on("map", () => diagnosis.describePatch());
}

class Diagnosis {
  constructor(explorer) {
    this.explorer = explorer;
    this.found = new Map(); // by model and image
    for (const id of ["doctor-open", "doctor-open-plots"]) at(id).onclick = () => at("doctor").showModal();
    at("doctor-close").onclick = () => at("doctor").close();
    at("doctor").onclick = event => event.target === at("doctor") && at("doctor").close();
    at("mark-outliers").onchange = () => this.mark();
  }

  // Asks the server once for each image, when the map is there; not for the frames of a clip that plays or of a camera.
  ask() {
    if (this.explorer.isPlaying || this.explorer.camera.isRunning) return;
    const {image, model} = this.explorer.view, key = keyOf(this.explorer.view);
    if (key === this.asked || this.found.has(key)) return this.show();
    this.asked = key;
    clearTimeout(this.timer);
    this.controller?.abort();
    const controller = this.controller = new AbortController();
    this.timer = setTimeout(async () => {
      try {
        this.found.set(key, (await runJob({kind: "doctor", image, model}, {signal: controller.signal})).description);
      } catch (error) {
        if (error instanceof Cancelled) return;
        this.found.set(key, {findings: [], outliers: null, error: error.message});
      }
      if (this.found.size > KEPT) this.found.delete(this.found.keys().next().value);
      this.show();
    }, PAUSE_MS);
  }

  show() {
    const {explorer} = this, diagnosis = explorer.diagnosis = this.found.get(keyOf(explorer.view)) ?? null;
    this.layersOf = outlierLayers(diagnosis);
    explorer.emit("diagnosis");
    if (diagnosis) at("diagnosis").hidden = at("doctor-open-plots").hidden = false;
    for (const id of ["diagnosis", "doctor-open-plots"]) at(id).classList.toggle("waiting", !diagnosis); // they keep their place
    this.mark();
    if (!diagnosis) return;
    const count = level => diagnosis.findings.filter(one => one.level === level).length, tokens = this.layersOf.size;
    at("outliers-label").hidden = !tokens;
    at("outliers-text").textContent = ` mark ${tokens} outlier token${tokens === 1 ? "" : "s"}`;
    const counts = ["fault", "note"].filter(count).map(level => `${count(level)} ${level}${count(level) === 1 ? "" : "s"}`);
    at("doctor-open").textContent = diagnosis.error ? "The doctor can't measure this model"
      : `The doctor on this image: ${counts.join(", ") || "no faults"}${tokens || !diagnosis.outliers ? "" : ", no outlier tokens"}`;
    at("doctor-findings").replaceChildren(...diagnosis.error ? [paragraph(diagnosis.error)] : diagnosis.findings.map(describe));
  }

  // Marks the outlier tokens on the images, unless they are changed: they are those of the unchanged ones.
  mark() { for (const pane of this.explorer.panes) this.markIn(pane); }

  markIn({attention, observed, stage, view, intervention}) {
    const svg = stage.find("outliers"), patches = outlierLayers(this.found.get(keyOf(view)));
    const isShown = attention && patches.size && at("mark-outliers").checked && !intervention;
    svg.toggleAttribute("hidden", !isShown);
    if (!isShown) return;
    stage.span(svg, observed.geometry.box);
    svg.setAttribute("viewBox", `0 0 ${attention.columns} ${attention.rows}`);
    const diamonds = [...patches.keys()].map(patch => {
      const x = patch % attention.columns + 0.5, y = Math.floor(patch / attention.columns) + 0.5;
      return `M${x} ${y - 0.42}l.42 .42l-.42 .42l-.42 -.42z`;
    });
    for (const path of svg.children) path.setAttribute("d", diamonds.join(""));
  }

  // Says of the patch under the pointer, or the pinned one, whether it is an outlier token.
  describePatch() {
    const {pane: {patch}, attention} = this.explorer, layers = patch && this.layersOf.get(patch[0] * attention.columns + patch[1]);
    at("outlier-patch").textContent = layers ? `◆ This patch is an outlier token after layer${layers.length > 1 ? "s" : ""} ${layers.join(", ")}.` : "";
  }
}

const keyOf = ({model, image}) => `${model} ${image}`;

// By patch, after which blocks it is an outlier token.
function outlierLayers(diagnosis) {
  const found = new Map();
  diagnosis?.outliers?.forEach((patches, layer) => patches.forEach(patch => found.set(patch, [...found.get(patch) ?? [], layer])));
  return found;
}

const paragraph = (textContent, className = "") => made("p", {textContent, className});

function describe({topic, level, message, advice}) {
  const head = made("h3", {}, made("span", {className: "level", textContent: LEVELS[level]}), ` ${topic}`);
  return made("section", {className: level}, head, paragraph(message), ...advice ? [paragraph(advice, "quiet")] : []);
}

// The heads that findings name, as "layer head", each with the topics; faults and notes only.
export function headsWithFindings({findings}) {
  const found = new Map();
  for (const {topic, level, locations} of findings) {
    if (level !== "fault" && level !== "note") continue;
    for (const [layer, head] of locations.filter(location => location.length === 2)) {
      found.set(`${layer} ${head}`, [...found.get(`${layer} ${head}`) ?? [], topic]);
    }
  }
  return found;
}
