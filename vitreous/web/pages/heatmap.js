// From values on a grid to colors: the scale, the interpolation and the blending of vitreous/render, whose tables and
// constants the server sends.

export class Palettes {
  constructor({colormaps, signed, overlay, percentiles}) {
    this.names = Object.keys(colormaps);
    this.tables = Object.fromEntries(Object.entries(colormaps).map(([name, hex]) => [name, bytesOf(hex)]));
    this.signed = signed;
    this.overlay = overlay;
    this.percentiles = percentiles;
  }

  // Color (0 to 255) of a level (0 to 255) of a colormap.
  color(name, level) { return this.tables[name].subarray(3 * level, 3 * level + 3); }

  // Color (0 to 255) of a level in the legend.
  legendColor(name, level, signed) {
    if (!signed) return [...this.color(name, Math.round(level * this.overlay.glow_color_max))];
    return this.signed[level < 128 ? "negative" : "positive"].map(part => part * Math.abs(level / 127.5 - 1));
  }

  // What each of 256 levels does to a pixel, as three layers over the image, packed for ImageData: how gray it gets,
  // what it is multiplied by, and what is added. It is `blend_table` of vitreous/render/overlay.py.
  blendTables(name, opacity, dimming, signed) {
    const {graying, glow, tint, glow_color_max} = this.overlay;
    const gray = new Uint32Array(256), light = new Uint32Array(256), added = new Uint32Array(256);
    for (let level = 0; level < 256; level++) {
      const value = signed ? Math.abs(level / 127.5 - 1) : level / 255;
      const low = opacity * (1 - value * value * (3 - 2 * value)), strength = opacity * glow * value ** 1.5;
      const color = signed ? this.signed[level < 128 ? "negative" : "positive"]
        : this.color(name, Math.round(value * glow_color_max * 255));
      const lights = [], glows = [];
      for (let channel = 0; channel < 3; channel++) {
        const part = color[channel] / 255;
        glows.push(255 * strength * part);
        lights.push(255 * (1 - strength * part) * (1 - tint * strength * (1 - part)) * (1 - dimming * low));
      }
      gray[level] = pack([128, 128, 128], 255 * graying * low);
      light[level] = pack(lights, 255);
      added[level] = pack(glows, 255);
    }
    return {gray, light, added};
  }
}

function bytesOf(hex) {
  return Uint8Array.from({length: hex.length / 2}, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

export function pack([red, green, blue], alpha) {
  return (Math.round(alpha) << 24 | Math.round(blue) << 16 | Math.round(green) << 8 | Math.round(red)) >>> 0;
}

// Enlarges a map bilinearly with half-pixel centers, as `Geometry.to_image` does.
export class Upsampler {
  constructor(rows, columns, factor) {
    this.height = rows * factor;
    this.width = columns * factor;
    this.columns = columns;
    this.down = weights(this.height, rows, factor);
    this.across = weights(this.width, columns, factor);
    this.values = new Float32Array(this.height * this.width);
    this.row = new Float32Array(columns);
  }

  apply(map, offset = 0) {
    const {down, across, columns, width, height, row, values} = this;
    for (let y = 0, at = 0; y < height; y++) {
      const above = offset + down.index[y] * columns, below = offset + down.next[y] * columns, part = down.part[y];
      for (let x = 0; x < columns; x++) row[x] = map[above + x] + part * (map[below + x] - map[above + x]);
      for (let x = 0; x < width; x++, at++) {
        const left = row[across.index[x]];
        values[at] = left + across.part[x] * (row[across.next[x]] - left);
      }
    }
    return values;
  }
}

function weights(pixels, cells, factor) {
  const index = new Int32Array(pixels), next = new Int32Array(pixels), part = new Float32Array(pixels);
  for (let i = 0; i < pixels; i++) {
    const position = Math.min(cells - 1, Math.max(0, (i + 0.5) / factor - 0.5));
    index[i] = Math.floor(position);
    next[i] = Math.min(cells - 1, index[i] + 1);
    part[i] = position - index[i];
  }
  return {index, next, part};
}

const BINS = 2048, counts = new Uint32Array(BINS);

// The values drawn as 0 and 1: two percentiles, so that outlying cells don't set them; symmetric for signed maps.
export function robustScale(values, [low, high], signed = false) {
  let smallest = Infinity, largest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = signed ? Math.abs(values[i]) : values[i];
    if (value < smallest) smallest = value;
    if (value > largest) largest = value;
  }
  const span = largest - smallest;
  if (!(span > 1e-6 * Math.abs(largest))) return signed ? [-largest, largest] : [smallest, largest];
  counts.fill(0);
  const factor = (BINS - 1e-3) / span;
  for (let i = 0; i < values.length; i++) {
    counts[((signed ? Math.abs(values[i]) : values[i]) - smallest) * factor | 0]++;
  }
  const at = percent => {
    const wanted = percent / 100 * values.length;
    let bin = 0, seen = 0;
    while (bin < BINS - 1 && seen + counts[bin] < wanted) seen += counts[bin++];
    const within = counts[bin] ? Math.min(1, Math.max(0, (wanted - seen) / counts[bin])) : 0;
    return smallest + (bin + within) / factor;
  };
  const top = Math.min(at(high), largest);
  if (signed) return [-top, top];
  const bottom = at(low);
  return top - bottom > 1e-6 * Math.abs(top) ? [bottom, top] : [smallest, largest];
}

// The level, 0 to 255, of each value.
export function toLevels(values, [low, high], levels) {
  const factor = high - low > 1e-6 * Math.max(Math.abs(low), Math.abs(high)) ? 255 / (high - low) : 0;
  for (let i = 0; i < values.length; i++) {
    const level = (values[i] - low) * factor + 0.5;
    levels[i] = level < 0 ? 0 : level > 255 ? 255 : level;
  }
  return levels;
}

export function uniformly(value) {
  return value >= 100 ? Math.round(value).toString() : value >= 10 ? value.toFixed(1) : value.toPrecision(2);
}
