// Curves over the epochs as SVG: several lines, the band of a reference, a cursor that reads values, and their table.
import {JUMPS, inside, made, shape} from "./dom.js";

const HEIGHT = 230, LEFT = 46, RIGHT = 14, TOP = 12, BOTTOM = 34;
const MAX_POINTS = 400, MAX_DOTS = 40, MAX_ROWS = 60;

// Medians over a fiftieth of the values, at up to 400 positions, as `running_median` of vitreous/render/plots/curves.py.
export function runningMedian(points) {
  const half = Math.floor(points.length / 100);
  return thinned(points).map(([position, [epoch]]) => {
    const near = points.slice(Math.max(0, position - half), position + half + 1).map(([, value]) => value).sort((a, b) => a - b);
    const middle = near.length >> 1;
    return [epoch, near.length % 2 ? near[middle] : (near[middle - 1] + near[middle]) / 2];
  });
}

export const fewer = points => thinned(points).map(([, point]) => point);

function thinned(points) {
  const count = Math.min(MAX_POINTS, points.length), last = points.length - 1;
  const positions = Array.from({length: count}, (_, i) => count > 1 ? Math.floor(i * last / (count - 1)) : 0);
  return [...new Set(positions)].map(position => [position, points[position]]);
}

// At most about `most` round numbers in a range, and how many decimals tell them apart.
export function roundTicks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(one => one >= rough * (1 - 1e-9));
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  const ticks = Array.from({length: Math.max(0, last - first + 1)}, (_, i) => Number(((first + i) * step).toPrecision(12)));
  return {ticks, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))};
}

// The lowest and highest values to show: all of few, 99 % of many.
function typicalRange(values) {
  const sorted = [...values].sort((a, b) => a - b), cut = sorted.length > MAX_DOTS ? 0.005 : 0;
  return [sorted[Math.floor(cut * (sorted.length - 1))], sorted[Math.ceil((1 - cut) * (sorted.length - 1))]];
}

// The newest value of points [epoch, value] at an epoch; null before the first one.
export function valueAt(points, epoch) {
  let low = 0, high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= epoch + 1e-9) low = middle + 1;
    else high = middle;
  }
  return low ? points[low - 1][1] : null;
}

export class CurveChart {
  // `format` writes a value; `limits` bound the axis; `onCursor` gets the epoch that is read, or null.
  constructor({title, format, limits = [-Infinity, Infinity], onCursor}) {
    Object.assign(this, {title, format, limits, onCursor});
    this.lines = [];
    this.cursor = this.mark = null;
    this.svg = shape("svg", {tabindex: 0, role: "slider", class: "curve", height: HEIGHT});
    this.reading = made("p", {className: "quiet reading"});
    this.details = made("details", {}, made("summary", {textContent: `${title}: values as a table`}));
    this.details.addEventListener("toggle", () => this.drawTable());
    this.figure = made("figure", {}, made("h3", {textContent: title}), this.svg, this.reading, this.details);
    this.svg.addEventListener("pointermove", event => this.moveTo(this.epochAt(event.clientX)));
    this.svg.addEventListener("pointerdown", event => this.moveTo(this.epochAt(event.clientX)));
    this.svg.addEventListener("pointerleave", () => document.activeElement === this.svg || this.moveTo(null));
    this.svg.addEventListener("focus", () => this.cursor ?? this.moveTo(this.end()));
    this.svg.addEventListener("blur", () => this.moveTo(null));
    this.svg.addEventListener("keydown", event => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.figure);
  }

  // Lines are {name, style, points, drawn, isMain, end}: points hold all values, drawn those that make the line, and
  // the run has come to the epoch `end`.
  // A band is {label, points: [[epoch, low, mean, high], ...]}; `end` is the last epoch of the axis.
  show(lines, bands, end) {
    Object.assign(this, {lines: lines.filter(line => line.points.length), bands, last: end});
    this.figure.hidden = !this.lines.length;
    this.epochs = [...new Set(this.lines.flatMap(line => line.drawn.map(([epoch]) => epoch)))].sort((a, b) => a - b);
    this.draw();
    this.drawTable();
  }

  end() { return this.epochs?.at(-1) ?? null; }

  measure() {
    this.width = Math.max(240, this.figure.clientWidth);
    const values = this.lines.flatMap(line => typicalRange(line.points.map(([, value]) => value)));
    values.push(...this.bands.flatMap(band => band.points.flatMap(([, low, , high]) => [low, high])));
    let low = Math.min(...values), high = Math.max(...values);
    const margin = 0.06 * (high - low) || 0.05 * Math.abs(high) || 0.5;
    this.low = Math.max(this.limits[0], low - margin);
    this.high = Math.max(Math.min(this.limits[1], high + margin), this.low + 1e-9);
  }

  x(epoch) { return LEFT + (this.width - LEFT - RIGHT) * epoch / (this.last || 1); }

  y(value) {
    const part = (Math.min(this.high, Math.max(this.low, value)) - this.low) / (this.high - this.low);
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part;
  }

  path(points) { return points.map(([epoch, value], i) => `${i ? "L" : "M"}${this.x(epoch).toFixed(1)} ${this.y(value).toFixed(1)}`).join(""); }

  draw() {
    if (!this.lines.length || !this.figure.clientWidth) return;
    this.measure();
    const {svg, width} = this, marks = [...this.axes()];
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    for (const {points} of this.bands) {
      const outline = [...points.map(([epoch, , , high]) => [epoch, high]), ...points.map(([epoch, low]) => [epoch, low]).reverse()];
      marks.push(shape("path", {class: "band", d: `${this.path(outline)}Z`}));
      marks.push(shape("path", {class: "line reference", d: this.path(points.map(([epoch, , mean]) => [epoch, mean]))}));
    }
    for (const {style, drawn, isMain} of this.lines) {
      marks.push(shape("path", {class: `line ${style}`, d: this.path(drawn)}));
      const dots = drawn.length === 1 || isMain && drawn.length <= MAX_DOTS ? drawn : [];
      for (const [epoch, value] of dots) marks.push(shape("circle", {class: style, cx: this.x(epoch), cy: this.y(value), r: 2.6}));
    }
    this.cursors = [shape("path", {class: "mark"}), shape("g", {class: "cursor"})];
    svg.replaceChildren(...marks, ...this.cursors);
    this.drawCursor();
  }

  *axes() {
    const {ticks, decimals} = roundTicks(this.low, this.high, 6), right = this.width - RIGHT, bottom = HEIGHT - BOTTOM;
    for (const value of ticks) {
      const y = this.y(value).toFixed(1);
      yield shape("path", {class: "grid", d: `M${LEFT} ${y}H${right}`});
      const text = value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(0) : value.toFixed(decimals);
      yield shape("text", {x: LEFT - 7, y: Number(y) + 4, "text-anchor": "end"}, text);
    }
    yield shape("path", {class: "axis", d: `M${LEFT} ${bottom}H${right}`});
    const across = roundTicks(0, this.last || 1, this.width > 420 ? 8 : 5);
    for (const epoch of across.ticks) {
      yield shape("text", {x: this.x(epoch), y: bottom + 16, "text-anchor": "middle"}, epoch.toFixed(across.decimals));
    }
    yield shape("text", {x: (LEFT + right) / 2, y: HEIGHT - 3, "text-anchor": "middle"}, "epoch");
  }

  // ---- the cursor

  epochAt(clientX) {
    const box = this.svg.getBoundingClientRect(), x = (clientX - box.left) / box.width * this.width;
    const epoch = (x - LEFT) / (this.width - LEFT - RIGHT) * (this.last || 1);
    return this.epochs.reduce((best, one) => Math.abs(one - epoch) < Math.abs(best - epoch) ? one : best, this.epochs[0]);
  }

  moveTo(epoch) {
    if (epoch === this.cursor) return;
    this.onCursor(epoch);
  }

  // Shows the cursor at an epoch, or none.
  setCursor(epoch) {
    this.cursor = epoch;
    this.drawCursor();
  }

  // Marks the epoch whose maps are shown.
  setMark(epoch) {
    this.mark = epoch;
    this.drawCursor();
  }

  values(epoch) {
    return this.lines.filter(line => epoch <= line.end + 1e-9)
      .map(line => ({...line, value: valueAt(line.points, epoch)})).filter(({value}) => value !== null);
  }

  describe(epoch) {
    const parts = this.values(epoch).map(({name, value}) => `${name} ${this.format(value)}`);
    return `epoch ${formatEpoch(epoch)}: ${parts.join(", ")}`;
  }

  drawCursor() {
    if (!this.cursors || !this.lines.length) return;
    const [mark, group] = this.cursors, vertical = epoch => `M${this.x(epoch).toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}`;
    mark.setAttribute("d", this.mark === null ? "" : vertical(this.mark));
    const shown = this.cursor ?? this.end();
    group.replaceChildren(...this.cursor === null ? [] : [shape("path", {d: vertical(this.cursor)}),
      ...this.values(this.cursor).map(({style, value}) => shape("circle", {class: style, cx: this.x(this.cursor), cy: this.y(value), r: 4}))]);
    const text = this.describe(shown), {svg} = this;
    this.reading.textContent = text;
    svg.ariaLabel = `${this.title} over the epochs: arrows read the values`;
    svg.ariaValueMin = this.epochs[0];
    svg.ariaValueMax = this.end();
    svg.ariaValueNow = shown;
    svg.ariaValueText = text;
  }

  onKey(event) {
    const move = JUMPS[event.key];
    if (!move || !this.epochs.length) return;
    event.preventDefault();
    const now = this.epochs.indexOf(this.cursor ?? this.end());
    this.moveTo(this.epochs[inside(now + move, this.epochs.length)]);
  }

  // ---- the table

  drawTable() {
    if (!this.details.open) return;
    const main = this.lines.filter(line => line.isMain), measured = (main.length ? main : this.lines).flatMap(line => line.drawn);
    const epochs = [...new Set(measured.map(([epoch]) => epoch))].sort((a, b) => a - b);
    const every = Math.ceil(epochs.length / MAX_ROWS), rows = epochs.filter((_, i) => (epochs.length - 1 - i) % every === 0);
    const cell = (name, text, scope) => made(name, {textContent: text, ...scope ? {scope} : {}});
    const row = cells => made("tr", {}, ...cells);
    const table = made("table");
    const wrap = made("div", {className: "scrolled", tabIndex: 0, role: "region", ariaLabel: `${this.title} over the epochs`}, table);
    table.append(row([cell("th", "epoch", "col"), ...this.lines.map(line => cell("th", line.name, "col"))]));
    for (const epoch of rows) {
      const values = this.lines.map(line => epoch <= line.end + 1e-9 ? valueAt(line.points, epoch) : null);
      table.append(row([cell("th", formatEpoch(epoch), "row"), ...values.map(value => cell("td", value === null ? "–" : this.format(value)))]));
    }
    this.details.replaceChildren(this.details.firstChild, wrap);
  }
}

export const formatEpoch = epoch => epoch >= 100 ? Math.round(epoch).toString() : Number(epoch.toPrecision(3)).toString();
