// Runs while they train: how far each is, its curves, and the maps of its fixed images. The server is asked for what
// has changed, and answers when something has.
import {Cancelled, followJob, getJson, post} from "./api.js";
import {CurveChart, fewer, runningMedian} from "./curves.js";
import {at, made} from "./dom.js";
import {GrowingMaps} from "./growing.js";
import {Palettes} from "./heatmap.js";
import {keepLink} from "./link.js";
import {toast} from "./notices.js";
import {RunCard} from "./run_card.js";
import {addTheme} from "./theme.js";

const STYLES = 6; // colors of runs
const RETRY_MS = 3000;

// Values over the epochs, those that are numbers: [[epoch, value], ...].
function pointsOf({epoch, validation, ...columns}, name, isValidation) {
  return columns[name].flatMap((value, i) => value === null || validation[i] !== isValidation ? [] : [[epoch[i], value]]);
}

class TrainingPage {
  constructor(palettes) {
    this.runs = [];
    this.cards = [];
    this.charts = new Map();
    const link = new URLSearchParams(location.hash.slice(1));
    this.shown = Number(link.get("run") ?? 0);
    this.wanted = link.has("step") ? Number(link.get("step")) : null;
    this.followLink = keepLink(() => this.toLink());
    this.growing = new GrowingMaps(palettes, () => this.markStep());
    this.growing.method = link.get("method") ?? "attention";
    at("growing-run").addEventListener("change", () => { this.shown = Number(at("growing-run").value); this.showMaps(); });
  }

  // Takes what the server says has changed, a list with an object for each run.
  take(changes) {
    changes.forEach((change, i) => {
      const run = this.runs[i] ??= {metrics: null, maps: null};
      if (change.description) run.description = change.description;
      if (change.status) run.status = change.status;
      if (change.metrics) run.metrics = joined(run.metrics, change.metrics);
      if (change.maps) run.maps = {...change.maps, steps: [...run.maps?.steps.slice(0, change.maps.start) ?? [], ...change.maps.steps]};
      this.cards[i] ??= new RunCard(i, this.styleOf(i), changes.length > 1, () => this.reload(i));
      if (change.description || change.status || change.metrics) this.cards[i].show(run);
    });
    if (this.shown >= this.runs.length || !(this.shown >= 0)) this.shown = 0;
    if (changes.some(({description}) => description)) this.listRuns();
    if (changes.some(({description, metrics}) => description || metrics)) this.showCurves();
    if (changes[this.shown].maps || changes[this.shown].status) this.showMaps();
  }

  styleOf(i) { return `run${i % STYLES}`; }

  // Of several runs each has one color; of one run, training and validation have their own.
  trainingStyle(i) { return `${this.runs.length > 1 ? this.styleOf(i) : "run1"} pale`; }

  listRuns() {
    at("growing-run-field").hidden = this.runs.length < 2;
    at("growing-run").replaceChildren(...this.runs.map(({description}, i) => new Option(description.name, i)));
    at("growing-run").value = this.shown;
    document.title = `${this.runs.map(({description}) => description.name).join(", ")} – training – Vitreous`;
  }

  // ---- curves

  showCurves() {
    const metrics = new Map(this.runs.map(({description: {metric}}) => [metric.name, metric]));
    const charts = [["loss", {title: "Loss", format: value => value.toPrecision(3)}]];
    for (const [name, metric] of metrics) {
      if (name === "loss") continue;
      const capital = metric.title[0].toUpperCase() + metric.title.slice(1);
      charts.push([name, metric.is_fraction
        ? {title: `${capital} in %`, unit: 100, metric, limits: [0, 100], format: value => `${value.toFixed(1)} %`}
        : {title: capital, metric, format: value => value.toPrecision(3)}]);
    }
    charts.push(["learning_rate", {title: "Learning rate", format: value => Number(value.toPrecision(3)).toString(), limits: [0, Infinity]}]);
    for (const [name, options] of charts) this.showChart(name, options);
    const figures = charts.map(([name]) => this.charts.get(name).figure), shown = [...at("charts").children];
    if (figures.length !== shown.length || figures.some((one, i) => one !== shown[i])) at("charts").replaceChildren(...figures); // else focus would be lost
    this.showLegend();
  }

  showChart(name, {unit = 1, metric, ...options}) {
    if (!this.charts.has(name)) this.charts.set(name, new CurveChart({...options, onCursor: epoch => this.setCursor(epoch)}));
    const lines = [], bands = [], several = this.runs.length > 1;
    this.runs.forEach(({description, metrics}, i) => {
      if (!metrics || metric && description.metric.name !== metric.name) return;
      const prefix = several ? `${description.name} ` : "", end = metrics.epoch.at(-1) ?? 0;
      const style = this.styleOf(i), column = metric ? "score" : name;
      const [training, validation] = [false, true].map(isValidation =>
        pointsOf(metrics, column, isValidation).map(([epoch, value]) => [epoch, unit * value]));
      const isRate = name === "learning_rate";
      lines.push({name: isRate ? description.name : `${prefix}training`, style: isRate ? several ? style : "run2" : this.trainingStyle(i),
        points: isRate ? training : runningMedian(training), drawn: isRate ? fewer(training) : runningMedian(training), isMain: false, end});
      lines.push({name: `${prefix}validation`, style, points: validation, drawn: fewer(validation), isMain: true, end});
      if (metric && description.reference) bands.push(bandOf(description.reference, unit));
    });
    this.charts.get(name).show(lines, bands, Math.max(...this.runs.map(({description}) => description.epochs)));
  }

  setCursor(epoch) { for (const chart of this.charts.values()) chart.setCursor(epoch); }

  showLegend() {
    const entries = [], several = this.runs.length > 1;
    this.runs.forEach(({description}, i) => {
      const prefix = several ? `${description.name}: ` : "", style = this.styleOf(i);
      entries.push([this.trainingStyle(i), `${prefix}training (running median)`], [style, `${prefix}validation`]);
    });
    const references = new Set(this.runs.map(({description: {reference}}) => reference?.label).filter(Boolean));
    for (const label of references) entries.push(["reference", label]);
    at("curves-legend").replaceChildren(...entries.map(([style, text]) => made("li", {}, made("span", {className: `swatch ${style}`}), text)));
    const notes = [...new Set(this.runs.flatMap(({description}) => description.notes))];
    at("curves-notes").replaceChildren(...notes.map(text =>
      made("p", {className: "quiet", textContent: text})));
  }

  // ---- maps

  showMaps() {
    const {maps, description, status} = this.runs[this.shown];
    const text = description.keep_maps ? status.state === "starting" ? "The first maps come with the first step."
      : "This run has kept no maps yet." : "This run keeps no maps: its setting keep_maps is 0.";
    this.growing.show(this.shown, maps, text);
    const found = this.wanted === null ? -1 : maps?.steps.findIndex(({step}) => step === this.wanted) ?? -1;
    if (found >= 0) { this.growing.goTo(found); this.wanted = null; }
  }

  // Marks the step that is shown in the curves, and in the link.
  markStep() {
    for (const chart of this.charts.values()) chart.setMark(this.growing.step?.epoch ?? null);
    if (this.wanted === null) this.followLink();
  }

  toLink() {
    const {step, isNewest, method} = this.growing;
    return new URLSearchParams({run: this.shown, method, ...(step && !isNewest ? {step: step.step} : {})});
  }

  // ---- the model

  async reload(i) {
    const card = this.cards[i];
    card.setBusy(true);
    try {
      const {job} = await post(`/api/runs/${i}/model`);
      const {description: {step}} = await followJob(job);
      toast(step === null ? "The newest weights are loaded" : `The weights of step ${step.toLocaleString("en")} are loaded`);
    } catch (error) {
      if (!(error instanceof Cancelled)) toast(error.message, true);
    } finally {
      card.setBusy(false);
    }
  }
}

// Columns of metrics, with what is new from number `start` on.
function joined(known, {start, ...columns}) {
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, [...known?.[name].slice(0, start) ?? [], ...values]]));
}

function bandOf({label, epochs, means, stds}, unit) {
  return {label, points: epochs.map((epoch, i) => [epoch, unit * (means[i] - stds[i]), unit * means[i], unit * (means[i] + stds[i])])};
}

const pause = milliseconds => new Promise(resolve => { setTimeout(resolve, milliseconds); });

const untilVisible = () => new Promise(resolve => {
  const check = () => {
    if (document.hidden) return;
    document.removeEventListener("visibilitychange", check);
    resolve();
  };
  document.addEventListener("visibilitychange", check);
  check();
});

async function follow(page) {
  for (let cursor = "", lost = false; ;) {
    await untilVisible();
    try {
      const {runs, cursor: next} = await getJson(`/api/runs?after=${encodeURIComponent(cursor)}`);
      page.take(runs);
      cursor = next;
      if (lost) toast("The server responds again");
      lost = false;
      document.body.dataset.ready = "true";
    } catch (error) {
      if (!lost) toast(error.message, true);
      lost = true;
      await pause(RETRY_MS);
    }
  }
}

async function begin() {
  addTheme();
  const kept = sessionStorage.getItem("explorer-view");
  if (kept) at("explorer-link").href = `/${kept}`;
  const {palettes, models} = await getJson("/api/start");
  at("explorer-link").hidden = !models.length;
  await follow(new TrainingPage(new Palettes(palettes)));
}

begin().catch(error => toast(error.message, true));
