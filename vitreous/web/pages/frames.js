// Frames of clips and cameras: the picture and the model's attention on it, fetched together.
import {Cancelled, imageUrl, runJob} from "./api.js";
import {readAttention} from "./attention.js";
import {interventionOf} from "./intervention.js";
import {showError} from "./notices.js";

const KEPT_BYTES = 192 << 20;
const KEPT_FRAMES = 4; // at least

// A frame as `Pane.showFrame` takes it. `found` describes an image on the server; its picture is fetched unless it is
// given.
export async function loadFrame(found, {model, intervention}, {picture = null, signal} = {}) {
  const fields = {kind: "attention", model, image: found.image, ...intervention ? {intervention} : {}};
  const [shown, job] = await Promise.all([picture ?? fetchPicture(found.image), runJob(fields, {signal})]);
  const read = readAttention(job, intervention), {depth, tokens} = read.attention;
  const bytes = job.data.byteLength + 4 * depth * tokens ** 2 + 4 * found.width * found.height;
  return {found, model, picture: shown, bytes, ...read};
}

async function fetchPicture(image) {
  const picture = new Image();
  picture.src = imageUrl(image, "pixels");
  await picture.decode();
  return picture;
}

// The frame for each of some panes; `load` gives it for {model, intervention}, which may differ. An intervention that
// fails is dropped. `changes` gives fields of a view that change with the frame.
export async function loadForPanes(panes, load, changes = () => ({})) {
  const frames = new Map();
  const loadFor = async ({view, before}) => {
    const wanted = {model: view.model, intervention: interventionOf({...view, ...changes(view)}, before)}, key = JSON.stringify(wanted);
    if (!frames.has(key)) frames.set(key, load(wanted));
    try {
      return await frames.get(key);
    } catch (error) {
      if (error instanceof Cancelled || !wanted.intervention) throw error;
      Object.assign(view, {masked: "", ablated: ""});
      showError(error);
      return loadFor({view, before});
    }
  };
  return Promise.all(panes.map(async pane => ({pane, frame: await loadFor(pane)})));
}

// Shows what `loadForPanes` gave, but for panes whose model was changed or that were closed meanwhile.
export async function showInPanes(loaded, panes) {
  const current = loaded.filter(({pane, frame}) => panes.includes(pane) && frame.model === pane.view.model);
  await Promise.all(current.map(({pane, frame}) => pane.showFrame(frame)));
}

// Keeps the frames that were used last, up to a number of bytes. A frame that is asked for twice is fetched once.
export class FrameCache {
  // `load` fetches the frame of a key; it gets the signal by which `cancel` ends it.
  constructor(load) {
    this.load = load;
    this.kept = new Map();
    this.controller = new AbortController();
  }

  cancel() {
    this.controller.abort();
    this.controller = new AbortController();
  }

  get(key) {
    const entry = this.kept.get(key) ?? {bytes: 0, frame: this.fetch(key)};
    this.kept.delete(key);
    this.kept.set(key, entry);
    return entry.frame;
  }

  async fetch(key) {
    try {
      const frame = await this.load(key, this.controller.signal), entry = this.kept.get(key);
      if (entry) entry.bytes = frame.bytes;
      this.makeRoom();
      return frame;
    } catch (error) {
      this.kept.delete(key);
      throw error;
    }
  }

  makeRoom() {
    let bytes = [...this.kept.values()].reduce((sum, entry) => sum + entry.bytes, 0);
    for (const [key, entry] of this.kept) {
      if (bytes <= KEPT_BYTES || this.kept.size <= KEPT_FRAMES) return;
      this.kept.delete(key);
      bytes -= entry.bytes;
    }
  }
}
