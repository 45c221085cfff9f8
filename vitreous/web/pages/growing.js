// The maps of a run's fixed images, kept step by kept step: a slider, play, and each image's prediction and score.
import {decodeHalves} from "./attention.js";
import {formatEpoch} from "./curves.js";
import {TURNS, at, inside, made} from "./dom.js";
import {Upsampler, pack, toLevels, uniformly} from "./heatmap.js";

const SIDE = 240; // pixels of the longer side of a drawn map
const FRAME_MS = 160; // a kept step while it plays
const PALETTE = "inferno";
const WORDS = {attention: "attention of the last layer", rollout: "rollout"};

// An image beside itself with the map on it, and what the model says.
class Cell {
  constructor(url, {index, truth}, size, onLoad) {
    this.truth = truth;
    this.name = truth ?? `image ${index}`;
    this.canvas = made("canvas", {...size, role: "img"});
    this.photo = made("img", {src: url, alt: `${this.name}, as the model gets it`, ...size});
    this.photo.addEventListener("load", onLoad);
    const isSmall = Math.max(size.width, size.height) < 200;
    this.photo.classList.toggle("pixels", isSmall);
    const factor = Math.max(1, Math.round(SIDE / Math.max(size.width, size.height)));
    Object.assign(this.canvas, {width: size.width * factor, height: size.height * factor});
    this.isSmall = isSmall;
    this.answer = made("p", {className: "answer cut"});
    this.score = made("p", {className: "quiet cut"});
    this.bar = made("i");
    this.meter = made("div", {className: "meter"}, this.bar);
    this.figure = made("figure", {className: "cell"}, made("div", {className: "pair"}, this.photo, this.canvas),
      this.meter, made("figcaption", {}, this.answer, this.score));
  }

  // `layers` are canvases of what the map does to the image: how gray, multiplied by, added (heatmap.js).
  drawMap(layers) {
    if (!this.photo.complete || !this.photo.naturalWidth) return;
    const context = this.canvas.getContext("2d"), {width, height} = this.canvas;
    context.globalCompositeOperation = "source-over";
    context.imageSmoothingEnabled = !this.isSmall;
    context.drawImage(this.photo, 0, 0, width, height);
    context.imageSmoothingEnabled = true;
    ["saturation", "multiply", "lighter"].forEach((mode, number) => {
      context.globalCompositeOperation = mode;
      context.drawImage(layers[number], 0, 0, width, height);
    });
  }

  describe(prediction, where) {
    const correct = prediction?.is_correct, score = prediction?.truth_probability ?? null;
    const mark = correct === true ? "✓ " : correct === false ? "✗ " : "";
    this.answer.textContent = prediction ? mark + prediction.caption : "";
    this.answer.className = `answer cut ${correct === true ? "correct" : correct === false ? "wrong" : ""}`;
    const percent = score === null ? "" : `${Math.round(100 * score)} %`;
    this.score.textContent = this.truth === null ? "" : `true label ${this.truth}${percent && `: ${percent}`}`;
    this.meter.hidden = score === null;
    this.bar.style.width = percent.replace(" ", "");
    this.bar.className = correct ? "correct" : "wrong";
    this.canvas.ariaLabel = [`${this.name}, ${where}`, prediction?.caption &&
      `predicted ${prediction.caption}${correct === true ? ", correct" : correct === false ? ", wrong" : ""}`,
    percent && `true label ${percent}`].filter(Boolean).join(": ");
  }
}

export class GrowingMaps {
  // `onChange` is called when another step, method or run is shown.
  constructor(palettes, onChange) {
    this.palettes = palettes;
    this.onChange = onChange;
    this.maps = null;
    this.at = 0;
    this.method = "";
    at("step").addEventListener("input", () => { this.stop(); this.goTo(Number(at("step").value)); });
    at("play").addEventListener("click", () => this.timer ? this.stop() : this.play());
    at("growing-methods").addEventListener("keydown", event => this.onKey(event));
  }

  // The kept step that is shown; null if there is none.
  get step() { return this.maps?.steps[this.at] ?? null; }

  // Whether the newest step is shown, so that newer ones are followed.
  get isNewest() { return !this.maps || this.at >= this.maps.steps.length - 1; }

  // Shows the maps of a run; `text` says why there are none. A step that isn't there (any more) gives way to the last one.
  show(run, maps, text) {
    const follows = this.isNewest || run !== this.run, known = this.maps;
    Object.assign(this, {run, maps: maps?.steps.length ? maps : null});
    at("growing-empty").hidden = Boolean(this.maps);
    at("growing-empty").textContent = text;
    for (const id of ["growing-controls", "growing-legend", "cells", "growing-note"]) at(id).hidden = !this.maps;
    if (!this.maps) return this.stop();
    if (!maps.methods.includes(this.method)) this.method = maps.methods[0];
    if (known?.key !== maps.key || !this.cells) this.makeCells();
    this.at = follows && !this.timer ? maps.steps.length - 1 : Math.min(this.at, maps.steps.length - 1);
    this.draw();
  }

  makeCells() {
    const {images, width, height, rows, columns, key} = this.maps, factor = Math.max(1, Math.floor(SIDE / Math.max(rows, columns)));
    this.cells = images.map((image, i) => new Cell(`/api/runs/${this.run}/images/${i}?key=${key}`, image, {width, height}, () => this.draw()));
    this.upsampler = new Upsampler(rows, columns, factor);
    const size = {width: columns * factor, height: rows * factor};
    this.levels = new Uint8Array(size.width * size.height);
    this.layers = [0, 1, 2].map(() => made("canvas", size));
    this.pixels = this.layers.map(() => new ImageData(size.width, size.height));
    this.tables = images.map(({dimming}) => this.palettes.blendTables(PALETTE, 1, dimming, false));
    at("cells").replaceChildren(...this.cells.map(cell => cell.figure));
    at("cells").style.setProperty("--ratio", width / height);
    this.drawScale();
  }

  drawScale() {
    const bar = new ImageData(256, 1), words = new Uint32Array(bar.data.buffer), {overlay} = this.palettes;
    for (let level = 0; level < 256; level++) words[level] = pack(this.palettes.color(PALETTE, Math.round(level * overlay.glow_color_max)), 255);
    at("growing-bar").getContext("2d").putImageData(bar, 0, 0);
  }

  setMethod(method) {
    this.method = method;
    this.draw();
  }

  goTo(number) {
    this.at = inside(number, this.maps.steps.length);
    this.draw();
  }

  play() {
    if (!this.maps) return;
    if (this.isNewest) this.goTo(0);
    this.timer = setInterval(() => this.isNewest ? this.stop() : this.goTo(this.at + 1), FRAME_MS);
    this.showPlaying();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.showPlaying();
  }

  showPlaying() {
    at("play").textContent = this.timer ? "Pause" : "Play";
    at("play").ariaPressed = Boolean(this.timer);
  }

  draw() {
    const {steps, images, rows, columns, scales, split, methods} = this.maps, kept = steps[this.at];
    const where = `step ${kept.step.toLocaleString("en")}, epoch ${formatEpoch(kept.epoch)}`;
    Object.assign(at("step"), {max: steps.length - 1, value: this.at});
    at("step").ariaValueText = where;
    at("step-value").textContent = `${where} · ${this.at + 1} of ${steps.length} kept`;
    at("growing-note").textContent = `${images.length} images of the ${split} split. Left the image, right its map ` +
      `(${WORDS[this.method] ?? this.method}). One color scale holds for all images and steps.`;
    at("growing-high").textContent = `${uniformly(scales[this.method])} × uniform`;
    this.drawMethods(methods);
    kept.values ??= {};
    const all = kept.values[this.method] ??= decodeHalves(bytesOf(kept.maps[this.method])), cells = rows * columns;
    images.forEach((_, i) => {
      this.drawLayers(all.subarray(i * cells, (i + 1) * cells), this.tables[i]);
      this.cells[i].drawMap(this.layers);
      this.cells[i].describe(kept.predictions[i], where);
    });
    this.onChange();
  }

  drawLayers(map, tables) {
    const {levels} = this, words = this.pixels.map(one => new Uint32Array(one.data.buffer));
    toLevels(this.upsampler.apply(map), [0, this.maps.scales[this.method]], levels);
    [tables.gray, tables.light, tables.added].forEach((table, number) => {
      const target = words[number];
      for (let i = 0; i < levels.length; i++) target[i] = table[levels[i]];
      this.layers[number].getContext("2d").putImageData(this.pixels[number], 0, 0);
    });
  }

  drawMethods(methods) {
    const group = at("growing-methods"), key = `${methods} ${this.method}`, hadFocus = group.contains(document.activeElement);
    if (this.drawnMethods === key) return;
    this.drawnMethods = key;
    group.replaceChildren(...methods.map(name => {
      const isChosen = name === this.method;
      return made("button", {textContent: name, tabIndex: isChosen ? 0 : -1, onclick: () => this.setMethod(name), role: "radio", ariaChecked: isChosen});
    }));
    if (hadFocus) group.querySelector("[aria-checked=true]").focus();
  }

  onKey(event) {
    const move = TURNS[event.key];
    if (!move || !this.maps) return;
    event.preventDefault();
    const {methods} = this.maps;
    this.setMethod(methods[(methods.indexOf(this.method) + move + methods.length) % methods.length]);
  }
}

function bytesOf(base64) {
  return new Uint16Array(Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)).buffer);
}
