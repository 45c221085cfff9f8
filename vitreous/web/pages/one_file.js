// The view as one HTML file that needs neither server nor network: the page of saved_view.js with what the view needs.
import {getText} from "./api.js";
import {toDataUri} from "./drawing.js";
import {chooseMatrices, encodeHalves} from "./matrices.js";

const MAX_BYTES = 25e6; // what mail servers take as an attachment
const MARK = /\{\{([a-z]+)\}\}/g;

const escapeHtml = value => String(value).replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);

// Bytes as base64.
function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  return btoa(text);
}

const encodeFloats = values => toBase64(new Uint8Array(Float32Array.from(values).buffer));

// What the file leaves out or changes; "" for nothing.
function noteOn({view: {method}, source}, matrices) {
  if (source === "similarity") return "";
  if (source === "server") return `A ${method} map needs the model, which isn't in this file: hovering shows the values of this map.`;
  if (!matrices) return "The attention is left out, because the file would be larger than 25 MB: hovering shows the values of this map.";
  return matrices.description.encoding === "float16" ? ""
    : "The attention is stored in 8 bits, so that the file stays under 25 MB.";
}

// The file. `shown` is what saving.js has gathered; each of `facts` becomes a row of a table.
export async function toOneFile(shown, {photoUri, isLossless, facts, python, heading}) {
  const {view, name, attention, tokens, drawn, size, geometry, tables, caption, reading, blended} = shown, still = toDataUri(blended, isLossless);
  const template = await getText("/api/saved-view"), room = MAX_BYTES - template.length - photoUri.length - still.length - 1e5;
  const matrices = shown.source === "attention" ? chooseMatrices(attention, view, 3 / 4 * room) : null;
  const {values, offset, rows, columns, box, signed, colors, unit} = drawn;
  const saved = {
    view, image: {...size, dimming: shown.image.dimming, name}, photo: photoUri, geometry, depth: attention.depth,
    palettes: {...tables, colormaps: {[view.palette]: tables.colormaps[view.palette]}},
    map: {rows, columns, box, signed, unit, values: encodeFloats(values.subarray(offset, offset + rows * columns)), colors: colors && encodeFloats(colors)},
    matrices: matrices && {...matrices, data: toBase64(matrices.data)},
    tokens: tokens && {rows: tokens.rows, columns: tokens.columns, width: tokens.width, data: toBase64(encodeHalves(tokens.vectors))},
  };
  const words = {title: `${name}: ${caption} · Vitreous`, name, heading, alt: shown.title, caption, reading, python,
    note: noteOn(shown, matrices), still, width: blended.width, height: blended.height};
  const rowsOfFacts = Object.entries(facts).filter(([, value]) => value).map(([name, value]) =>
    `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  const parts = {...Object.fromEntries(Object.entries(words).map(([name, value]) => [name, escapeHtml(value)])),
    rows: rowsOfFacts.join("\n"), saved: JSON.stringify(saved).replaceAll("<", "\\u003c")};
  return new Blob([template.replace(MARK, (mark, name) => Object.hasOwn(parts, name) ? parts[name] : mark)], {type: "text/html"});
}
