// An image with its map: the view of it, what the model gave for it, and the map that is drawn. Beside a partner, its
// patches are linked with those of the partner's image.
import {Cancelled, imageUrl} from "./api.js";
import {readAttention} from "./attention.js";
import {beforeOf, interventionOf} from "./intervention.js";
import {Jobs} from "./jobs.js";
import {MaskLayer} from "./masklayer.js";
import {showError, withBusy} from "./notices.js";
import {samePlace} from "./places.js";
import {ServerMaps} from "./servermap.js";
import {IN_BROWSER, captionOf, clampView, describeSimilarity, describeWeights, isText, keptTarget, startToken} from "./view.js";

export class Pane {
  // `explorer` has `start`, `tokens`, and `emitFrom` for the events "model", "image", "observed", "view" and "map".
  constructor(explorer, view, stage) {
    Object.assign(this, {explorer, start: explorer.start, view, stage, partner: null});
    this.image = this.observed = this.attention = null; // the open image; the job's description of it; its matrices
    this.linked = null; // the patch at the place of the partner's pointer
    this.observing = null; // {key, promise} of the matrices
    this.intervention = this.input = null; // what was changed of it (intervention.js); the pixels that the model got then
    this.masks = new MaskLayer(stage);
    this.jobs = new Jobs(() => stage.stage);
    this.maps = new ServerMaps(this, () => this.refresh());
    this.caption = this.reading = "";
  }

  get model() { return this.start.models[this.view.model]; }

  get method() { return this.start.methods[this.view.method]; }

  // Whether the model has newer weights by now.
  get isOld() { return this.observed !== null && this.observed.weights !== this.model.weights; }

  // Who computes the map: the page from attention or from tokens ("similarity"), or the server.
  get source() {
    const {method, feature} = this.view;
    return IN_BROWSER.includes(method) ? "attention" : method === "features" && feature === "similarity" ? "similarity" : "server";
  }

  get isInBrowser() { return this.source !== "server"; }

  // The patch under the pointer of this pane or of its partner, or the one that is pinned.
  get patch() { return this.stage.hovered ?? this.linked ?? this.view.patch; }

  // The token that maps start from; -1 is the readout.
  get token() { return startToken({...this.view, patch: this.patch}, this.attention); }

  get toward() { return this.view.toward && this.token >= 0; }

  // Whether the map compares this image with a patch of the partner's image.
  get comparesImages() {
    return this.source === "similarity" && Boolean(this.partner?.attention) &&
      this.partner.view.model === this.view.model && this.partner.view.image !== this.view.image;
  }

  // The pane and the patch that similarity is measured to; null without one.
  get reference() {
    const {stage, partner, view} = this;
    if (!stage.hovered && this.comparesImages) {
      const patch = partner.stage.hovered ?? (view.patch ? null : partner.view.patch);
      if (patch) return {pane: partner, patch};
    }
    return this.patch && {pane: this, patch: this.patch};
  }

  get tokensNeeded() {
    if (this.source !== "similarity" || !this.attention) return [];
    return [this, ...(this.comparesImages ? [this.partner] : [])].map(pane => this.tokensOf(pane));
  }

  tokensOf({view, before}) {
    const intervention = interventionOf(view, before), needed = {model: this.view.model, image: view.image, layer: this.view.layer};
    return intervention ? {...needed, intervention} : needed;
  }

  async openImage(found) {
    const {view} = this;
    if (found.image !== view.image) Object.assign(view, {patch: null, target: keptTarget(view.target), contrast: "", masked: ""});
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

  // Shows a frame of a clip or camera (frames.js) with its map: both change at once; the pinned patch and what is changed
  // of the image and the model stay.
  async showFrame({found, picture, ...read}) {
    const {partner, view} = this, frame = {view: {...view, image: found.image}, before: beforeOf(read.description)};
    const users = [this, partner].filter(pane => pane?.source === "similarity" && pane.view.model === view.model);
    await this.explorer.tokens.prepare(users.map(pane => pane.tokensOf(frame)));
    if (!this.isInBrowser) await this.maps.find(this.maps.fields({image: found, observed: read.description, attention: read.attention}));
    this.jobs.cancel();
    this.observing = null;
    this.image = found;
    Object.assign(this.view, {image: found.image, name: found.name});
    this.stage.setImage(picture, found, {isFrame: true});
    this.emit("image");
    this.accept(read);
  }

  async changeModel(index) {
    Object.assign(this.view, {model: index, layer: -1, first: 0, heads: null, patch: null, token: -1, target: "", contrast: "",
      masked: "", ablated: ""});
    this.forget();
    this.stage.hideMap();
    this.emit("model");
    if (this.image) await withBusy("running the model", () => this.observe(Promise.resolve()));
  }

  emit(event) { this.explorer.emitFrom(this, event); }

  forget() {
    this.jobs.cancel();
    this.observed = this.attention = this.observing = this.intervention = null;
    this.masks.show([]);
    this.maps.clear();
    this.setCaption("", "");
  }

  // The prediction for the unchanged image by the unchanged model, once it is known.
  get before() { return beforeOf(this.observed); }

  // Gets all attention matrices of the model on the image, from one forward pass; the partner's if it has the same. An
  // intervention that fails is dropped.
  async observe(drawn, intervention = interventionOf(this.view, this.before)) {
    const {image, view} = this, key = JSON.stringify([view.model, view.image, intervention]);
    const shared = this.partner?.observing?.key === key ? this.partner.observing : null;
    const fields = intervention ? {kind: "attention", intervention} : {kind: "attention"};
    this.observing = shared ?? {key, promise: this.run(fields, {purpose: "attention", label: "running the model"})};
    let found;
    try {
      found = await this.observing.promise;
    } catch (error) {
      if (this.image !== image || this.observing?.key !== key) throw error;
      if (!shared) this.observing = null; // the partner, which waits for the same, begins anew
      if (error instanceof Cancelled && shared) return this.observe(drawn, intervention); // only the partner has cancelled it
      if (error instanceof Cancelled || !intervention) throw error;
      Object.assign(view, {masked: "", ablated: ""});
      showError(error);
      return this.observe(drawn, null);
    }
    await drawn;
    if (this.image !== image || this.observing?.key !== key) return;
    this.accept(readAttention(found, intervention));
  }

  accept({description, attention, intervention, input}) {
    const {view} = this;
    Object.assign(this, {intervention, input});
    this.observed = description;
    this.attention = attention;
    clampView(view, this.attention);
    if (description.rollout_obstacle && view.method === "rollout") view.method = "attention";
    this.stage.setGeometry(description.geometry, this.attention.rows, this.attention.columns);
    this.masks.setGrid(this.attention, description.geometry.box, this.model.patch_size);
    this.emit("observed");
    this.show();
  }

  // Whether another intervention is wanted than the one that the model ran with.
  get isBehind() { return JSON.stringify(interventionOf(this.view, this.before)) !== JSON.stringify(this.intervention); }

  // Runs the model again if it is behind.
  followIntervention() {
    const wanted = JSON.stringify(interventionOf(this.view, this.before));
    if (!this.isBehind || wanted === this.wanted) return;
    this.wanted = wanted;
    withBusy("running the model", () => this.observe(Promise.resolve())).finally(() => {
      if (this.wanted === wanted) this.wanted = null;
    });
  }

  // Runs a job of the server on this image with this model, as `Jobs.run` does.
  run(fields, options) {
    return this.jobs.run({model: this.view.model, image: this.view.image, ...fields}, options);
  }

  change(fields) {
    const {view, attention, observed, partner} = this, before = view.method;
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
    if (this.source !== "attention" && view.heads?.length > 1) view.heads = null;
    if (!("patch" in fields) && this.comparesImages && partner.view.patch) view.patch = null;
    clampView(view, attention);
    this.show();
    if ("patch" in fields) partner?.followPin();
  }

  // Pins the patch at the place that the partner has pinned; none where the images are compared.
  followPin() {
    if (!this.attention) return;
    const {patch} = this.partner.view;
    this.view.patch = patch && !this.comparesImages ? samePlace(patch, this.partner.stage, this.stage) : null;
    clampView(this.view, this.attention);
    this.show();
  }

  // Marks the place of the partner's pointer and draws its map.
  followPointer() {
    if (!this.attention) return;
    const {hovered} = this.partner.stage;
    this.linked = hovered && !this.comparesImages ? samePlace(hovered, this.partner.stage, this.stage) : null;
    this.stage.mark("cursor", this.linked);
    this.refresh();
  }

  show() {
    this.showAlone();
    // Similarity and shared components depend on both panes.
    if (this.partner?.attention && this.partner.view.method === "features") this.partner.showAlone();
  }

  showAlone() {
    this.stage.mark("pin", this.view.patch);
    this.stage.mark("cursor", this.stage.hovered ?? this.linked);
    this.followIntervention();
    this.masks.follow(this);
    this.emit("view");
    if (this.isInBrowser) this.maps.leave();
    else this.maps.request();
    this.explorer.requestTokens();
    this.refresh();
  }

  // Draws the map for the patch under the pointer, or the one that is pinned.
  refresh() {
    if (!this.attention) return;
    ({attention: this.drawAttention, similarity: this.drawSimilarity, server: this.drawServerMap})[this.source].call(this);
    this.emit("map");
  }

  drawAttention() {
    const {view, attention, observed, patch, toward} = this, settings = {...view, start: this.token, toward, last: view.layer};
    const weights = view.method === "rollout" ? attention.rollout(settings) : attention.attention(settings);
    this.stage.draw({values: weights, offset: attention.prefix, rows: attention.rows, columns: attention.columns,
      box: observed.geometry.box, unit: attention.patches}, view);
    this.setCaption(captionOf({...view, token: this.token}, attention, patch), describeWeights(weights, {view, attention, patch, toward}));
  }

  drawSimilarity() {
    const {reference, view, explorer} = this, own = explorer.tokens.find(this.tokensOf(this));
    const tokens = reference && explorer.tokens.find(this.tokensOf(reference.pane));
    if (!own || !tokens) {
      this.stage.hideMap();
      return this.setCaption(`features · layer ${view.layer} · similarity`, reference ? "" : "Point at a patch, or choose one with the arrows.");
    }
    const {rows, columns} = own, isOther = reference.pane !== this;
    const values = own.similarity(tokens.vector(...reference.patch));
    this.stage.draw({values, rows, columns, box: this.observed.geometry.box, signed: this.method.scale_kind === "signed"}, view);
    const {caption, reading, best} = describeSimilarity(values, {view, columns, patch: reference.patch, isOther, name: reference.pane.view.name});
    if (isOther) this.stage.mark("cursor", best);
    this.setCaption(caption, reading);
  }

  drawServerMap() {
    if (!this.maps.shown) {
      this.stage.hideMap();
      return this.setCaption(this.view.method, "");
    }
    const {rows, columns, geometry, scale_kind, values, colors, caption, target, score, prediction, other} = this.maps.shown;
    const unit = scale_kind === "proportion" ? rows * columns : 1;
    this.stage.draw({values, rows, columns, box: geometry.box, signed: scale_kind === "signed" && !colors, colors, unit}, this.view);
    const isDifference = target?.includes(" rather than ") && !this.model.class_names.includes(target);
    const name = target === "predicted class" ? `${prediction.scores[0][0]}, the predicted class` : target;
    const number = score === null ? "" : isText(this.view.target) ? ` (cosine similarity ${score.toFixed(3)})` : isDifference ? ` (logits differ by ${score.toFixed(2)})` : ` (${(100 * score).toFixed(1)} %)`;
    this.setCaption(caption, target ? `for ${name}${number}${scale_kind === "signed" ? ", orange for it, blue against it" : ""}`
      : other ? "The components are those of both images together."
      : /norms/.test(caption) ? "Length of a patch's token: 0 is the median, 1 twice that." : "");
  }

  setCaption(caption, reading) {
    this.caption = this.stage.find("caption").textContent = caption;
    this.reading = this.stage.find("reading").textContent = reading;
    this.stage.photo.ariaLabel = `${this.view.name}${caption && `: ${caption}. ${reading}`}`;
  }
}
