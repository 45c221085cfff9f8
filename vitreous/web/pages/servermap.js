// Maps that the server computes for a pane: the newest are kept.
import {withBusy} from "./notices.js";
import {methodOptions, queryPoint, targetOf} from "./view.js";

const MAPS_KEPT = 24;

export class ServerMaps {
  // `onFound` is called when the map of the pane's view has come.
  constructor(pane, onFound) {
    this.pane = pane;
    this.onFound = onFound;
    this.clear();
  }

  clear() {
    this.found = new Map();
    this.shown = null;
  }

  // The map is not needed any more.
  leave() {
    this.pane.jobs.cancel("map");
    this.shown = null;
  }

  fields() {
    const {view, method, observed, attention} = this.pane;
    const fields = {kind: "map", model: view.model, image: view.image, method: view.method, options: methodOptions(view, method)};
    if (method.is_class_specific) fields.target = targetOf(view, observed.prediction);
    if (view.patch && method.options.includes("query") && !(view.method === "features" && view.feature !== "similarity")) {
      fields.query = queryPoint(view.patch, observed.geometry, attention);
    }
    return fields;
  }

  // Makes `shown` the map of the pane's view, once the server has it.
  async request() {
    const {jobs, view} = this.pane, fields = this.fields(), key = JSON.stringify(fields);
    if (this.found.has(key)) { jobs.cancel("map"); this.shown = this.found.get(key); return; }
    if (jobs.isRunning("map", key)) return;
    this.shown = null;
    await withBusy(view.method, async () => {
      const {description, data} = await jobs.run(fields, {purpose: "map", label: view.method, key});
      const cells = description.rows * description.columns;
      const map = {...description, values: new Float32Array(data, 0, cells),
        colors: description.has_colors ? new Float32Array(data, 4 * cells) : null};
      this.found.set(key, map);
      if (this.found.size > MAPS_KEPT) this.found.delete(this.found.keys().next().value);
      if (this.pane.attention && key === JSON.stringify(this.fields())) { this.shown = map; this.onFound(); }
    });
  }
}
