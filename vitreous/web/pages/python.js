// The lines of Python that make a map of the page with the package.
import {changedPython} from "./intervention.js";
import {IN_BROWSER, frameNumber, isFrame, methodOptions, queryOf, startToken, targetOf} from "./view.js";

const LOSSLESS_PIXELS = 512 * 512; // larger images come as JPEG, see vitreous/web/explorer/routes.py
const FRAME_IMPORTS = ["from itertools import islice", "import vitreous as vt", "from vitreous.video.decode import read_frames"];
const SIZE_IMPORT = "from vitreous.video.options import VideoOptions";
const quote = text => JSON.stringify(String(text)); // a JSON string is one of Python, too
const literal = value => typeof value === "string" ? quote(value) : Array.isArray(value) ? `(${value.join(", ")})` : value;
const call = (name, first, named) => `${name}(${[first, ...Object.entries(named).map(([key, value]) => `${key}=${literal(value)}`)].join(", ")})`;

// The lines leave the result as `found` or, where the definition is written out, as `patch_map`. `pair` is {view, image, patch}
// of another image that takes part; similarity is measured to its patch.
export function pythonOf(shown) {
  const lines = mapLines(shown), {intervention, attention, observed, pair} = shown;
  if (!intervention) return lines;
  if (pair) return `# without what was changed of the images and the model\n${lines}`;
  return changedPython(lines, {intervention, change: observed.change, rows: attention.rows, columns: attention.columns, file: imageIn(shown, [])});
}

function mapLines({view, image, model, method, attention, observed, pair}) {
  const lines = ["import vitreous as vt", "", `model = ${call("vt.load", quote(model.origin), model.load_options)}`];
  const file = imageIn({view, image}, lines), options = explainOptions({view, method, attention, observed});
  if (pair) return [...lines, ...pairLines(view, {file, otherFile: imageIn(pair, lines, "other_frame"), patch: pair.patch})].join("\n");
  if (!options) return [...lines, ...definition(view, attention, file)].join("\n");
  return [...lines, `found = ${call("vt.explain", `model, ${file}`, {method: view.method, ...options})}`, 'found.save("map.png")'].join("\n");
}

// The image in Python: the name of its file, or the variable of a frame of a clip, to which a line gives the frame.
function imageIn(shown, lines, variable = "frame") {
  const {view: {image, name}, image: {is_resized, width, height}} = shown;
  if (!isFrame(image)) return quote(imageFile(shown, lines));
  if (!lines.includes(FRAME_IMPORTS[0])) lines.splice(0, 1, FRAME_IMPORTS[0], "", ...FRAME_IMPORTS.slice(1));
  if (is_resized && !lines.includes(SIZE_IMPORT)) lines.splice(lines.indexOf(FRAME_IMPORTS.at(-1)) + 1, 0, SIZE_IMPORT);
  const options = is_resized ? `, VideoOptions(size=(${height}, ${width}))` : ""; // square pixels
  lines.push(`${variable} = next(islice(read_frames(${quote(name || "clip.mp4")}${options}), ${frameNumber(image)}, None)).image_u8`);
  return variable;
}

// The name of the image's file; of one that has no file yet, of that which "Save" writes.
function imageFile({view, image}, lines) {
  const isFile = !view.image?.startsWith("data-") && !image.isLive && view.name !== "pasted image";
  if (!isFile) lines.push(`# ${view.name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ")}: save it from the page (Save, Image)`);
  return isFile ? view.name || "image.png" : `${stemOf(view)}.${image.width * image.height > LOSSLESS_PIXELS ? "jpg" : "png"}`;
}

// The beginning of the names of files that belong to a view.
export function stemOf({name, image}) {
  const stem = name.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}]+/gu, "-") || "image";
  return isFrame(image) ? `${stem}-frame-${frameNumber(image) + 1}` : stem;
}

// What `explain` takes beside the method; null where it has no option for what the view shows.
export function explainOptions({view, method, attention, observed}) {
  const {heads, fusion, layer, first} = view, query = queryOf(view, {method, attention, observed}), at = query ? {query} : {};
  if (!IN_BROWSER.includes(view.method)) {
    const target = method.is_class_specific ? targetOf(view, observed.prediction) : null;
    return {...target ? {target} : {}, ...methodOptions(view, method), ...at};
  }
  if (view.toward && startToken(view, attention) >= 0 || !view.patch && view.token >= 0 || heads?.length > 1) return null;
  if (view.method === "attention") return {layer, ...heads ? {head: heads[0]} : fusion === "mean" ? {} : {head_fusion: fusion}, ...at};
  return first !== 0 || layer !== attention.depth - 1 || heads ? null : {...fusion === "mean" ? {} : {head_fusion: fusion}, ...at};
}

// Two images: the tokens of both, and what the map takes from the other one.
function pairLines({layer, feature}, {file, otherFile, patch}) {
  const lines = ["from vitreous.explanation.methods.features import patch_features", "", "tokens = []",
    `for path in (${file}, ${otherFile}):`, "    pixels, geometry = model.preprocess(path)",
    `    tokens.append(patch_features(model.model, pixels[None], ${layer})[0].detach())  # rows, columns, width`];
  if (feature === "similarity") {
    return ["import torch", ...lines, `query = tokens[1][${patch.join(", ")}]`,
      "patch_map = torch.cosine_similarity(tokens[0], query, dim=-1).numpy()"];
  }
  return ["from vitreous.explanation.methods.patch_colors import PatchColors", ...lines, "fitted = PatchColors.fit(tokens)",
    "components = fitted.project(tokens[0])", "patch_map = components[..., 0].numpy()", "colors = fitted.to_rgb(components).numpy()"];
}

// Chosen heads, layers and directions have no option of their own: the definition, in a few lines.
function definition(view, attention, file) {
  const {first, layer, heads, fusion} = view, start = startToken(view, attention);
  const toward = view.toward && start >= 0, chosen = heads ? JSON.stringify(heads) : ":", fused = {mean: "mean", max: "amax", min: "amin"}[fusion];
  const lines = ["import torch", "", `pixels, geometry = model.preprocess(${file})`,
    "weights = torch.stack(vt.attention_weights(model, pixels[None]))[:, 0]  # layers, heads, tokens, tokens"];
  if (start < 0) lines.push("trace = vt.Trace()", "model.model(pixels[None], trace)", "row = trace.readout[0].detach()");
  else lines.push(`row = torch.eye(weights.shape[-1])[${start}]`);
  if (view.method === "attention") {
    const one = `weights[${layer}, ${chosen}]`;
    lines.push(`row = (${toward ? `${one} @ row` : `row @ ${one}`}).${fused}(0)`);
  } else {
    lines.push(`mixed = weights[:, ${chosen}].${fused}(1)`);
    if (fusion !== "mean") lines.push("mixed = mixed / mixed.sum(-1, keepdim=True)");
    const range = `range(${first}, ${layer + 1})`;
    lines.push(`for layer in ${toward ? range : `reversed(${range})`}:`,
      `    row = (row + ${toward ? "mixed[layer] @ row" : "row @ mixed[layer]"}) / 2`);
  }
  lines.push(`patch_map = row[${attention.prefix}:].reshape(${attention.rows}, ${attention.columns}).numpy()`,
    "heatmap = geometry.to_image(patch_map * patch_map.size)  # 1 means uniform");
  return lines;
}
