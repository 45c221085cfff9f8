// Maps that the server computes for a pane: the newest are kept.
import {beforeOf, interventionOf} from "./intervention.js";
import {withBusy} from "./notices.js";
import {methodOptions, queryOf, targetOf} from "./view.js";

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

  // What is asked of the server; of another frame than the one that is shown if that is given.
  fields({image, observed, attention} = this.pane) {
    const {view, method} = this.pane;
    const fields = {kind: "map", model: view.model, image: image.image, method: view.method, options: methodOptions(view, method)};
    if (method.is_class_specific) fields.target = targetOf(view, observed.prediction);
    const other = this.sharesComponents(), query = queryOf(view, {method, attention, observed}), intervention = interventionOf(view, beforeOf(observed));
    return {...fields, ...other ? {other} : {}, ...query ? {query} : {}, ...intervention ? {intervention} : {}};
  }

  // The partner's image if both panes color the same layer of the same model: then colors mean the same in both.
  sharesComponents() {
    const {view, partner} = this.pane, there = partner?.attention ? partner.view : null;
    const hasColors = one => one?.method === "features" && one.feature === "colors";
    return hasColors(view) && hasColors(there) && view.model === there.model && view.layer === there.layer &&
      view.image !== there.image ? there.image : null;
  }

  // Makes `shown` the map of the pane's view, once the server has it.
  async request() {
    const {jobs, view} = this.pane, fields = this.fields(), key = JSON.stringify(fields);
    if (this.found.has(key)) { jobs.cancel("map"); this.shown = this.found.get(key); return; }
    if (jobs.isRunning("map", key)) return;
    this.shown = null;
    await withBusy(view.method, async () => {
      const map = await this.find(fields, view.method);
      if (this.pane.attention && key === JSON.stringify(this.fields())) { this.shown = map; this.onFound(); }
    });
  }

  // The map for these fields, which is kept.
  async find(fields, label = "") {
    const key = JSON.stringify(fields);
    if (!this.found.has(key)) {
      const {description, data} = await this.pane.jobs.run(fields, {purpose: "map", label, key});
      const cells = description.rows * description.columns;
      this.found.set(key, {...description, other: fields.other, values: new Float32Array(data, 0, cells),
        colors: description.has_colors ? new Float32Array(data, 4 * cells) : null});
      if (this.found.size > MAPS_KEPT) this.found.delete(this.found.keys().next().value);
    }
    return this.found.get(key);
  }
}
