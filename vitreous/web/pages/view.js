// What the page shows, as one record: to and from the link that restores it, in words, and as Python.

export const IN_BROWSER = ["attention", "rollout"];

const numbers = text => text.split(".").map(Number);

// Each field: its name in the link, what it is at first, and how the text in the link is read.
const FIELDS = {
  model: ["m", 0, Number], image: ["i", null, String], name: ["n", "", String],
  method: ["method", "rollout", String], first: ["first", 0, Number], layer: ["layer", -1, Number],
  heads: ["heads", null, numbers], fusion: ["fusion", "mean", String], token: ["token", -1, Number],
  patch: ["patch", null, numbers], toward: ["toward", false, text => text === "1"],
  opacity: ["opacity", 100, Number], palette: ["palette", "inferno", String],
  target: ["target", "", String], contrast: ["contrast", "", String], feature: ["feature", "colors", String],
  masked: ["masked", "", String], fill: ["fill", "mean", String], ablated: ["off", "", String],
  unchanged: ["unchanged", false, text => text === "1"],
  live: ["live", "", String], // the camera that runs: that of the "browser" or of the "server"
};

export function newView() {
  return Object.fromEntries(Object.entries(FIELDS).map(([field, [, value]]) => [field, value]));
}

// Only what differs from the beginning is in the link; of a camera that runs, no image. The names of a second view begin with a prefix.
export function toFragment(view, prefix = "") {
  const parts = new URLSearchParams();
  for (const [field, [name, first]] of Object.entries(FIELDS)) {
    const value = view[field];
    if (value === null || value === first || view.live && ["image", "name"].includes(field)) continue;
    parts.set(prefix + name, Array.isArray(value) ? value.join(".") : value === true ? "1" : String(value));
  }
  return parts.toString();
}

const LONGEST_TEXT = 300, LONGEST_LIST = 20000; // lists of patches and heads may be long

export function fromFragment(link, prefix = "") {
  const view = newView(), parts = new URLSearchParams(link);
  for (const [field, [name, , read]] of Object.entries(FIELDS)) {
    const text = parts.get(prefix + name), longest = field === "masked" || field === "ablated" ? LONGEST_LIST : LONGEST_TEXT;
    if (text === null || text.length > longest) continue;
    const value = read(text);
    if ([value].flat().every(one => typeof one !== "number" || Number.isInteger(one))) view[field] = value;
  }
  if (view.patch?.length !== 2) view.patch = null;
  for (const [field, values] of Object.entries({fusion: ["mean", "max", "min"], feature: ["colors", "similarity", "norms"],
    fill: ["mean", "blur", "neighbors"], live: ["", "browser", "server"]})) {
    if (!values.includes(view[field])) view[field] = values[0];
  }
  view.opacity = Math.min(100, Math.max(0, view.opacity));
  return view;
}

// Brings a view into the range of a model's attention; links may come from another model.
export function clampView(view, attention) {
  const within = (value, count) => Math.min(count - 1, Math.max(0, value < 0 ? count + value : value));
  view.layer = within(view.layer, attention.depth);
  view.first = view.first > view.layer ? 0 : Math.max(0, view.first);
  const heads = [...new Set(view.heads ?? [])].filter(head => head >= 0 && head < Math.max(...attention.heads)).sort((a, b) => a - b);
  view.heads = heads.length ? heads : null;
  if (!(view.token >= 0 && view.token < attention.prefix)) view.token = -1;
  const [row, column] = view.patch ?? [];
  if (view.patch && !(row >= 0 && row < attention.rows && column >= 0 && column < attention.columns)) view.patch = null;
  view.toward &&= hasTarget(view, attention);
}

// The token that a map starts from: that of the patch, or the chosen one; -1 is the readout. Of what looks at the readout only
// one token can be asked for.
export function startToken({patch, token, toward}, attention) {
  if (patch) return attention.tokenOf(...patch);
  return token < 0 && toward ? attention.readToken : token;
}

// Whether something can look at what a map starts from: the output of a model without a class token is no token.
export const hasTarget = (view, attention) => startToken({...view, toward: true}, attention) >= 0;

export function tokenName(token, {readToken, hasClassToken}) {
  if (token < 0 && readToken !== 0) return "model's output";
  return token <= 0 && hasClassToken ? "class token" : `register ${Math.max(0, token) + !hasClassToken}`;
}

const layerNames = ({first, layer}, depth) => first === 0 && layer === depth - 1 ? "all layers"
  : first === layer ? `layer ${layer}` : `layers ${first} to ${layer}`;

const headNames = ({heads, fusion}) => !heads ? `${fusion} over heads`
  : heads.length === 1 ? `head ${heads[0]}` : `${fusion} over heads ${heads.join(", ")}`;

// The caption of a map that the page computes.
export function captionOf(view, attention, patch) {
  const start = patch ? `the patch in row ${patch[0]}, column ${patch[1]}`
    : view.token < 0 ? "" : `the ${tokenName(view.token, attention)}`;
  const layers = view.method === "rollout" ? layerNames(view, attention.depth) : `layer ${view.layer}`;
  const toward = view.toward && start;
  return [view.method, layers, headNames(view), ...(start ? [`${toward ? "toward" : "from"} ${start}`] : [])].join(" · ");
}

// What a map that the page computes says in numbers.
export function describeWeights(weights, {view, attention, patch, toward}) {
  const {prefix, columns, patches} = attention, parts = [];
  let best = prefix, onPrefix = 0;
  for (let i = 0; i < weights.length; i++) {
    if (i < prefix) onPrefix += weights[i];
    else if (weights[i] > weights[best]) best = i;
  }
  const place = `row ${Math.floor((best - prefix) / columns)}, column ${(best - prefix) % columns}`;
  if (!toward && prefix && view.fusion === "mean") parts.push(`${Math.round(100 * onPrefix)} % on ${prefix > 1 ? "prefix tokens" : `the ${tokenName(0, attention)}`}`);
  if (patch) {
    const own = weights[attention.tokenOf(...patch)];
    parts.push(toward ? `from itself ${(own * patches).toFixed(1)} ×` : `${Math.round(100 * own)} % on itself`);
  }
  parts.push(`most ${toward ? "from" : "on"} ${place}: ${(weights[best] * patches).toFixed(1)} × uniform`);
  return parts.join(" · ");
}

// What a map of similarity says; `best` is the most similar patch, other than the one itself.
export function describeSimilarity(values, {view, columns, patch, isOther, name}) {
  const own = isOther ? -1 : patch[0] * columns + patch[1];
  let most = own === 0 ? 1 : 0;
  values.forEach((value, i) => { if (i !== own && value > values[most]) most = i; });
  const best = [Math.floor(most / columns), most % columns];
  return {
    best,
    caption: `features · layer ${view.layer} · similarity to the patch in row ${patch[0]}, column ${patch[1]}${isOther ? ` of ${name}` : ""}`,
    reading: most < values.length ? `most similar: row ${best[0]}, column ${best[1]} · cosine ${values[most].toFixed(2)}` : "",
  };
}

// What one patch of a map says in numbers.
export function describeValue({values, columns, unit}, [row, column]) {
  const value = unit * values[row * columns + column];
  return `row ${row}, column ${column}: ${value.toPrecision(3)}${unit === 1 ? "" : " × uniform"}`;
}

// The query (x, y) of a map, in pixels of the image: the center of the view's patch; null where it has none or it isn't used.
export function queryOf({method: name, patch, feature}, {method, attention, observed: {geometry}}) {
  if (!patch || !method.options.includes("query") || name === "features" && feature !== "similarity") return null;
  const [top, left, bottom, right] = geometry.box;
  const x = left + (patch[1] + 0.5) / attention.columns * (right - left);
  const y = top + (patch[0] + 0.5) / attention.rows * (bottom - top);
  const [visibleTop, visibleLeft, visibleBottom, visibleRight] = geometry.visible_box;
  const inside = (value, low, high) => Math.round(100 * Math.min(high - 0.01, Math.max(low, value))) / 100;
  return [inside(x, visibleLeft, visibleRight), inside(y, visibleTop, visibleBottom)];
}

export function targetOf({target, contrast}, prediction) {
  if (!contrast) return target || null;
  return `${target || prediction.scores[0][0]} - ${contrast}`;
}

// What a text asks for stays with another image; a class is that of one.
export const isText = target => target.startsWith("text:");
export const keptTarget = target => isText(target) ? target : "";

// A frame of a clip is called CLIP-NUMBER, numbers from 0; in words, frames count from 1.
export const isFrame = image => /^clip-\w+-\d+$/.test(image ?? "");

export const clipOf = image => image.slice(0, image.lastIndexOf("-"));

export const frameNumber = image => Number(image.slice(image.lastIndexOf("-") + 1));

// What an image is called: the name of its file, and of a frame its number and time.
export const nameOf = ({view: {name, image}, image: {seconds}}) =>
  isFrame(image) ? `${name}, frame ${frameNumber(image) + 1} at ${seconds.toFixed(2)} s` : name;

// The options of a method that runs on the server.
export function methodOptions(view, method) {
  const options = {};
  if (method.options.includes("layer")) options.layer = view.layer;
  if (method.options.includes("head") && view.heads?.length === 1) options.head = view.heads[0];
  if (method.options.includes("view")) options.view = view.feature;
  return options;
}
