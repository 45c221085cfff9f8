// All heads of all layers at once: small maps on one canvas, and two plots with a dot for each head.
import {headsWithFindings} from "./diagnosis.js";
import {STEPS, at, made, shape} from "./dom.js";
import {pack, robustScale, toLevels} from "./heatmap.js";
import {drawHeads} from "./drawing.js";
import {toggleHead} from "./intervene.js";
import {describeIntervention, readHeads} from "./intervention.js";
import {toast} from "./notices.js";
import {whenReleased} from "./presses.js";
import {stemOf} from "./python.js";
import {download} from "./saving.js";
import {nameOf, tokenName} from "./view.js";

const measured = new WeakMap(); // the statistics of an attention's layers

export function addHeads(explorer) {
  const choose = (layer, head, event) => {
    if (event.shiftKey || at("switch-heads").getAttribute("aria-pressed") === "true") return toggleHead(explorer, layer, head);
    explorer.change({method: "attention", layer, heads: [head]});
    if (innerWidth <= 860) explorer.stage.stage.scrollIntoView({behavior: "smooth", block: "start"});
  };
  const multiples = new SmallMultiples(explorer.palettes, choose), plots = new HeadPlots(choose);
  explorer.on("observed", ({attention, observed}) => {
    multiples.setAttention(attention, observed.geometry);
    plots.measure(attention);
  });
  explorer.on("view", ({view}) => {
    const head = view.method === "attention" && view.heads?.length === 1 ? view.heads[0] : null;
    multiples.choose(head === null ? null : view.layer, head);
    plots.choose(head === null ? null : `${view.layer} ${head}`);
    const off = view.unchanged ? [] : readHeads(view.ablated);
    multiples.showOff(off);
    plots.showOff(off.map(pair => pair.join(" ")));
  });
  for (const event of ["image", "model", "diagnosis"]) explorer.on(event, () => plots.setDiagnosis(explorer.diagnosis));
  explorer.on("map", ({view, attention, pane: {patch, token, toward}}) => {
    at("all-heads-note").textContent = `${toward ? "What attends in each head to" : "What each head attends to from"} ` +
      `the ${patch ? "patch" : tokenName(token, attention)}. Choose one to see it large.`;
    multiples.draw({start: token, toward, palette: view.palette, ownScale: at("own-scale").checked});
  });
  at("own-scale").onchange = () => explorer.refresh();
  const stem = () => stemOf(explorer.view);
  const whenMeasured = save => () => measured.get(explorer.attention)?.length === explorer.attention?.depth ? save() : toast("wait until the heads are measured");
  at("save-heads").onclick = whenMeasured(() => multiples.toCanvas([explorer.model.name, nameOf(explorer.pane), describeIntervention(explorer.pane.intervention)].filter(Boolean).join(" · ")).toBlob(blob => download(blob, `${stem()}-heads.png`)));
  at("save-statistics").onclick = whenMeasured(() => download(new Blob([toCsv(measured.get(explorer.attention))], {type: "text/csv"}), `${stem()}-heads.csv`));
}

// Distance (in patches) and entropy (0 to 1) of each head.
function toCsv(statistics) {
  const lines = statistics.flatMap((heads, layer) => heads.map(({distance, entropy}, head) => [layer, head, distance, entropy].join(",")));
  return ["layer,head,distance,entropy", ...lines, ""].join("\n");
}

class SmallMultiples {
  // `onChoose` gets a layer, a head and the event.
  constructor(palettes, onChoose) {
    this.palettes = palettes;
    this.grid = at("multiples");
    this.canvas = at("multiples-canvas");
    this.context = this.canvas.getContext("2d");
    this.onChoose = onChoose;
    const map = at("multiples-map");
    map.addEventListener("pointermove", event => this.point(this.cellAt(event)));
    map.addEventListener("pointerleave", () => this.point(null));
    map.addEventListener("click", event => { const cell = this.cellAt(event); if (cell) onChoose(...cell, event); });
    this.grid.addEventListener("keydown", event => this.onKey(event));
    this.grid.addEventListener("focus", () => this.attention && this.point(this.pointed ?? this.chosen ?? [0, 0]));
    this.grid.addEventListener("blur", () => this.point(null));
  }

  setAttention(attention, {box}) {
    this.attention = attention;
    const {depth, rows, columns} = attention;
    this.across = Math.max(...attention.heads);
    this.cell = {width: columns + 1, height: rows + 1};
    this.canvas.width = this.across * this.cell.width - 1;
    this.canvas.height = depth * this.cell.height - 1;
    const [top, left, bottom, right] = box; // on the image, patches may be wider than high
    this.canvas.style.aspectRatio = this.canvas.width * (right - left) / columns / (this.canvas.height * (bottom - top) / rows);
    this.pixels = new ImageData(this.canvas.width, this.canvas.height);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.maps = attention.heads.map(heads => Array.from({length: heads}, () => new Float32Array(attention.patches)));
    this.levels = new Uint8Array(attention.patches);
    this.grid.style.setProperty("--across", this.across);
    this.grid.ariaLabel = `Attention of each head, ${depth} layers of ${this.across} heads: arrows move, Enter chooses`;
    const labels = (count, word) => Array.from({length: count}, (_, number) =>
      made("span", {textContent: number ? number : `${word} 0`}));
    at("multiples-heads").replaceChildren(...labels(this.across, "head"));
    at("multiples-layers").replaceChildren(...labels(depth, "layer"));
    at("all-heads").hidden = false;
  }

  // Draws what each head attends to from a start, or what attends to it.
  draw({start, toward, palette, ownScale}) {
    const {attention, maps, words, levels, cell, canvas, palettes} = this;
    maps.forEach((layer, number) => layer.forEach((map, head) =>
      attention.headWeights(number, head, start, toward, map, attention.prefix)));
    let common = null;
    if (!ownScale) {
      const all = this.all ??= new Float32Array(0), count = maps.flat().length * attention.patches;
      if (all.length !== count) this.all = new Float32Array(count);
      maps.flat().forEach((map, number) => this.all.set(map, number * attention.patches));
      common = robustScale(this.all, palettes.percentiles);
    }
    if (this.tableOf !== palette) {
      this.tableOf = palette;
      this.table = Uint32Array.from({length: 256}, (_, level) => pack(palettes.color(palette, level), 255));
    }
    maps.forEach((layer, number) => layer.forEach((map, head) => {
      toLevels(map, common ?? robustScale(map, palettes.percentiles), levels);
      for (let row = 0, i = 0; row < attention.rows; row++) {
        let to = (number * cell.height + row) * canvas.width + head * cell.width;
        for (let column = 0; column < attention.columns; column++) words[to++] = this.table[levels[i++]];
      }
    }));
    this.context.putImageData(this.pixels, 0, 0);
    const [layer, head] = this.pointed ?? [];
    this.point(maps[layer]?.[head] ? this.pointed : null);
  }

  // The maps with their layers and heads, and what they start from.
  toCanvas(origin) {
    const {canvas, attention: {depth}, across} = this, aspect = Number(canvas.style.aspectRatio.split("/")[0]);
    return drawHeads(canvas, {depth, across, aspect, caption: origin, note: `${at("all-heads-note").textContent.split(".")[0]}, ${at("own-scale").checked ? "each on its own scale" : "all on one scale"}`});
  }

  choose(layer, head) {
    this.chosen = layer === null ? null : [layer, head];
    this.mark(at("multiples-chosen"), this.chosen);
  }

  // Crosses out the heads [layer, head] that are switched off.
  showOff(heads) {
    for (const old of at("multiples-map").querySelectorAll(".off")) old.remove();
    at("multiples-map").append(...heads.filter(([layer, head]) => this.maps[layer]?.[head]).map(cell => {
      const element = made("div", {className: "off"});
      this.mark(element, cell);
      return element;
    }));
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const layer = Math.floor((event.clientY - box.top) / box.height * this.attention.depth);
    const head = Math.floor((event.clientX - box.left) / box.width * this.across);
    return this.maps[layer]?.[head] ? [layer, head] : null;
  }

  point(cell) {
    this.pointed = cell;
    this.mark(at("multiples-cursor"), cell);
    at("multiples-text").textContent = cell ? `layer ${cell[0]}, head ${cell[1]}: ${this.describe(...cell)}` : "";
  }

  describe(layer, head) {
    const map = this.maps[layer][head], {prefix, columns, patches} = this.attention;
    let best = 0, sum = 0;
    map.forEach((weight, i) => { sum += weight; if (weight > map[best]) best = i; });
    const most = `most at row ${Math.floor(best / columns)}, column ${best % columns} (${(map[best] * patches).toFixed(1)} × uniform)`;
    return prefix && sum <= 1.01 ? `${Math.round(100 * sum)} % on patches, ${most}` : most;
  }

  mark(element, cell) {
    element.hidden = !cell;
    if (!cell) return;
    const {width, height} = this.canvas, [layer, head] = cell;
    element.style.left = `${100 * head * this.cell.width / width}%`;
    element.style.top = `${100 * layer * this.cell.height / height}%`;
    element.style.width = `${100 * (this.cell.width - 1) / width}%`;
    element.style.height = `${100 * (this.cell.height - 1) / height}%`;
  }

  onKey(event) {
    const step = STEPS[event.key];
    if (!this.attention || (!step && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    const [layer, head] = this.pointed ?? this.chosen ?? [0, 0];
    if (!step) return this.onChoose(layer, head, event);
    const cell = [layer + step[0], head + step[1]];
    if (this.maps[cell[0]]?.[cell[1]]) this.point(cell);
  }
}

class HeadPlots {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.run = 0;
  }

  // Measures the layers one by one, in pauses, and then draws both plots.
  async measure(attention) {
    const run = ++this.run, statistics = measured.get(attention) ?? [];
    measured.set(attention, statistics);
    const isDrawn = document.querySelectorAll("#entropy-plot circle").length === attention.heads.reduce((sum, count) => sum + count, 0);
    if (statistics.length < attention.depth && !isDrawn) at("plots").hidden = true; // else those of before stay until then
    at("plots").ariaBusy = true;
    while (statistics.length < attention.depth) {
      await new Promise(resolve => setTimeout(resolve, 30));
      if (run !== this.run) return;
      statistics.push(attention.headStatistics(statistics.length));
    }
    whenReleased(at("plots"), () => this.show(attention, statistics));
  }

  show(attention, statistics) {
    const top = Math.max(attention.uniformDistance, ...statistics.flat().map(one => one.distance));
    this.plot(at("distance-plot"), statistics, {key: "distance", title: "Mean distance of attention, in patches", top: 1.08 * top,
      uniform: attention.uniformDistance, format: value => `${value.toFixed(1)} patches`});
    this.plot(at("entropy-plot"), statistics, {key: "entropy", title: "Entropy: 0 one token, 1 all tokens equally", top: 1.04,
      uniform: 1, format: value => value.toFixed(2)});
    at("plots").hidden = false;
    at("plots").ariaBusy = false;
    this.choose(this.chosen);
    this.showOff(this.off ?? []);
    this.setDiagnosis(this.diagnosis);
  }

  showOff(names) {
    this.off = names;
    for (const dot of document.querySelectorAll("#plots circle")) dot.classList.toggle("off", names.includes(dot.dataset.head));
  }

  // Marks the layers whose tokens hold outliers, and the heads that the doctor names; null marks nothing.
  setDiagnosis(diagnosis) {
    this.diagnosis = diagnosis;
    const topics = diagnosis ? headsWithFindings(diagnosis) : new Map(), outliers = diagnosis?.outliers ?? [];
    for (const dot of document.querySelectorAll("#plots circle")) {
      const found = topics.get(dot.dataset.head);
      dot.classList.toggle("found", Boolean(found));
      dot.firstChild.textContent = [dot.getAttribute("aria-label"), ...found ?? []].join(" · ");
    }
    for (const label of document.querySelectorAll("#plots .layer")) {
      const count = outliers[label.dataset.layer]?.length ?? 0;
      label.textContent = count ? `${label.dataset.layer}◆` : label.dataset.layer;
      label.classList.toggle("outliers", count > 0);
      if (count) label.append(shape("title", {}, `${count} outlier token${count > 1 ? "s" : ""} after layer ${label.dataset.layer}`));
    }
    at("plots-marks").hidden = !topics.size && !outliers.some(patches => patches.length);
  }

  plot(chart, statistics, {key, title, top, uniform, format}) {
    const left = 38, right = 356, bottom = 192, height = 158, depth = statistics.length;
    const x = layer => left + (layer + 0.5) / depth * (right - left), y = value => bottom - value / top * height;
    const parts = [shape("text", {x: 0, y: 14}, title)], step = top > 12 ? 4 : top > 4 ? 2 : top > 2 ? 1 : 0.25;
    for (let value = 0; value <= top; value += step) {
      parts.push(shape("line", {x1: left, x2: right, y1: y(value), y2: y(value)}),
        shape("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, String(value)));
    }
    parts.push(shape("line", {x1: left, x2: right, y1: y(uniform), y2: y(uniform), class: "uniform"}),
      shape("text", {x: right, y: bottom + 31, "text-anchor": "end"}, "- - uniform attention"));
    statistics.forEach((_, layer) => {
      if (layer % Math.ceil(depth / 12)) return;
      const label = shape("text", {x: x(layer), y: bottom + 15, "text-anchor": "middle", class: "layer"}, String(layer));
      label.dataset.layer = layer;
      parts.push(label);
    });
    parts.push(shape("text", {x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle"}, "layer"));
    statistics.forEach((heads, layer) => heads.forEach((one, head) => {
      const spread = heads.length > 1 ? (head / (heads.length - 1) - 0.5) * Math.min(14, 180 / depth) : 0;
      const name = `layer ${layer}, head ${head}: ${key} ${format(one[key])}`;
      const dot = shape("circle", {cx: x(layer) + spread, cy: y(one[key]), r: 4, role: "button", tabindex: "-1", "aria-label": name});
      dot.dataset.head = `${layer} ${head}`;
      dot.append(shape("title", {}, name));
      dot.addEventListener("click", event => this.onChoose(layer, head, event));
      parts.push(dot);
    }));
    chart.replaceChildren(...parts);
  }

  choose(name) {
    this.chosen = name;
    for (const dot of document.querySelectorAll("#plots circle")) dot.classList.toggle("chosen", dot.dataset.head === name);
  }
}
