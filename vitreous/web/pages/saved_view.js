// A view that was saved as one file: the image, its map, and hovering. It is the explorer's own code, without a server.
import {Attention} from "./attention.js";
import {STEPS, at, inside, isPlain} from "./dom.js";
import {compose} from "./drawing.js";
import {Palettes} from "./heatmap.js";
import {Stage} from "./stage.js";
import {PatchTokens} from "./tokens.js";
import {captionOf, describeSimilarity, describeValue, describeWeights, startToken} from "./view.js";

function toBuffer(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

class SavedView {
  constructor(saved) {
    const {matrices, map, tokens} = saved;
    Object.assign(this, saved);
    this.grid = {...map, values: new Float32Array(toBuffer(map.values)), colors: map.colors && new Float32Array(toBuffer(map.colors))};
    this.attention = matrices && new Attention(matrices.description, toBuffer(matrices.data));
    this.tokens = tokens && new PatchTokens(tokens, toBuffer(tokens.data));
    this.caption = at("caption").textContent;
    this.reading = at("reading").textContent;
    this.ownPatch = String(saved.view.patch);
    this.stage = new Stage(new Palettes(saved.palettes), at, {onHover: () => this.draw(),
      onPin: patch => patch && this.change({patch: String(patch) === String(this.view.patch) ? null : patch})});
  }

  async open() {
    const picture = new Image();
    picture.src = this.photo;
    await picture.decode();
    this.stage.setImage(picture, this.image);
    this.stage.setGeometry(this.geometry, this.grid.rows, this.grid.columns);
    at("stage").addEventListener("keydown", event => this.onKey(event));
    at("opacity").addEventListener("input", () => this.change({opacity: Number(at("opacity").value)}));
    at("direction").addEventListener("click", event => {
      if (event.target.dataset.value) this.change({toward: event.target.dataset.value === "to"});
    });
    addEventListener("beforeprint", () => this.flatten());
    addEventListener("afterprint", () => {
      this.stage.setImage(picture, this.image);
      this.change({});
    });
    at("direction").hidden = !this.attention;
    at("saved-controls").hidden = false;
    this.change({});
  }

  change(fields) {
    const {view} = Object.assign(this, {view: {...this.view, ...fields}});
    at("opacity").value = view.opacity;
    at("opacity-value").textContent = `${view.opacity} %`;
    for (const button of at("direction").children) button.ariaPressed = (button.dataset.value === "to") === view.toward;
    this.stage.mark("pin", view.patch);
    this.draw();
  }

  draw() {
    const {attention, tokens, view, grid, stage} = this, patch = stage.hovered ?? view.patch;
    if (attention) return this.drawAttention(patch);
    const isOther = patch && String(patch) !== this.ownPatch, values = isOther && tokens ? tokens.similarity(tokens.vector(...patch)) : grid.values;
    stage.draw({...grid, values}, view);
    if (!isOther) return this.say(this.caption, this.reading);
    if (!tokens) return this.say(this.caption, describeValue(grid, patch));
    const {caption, reading} = describeSimilarity(values, {view, columns: tokens.columns, patch, isOther: false, name: ""});
    this.say(caption, reading);
  }

  drawAttention(patch) {
    const {attention, view, grid} = this, {settings} = this.matrices;
    const start = startToken({...view, patch}, attention), toward = view.toward && start >= 0, from = {...settings, start, toward};
    const weights = settings.method === "rollout" ? attention.rollout(from) : attention.attention(from);
    this.stage.draw({...grid, values: weights, offset: attention.prefix}, view);
    this.say(captionOf({...view, token: start}, {depth: this.depth, hasClassToken: attention.hasClassToken, readToken: attention.readToken}, patch), describeWeights(weights, {view, attention, patch, toward}));
  }

  // Paper can't blend: the photo gets the map drawn into it until it is printed.
  flatten() {
    const {photo} = this.stage, whole = compose(this.stage);
    Object.assign(photo, {width: whole.width, height: whole.height});
    photo.getContext("2d").drawImage(whole, 0, 0);
    for (const {canvas} of this.stage.layers) canvas.hidden = true;
  }

  say(caption, reading) {
    at("caption").textContent = caption;
    at("reading").textContent = reading;
    at("photo").ariaLabel = `${this.image.name}: ${caption}. ${reading}`;
  }

  onKey(event) {
    const step = STEPS[event.key];
    if (event.target !== at("stage") || !isPlain(event)) return;
    if (event.key === "Escape") return this.change({patch: null, token: -1});
    if (event.key === "Enter" && this.stage.hovered) return this.change({patch: this.stage.hovered});
    if (!step) return;
    event.preventDefault();
    const {rows, columns} = this.grid;
    const [row, column] = this.view.patch ?? [Math.floor(rows / 2) - step[0], Math.floor(columns / 2) - step[1]];
    this.stage.hover(null);
    this.change({patch: [inside(row + step[0], rows), inside(column + step[1], columns)]});
  }
}

function followTheme() {
  const light = matchMedia("(prefers-color-scheme: light)"), set = () => { document.documentElement.dataset.theme = light.matches ? "light" : "dark"; };
  light.addEventListener("change", set);
  set();
}

followTheme();
new SavedView(JSON.parse(at("saved").textContent)).open();
