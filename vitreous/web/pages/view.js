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
};

export function newView() {
  return Object.fromEntries(Object.entries(FIELDS).map(([field, [, value]]) => [field, value]));
}

// Only what differs from the beginning is in the link. The names of a second view begin with a prefix.
export function toFragment(view, prefix = "") {
  const parts = new URLSearchParams();
  for (const [field, [name, first]] of Object.entries(FIELDS)) {
    const value = view[field];
    if (value === null || value === first) continue;
    parts.set(prefix + name, Array.isArray(value) ? value.join(".") : value === true ? "1" : String(value));
  }
  return parts.toString();
}

export function fromFragment(text, prefix = "") {
  const view = newView(), parts = new URLSearchParams(text);
  for (const [field, [name, , read]] of Object.entries(FIELDS)) {
    if (!parts.has(prefix + name)) continue;
    const value = read(parts.get(prefix + name));
    if ([value].flat().every(one => typeof one !== "number" || Number.isInteger(one))) view[field] = value;
  }
  if (view.patch?.length !== 2) view.patch = null;
  for (const [field, values] of Object.entries({fusion: ["mean", "max", "min"], feature: ["colors", "similarity", "norms"]})) {
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
  const heads = view.heads?.filter(head => head >= 0 && head < Math.max(...attention.heads));
  view.heads = heads?.length ? heads : null;
  if (view.token >= attention.prefix) view.token = -1;
  const [row, column] = view.patch ?? [];
  if (view.patch && !(row >= 0 && row < attention.rows && column >= 0 && column < attention.columns)) view.patch = null;
}

export function tokenName(token, attention, hasClassToken = true) {
  if (token < 0) return "readout";
  return token === 0 && hasClassToken ? "class token" : `register ${token}`;
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
  if (!toward && prefix && view.fusion === "mean") parts.push(`${Math.round(100 * onPrefix)} % on ${prefix > 1 ? "prefix tokens" : "the class token"}`);
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

// Whether a method that runs on the server starts from a patch, if one is pinned.
export function takesQuery(view, method) {
  return method.options.includes("query") && !(view.method === "features" && view.feature !== "similarity");
}

export const quote = text => JSON.stringify(String(text));

// The query (x, y) in pixels of the image: the center of a patch.
export function queryPoint(patch, geometry, attention) {
  if (!patch) return null;
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

// Lines that make the same map with the package. `other` is the view of the other pane if its image takes part, and
// `patch` then the patch of it that similarity is measured to.
export function pythonOf(view, {model, gallery, attention, geometry, prediction, method, other, patch}) {
  const lines = ["import vitreous as vt", "", `model = vt.load(${quote(model.origin)})`];
  const imageOf = one => one.image?.startsWith("data-") ? galleryLines(one, gallery, lines) : quote(one.name || "image.png");
  const image = imageOf(view);
  if (other) return [...lines, ...pairLines(view, {image, otherImage: imageOf(other), patch})].join("\n");
  if (!IN_BROWSER.includes(view.method)) {
    const parts = [["method", quote(view.method)]], target = targetOf(view, prediction);
    if (target && method.is_class_specific) parts.push(["target", quote(target)]);
    for (const [name, value] of Object.entries(methodOptions(view, method))) {
      parts.push([name, typeof value === "string" ? quote(value) : value]);
    }
    if (view.patch && takesQuery(view, method)) {
      parts.push(["query", `(${queryPoint(view.patch, geometry, attention).join(", ")})`]);
    }
    return [...lines, explainLine(image, parts), 'found.save("map.png")'].join("\n");
  }
  const hasAllLayers = view.first === 0 && view.layer === attention.depth - 1, {heads, fusion} = view;
  const isPlain = !view.toward && view.token < 0 && (view.method === "attention"
    ? !heads || heads.length === 1 : hasAllLayers && !heads);
  if (!isPlain) return [...lines, ...tensorLines(view, attention, image)].join("\n");
  const parts = [["method", quote(view.method)]];
  if (view.method === "attention") parts.push(["layer", view.layer]);
  if (heads) parts.push(["head", heads[0]]);
  else if (fusion !== "mean") parts.push(["head_fusion", quote(fusion)]);
  if (view.patch) parts.push(["query", `(${queryPoint(view.patch, geometry, attention).join(", ")})`]);
  return [...lines, explainLine(image, parts), 'found.save("map.png")'].join("\n");
}

function galleryLines(view, gallery, lines) {
  lines.push(`# the image is number ${view.image.slice(5)} of those that vitreous serve --data ${gallery.source} offers, ` +
    `from the ${gallery.split} split`);
  return quote("image.png");
}

function explainLine(image, parts) {
  return `found = vt.explain(model, ${[image, ...parts.map(([name, value]) => `${name}=${value}`)].join(", ")})`;
}

// Two images: the tokens of both, and what the map takes from the other one.
function pairLines({layer, feature}, {image, otherImage, patch}) {
  const lines = ["from vitreous.explanation.methods.features import patch_features", "", "tokens = []",
    `for path in (${image}, ${otherImage}):`, "    pixels, geometry = model.preprocess(path)",
    `    tokens.append(patch_features(model.model, pixels[None], ${layer})[0].detach())  # rows, columns, width`];
  if (feature === "similarity") {
    return ["import torch", ...lines, `query = tokens[1][${patch.join(", ")}]`,
      "patch_map = torch.cosine_similarity(tokens[0], query, dim=-1).numpy()"];
  }
  return ["from vitreous.explanation.methods.patch_colors import PatchColors", ...lines, "fitted = PatchColors.fit(tokens)",
    "components = fitted.project(tokens[0])", "patch_map = components[..., 0].numpy()", "colors = fitted.to_rgb(components).numpy()"];
}

// Chosen heads, layers and directions have no option of their own: the definition, in a few lines.
function tensorLines(view, attention, image) {
  const {first, layer, heads, fusion} = view;
  const start = view.patch ? attention.tokenOf(...view.patch) : view.token;
  const chosen = heads ? `[:, ${JSON.stringify(heads)}]` : "";
  const lines = ["import torch", "", `pixels, geometry = model.preprocess(${image})`,
    "weights = torch.stack(vt.attention_weights(model, pixels[None]))[:, 0]  # layers, heads, tokens, tokens"];
  const fused = {mean: ".mean(1)", max: ".amax(1)", min: ".amin(1)"}[fusion];
  if (start < 0) {
    lines.push("trace = vt.Trace()", "model.model(pixels[None], trace)", "row = trace.readout[0].detach()");
  } else lines.push(`row = torch.eye(weights.shape[-1])[${start}]`);
  if (view.method === "attention") {
    const one = `weights[${layer}]${heads ? `[${JSON.stringify(heads)}]` : ""}`;
    lines.push(`row = (${view.toward ? `${one} @ row` : `row @ ${one}`})${fused.replace("1", "0")}`);
  } else {
    lines.push(`mixed = weights${chosen}${fused}`);
    if (fusion !== "mean") lines.push("mixed = mixed / mixed.sum(-1, keepdim=True)");
    const range = `range(${first}, ${layer + 1})`;
    lines.push(`for layer in ${view.toward ? range : `reversed(${range})`}:`,
      `    row = (row + ${view.toward ? "mixed[layer] @ row" : "row @ mixed[layer]"}) / 2`);
  }
  lines.push(`patch_map = row[${attention.prefix}:].reshape(${attention.rows}, ${attention.columns}).numpy()`,
    "heatmap = geometry.to_image(patch_map * patch_map.size)  # 1 means uniform");
  return lines;
}

// The options of a method that runs on the server.
export function methodOptions(view, method) {
  const options = {};
  if (method.options.includes("layer")) options.layer = view.layer;
  if (method.options.includes("head") && view.heads?.length === 1) options.head = view.heads[0];
  if (method.options.includes("view")) options.view = view.feature;
  return options;
}
