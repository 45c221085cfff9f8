// What a person changes of the input and of the model: as text in the link, for the server, and as Python.

const MAX_NUMBER = 65536;
const FILL_NAMES = {mean: "the mean color", blur: "a blur", neighbors: "their neighbors"};

// Numbers of patches as text, "3-5.9" for 3, 4, 5 and 9, and back; what is no such text gives none.
export function readPatches(text) {
  const found = new Set();
  for (const part of text.split(".")) {
    const [, first, last = first] = part.match(/^(\d{1,5})(?:-(\d{1,5}))?$/) ?? [];
    for (let number = Number(first); number <= Math.min(Number(last), MAX_NUMBER - 1); number++) found.add(number);
  }
  return [...found].sort((a, b) => a - b);
}

export const writePatches = patches => runsOf(patches).map(([first, last]) => first === last ? first : `${first}-${last}`).join(".");

function runsOf(patches) {
  const runs = [];
  for (const number of patches) {
    if (runs.length && runs.at(-1)[1] === number - 1) runs.at(-1)[1] = number;
    else runs.push([number, number]);
  }
  return runs;
}

// Heads [layer, head] as text, "3h1.5h0", and back.
export const readHeads = text => text.split(".").map(part => part.match(/^(\d{1,4})h(\d{1,4})$/)?.slice(1).map(Number)).filter(Boolean);

export const writeHeads = heads => heads.map(pair => pair.join("h")).join(".");

// The intervention of a view as POST /api/jobs takes it, or null. `before` is the prediction without it, if it is known.
export function interventionOf(view, before = null) {
  const masked = readPatches(view.masked), heads = readHeads(view.ablated);
  if (view.unchanged || !masked.length && !heads.length) return null;
  const first = view.target || before?.scores[0]?.[0];
  const target = view.contrast && first ? `${first} - ${view.contrast}` : view.target || null;
  return {masked, fill: view.fill, heads, target};
}

// The prediction for the unchanged image by the unchanged model, of what the model gave.
export const beforeOf = observed => observed?.change?.prediction ?? observed?.prediction ?? null;

// What is changed, in words; "" for nothing.
export function describeIntervention(intervention) {
  if (!intervention) return "";
  const {masked, fill, heads} = intervention, names = heads.map(([layer, head]) => `layer ${layer} head ${head}`);
  return [...masked.length ? [`${masked.length} patch${masked.length > 1 ? "es" : ""} masked by ${FILL_NAMES[fill]}`] : [],
    ...names.length ? [`switched off: ${names.join(", ")}`] : []].join(" · ");
}

// Lines that make the same map and the same figures: `text` holds those of the map without the intervention.
export function changedPython(text, {intervention: {masked, fill, heads, target}, change, rows, columns, file}) {
  const lines = text.split("\n"), isImport = line => /^(import|from) /.test(line), imports = new Set(lines.filter(isImport));
  const isModel = line => /^(model =|frame =|#)/.test(line), contexts = [], made = [];
  if (masked.length) {
    imports.add("import numpy as np");
    const runs = runsOf(masked).map(([first, last]) => first === last ? first : `*range(${first}, ${last + 1})`);
    made.push(`mask = np.zeros((${rows}, ${columns}), bool)`, `mask.flat[[${runs.join(", ")}]] = True`);
    contexts.push(`vt.mask_patches(model, mask, fill="${fill}")`);
  }
  if (heads.length) contexts.push(`vt.ablate_heads(model, [${heads.map(pair => `(${pair.join(", ")})`).join(", ")}])`);
  const isSimilarity = change.unit === "cosine similarity";
  if (isSimilarity) imports.add("import torch");
  const score = isSimilarity ? `model.embed(${file})`
    : change.unit === "score" ? `vt.explain(model, ${file}, method="gradient-rollout", target=${JSON.stringify(target)}).score`
    : `dict(model.predict(${file}).scores)[${JSON.stringify(change.target)}]`;
  const body = lines.filter(line => line && !isModel(line) && !isImport(line));
  return [...[...imports].sort(), "", ...lines.filter(isModel), ...made, "", `before = ${score}`, `with ${contexts.join(", ")}:`,
    ...[`after = ${score}`, ...body].map(line => `    ${line}`),
    ...isSimilarity ? ["similarity = torch.nn.functional.cosine_similarity(before, after, dim=0)", "print(similarity)"] : ["print(before, after)"],
  ].join("\n");
}
