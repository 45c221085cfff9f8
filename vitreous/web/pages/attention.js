// The attention of a model on one image: rows, columns and rollout of any token, from matrices that are sent once.
// A matrix has a row for each query token, which sums to 1. Prefix tokens come first, then patches, row by row.

let halfValues = null, halfEntropies = null;

function makeHalfTables() {
  halfValues = new Float32Array(65536);
  halfEntropies = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = bits >> 10 & 31, fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024;
    halfValues[bits] = bits >> 15 ? -size : size;
    halfEntropies[bits] = size > 0 && bits < 0x8000 ? -size * Math.log(size) : 0;
  }
}

// Numbers of 16 bits as Float32Array.
export function decodeHalves(halves) {
  if (!halfValues) makeHalfTables();
  return Float32Array.from(halves, bits => halfValues[bits]);
}

export class Attention {
  // `description` is the JSON of a finished job, `buffer` the ArrayBuffer of its data.
  constructor(description, buffer) {
    if (!halfValues) makeHalfTables();
    const {num_prefix_tokens, has_class_token, grid_height, grid_width} = description.layout;
    this.prefix = num_prefix_tokens;
    this.hasClassToken = has_class_token;
    this.rows = grid_height;
    this.columns = grid_width;
    this.patches = grid_height * grid_width;
    this.tokens = this.prefix + this.patches;
    this.heads = description.heads;
    this.depth = this.heads.length;
    this.readout = new Float32Array(buffer, 0, this.tokens);
    this.cache = {key: "", matrices: []};
    const size = this.tokens ** 2;
    let offset = 4 * this.tokens;
    this.layers = this.heads.map(heads => {
      if (description.encoding === "float16") {
        const layer = {halves: new Uint16Array(buffer, offset, heads * size)};
        offset += 2 * heads * size;
        return layer;
      }
      const largest = new Float32Array(buffer.slice(offset, offset + 4 * heads * this.tokens));
      offset += 4 * heads * this.tokens;
      const layer = {largest, levels: new Uint8Array(buffer, offset, heads * size)};
      offset += heads * size;
      return layer;
    });
  }

  tokenOf(row, column) { return this.prefix + row * this.columns + column; }

  // The one token that the model's head reads; -1 if it reads several.
  get readToken() {
    if (this.read === undefined) this.read = this.readout.findIndex(weight => weight > 1 - 1e-6);
    return this.read;
  }

  // The weights of one head from `query` to `count` tokens from `first` on.
  addRow(layer, head, query, factor, out, first = 0) {
    const {halves, levels, largest} = this.layers[layer], tokens = this.tokens, count = out.length;
    const start = (head * tokens + query) * tokens + first;
    if (halves) {
      for (let i = 0; i < count; i++) out[i] += factor * halfValues[halves[start + i]];
    } else {
      const scale = factor * largest[head * tokens + query] / 65025;
      for (let i = 0; i < count; i++) out[i] += scale * levels[start + i] ** 2;
    }
  }

  // The matrix (tokens, tokens) of one head.
  matrix(layer, head) {
    const {tokens} = this, result = new Float32Array(tokens ** 2);
    for (let query = 0; query < tokens; query++) {
      this.addRow(layer, head, query, 1, result.subarray(query * tokens, (query + 1) * tokens));
    }
    return result;
  }

  // The weights of one head from tokens `first` on to `key`.
  addColumn(layer, head, key, factor, out, first = 0) {
    const {halves, levels, largest} = this.layers[layer], tokens = this.tokens, count = out.length;
    let at = (head * tokens + first) * tokens + key;
    for (let i = 0; i < count; i++, at += tokens) {
      out[i] += halves ? factor * halfValues[halves[at]]
        : factor * largest[head * tokens + first + i] * levels[at] ** 2 / 65025;
    }
  }

  // What one head attends to from a start (a token, or -1 for the readout), or with `toward` which tokens attend to it.
  headWeights(layer, head, start, toward, out, first = 0) {
    out.fill(0);
    const token = start < 0 ? this.readToken : start;
    if (toward && token >= 0) this.addColumn(layer, head, token, 1, out, first);
    else if (token >= 0) this.addRow(layer, head, token, 1, out, first);
    else {
      for (let query = 0; query < this.tokens; query++) {
        if (this.readout[query]) this.addRow(layer, head, query, this.readout[query], out, first);
      }
    }
    return out;
  }

  // Attention of one layer, combined over `heads` (null for all) by the mean, max or min: Float32Array (tokens).
  attention({layer, heads, fusion, start, toward}) {
    const chosen = this.chosenHeads(layer, heads), result = new Float32Array(this.tokens);
    const one = new Float32Array(this.tokens);
    chosen.forEach((head, number) => {
      this.headWeights(layer, head, start, toward, one);
      if (!number) result.set(one);
      else if (fusion === "mean") for (let i = 0; i < one.length; i++) result[i] += one[i];
      else {
        const choose = fusion === "max" ? Math.max : Math.min;
        for (let i = 0; i < one.length; i++) result[i] = choose(result[i], one[i]);
      }
    });
    if (fusion === "mean") for (let i = 0; i < result.length; i++) result[i] /= chosen.length;
    return result;
  }

  chosenHeads(layer, heads) {
    const all = Array.from({length: this.heads[layer]}, (_, head) => head);
    const chosen = heads ? all.filter(head => heads.includes(head)) : all;
    return chosen.length ? chosen : all;
  }

  // Attention multiplied through the layers `first` to `last`: each mixes tokens by 1/2 I + 1/2 A (Abnar and Zuidema
  // 2020). From a start (a token, or -1 for the readout) back to the input, or `toward`: from a token of the input on.
  rollout({first, last, heads, fusion, start, toward}) {
    const tokens = this.tokens;
    let weights = new Float32Array(tokens), next = new Float32Array(tokens);
    if (start < 0) weights.set(this.readout);
    else weights[start] = 1;
    for (let step = 0; step <= last - first; step++) {
      const matrix = this.fused(toward ? first + step : last - step, heads, fusion);
      if (toward) {
        for (let i = 0; i < tokens; i++) {
          let sum = 0;
          for (let j = 0, at = i * tokens; j < tokens; j++) sum += matrix[at + j] * weights[j];
          next[i] = (weights[i] + sum) / 2;
        }
      } else {
        next.set(weights);
        for (let i = 0; i < tokens; i++) {
          const weight = weights[i];
          if (weight) for (let j = 0, at = i * tokens; j < tokens; j++) next[j] += weight * matrix[at + j];
        }
        for (let j = 0; j < tokens; j++) next[j] /= 2;
      }
      [weights, next] = [next, weights];
    }
    return weights;
  }

  // The matrix (tokens, tokens) of a layer with its heads combined. Rows of a maximum or minimum are divided by their
  // sum; a row of zeros passes its token on.
  fused(layer, heads, fusion) {
    const key = `${fusion} ${heads ?? "all"}`;
    if (this.cache.key !== key) this.cache = {key, matrices: []};
    return this.cache.matrices[layer] ??= this.fuse(layer, this.chosenHeads(layer, heads), fusion);
  }

  fuse(layer, chosen, fusion) {
    const tokens = this.tokens, matrix = new Float32Array(tokens * tokens), other = new Float32Array(tokens);
    for (let query = 0; query < tokens; query++) {
      const row = matrix.subarray(query * tokens, (query + 1) * tokens);
      if (fusion === "mean") for (const head of chosen) this.addRow(layer, head, query, 1 / chosen.length, row);
      else {
        const choose = fusion === "max" ? Math.max : Math.min;
        this.addRow(layer, chosen[0], query, 1, row);
        for (const head of chosen.slice(1)) {
          this.addRow(layer, head, query, 1, other.fill(0));
          for (let key = 0; key < tokens; key++) row[key] = choose(row[key], other[key]);
        }
        let sum = 0;
        for (let key = 0; key < tokens; key++) sum += row[key];
        if (sum > 0) for (let key = 0; key < tokens; key++) row[key] /= sum;
        else row[query] = 1;
      }
    }
    return matrix;
  }

  // For each head of a layer, the mean over all patches of the entropy of their attention over log(tokens), and of the
  // distance in patches that they attend over, as `vitreous doctor` measures them.
  headStatistics(layer) {
    const {halves} = this.layers[layer], {tokens, prefix, columns, patches} = this;
    const row = new Float32Array(tokens);
    return Array.from({length: this.heads[layer]}, (_, head) => {
      let entropy = 0, distance = 0;
      for (let query = 0; query < patches; query++) {
        this.addRow(layer, head, prefix + query, 1, row.fill(0));
        const y = Math.floor(query / columns), x = query % columns, start = (head * tokens + prefix + query) * tokens;
        let weighted = 0, sum = 0;
        for (let key = 0; key < tokens; key++) {
          if (halves) entropy += halfEntropies[halves[start + key]];
          else if (row[key] > 0) entropy -= row[key] * Math.log(row[key]);
        }
        for (let v = 0, key = prefix; v < this.rows; v++) {
          for (let u = 0; u < columns; u++, key++) {
            weighted += row[key] * this.distances[Math.abs(v - y) * columns + Math.abs(u - x)];
            sum += row[key];
          }
        }
        distance += weighted / Math.max(sum, 1e-12);
      }
      return {entropy: tokens > 1 ? entropy / patches / Math.log(tokens) : 1, distance: distance / patches};
    });
  }

  get distances() {
    return this.table ??= Float32Array.from({length: this.patches}, (_, i) =>
      Math.hypot(Math.floor(i / this.columns), i % this.columns));
  }

  // The mean distance of attention that is the same everywhere.
  get uniformDistance() {
    let sum = 0;
    for (let dy = 0; dy < this.rows; dy++) {
      for (let dx = 0; dx < this.columns; dx++) {
        const pairs = (this.rows - dy) * (dy ? 2 : 1) * (this.columns - dx) * (dx ? 2 : 1);
        sum += pairs * Math.hypot(dy, dx);
      }
    }
    return sum / this.patches ** 2;
  }
}

// What a pane keeps of an attention job; with an intervention also `input`, the pixels that the model got.
export function readAttention({description, data}, intervention) {
  const input = intervention && new Uint8Array(data, data.byteLength - 3 * description.input_height * description.input_width);
  return {description, attention: new Attention(description, data), intervention, input};
}
