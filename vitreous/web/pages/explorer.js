// The explorer: the state of the page, and the events by which its features follow it. A feature is a module with a
// function that takes the explorer, and a line in FEATURES.
import {getJson, imageUrl, upload} from "./api.js";
import {addFiles} from "./files.js";
import {addGallery} from "./gallery.js";
import {addHeads} from "./heads.js";
import {Palettes} from "./heatmap.js";
import {addKeys} from "./keys.js";
import {showError, withBusy} from "./notices.js";
import {Pane} from "./pane.js";
import {addControls, addPrediction} from "./panel.js";
import {addSaving} from "./saving.js";
import {Stage} from "./stage.js";
import {fromFragment, toFragment} from "./view.js";

const FEATURES = [addPrediction, addControls, addHeads, addGallery, addFiles, addKeys, addSaving];
const at = id => document.getElementById(id);

export class Explorer {
  // `start` is what /api/start says.
  constructor(start) {
    this.start = start;
    this.handlers = new Map();
    this.palettes = new Palettes(start.palettes);
    const view = fromFragment(location.hash.slice(1));
    if (!Object.hasOwn(start.methods, view.method)) view.method = "rollout";
    if (!this.palettes.names.includes(view.palette)) view.palette = "inferno";
    if (!start.models[view.model]) view.model = 0;
    const stage = new Stage(this.palettes, {onHover: () => this.refresh(),
      onPin: patch => patch && this.change({patch: String(patch) === String(view.patch) ? null : patch})});
    this.pane = new Pane(start, view, stage, event => this.emit(event));
    this.on("view", () => history.replaceState(null, "", `#${toFragment(this.view)}`));
  }

  // What the page shows (view.js), the open image or null, and of that image what the model gave: `observed` is the
  // description with the prediction, `attention` the matrices; both are null until they have come.
  get view() { return this.pane.view; }
  get image() { return this.pane.image; }
  get observed() { return this.pane.observed; }
  get attention() { return this.pane.attention; }
  get stage() { return this.pane.stage; }
  get model() { return this.pane.model; }
  get method() { return this.pane.method; }

  // Events: "model" (another one is chosen), "image" (another one is open), "observed" (its attention is there),
  // "view" (fields of the view have changed), "map" (it is drawn, also for the patch under the pointer).
  on(event, handler) { this.handlers.set(event, [...this.handlers.get(event) ?? [], handler]); }

  emit(event) { for (const handler of this.handlers.get(event) ?? []) handler(this); }

  // Changes fields of the view, and draws what follows.
  change(fields) { this.pane.change(fields); }

  // Draws the map again.
  refresh() { this.pane.refresh(); }

  // Runs a job of the server: `fields` as POST /api/jobs takes them; model and image are those of the view unless they
  // are given. A job cancels the one before it with the same `purpose`; the page shows `label` and its progress, and
  // its button cancels. Returns {description, data}; throws Cancelled or ApiError: call it within `withBusy`.
  run(fields, {purpose, label}) { return this.pane.run(fields, {purpose, label}); }

  changeModel(index) { return this.pane.changeModel(index); }

  async openFile(file) {
    if (!file) return;
    await withBusy("reading the image", async () => {
      const found = await upload(file);
      await this.pane.openImage({...found, name: file.name && file.name !== "image.png" ? file.name : "pasted image"});
    });
  }

  // Opens an image that the server has, by its key.
  async openStored(image, name) {
    await withBusy("opening the image", async () => {
      const found = await getJson(imageUrl(image, "").slice(0, -1));
      await this.pane.openImage({...found, name: name || found.name});
    });
  }
}

function addTheme() {
  const set = theme => { document.documentElement.dataset.theme = theme; };
  set(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  at("theme").onclick = () => {
    const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    set(theme);
    localStorage.setItem("theme", theme);
  };
}

async function begin() {
  addTheme();
  const explorer = new Explorer(await getJson("/api/start"));
  explorer.on("image", ({image}) => { at("image-name").textContent = `${image.name} · ${image.width} × ${image.height}`; });
  at("cancel").onclick = () => explorer.pane.jobs.cancel();
  for (const add of FEATURES) add(explorer);
  addEventListener("hashchange", () => location.reload());
  if (explorer.view.image) await explorer.openStored(explorer.view.image, explorer.view.name);
  document.body.dataset.ready = "true";
}

begin().catch(showError);
