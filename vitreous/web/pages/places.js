// Patches and places on images. A `stage` has the `size` {width, height} of its image, the `geometry` of the model's
// input on it, and the `grid` {rows, columns} of patches.

// The patch at a point in pixels of the image; null where the model doesn't see it.
export function patchAt(x, y, {geometry, grid: {rows, columns}}) {
  const [top, left, bottom, right] = geometry.box, seen = geometry.visible_box;
  if (y < seen[0] || x < seen[1] || y >= seen[2] || x >= seen[3]) return null;
  const row = Math.floor((y - top) / (bottom - top) * rows), column = Math.floor((x - left) / (right - left) * columns);
  return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
}

// The patch of one stage whose place in the image is that of another stage's patch; null where its model doesn't see it.
export function samePlace([row, column], from, to) {
  const [top, left, bottom, right] = from.geometry.box, {rows, columns} = from.grid;
  const y = (top + (row + 0.5) / rows * (bottom - top)) / from.size.height;
  const x = (left + (column + 0.5) / columns * (right - left)) / from.size.width;
  return patchAt(x * to.size.width, y * to.size.height, to);
}
