// NumPy's .npz: a zip archive of .npy files, stored as they are. `numpy.load(file, allow_pickle=False)` reads it.

const utf8 = new TextEncoder();

export const floats = (values, shape) => ({type: "<f4", shape, data: Float32Array.from(values)});
export const doubles = values => ({type: "<f8", shape: [values.length], data: Float64Array.from(values)});
export const integers = values => ({type: "<i4", shape: [values.length], data: Int32Array.from(values)});
export const text = value => ({...texts([value]), shape: []});

// An array of strings: four bytes a character, all as long as the longest.
export function texts(values) {
  const points = values.map(value => Array.from(value, character => character.codePointAt(0)));
  const length = Math.max(1, ...points.map(one => one.length)), data = new Uint32Array(values.length * length);
  points.forEach((one, number) => data.set(one, number * length));
  return {type: `<U${length}`, shape: [values.length], data};
}

// The bytes of an archive of arrays by name.
export function toNpz(arrays) {
  return zip(Object.entries(arrays).map(([name, array]) => ({name: `${name}.npy`, parts: [npyHeader(array), asBytes(array.data)]})));
}

const asBytes = data => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

// The header of version 1.0: magic, length, a Python literal that is padded so that the data begin at a multiple of 64.
function npyHeader({type, shape}) {
  const tuple = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  const literal = `{'descr': '${type}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const padded = `${literal.padEnd(Math.ceil((literal.length + 11) / 64) * 64 - 11)}\n`;
  const header = new Uint8Array(10 + padded.length);
  header.set([0x93, ...utf8.encode("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8]);
  header.set(utf8.encode(padded), 10);
  return header;
}

const MIDNIGHT = 0, FIRST_DAY = 33; // 1980-01-01: the same arrays give the same file

function zip(files) {
  const parts = [], index = [];
  let offset = 0;
  for (const {name, parts: content} of files) {
    const encoded = utf8.encode(name), size = content.reduce((sum, part) => sum + part.length, 0);
    const common = [20, 0x800, 0, MIDNIGHT, FIRST_DAY]; // version, names in UTF-8, stored, time, date
    const sizes = [crc32(content), size, size];
    const local = record([4, 0x04034b50], ...common.map(value => [2, value]), ...sizes.map(value => [4, value]),
      [2, encoded.length], [2, 0]);
    index.push(record([4, 0x02014b50], [2, 20], ...common.map(value => [2, value]), ...sizes.map(value => [4, value]),
      [2, encoded.length], [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), encoded);
    parts.push(local, encoded, ...content);
    offset += local.length + encoded.length + size;
  }
  const length = index.reduce((sum, part) => sum + part.length, 0);
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...index, end], {type: "application/zip"});
}

// Numbers as bytes, the lowest first; each is given as [how many bytes, number].
function record(...fields) {
  return Uint8Array.from(fields.flatMap(([count, value]) => Array.from({length: count}, (_, byte) => value >>> 8 * byte & 255)));
}

const CRC_TABLE = Uint32Array.from({length: 256}, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? value >>> 1 ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(parts) {
  let value = 0xffffffff;
  for (const part of parts) for (let i = 0; i < part.length; i++) value = CRC_TABLE[(value ^ part[i]) & 255] ^ value >>> 8;
  return (value ^ 0xffffffff) >>> 0;
}
