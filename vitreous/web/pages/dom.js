// Elements of a page: found by their ids, and made; and its keys.

export const at = id => document.getElementById(id);

// An element with properties and children.
export function made(name, fields = {}, ...children) {
  const element = Object.assign(document.createElement(name), fields);
  element.append(...children);
  return element;
}

// An element of an SVG, with attributes.
export function shape(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// How far keys go: on a grid, [rows, columns]; around a few choices; along many.
export const STEPS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
export const TURNS = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1};
export const JUMPS = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity};

// Whether a key is none of the browser's commands.
export const isPlain = event => !event.ctrlKey && !event.metaKey && !event.altKey;

// The nearest number from 0 to below a count.
export const inside = (value, count) => Math.min(count - 1, Math.max(0, value));
