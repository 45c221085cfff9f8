// The attention matrices that a view computes with, in few bytes.

// A number as the 16 bits of a half-precision float.
export function toHalf(value) {
  if (value < 0) return 0x8000 | toHalf(-value);
  if (value < 2 ** -14) return Math.round(value * 2 ** 24);
  const exponent = Math.floor(Math.log2(value));
  return (exponent + 15 << 10) + Math.round((value / 2 ** exponent - 1) * 1024);
}

// The matrices that a view computes with, as `Attention` takes them: the chosen heads of one layer, or for rollout one
// matrix for each layer, with its heads combined. With "uint8" they take half of the bytes.
export function encodeMatrices(attention, view, encoding) {
  const {tokens} = attention, isRollout = view.method === "rollout", matrices = [];
  if (isRollout) for (let layer = view.first; layer <= view.layer; layer++) matrices.push([attention.fused(layer, view.heads, view.fusion)]);
  else matrices.push(attention.chosenHeads(view.layer, view.heads).map(head => attention.matrix(view.layer, head)));
  const parts = [new Uint8Array(attention.readout.slice().buffer)];
  for (const heads of matrices) parts.push(...(encoding === "float16" ? heads.map(encodeHalves) : levels(heads, tokens)));
  const layout = {num_prefix_tokens: attention.prefix, has_class_token: attention.hasClassToken, grid_height: attention.rows, grid_width: attention.columns};
  const {method, fusion, first, layer} = view, settings = isRollout ? {method, fusion: "mean", first: 0, last: layer - first} : {method, fusion, layer: 0};
  return {description: {encoding, layout, heads: matrices.map(heads => heads.length)}, data: join(parts), settings: {...settings, heads: null}};
}

// Numbers as the bytes of half-precision floats.
export function encodeHalves(values) {
  const result = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) result[i] = toHalf(values[i]);
  return new Uint8Array(result.buffer);
}

// As vitreous/web/explorer/attention_export.py: the largest of each row, then the square roots of the weights over it, in 255 steps.
function levels(heads, tokens) {
  const largest = new Float32Array(heads.length * tokens);
  const coded = heads.map((matrix, head) => {
    const result = new Uint8Array(tokens * tokens);
    for (let query = 0; query < tokens; query++) {
      const row = matrix.subarray(query * tokens, (query + 1) * tokens), most = row.reduce((a, b) => Math.max(a, b), 0);
      largest[head * tokens + query] = most;
      if (most) for (let key = 0; key < tokens; key++) result[query * tokens + key] = Math.round(255 * Math.sqrt(row[key] / most));
    }
    return result;
  });
  return [new Uint8Array(largest.buffer), ...coded];
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

// The matrices of a view in the most exact encoding of at most so many bytes; null if there is none.
export function chooseMatrices(attention, view, maxBytes) {
  for (const encoding of ["float16", "uint8"]) {
    const found = encodeMatrices(attention, view, encoding);
    if (found.data.length <= maxBytes) return found;
  }
  return null;
}
