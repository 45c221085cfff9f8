// The explorer: the state of the page, and the events by which its features follow it. A feature is a module with a
// function that takes the explorer, and a line in FEATURES.
import {describeImage, getJson, upload} from "./api.js";
import {addCamera} from "./camera.js";
import {addClip, isClip} from "./clip.js";
import {addDiagnosis} from "./diagnosis.js";
import {at} from "./dom.js";
import {addFiles} from "./files.js";
import {addGallery} from "./gallery.js";
import {addHeads} from "./heads.js";
import {Palettes} from "./heatmap.js";
import {addIntervening} from "./intervene.js";
import {Jobs} from "./jobs.js";
import {addKeys} from "./keys.js";
import {keepLink} from "./link.js";
import {cancelBusy, showError, toast, withBusy} from "./notices.js";
import {Pane} from "./pane.js";
import {addPanes, restorePanes} from "./panes.js";
import {addControls, addPrediction} from "./panel.js";
import {addSaving} from "./saving.js";
import {addRuns} from "./runs.js";
import {Stage} from "./stage.js";
import {addTheme} from "./theme.js";
import {TokenStore} from "./token_store.js";
import {fromFragment, isFrame, toFragment} from "./view.js";

const FEATURES = [addPanes, addPrediction, addControls, addHeads, addGallery, addFiles, addKeys, addSaving, addRuns, addIntervening,
  addClip, addCamera, addDiagnosis];

export class Explorer {
  // `start` is what /api/start says.
  constructor(start) {
    this.start = start;
    this.handlers = new Map();
    this.palettes = new Palettes(start.palettes);
    this.tokens = new TokenStore(() => this.panes.forEach(pane => pane.refresh()));
    this.writing = new Jobs(); // of files that the server writes
    this.followLink = keepLink(() => this.toLink());
    this.panes = [];
    this.active = 0;
    this.opensInBoth = true; // an image that is opened beside another
    this.addPane(fromFragment(location.hash.slice(1)), at);
    this.isPlaying = false; // a clip plays: its link follows once it stands still
  }

  // What the page shows (view.js), the open image or null, and of that image what the model gave: `observed` is the
  // description with the prediction, `attention` the matrices; both are null until they have come. Side by side these
  // are those of the pane that is active.
  get pane() { return this.panes[this.active]; }
  get view() { return this.pane.view; }
  get image() { return this.pane.image; }
  get observed() { return this.pane.observed; }
  get attention() { return this.pane.attention; }
  get stage() { return this.pane.stage; }
  get model() { return this.pane.model; }
  get method() { return this.pane.method; }

  // Events: "model" (another one is chosen), "image" (another one is open), "observed" (its attention is there),
  // "view" (fields of the view have changed), "map" (it is drawn, also for the patch under the pointer), "pane"
  // (another pane is active, and all other events follow; or a pane was opened or closed), "diagnosis" (the doctor's
  // findings are there), "still" (a clip or camera has stopped), "weights" (it is known which ones the models have now).
  on(event, handler) { this.handlers.set(event, [...this.handlers.get(event) ?? [], handler]); }

  emit(event) { for (const handler of this.handlers.get(event) ?? []) handler(this); }

  // Events of a pane that isn't active only change the link.
  emitFrom(pane, event) {
    if (event === "view") this.writeLink();
    if (pane === this.pane) this.emit(event);
    else if (event === "image" || event === "model") this.emit("pane");
  }

  writeLink() { if (!this.isPlaying) this.followLink(); }

  toLink() {
    const [first, second] = this.panes.map(pane => this.camera.viewOf(pane)), parts = [toFragment(first), this.gallery?.toLink()];
    if (second) {
      const isSame = second.image === first.image || first.live && second.live;
      parts.push("b=1", toFragment(isSame ? {...second, image: null, name: "", live: ""} : second, "b."), this.active ? "on=b" : "");
    }
    return parts.filter(Boolean).join("&");
  }

  // `find` gives an element of the pane by its id.
  addPane(view, find) {
    if (!Object.hasOwn(this.start.methods, view.method)) view.method = "rollout";
    if (!this.palettes.names.includes(view.palette)) view.palette = "inferno";
    if (!this.start.models[view.model]) view.model = 0;
    const stage = new Stage(this.palettes, find, {
      onHover: () => { pane.refresh(); pane.partner?.followPointer(); },
      onPin: patch => patch && pane.attention && pane.change({patch: String(patch) === String(view.patch) ? null : patch}),
    });
    const pane = new Pane(this, view, stage);
    this.panes.push(pane);
    return pane;
  }

  // Makes a pane the one that controls and features show.
  activate(pane) {
    if (pane === this.pane) return;
    const before = this.view.model;
    this.active = this.panes.indexOf(pane);
    this.emit("pane");
    if (this.view.model !== before) this.emit("model");
    if (this.image) this.emit("image");
    if (this.attention) for (const event of ["observed", "view", "map"]) this.emitFrom(pane, event);
  }

  // Changes fields of the view, and draws what follows.
  change(fields) { this.pane.change(fields); }

  // Draws the map again.
  refresh() { this.pane.refresh(); }

  requestTokens() { this.tokens.request(this.panes.flatMap(pane => pane.tokensNeeded)); }

  // Cancels what is being opened, and what the server computes.
  cancel() {
    cancelBusy();
    for (const jobs of [...this.panes.map(pane => pane.jobs), this.tokens.jobs, this.writing]) jobs.cancel();
  }

  changeModel(index) { return this.pane.changeModel(index); }

  // Something is about to be opened: an upload before it is given up. Returns a function that says whether nothing else has
  // been chosen since.
  beginOpening() {
    const own = this.opening = Symbol("opening");
    cancelBusy("reading");
    return () => this.opening === own;
  }

  // What the server says of an image, with the name in a link; those of the data set have their own.
  async describe(image, name, signal) {
    const found = await describeImage(image, signal), isOther = name && name !== found.name;
    if (isOther && image.startsWith("data-")) toast(`${name} is no longer ${image}: that is ${found.name}`, true);
    else if (isOther) found.name = name;
    return found;
  }

  async openFile(file) {
    if (!file) return;
    if (isClip(file)) return this.clip.openFile(file);
    const isNewest = this.beginOpening();
    await withBusy("reading the image", async signal => {
      const found = await upload(file, "/api/images", signal);
      if (!isNewest()) return;
      await this.openImage({...found, name: file.name && file.name !== "image.png" ? file.name : "pasted image"});
    });
  }

  // Opens an image or a frame that the server has, by its key.
  async openStored(image, name) {
    if (isFrame(image)) return this.clip.openFrame(image, name);
    const isNewest = this.beginOpening();
    await withBusy("opening the image", async signal => {
      const found = await this.describe(image, name, signal);
      if (isNewest()) await this.openImage(found);
    });
  }

  // The panes in which an image is opened.
  get targets() { return this.opensInBoth ? this.panes : [this.pane]; }

  // The panes that show what was opened in one: that one alone, unless images are opened in both.
  panesFrom(home) { return !this.opensInBoth && this.panes.includes(home) ? [home] : this.targets; }

  async openImage(found) {
    await Promise.all(this.targets.map(pane => pane.openImage(found)));
  }
}

// Until there are results of what was chosen, those of before are dimmed.
function dimOldResults({attention, pane, panes}) {
  for (const id of ["prediction", "all-heads", "plots"]) at(id).ariaBusy = !attention || pane.isOld;
  for (const {stage, isOld} of panes) stage.frame.ariaBusy = isOld;
}

async function begin() {
  const link = location.hash.slice(1); // the page changes it
  addTheme();
  const explorer = new Explorer(await getJson("/api/start"));
  explorer.on("image", ({image}) => { at("image-name").textContent = `${image.name} · ${image.width} × ${image.height}`; });
  for (const event of ["image", "model", "pane", "observed", "weights"]) explorer.on(event, dimOldResults);
  at("cancel").onclick = () => explorer.cancel();
  for (const add of FEATURES) add(explorer);
  document.querySelector(".skip").onclick = event => { event.preventDefault(); explorer.stage.stage.focus(); };
  addEventListener("hashchange", () => location.reload());
  if (explorer.view.image && !explorer.camera.isRunning) await explorer.openStored(explorer.view.image, explorer.view.name);
  await restorePanes(explorer, link);
  document.body.dataset.ready = "true";
}

begin().catch(showError);
