// The brush: it masks patches on the image of a pane by mouse, finger or keys.
import {STEPS, inside, isPlain} from "./dom.js";

export class Brush {
  // `settings` are those of all panes: {isOn, erases, size}. `onStroke` gets the masked patches (a Set of numbers, row by
  // row) after each stroke.
  constructor({stage, masks}, settings, onStroke) {
    Object.assign(this, {stage, masks, settings, onStroke, center: null, stroke: null, outline: stage.find("brush")});
    const {frame} = stage, catching = {capture: true};
    frame.addEventListener("pointerdown", event => this.begin(event), catching);
    frame.addEventListener("pointermove", event => this.move(event), catching);
    for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, event => this.end(event), catching);
    frame.addEventListener("pointerleave", () => this.isOn && !this.stroke && this.point(null));
    frame.addEventListener("click", event => this.isOn && event.stopImmediatePropagation(), catching);
    stage.stage.addEventListener("keydown", event => this.onKey(event), catching);
  }

  get isOn() { return this.settings.isOn && Boolean(this.masks.rows); }

  // Follows the settings.
  update() {
    this.stage.stage.classList.toggle("brushing", this.settings.isOn);
    if (this.settings.isOn) this.stage.hover(null);
    this.point(this.settings.isOn ? this.center : null);
  }

  // The patches under the brush around one: [top, left, bottom, right], the last ones not included.
  span([row, column]) {
    const {size} = this.settings, {rows, columns} = this.masks;
    const before = Math.floor((size - 1) / 2), top = row - before, left = column - before;
    return [Math.max(0, top), Math.max(0, left), Math.min(rows, top + size), Math.min(columns, left + size)];
  }

  // Moves the outline of the brush to a patch, or hides it.
  point(patch) {
    this.center = patch;
    this.outline.hidden = !patch;
    if (!patch) return;
    const [top, left, bottom, right] = this.span(patch), {box: [y, x, end, side], rows, columns} = this.masks;
    const down = (end - y) / rows, across = (side - x) / columns;
    this.stage.span(this.outline, [y + top * down, x + left * across, y + bottom * down, x + right * across]);
  }

  paint(patch) {
    const [top, left, bottom, right] = this.span(patch);
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        const number = row * this.masks.columns + column;
        if (this.stroke.erases) this.masks.masked.delete(number);
        else this.masks.masked.add(number);
      }
    }
    this.masks.draw();
  }

  begin(event) {
    if (!this.isOn || event.button > 0) return;
    const patch = this.stage.patchAt(event);
    if (!patch) return;
    event.preventDefault();
    this.stage.stage.focus({preventScroll: true});
    this.stage.frame.setPointerCapture(event.pointerId);
    this.stroke = {pointer: event.pointerId, erases: this.settings.erases !== event.shiftKey, last: patch};
    this.masks.isPainted = true;
    this.point(patch);
    this.paint(patch);
  }

  move(event) {
    if (!this.isOn) return;
    event.stopImmediatePropagation();
    const patch = this.stage.patchAt(event);
    if (event.pointerType === "mouse" || this.stroke) this.point(patch);
    if (!patch || this.stroke?.pointer !== event.pointerId) return;
    const [row, column] = this.stroke.last, steps = Math.max(1, Math.abs(patch[0] - row), Math.abs(patch[1] - column));
    for (let step = 1; step <= steps; step++) { // a fast pointer skips patches
      this.paint([Math.round(row + (patch[0] - row) * step / steps), Math.round(column + (patch[1] - column) * step / steps)]);
    }
    this.stroke.last = patch;
  }

  end(event) {
    if (this.stroke?.pointer !== event.pointerId) return;
    this.stroke = null;
    this.masks.isPainted = false;
    if (event.pointerType !== "mouse") this.point(null);
    this.onStroke(this.masks.masked);
  }

  onKey(event) {
    const step = STEPS[event.key];
    if (!this.isOn || !isPlain(event) || !step && event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const {rows, columns} = this.masks;
    const [row, column] = this.center ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
    if (step) return this.point(this.center ? [inside(row + step[0], rows), inside(column + step[1], columns)] : [row, column]);
    this.point([row, column]);
    this.stroke = {erases: this.settings.erases !== event.shiftKey};
    this.paint([row, column]);
    this.stroke = null;
    this.onStroke(this.masks.masked);
  }
}
