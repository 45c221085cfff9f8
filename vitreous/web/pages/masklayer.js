// What is masked on an image: the pixels that the model got there, and the border around them.
import {made} from "./dom.js";
import {readPatches} from "./intervention.js";

const PLAIN = "#6b7280"; // of masked patches whose new pixels haven't come yet

export class MaskLayer {
  constructor(stage) {
    Object.assign(this, {stage, canvas: stage.find("masked"), edges: stage.find("masked-edges"), masked: new Set()});
  }

  // The grid of patches, where it lies on the image, and the side of a patch in pixels of the input.
  setGrid({rows, columns}, box, patchSize) {
    Object.assign(this, {rows, columns, box, patchSize});
    this.canvas.width = columns * patchSize;
    this.canvas.height = rows * patchSize;
    for (const element of [this.canvas, this.edges]) this.stage.span(element, box);
    this.edges.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  }

  // Shows what a pane's view masks.
  follow({view, intervention, input, observed}) {
    if (this.isPainted) return this.draw(); // the stroke of a brush goes on over the frames of a clip
    const masked = view.unchanged ? [] : readPatches(view.masked);
    const isFresh = intervention && intervention.fill === view.fill && String(intervention.masked) === String(masked);
    this.show(masked, isFresh && masked.length ? inputImage(input, observed) : null);
  }

  // `input` holds the pixels that the model got, or null while they are not known.
  show(masked, input = null) {
    this.masked = new Set(masked);
    this.draw(input);
  }

  // A copy of the photo with the masked patches on it.
  paintOn(photo) {
    const copy = made("canvas", {width: photo.width, height: photo.height}), context = copy.getContext("2d");
    const [top, left, bottom, right] = this.box, down = photo.height / this.stage.size.height, across = photo.width / this.stage.size.width;
    context.drawImage(photo, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.canvas, left * across, top * down, (right - left) * across, (bottom - top) * down);
    return copy;
  }

  draw(input = null) {
    const {rows, columns, masked, patchSize, canvas} = this, borders = [];
    const has = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns && masked.has(row * columns + column);
    canvas.hidden = !masked.size;
    this.edges.toggleAttribute("hidden", !masked.size);
    if (!masked.size) return;
    const context = canvas.getContext("2d");
    context.fillStyle = PLAIN;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (input) context.putImageData(input, 0, 0);
    else context.fillRect(0, 0, canvas.width, canvas.height);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        if (!has(row, column)) {
          context.clearRect(column * patchSize, row * patchSize, patchSize, patchSize);
          continue;
        }
        if (!has(row - 1, column)) borders.push(`M${column} ${row}h1`);
        if (!has(row + 1, column)) borders.push(`M${column} ${row + 1}h1`);
        if (!has(row, column - 1)) borders.push(`M${column} ${row}v1`);
        if (!has(row, column + 1)) borders.push(`M${column + 1} ${row}v1`);
      }
    }
    for (const path of this.edges.children) path.setAttribute("d", borders.join(""));
  }
}

function inputImage(pixels, {input_height: height, input_width: width}) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  return image;
}
