// An image with its map: the view of it, what the model gave for it, and the map that is drawn.
import {imageUrl} from "./api.js";
import {Attention} from "./attention.js";
import {Jobs} from "./jobs.js";
import {showError, withBusy} from "./notices.js";
import {ServerMaps} from "./servermap.js";
import {IN_BROWSER, captionOf, clampView, describeWeights} from "./view.js";

const at = id => document.getElementById(id);

export class Pane {
  // `emit` gets the name of an event: "model", "image", "observed", "view" or "map".
  constructor(start, view, stage, emit) {
    Object.assign(this, {start, view, stage, emit});
    this.image = this.observed = this.attention = null; // the open image; the job's description of it; its matrices
    this.jobs = new Jobs();
    this.maps = new ServerMaps(this, () => this.refresh());
    this.caption = this.reading = "";
  }

  get model() { return this.start.models[this.view.model]; }

  get method() { return this.start.methods[this.view.method]; }

  // The patch under the pointer, or the one that is pinned.
  get patch() { return this.stage.hovered ?? this.view.patch; }

  // The token that maps start from; -1 is the readout.
  get token() { return this.patch ? this.attention.tokenOf(...this.patch) : this.view.token; }

  get toward() { return this.view.toward && this.token >= 0; }

  get isInBrowser() { return IN_BROWSER.includes(this.view.method); }

  async openImage(found) {
    const {view} = this;
    if (found.image !== view.image) Object.assign(view, {patch: null, target: "", contrast: ""});
    this.forget();
    this.image = found;
    view.image = found.image;
    view.name = found.name;
    this.emit("image");
    const picture = new Image();
    picture.src = imageUrl(found.image, "pixels");
    const drawn = picture.decode().then(() => this.image === found && this.stage.setImage(picture, found));
    await Promise.all([drawn, this.observe(drawn)]);
  }

  async changeModel(index) {
    Object.assign(this.view, {model: index, layer: -1, first: 0, heads: null, patch: null, token: -1, target: "", contrast: ""});
    this.forget();
    this.stage.hideMap();
    this.emit("model");
    if (this.image) await withBusy("running the model", () => this.observe(Promise.resolve()));
  }

  forget() {
    this.jobs.cancel();
    this.observed = this.attention = null;
    this.maps.clear();
  }

  // Gets all attention matrices of the model on the image, from one forward pass.
  async observe(drawn) {
    const {image, view} = this;
    const {description, data} = await this.run({kind: "attention"}, {purpose: "attention", label: "running the model"});
    await drawn;
    if (this.image !== image) return;
    this.observed = description;
    this.attention = new Attention(description, data);
    clampView(view, this.attention);
    if (description.rollout_obstacle && view.method === "rollout") view.method = "attention";
    this.stage.setGeometry(description.geometry, this.attention.rows, this.attention.columns);
    this.emit("observed");
    this.show();
  }

  // Runs a job of the server on this image with this model, as `Jobs.run` does.
  run(fields, options) {
    return this.jobs.run({model: this.view.model, image: this.view.image, ...fields}, options);
  }

  change(fields) {
    const {view, attention, observed} = this, before = view.method;
    Object.assign(view, fields);
    if ("target" in fields || "contrast" in fields) {
      if ((view.target || view.contrast) && !this.method.is_class_specific) view.method = "gradient-rollout";
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
    if (!this.isInBrowser && view.heads?.length > 1) view.heads = null;
    clampView(view, attention);
    this.show();
  }

  show() {
    this.stage.mark(at("pin"), this.view.patch);
    this.emit("view");
    if (this.isInBrowser) this.maps.leave();
    else this.maps.request();
    this.refresh();
  }

  // Draws the map for the patch under the pointer, or the one that is pinned.
  refresh() {
    if (!this.attention) return;
    if (this.isInBrowser) this.drawOwnMap();
    else this.drawServerMap();
    this.emit("map");
  }

  drawOwnMap() {
    const {view, attention, observed, patch, toward} = this, settings = {...view, start: this.token, toward, last: view.layer};
    const weights = view.method === "rollout" ? attention.rollout(settings) : attention.attention(settings);
    this.stage.draw({values: weights, offset: attention.prefix, rows: attention.rows, columns: attention.columns,
      box: observed.geometry.box, unit: attention.patches}, view);
    this.setCaption(captionOf(view, attention, patch), describeWeights(weights, {view, attention, patch, toward}));
  }

  drawServerMap() {
    if (!this.maps.shown) {
      this.stage.hideMap();
      return this.setCaption(this.view.method, "");
    }
    const {rows, columns, geometry, scale_kind, values, colors, caption, target, score, prediction} = this.maps.shown;
    const unit = scale_kind === "proportion" ? rows * columns : 1;
    this.stage.draw({values, rows, columns, box: geometry.box, signed: scale_kind === "signed" && !colors, colors, unit}, this.view);
    const isDifference = target?.includes(" rather than ") && !this.model.class_names.includes(target);
    const name = target === "predicted class" ? `${prediction.scores[0][0]}, the predicted class` : target;
    const number = score === null ? "" : isDifference ? ` (logits differ by ${score.toFixed(2)})` : ` (${(100 * score).toFixed(1)} %)`;
    this.setCaption(caption, target ? `for ${name}${number}${scale_kind === "signed" ? ", orange for it, blue against it" : ""}` : "");
  }

  setCaption(caption, reading) {
    this.caption = at("caption").textContent = caption;
    this.reading = at("reading").textContent = reading;
    at("photo").setAttribute("aria-label", `${this.view.name}: ${caption}. ${reading}`);
  }
}
