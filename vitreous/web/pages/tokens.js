// The patch tokens of a layer: how similar patches are, within an image and between two.
import {decodeHalves} from "./attention.js";

export class PatchTokens {
  // `description` is the JSON of a finished job, `buffer` the ArrayBuffer of its data: vectors of length 1.
  constructor({rows, columns, width, weights}, buffer) {
    Object.assign(this, {rows, columns, width, weights, vectors: decodeHalves(new Uint16Array(buffer))});
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
