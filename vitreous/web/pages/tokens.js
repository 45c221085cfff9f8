// The patch tokens of a layer: how similar patches are, within an image and between two.
import {decodeHalves} from "./attention.js";
import {Jobs} from "./jobs.js";
import {withBusy} from "./notices.js";

const KEPT = 8;

export class PatchTokens {
  // `description` is the JSON of a finished job, `buffer` the ArrayBuffer of its data: vectors of length 1.
  constructor({rows, columns, width}, buffer) {
    Object.assign(this, {rows, columns, width, vectors: decodeHalves(new Uint16Array(buffer))});
  }

  vector(row, column) {
    const start = (row * this.columns + column) * this.width;
    return this.vectors.subarray(start, start + this.width);
  }

  // The cosine of each patch with a vector: Float32Array (patches).
  similarity(vector) {
    const {vectors, width} = this, result = new Float32Array(this.rows * this.columns);
    for (let patch = 0, at = 0; patch < result.length; patch++) {
      let sum = 0;
      for (let i = 0; i < width; i++, at++) sum += vectors[at] * vector[i];
      result[patch] = sum;
    }
    return result;
  }
}

// The tokens of both panes. What is needed is {model, image, layer}.
export class TokenStore {
  // `onFound` is called when tokens have come.
  constructor(onFound) {
    this.onFound = onFound;
    this.jobs = new Jobs();
    this.found = new Map();
  }

  find(needed) { return this.found.get(JSON.stringify(needed)); }

  // Asks the server for all tokens that are needed and not there; those that are no longer needed are cancelled.
  request(all) {
    const wanted = new Map(all.map(needed => [JSON.stringify(needed), needed]));
    for (const key of [...this.jobs.pending.keys()]) if (!wanted.has(key)) this.jobs.cancel(key);
    for (const [key, needed] of wanted) {
      if (this.found.has(key) || this.jobs.isRunning(key, key)) continue;
      withBusy("features", async () => {
        const {description, data} = await this.jobs.run({kind: "tokens", ...needed}, {purpose: key, label: "features", key});
        this.found.set(key, new PatchTokens(description, data));
        if (this.found.size > KEPT) this.found.delete(this.found.keys().next().value);
        this.onFound();
      });
    }
  }
}
