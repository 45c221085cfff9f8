// The classes of a clip over time: a chart with a line for each of the top classes, its legend, and the same as a table.
import {Cancelled, followJob, post} from "./api.js";
import {at, made, shape} from "./dom.js";

const HEIGHT = 142, TOP = 18, BOTTOM = 22, SIDE = 8; // pixels; SIDE is half the thumb of the scrubber above
const percent = value => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

export class ClassesOverTime {
  // `onSeek` gets a time in seconds when a person points at the chart.
  constructor(explorer, onSeek) {
    this.explorer = explorer;
    this.onSeek = onSeek;
    this.found = null;
    this.known = new Map(); // of this clip, by model: what the server said
    this.seconds = 0;
    at("classes-cancel").onclick = () => { this.controller?.abort(); this.say("stopped"); };
    at("classes-again").onclick = () => this.start(this.clip);
    at("classes-table").addEventListener("toggle", () => this.fillTable());
    const seek = event => event.buttons && this.found && this.onSeek(this.secondsAt(event.clientX));
    for (const name of ["pointerdown", "pointermove"]) at("classes-chart").addEventListener(name, seek);
    new ResizeObserver(() => this.found && this.drawChart()).observe(at("classes-chart").parentElement);
  }

  // Asks the server for the classes of a clip's frames.
  async start(clip) {
    this.close();
    const {model, view} = this.explorer;
    at("classes").hidden = !model.class_names.length || model.problem_type === "regression";
    if (at("classes").hidden) return;
    if (this.clip !== clip) this.known.clear();
    this.clip = clip;
    if (this.known.has(view.model)) return this.show(...this.known.get(view.model));
    const controller = this.controller = new AbortController(), index = view.model;
    at("classes-bar").hidden = at("classes-cancel").hidden = false;
    at("classes-bar").removeAttribute("value");
    this.say("waiting for the model");
    try {
      const {job} = await post(`/api/clips/${encodeURIComponent(clip.clip)}/classes?model=${index}`), {signal} = controller;
      const {description, data} = await followJob(job, {signal, onStatus: status => this.showStatus(status)});
      if (this.controller !== controller) return;
      this.known.set(index, [description, new Float32Array(data)]);
      this.show(...this.known.get(index));
    } catch (error) {
      if (this.controller !== controller) return;
      at("classes-bar").hidden = at("classes-cancel").hidden = true;
      at("classes-again").hidden = false;
      if (!(error instanceof Cancelled)) this.say(error.message);
    }
  }

  close() {
    this.controller?.abort();
    this.controller = this.found = null;
    at("classes-found").hidden = at("classes-bar").hidden = at("classes-cancel").hidden = at("classes-again").hidden = true;
    at("classes-table").open = false;
  }

  say(text) { at("classes-note").textContent = text; }

  showStatus({done, total}) {
    if (!total) return;
    Object.assign(at("classes-bar"), {max: total, value: done});
    this.say(`${done} of ${total} frames`);
  }

  show({frames, every, classes, pooled, segments}, values) {
    const {times} = this.clip, count = frames.length;
    this.found = {frames, times: frames.map(number => times[number]),
      rows: classes.map((name, row) => ({name, values: values.subarray(row * count, (row + 1) * count)}))};
    at("classes-bar").hidden = at("classes-cancel").hidden = true;
    at("classes-found").hidden = false;
    this.say(every === 1 ? `all ${count} frames` : `${count} of ${times.length} frames: one in ${every}`);
    const parts = segments.map(([start, end, name]) => `${name} from ${start.toFixed(1)} to ${end.toFixed(1)} s`);
    const [rule, name, score] = pooled[0];
    at("classes-summary").textContent = `Whole clip: ${name} ${percent(score)} (${rule}). ` +
      (parts.length > 6 ? `The predicted class changes ${parts.length - 1} times.` : `Smoothed over 1 s: ${parts.join(", ")}.`);
    at("classes-chart").ariaLabel = `Probabilities of ${classes.join(", ")} over time. ${at("classes-summary").textContent}`;
    at("classes-legend").replaceChildren(...this.found.rows.map(({name}, row) => {
      const swatch = shape("svg", {viewBox: "0 0 26 10", "aria-hidden": "true"});
      swatch.append(shape("line", {x1: 1, x2: 25, y1: 5, y2: 5, class: `class-${row}`}));
      return made("li", {}, swatch, made("span", {className: "cut", textContent: name, title: name}), made("output", {}));
    }));
    this.drawChart();
  }

  get width() { return at("classes-chart").parentElement.clientWidth; }

  x(seconds) {
    const {times} = this.clip, [first, last] = [times[0], times.at(-1)];
    return SIDE + (last > first ? (seconds - first) / (last - first) : 0) * (this.width - 2 * SIDE);
  }

  secondsAt(clientX) {
    const {times} = this.clip, left = at("classes-chart").getBoundingClientRect().left;
    const part = Math.min(1, Math.max(0, (clientX - left - SIDE) / (this.width - 2 * SIDE)));
    return times[0] + part * (times.at(-1) - times[0]);
  }

  drawChart() {
    const {width} = this, chart = at("classes-chart"), {times, rows} = this.found, first = this.clip.times[0], last = this.clip.times.at(-1);
    const y = value => TOP + (1 - value) * (HEIGHT - TOP - BOTTOM), parts = [];
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    chart.setAttribute("height", HEIGHT);
    for (const value of [0, 0.5, 1]) parts.push(shape("line", {x1: SIDE, x2: width - SIDE, y1: y(value), y2: y(value), class: "grid"}));
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30].find(one => (last - first) / one * 52 <= width) ?? 60;
    for (let tick = Math.ceil(first / step) * step; tick <= last + 1e-6; tick += step) {
      const anchor = this.x(tick) < 20 ? "start" : this.x(tick) > width - 20 ? "end" : "middle";
      parts.push(shape("text", {x: this.x(tick), y: HEIGHT - 5, "text-anchor": anchor}, `${Number(tick.toFixed(2))} s`));
    }
    rows.forEach(({values}, row) => parts.push(shape("polyline", {class: `class-${row}`,
      points: times.map((seconds, i) => `${this.x(seconds).toFixed(1)},${y(values[i]).toFixed(1)}`).join(" ")})));
    parts.push(shape("text", {x: SIDE, y: TOP - 7, class: "scale"}, "100 %"));
    this.cursor = shape("line", {y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor"});
    chart.replaceChildren(...parts, this.cursor);
    this.setTime(this.seconds);
  }

  // Moves the cursor, and shows the probabilities of the last frame up to then whose classes are known.
  setTime(seconds) {
    this.seconds = seconds;
    if (!this.found || !this.cursor) return;
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(seconds));
    const now = Math.max(0, this.found.times.findLastIndex(time => time <= seconds + 1e-6));
    this.found.rows.forEach(({values}, row) => { at("classes-legend").children[row].lastChild.textContent = percent(values[now]); });
  }

  fillTable() {
    const table = at("classes-table").querySelector("table");
    if (!at("classes-table").open || !this.found) return table.replaceChildren();
    const {rows, times} = this.found, cell = (textContent, scope) => made(scope ? "th" : "td", {textContent, ...(scope ? {scope} : {})});
    const head = made("tr", {}, cell("Time", "col"), ...rows.map(({name}) => cell(name, "col")));
    const body = times.map((seconds, i) => made("tr", {}, cell(`${seconds.toFixed(2)} s`, "row"), ...rows.map(({values}) => cell(percent(values[i])))));
    table.replaceChildren(made("caption", {className: "hidden", textContent: "Probability of each class over time"}),
      made("thead", {}, head), made("tbody", {}, ...body));
  }
}
