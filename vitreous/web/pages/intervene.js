// Intervene: mask patches, switch heads off, and see how the prediction changes.
import {Brush} from "./brush.js";
import {at, isPlain, made} from "./dom.js";
import {readHeads, readPatches, writeHeads, writePatches} from "./intervention.js";
import {percent} from "./panel.js";
import {whenReleased} from "./presses.js";
import {clipOf, isFrame} from "./view.js";

const UNDO_STEPS = 100;
const FILLS = {
  mean: "the mean color of the training images, which is zero after normalization",
  blur: "the image itself, blurred by a Gaussian as wide as a patch",
  neighbors: "the weighted mean of their neighbors, so that the hole has no border",
};

export function addIntervening(explorer) {
  const panel = new Interventions(explorer);
  explorer.on("view", () => panel.follow());
  explorer.on("pane", () => panel.addBrushes());
}

// Switches a head off, or on again.
export function toggleHead(explorer, layer, head) {
  const heads = readHeads(explorer.view.ablated), others = heads.filter(pair => String(pair) !== `${layer},${head}`);
  const next = others.length < heads.length ? others : [...heads, [layer, head]].sort(([a, b], [c, d]) => a - c || b - d);
  explorer.change({ablated: writeHeads(next), unchanged: false});
}

class Interventions {
  constructor(explorer) {
    this.explorer = explorer;
    this.settings = {isOn: false, erases: false, size: 2}; // of the brush
    this.brushes = new Map(); // by pane
    this.histories = new WeakMap(); // by pane, see `history`
    this.addBrushes();
    at("intervene").open = Boolean(explorer.view.masked || explorer.view.ablated);
    at("intervene").addEventListener("toggle", () => {
      if (at("intervene").open) return;
      this.setBrush({isOn: false});
      switchHeads(false);
    });
    at("brush-toggle").onclick = () => this.toggleBrush();
    at("switch-heads").onclick = () => switchHeads(at("switch-heads").getAttribute("aria-pressed") !== "true");
    for (const button of at("brush-mode").children) button.onclick = () => this.setBrush({erases: button.dataset.value === "unmask"});
    at("brush-size").oninput = () => this.setBrush({size: Number(at("brush-size").value)});
    at("fill").onchange = () => explorer.change({fill: at("fill").value});
    at("apply").onchange = () => explorer.change({unchanged: !at("apply").checked});
    at("undo").onclick = () => this.undo();
    at("invert").onclick = () => this.invert();
    at("clear").onclick = () => explorer.change({masked: "", ablated: "", unchanged: false});
    addEventListener("keydown", event => this.onKey(event));
  }

  addBrushes() {
    const {panes} = this.explorer;
    for (const pane of this.brushes.keys()) if (!panes.includes(pane)) this.brushes.delete(pane);
    for (const pane of panes) {
      if (this.brushes.has(pane)) continue;
      const mask = patches => pane.change({masked: writePatches([...patches].sort((a, b) => a - b)), unchanged: false});
      this.brushes.set(pane, new Brush(pane, this.settings, mask));
    }
    this.setBrush({});
  }

  // What the brush does in all panes.
  setBrush(settings) {
    Object.assign(this.settings, settings);
    const {isOn, erases, size} = this.settings;
    for (const brush of this.brushes.values()) brush.update();
    at("brush-toggle").ariaPressed = isOn;
    for (const button of at("brush-mode").children) button.ariaPressed = (button.dataset.value === "unmask") === erases;
    at("brush-size").value = size;
    at("brush-size-value").textContent = `${size} × ${size}`;
  }

  // What was changed before on the open image, clip or camera with this model: {now, past}, each {masked, ablated}.
  get history() {
    const {pane, view: {model, image, masked, ablated}} = this.explorer;
    const key = `${model} ${pane.image?.isLive ? "live" : isFrame(image) ? clipOf(image) : image}`;
    if (this.histories.get(pane)?.key !== key) this.histories.set(pane, {key, now: {masked, ablated}, past: []});
    return this.histories.get(pane);
  }

  invert() {
    const {attention, view} = this.explorer, masked = new Set(readPatches(view.masked));
    if (!attention) return;
    const rest = Array.from({length: attention.patches}, (_, number) => number).filter(number => !masked.has(number));
    this.explorer.change({masked: writePatches(rest), unchanged: false});
  }

  undo() {
    const {history} = this, before = history.past.pop();
    if (!before) return;
    history.now = before;
    this.explorer.change({...before, unchanged: false});
  }

  toggleBrush() {
    this.setBrush({isOn: !this.settings.isOn});
    if (this.settings.isOn) this.explorer.stage.stage.focus({preventScroll: true});
  }

  onKey(event) {
    if (event.target.matches("input:not([type=range], [type=checkbox]), textarea, select")) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && this.explorer.image && this.history.past.length) {
      event.preventDefault();
      return this.undo();
    }
    if (!event.target.classList.contains("stage") || !isPlain(event)) return;
    const sizes = {"+": 1, "=": 1, "-": -1};
    if (event.key.toLowerCase() === "b") {
      at("intervene").open = true;
      this.toggleBrush();
    } else if (sizes[event.key] && this.settings.isOn) {
      this.setBrush({size: Math.min(9, Math.max(1, this.settings.size + sizes[event.key]))});
    } else if (event.key === "Escape" && this.settings.isOn) this.setBrush({isOn: false});
  }

  follow() {
    const {view, pane, observed} = this.explorer, {history} = this, {masked, ablated} = view;
    if (masked !== history.now.masked || ablated !== history.now.ablated) {
      history.past = [...history.past, history.now].slice(-UNDO_STEPS);
      history.now = {masked, ablated};
    }
    at("fill").value = view.fill;
    at("fill-note").textContent = `Masked patches become ${FILLS[view.fill]}. Their tokens stay.`;
    at("undo").disabled = !history.past.length;
    at("apply").checked = !view.unchanged;
    at("clear").disabled = at("apply").disabled = !view.masked && !view.ablated;
    whenReleased(at("heads-off"), () => this.showHeads(readHeads(view.ablated)));
    at("change").ariaBusy = pane.isBehind;
    showChange(pane.intervention && observed, observed.prediction.problem_type === "regression");
  }

  showHeads(heads) {
    const hadFocus = at("heads-off").contains(document.activeElement);
    at("heads-off").replaceChildren(...heads.map(([layer, head]) =>
      made("button", {textContent: `layer ${layer} head ${head} ✕`, ariaLabel: `layer ${layer}, head ${head}: switch on again`,
        onclick: () => toggleHead(this.explorer, layer, head)})));
    at("heads-off").hidden = !heads.length;
    if (hadFocus) (at("heads-off").firstChild ?? at("switch-heads")).focus();
  }
}

function switchHeads(isOn) { at("switch-heads").ariaPressed = isOn; }

const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

// What the model says without and with the intervention: the score of the target, then the classes.
function showChange(observed, isRegression) {
  const change = observed?.change;
  at("change").hidden = !change;
  at("change-hint").hidden = Boolean(change);
  at("prediction-title").firstChild.textContent = change ? "Prediction after the changes " : "Prediction ";
  if (!change) return;
  const {target, unit, before, after} = change, isProbability = unit === "probability";
  const [was, is] = [before, after].map(value => isProbability ? percent(value) : value.toFixed(3));
  const difference = isProbability ? `${signed(100 * (after - before), 1)} points` : signed(after - before, 3);
  at("change-title").textContent = unit === "cosine similarity" ? "Similarity of the features to those before"
    : unit === "score" ? `Score for ${target}` : target;
  at("change-value").textContent = `${was} → ${is}`;
  at("change-difference").textContent = difference;
  at("change-difference").className = after < before ? "down" : "up";
  at("change-text").textContent = `${at("change-title").textContent}: ${was} before, ${is} after, ${difference}`;
  showClasses(change.prediction.scores, observed.prediction.scores, isRegression);
}

function showClasses(before, after, isRegression) {
  const labels = [...new Set([...before.slice(0, 4), ...after.slice(0, 4)].map(([label]) => label))].slice(0, 6);
  const scores = [before, after].map(pairs => new Map(pairs)), values = labels.map(label => scores.map(one => one.get(label) ?? 0));
  const top = isRegression ? Math.max(...values.flat().map(Math.abs)) || 1 : 1;
  const write = value => isRegression ? value.toPrecision(3) : percent(value);
  at("change-classes").hidden = !labels.length;
  at("change-rows").replaceChildren(...labels.map((label, row) => {
    const bars = values[row].map((value, number) => made("div", {className: number ? "after" : "before"}));
    bars.forEach((bar, number) => { bar.style.width = `${100 * Math.abs(values[row][number]) / top}%`; });
    return made("tr", {}, made("th", {scope: "row"}, made("span", {className: "cut", textContent: label}), ...bars),
      ...values[row].map(value => made("td", {textContent: write(value)})));
  }));
}
