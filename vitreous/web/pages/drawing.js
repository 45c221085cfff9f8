// What the stage shows as a file: SVG, and PNG drawn from it.
import {made, shape} from "./dom.js";

const LEAST_SIDE = 640; // of the image in a file, in pixels
const GAP = 16; // between two images
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const [PAPER, INK, MUTED, PIN] = ["#11151f", "#ffffff", "#d3d8e2", "#ffb454"];
const MODES = ["saturation", "multiply", "lighter"]; // of the stage's layers, as in explorer.css

// The image with the map on it, as the page blends them.
export function compose({photo, layers, spanned, size}) {
  const scale = Math.max(1, Math.ceil(LEAST_SIDE / Math.max(photo.width, photo.height)));
  const canvas = made("canvas", {width: photo.width * scale, height: photo.height * scale});
  const context = canvas.getContext("2d"), down = canvas.height / size.height, across = canvas.width / size.width;
  context.imageSmoothingEnabled = scale === 1;
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const [top, left, bottom, right] = spanned ?? [0, 0, 0, 0];
  MODES.forEach((mode, number) => {
    const {canvas: layer} = layers[number];
    if (layer.hidden) return;
    context.globalCompositeOperation = mode;
    context.drawImage(layer, left * across, top * down, (right - left) * across, (bottom - top) * down);
  });
  return canvas;
}

// A canvas as a data URI: lossless where the image is small enough to have been sent so, else as JPEG.
export function toDataUri(canvas, isLossless) {
  return isLossless ? canvas.toDataURL("image/png") : canvas.toDataURL("image/jpeg", 0.92);
}

export function blobToDataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// An SVG of what saving.js has gathered, side by side: {markup, width, height}.
export function toSvg(all) {
  const drawn = all.map(drawOne), widths = drawn.map(one => one.width), height = Math.max(...drawn.map(one => one.height));
  const width = widths.reduce((sum, one) => sum + one + GAP, -GAP), root = shape("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "font-family": FONT}, shape("title", {}, all.map(one => one.title).join("; ")), shape("rect", {width, height, fill: PAPER}));
  drawn.forEach(({content}, number) => {
    const left = widths.slice(0, number).reduce((sum, one) => sum + one + GAP, 0);
    root.append(left ? shape("g", {transform: `translate(${left} 0)`}, ...content) : shape("g", {}, ...content));
  });
  return {markup: new XMLSerializer().serializeToString(root), width, height};
}

// Image, map, chosen patch, legend and text. The map is an image of its own with the photo blended in, so that it looks
// the same in programs that can't blend; without it the photo shows.
function drawOne(shown, number) {
  const {blended, legend, lines} = shown, {width} = blended, text = Math.max(13, Math.round(width / 56)), suffix = number ? `-${number + 1}` : "";
  const line = 1.6 * text, under = blended.height + lines.length * line + text;
  const box = {x: 0, y: 0, width, height: blended.height, preserveAspectRatio: "none"};
  const image = shape("image", {...box, id: `image${suffix}`, href: shown.photoUri});
  if (shown.isPixelated) image.setAttribute("image-rendering", "pixelated");
  const map = shape("image", {...box, id: `map${suffix}`, href: toDataUri(blended, shown.isLossless)});
  const words = lines.map((content, row) => shape("text", {x: text, y: blended.height + text * (1.5 + 1.6 * row), "font-size": text,
    fill: row ? MUTED : INK, "font-weight": row ? 400 : 600, ...fitted(content, width - 2 * text, text)}, content));
  const content = [image, map, ...darkened(shown, suffix), ...marked(shown, suffix), ...words, ...(legend ? drawLegend(shown, text, under, suffix) : [])];
  return {content, width, height: Math.round(under + (legend ? 1.7 * line : 0))};
}

function textWidth(content, weight, size) {
  const context = made("canvas").getContext("2d");
  context.font = `${weight} ${size}px ${FONT}`;
  return context.measureText(content).width;
}

// Attributes that make a line as long as there is room, if it would be longer.
function fitted(content, room, size) {
  return textWidth(content, 600, size) > room ? {textLength: room, lengthAdjust: "spacingAndGlyphs"} : {};
}

function rectangleOf({size, blended}, [top, left, bottom, right]) {
  const scale = blended.width / size.width, sides = {x: left, y: top, width: right - left, height: bottom - top};
  return Object.fromEntries(Object.entries(sides).map(([name, value]) => [name, Math.round(100 * value * scale) / 100]));
}

// What the model doesn't see of the image.
function darkened(shown, suffix) {
  const whole = [0, 0, shown.size.height, shown.size.width], {visible_box: seen} = shown.geometry;
  if (whole.every((side, number) => Math.abs(side - seen[number]) < 0.5)) return [];
  const path = box => { const {x, y, width: across, height: down} = rectangleOf(shown, box); return `M${x} ${y}h${across}v${down}h${-across}z`; };
  return [shape("path", {id: `unseen${suffix}`, d: path(whole) + path(seen), "fill-rule": "evenodd", fill: "#080a10", "fill-opacity": 0.62})];
}

function marked(shown, suffix) {
  if (!shown.patchBox) return [];
  const box = rectangleOf(shown, shown.patchBox), thick = Math.max(2, Math.round(shown.blended.width / 420));
  const outline = {...box, fill: "none", rx: thick};
  return [shape("g", {id: `patch${suffix}`}, shape("rect", {...outline, stroke: "#000000", "stroke-opacity": 0.8, "stroke-width": 2 * thick}),
    shape("rect", {...outline, stroke: PIN, "stroke-width": thick}))];
}

function drawLegend({palettes, legend: {low, high, palette, signed}}, text, y, suffix) {
  const across = 10 * text, stops = Array.from({length: 33}, (_, number) => shape("stop", {offset: number / 32,
    "stop-color": `rgb(${palettes.legendColor(palette, Math.round(number / 32 * 255), signed).map(Math.round)})`}));
  const start = 1.5 * text + textWidth(low, 400, text), words = {y: y + 0.95 * text, fill: MUTED};
  return [shape("defs", {}, shape("linearGradient", {id: `colors${suffix}`}, ...stops)), shape("g", {id: `legend${suffix}`, "font-size": text},
    shape("text", {...words, x: text}, low),
    shape("rect", {x: start, y: y + 0.15 * text, width: across, height: 0.8 * text, rx: 0.4 * text, fill: `url(#colors${suffix})`}),
    shape("text", {...words, x: start + across + 0.5 * text}, high))];
}

// A PNG of an SVG, at its own size.
export async function toPng({markup, width, height}) {
  const image = new Image(), url = URL.createObjectURL(new Blob([markup], {type: "image/svg+xml"}));
  try {
    image.src = url;
    await image.decode();
    const canvas = made("canvas", {width, height});
    canvas.getContext("2d").drawImage(image, 0, 0, width, height);
    return await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

// The small maps of all heads as a canvas: `source` holds a pixel for each patch and a gap between two heads.
export function drawHeads(source, {depth, across, aspect, caption, note}) {
  const left = 92, top = 100, edge = 24, scale = Math.max(1, Math.ceil(1200 / source.width));
  const width = source.width * scale, height = Math.round(width / aspect);
  const canvas = made("canvas", {width: left + width + edge, height: top + height + edge}), context = canvas.getContext("2d");
  const write = (text, x, y, align, color = MUTED) => { Object.assign(context, {textAlign: align, fillStyle: color}); context.fillText(text, x, y, width); };
  context.fillStyle = PAPER;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(source, left, top, width, height);
  context.font = `22px ${FONT}`;
  write(caption, left, 32, "left", INK);
  context.font = `17px ${FONT}`;
  write(note, left, 58, "left");
  for (let head = 0; head < across; head++) write(head ? head : "head 0", left + (head + 0.5) / across * width, top - 10, "center");
  for (let layer = 0; layer < depth; layer++) write(layer ? layer : "layer 0", left - 12, top + (layer + 0.5) / depth * height + 6, "right");
  return canvas;
}
