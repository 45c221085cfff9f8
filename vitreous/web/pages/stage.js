// The image with the map on it, and the patch under the pointer or the keys.
import {Upsampler, pack, robustScale, toLevels, uniformly} from "./heatmap.js";
import {patchAt} from "./places.js";

const FINE = 256; // pixels of the longer side of a map, before the browser stretches it over the image

export class Stage {
  // `find` gives an element of the pane by its id; `onHover` and `onPin` get a patch [row, column] or null.
  constructor(palettes, find, {onHover, onPin}) {
    this.palettes = palettes;
    this.find = find;
    this.stage = find("stage");
    this.frame = find("frame");
    this.photo = find("photo");
    this.layers = ["gray", "light", "added"].map(find).map(canvas => ({canvas, context: canvas.getContext("2d")}));
    this.onHover = onHover;
    this.onPin = onPin;
    this.hovered = null;
    this.tables = {key: "", value: null};
    this.frame.addEventListener("pointermove", event => this.hover(this.patchAt(event)));
    this.frame.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.hover(null));
    this.frame.addEventListener("pointercancel", () => this.hover(null));
    this.frame.addEventListener("pointerdown", event => { this.pressed = this.patchAt(event); }); // before the page changes
    this.frame.addEventListener("click", event => {
      onPin(this.pressed);
      if (event.pointerType === "touch") this.hover(null); // a finger that is lifted points at nothing
    });
  }

  // A frame replaces the one before it: the map and the patch under the pointer stay until they are drawn again.
  setImage(image, {width, height, dimming, name}, {isFrame = false} = {}) {
    const size = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
    this.size = {width, height};
    this.dimming = dimming;
    this.stage.style.setProperty("--ratio", width / height);
    [this.photo.width, this.photo.height] = size;
    this.photo.classList.toggle("pixels", width < 200);
    this.photo.getContext("2d").drawImage(image, 0, 0);
    this.photo.ariaLabel = name;
    if (this.find("empty")) this.find("empty").hidden = true;
    this.frame.hidden = false;
    if (!isFrame) this.clear();
  }

  // Where the grid lies on the image, and how many patches it has.
  setGeometry(geometry, rows, columns) {
    this.geometry = geometry;
    this.grid = {rows, columns};
    this.span(this.find("unseen"), geometry.visible_box);
  }

  span(element, [top, left, bottom, right]) {
    const {width, height} = this.size;
    element.style.left = `${100 * left / width}%`;
    element.style.top = `${100 * top / height}%`;
    element.style.width = `${100 * (right - left) / width}%`;
    element.style.height = `${100 * (bottom - top) / height}%`;
  }

  hideMap() {
    this.drawn = this.legend = null;
    for (const {canvas} of this.layers) canvas.hidden = true;
    this.find("legend").hidden = true;
  }

  clear() {
    this.hideMap();
    this.hover(null);
    this.mark("pin", null);
  }

  hover(patch) {
    if (String(patch) === String(this.hovered)) return;
    this.hovered = patch;
    this.mark("cursor", patch);
    this.onHover(patch);
  }

  // The patch under the pointer, if the model sees it.
  patchAt(event) {
    if (!this.geometry) return null;
    const box = this.frame.getBoundingClientRect(), {rows, columns} = this.grid;
    const x = (event.clientX - box.left) / box.width * this.size.width;
    const y = (event.clientY - box.top) / box.height * this.size.height;
    return patchAt(x, y, this);
  }

  // Marks a patch by the element "cursor" or "pin"; null for none.
  mark(name, patch) {
    const element = this.find(name);
    element.hidden = !patch;
    if (patch) this.span(element, this.boxOf(patch));
  }

  // Top, left, bottom and right of a patch, in pixels of the image.
  boxOf([row, column]) {
    const [top, left, bottom, right] = this.geometry.box, {rows, columns} = this.grid;
    const down = (bottom - top) / rows, across = (right - left) / columns, [y, x] = [top + row * down, left + column * across];
    return [y, x, y + down, x + across];
  }

  // Draws a map: `values` from `offset` on, rows x columns; `colors` are its own, in 0 to 1.
  draw({values, offset = 0, rows, columns, box, signed = false, colors = null, unit = 1}, {opacity, palette}) {
    this.drawn = {values, offset, rows, columns, box, signed, colors, unit};
    const factor = Math.max(1, Math.floor(FINE / Math.max(rows, columns)));
    if (this.fine?.key !== `${rows} ${columns}`) {
      const upsampler = new Upsampler(rows, columns, factor), {width, height} = upsampler;
      const pixels = this.layers.map(() => new ImageData(width, height));
      const words = pixels.map(one => new Uint32Array(one.data.buffer));
      for (const {canvas} of this.layers) Object.assign(canvas, {width, height});
      this.fine = {key: `${rows} ${columns}`, upsampler, pixels, words, levels: new Uint8Array(width * height)};
    }
    if (colors) this.paintColors(colors, opacity / 100);
    else this.paintLevels(this.fine.upsampler.apply(values, offset), {signed, unit}, opacity / 100, palette);
    this.layers.forEach(({canvas, context}, number) => {
      context.putImageData(this.fine.pixels[number], 0, 0);
      if (canvas.hidden || this.spanned !== box) { canvas.hidden = false; this.span(canvas, box); }
    });
    this.spanned = box;
  }

  paintLevels(fine, {signed, unit}, opacity, palette) {
    const scale = robustScale(fine, this.palettes.percentiles, signed), {levels, words: [gray, light, added]} = this.fine;
    toLevels(fine, scale, levels);
    const tables = this.blendTables(palette, opacity, signed);
    for (let i = 0; i < levels.length; i++) {
      const level = levels[i];
      gray[i] = tables.gray[level];
      light[i] = tables.light[level];
      added[i] = tables.added[level];
    }
    this.drawLegend(scale.map(value => value * unit), palette, signed, unit !== 1);
  }

  // Colors of the map's own, shaded by the image, as `colorize` of vitreous/render/overlay.py.
  paintColors(colors, opacity) {
    const {upsampler, words: [gray, light, added]} = this.fine, cells = colors.length / 3;
    const planes = [0, 1, 2].map(channel =>
      upsampler.apply(Float32Array.from({length: cells}, (_, i) => colors[3 * i + channel])).slice());
    for (let i = 0; i < gray.length; i++) {
      const color = planes.map(plane => 255 * Math.min(1, Math.max(0, plane[i])));
      gray[i] = pack([128, 128, 128], 255 * opacity);
      light[i] = pack(color.map(part => 255 * (1 - opacity) + 0.55 * opacity * part), 255);
      added[i] = pack(color.map(part => 0.45 * opacity * part), 255);
    }
    this.find("legend").hidden = true;
    this.legend = null;
  }

  blendTables(palette, opacity, signed) {
    const key = `${palette} ${opacity} ${this.dimming} ${signed}`;
    if (this.tables.key !== key) {
      this.tables = {key, value: this.palettes.blendTables(palette, opacity, this.dimming, signed)};
    }
    return this.tables.value;
  }

  drawLegend([low, high], palette, signed, isUniform) {
    const text = value => isUniform ? `${uniformly(value)} ×` : Number(value.toPrecision(2)).toString();
    this.legend = {low: text(low), high: text(high) + (isUniform ? " uniform" : ""), palette, signed};
    this.find("legend-low").textContent = this.legend.low;
    this.find("legend-high").textContent = this.legend.high;
    const key = `${palette} ${signed}`;
    if (this.legendKey !== key) {
      this.legendKey = key;
      const bar = new ImageData(256, 1), words = new Uint32Array(bar.data.buffer);
      for (let level = 0; level < 256; level++) words[level] = pack(this.palettes.legendColor(palette, level, signed), 255);
      this.find("legend-bar").getContext("2d").putImageData(bar, 0, 0);
    }
    this.find("legend").hidden = false;
  }
}
