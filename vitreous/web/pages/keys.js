// Keys on the image.
import {STEPS, at, inside, isPlain} from "./dom.js";

const next = (list, now) => list[(list.findIndex(one => String(one) === String(now)) + 1) % list.length];
const ACTIONS = { // each gets the explorer and returns the fields that change
  Enter: ({stage}) => stage.hovered && {patch: stage.hovered},
  Escape: () => ({patch: null, token: -1}),
  d: ({view}) => ({toward: !view.toward}),
  m: ({view, start}) => ({method: next(Object.keys(start.methods), view.method)}),
  "[": ({view}) => ({layer: Math.max(0, view.layer - 1)}),
  "]": ({view, attention}) => ({layer: Math.min(attention.depth - 1, view.layer + 1)}),
  h: ({view, attention, pane: {source, method: {options}}}) => (source === "attention" || options.includes("head")) && ({heads: next([null, ...Array.from({length: attention.heads[view.layer]}, (_, head) => [head])], view.heads)}),
  o: ({view, pane}) => ({opacity: view.opacity ? (pane.opacity = view.opacity, 0) : pane.opacity ?? 100}),
};

export function addKeys(explorer) {
  at("panes").addEventListener("keydown", event => onKey(explorer, event));
}

function onKey(explorer, event) {
  if (!explorer.attention || !isPlain(event) || event.target !== explorer.stage.stage) return;
  const step = STEPS[event.key], action = ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!step && !action) return;
  event.preventDefault();
  const fields = step ? {patch: movedPatch(explorer, step)} : action(explorer);
  if (fields) explorer.change(fields);
}

// The pinned patch moved by a step, or the middle one.
function movedPatch({view, attention: {rows, columns}, stage}, step) {
  stage.hover(null);
  if (!view.patch) return [Math.floor(rows / 2), Math.floor(columns / 2)];
  return [inside(view.patch[0] + step[0], rows), inside(view.patch[1] + step[1], columns)];
}
