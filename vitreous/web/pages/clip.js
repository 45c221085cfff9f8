// A clip: the scrubber, its keys, and playing. A frame appears together with its map.
import {Cancelled, getJson, upload} from "./api.js";
import {ClassesOverTime} from "./classes.js";
import {JUMPS, at, inside, isPlain} from "./dom.js";
import {FrameCache, loadForPanes, loadFrame, showInPanes} from "./frames.js";
import {interventionOf} from "./intervention.js";
import {showError, withBusy} from "./notices.js";
import {clipOf, frameNumber, keptTarget} from "./view.js";

const AHEAD = 3; // frames that are fetched before they are asked for
const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

export function isClip({type, name}) {
  return type.startsWith("video/") || type === "image/gif" || /\.(mp4|m4v|mov|webm|mkv|avi|gif)$/i.test(name ?? "");
}

export function addClip(explorer) {
  explorer.clip = new ClipPlayer(explorer);
  for (const event of ["image", "pane"]) explorer.on(event, ({clip}) => clip.closeUnlessShown());
  explorer.on("view", ({view}) => { at("classes-unchanged").hidden = !interventionOf(view); });
  explorer.on("model", ({clip}) => clip.isOpen && clip.changeModel());
}

class ClipPlayer {
  constructor(explorer) {
    this.explorer = explorer;
    this.clip = null; // what the server says of it
    this.shown = this.wanted = 0;
    this.step = 1; // the direction of the last move
    this.classes = new ClassesOverTime(explorer, seconds => this.seek(this.frameAt(seconds)));
    at("play").onclick = () => this.toggle();
    at("scrub").addEventListener("input", () => this.seek(this.frameAt(Number(at("scrub").value))));
    at("scrub").addEventListener("keydown", event => this.onKey(event));
    at("panes").addEventListener("keydown", event => event.key === " " && event.target === explorer.stage.stage && this.onKey(event));
  }

  get isOpen() { return this.clip !== null; }

  // Whether an image is one of its frames.
  has(image) { return this.isOpen && Boolean(image?.startsWith(`${this.clip.clip}-`)); }

  get last() { return this.clip.times.length - 1; }

  async openFile(file) {
    const isNewest = this.explorer.beginOpening();
    await withBusy("reading the clip", async signal => {
      const clip = await upload(file, "/api/clips", signal);
      await this.open(clip, file.name || "clip", 0, {signal, isNewest});
    });
  }

  // Opens the frame that a link names.
  async openFrame(image, name, home) {
    const isNewest = this.explorer.beginOpening();
    await withBusy("opening the clip", async signal => {
      const clip = await getJson(`/api/clips/${encodeURIComponent(clipOf(image))}`, {signal});
      await this.open(clip, name || "clip", frameNumber(image), {signal, isNewest, home});
    });
  }

  // The page stays as it is until the frame is there.
  async open(clip, name, number, {signal, isNewest, home = this.explorer.pane}) {
    const cache = makeCache(clip, name), panes = this.explorer.panesFrom(home), wanted = Math.min(number, clip.times.length - 1);
    const changes = ({image, target}) => image?.startsWith(`${clip.clip}-`) ? {}
      : {patch: null, target: keptTarget(target), contrast: "", masked: ""};
    if (!isNewest()) return;
    this.pause();
    signal.addEventListener("abort", () => cache.cancel());
    const loaded = await loadFrames(cache, panes, wanted, changes);
    if (!isNewest()) return;
    this.explorer.camera.leave(panes);
    this.close();
    for (const {view} of panes) Object.assign(view, changes(view));
    Object.assign(this, {clip, name, cache, home, wanted, shown: -1, step: 1, models: String(panes.map(({view}) => view.model))});
    at("scrub").max = clip.times[this.last];
    at("scrub").min = clip.times[0];
    at("clip-note").textContent = clip.notes.join(" · ");
    await this.present(loaded, wanted);
    if (this.clip !== clip) return;
    at("clip").hidden = this.last === 0;
    this.draw();
    this.readAhead();
    if (this.last > 0) this.classes.start(clip);
  }

  close() {
    if (!this.isOpen) return;
    this.pause();
    this.clip = this.cache = null;
    this.classes.close();
    at("clip").hidden = true;
  }

  // Another image is open, or a pane was closed.
  closeUnlessShown() {
    if (this.isOpen && this.shown >= 0 && !this.explorer.panes.some(({view}) => this.has(view.image))) this.close();
  }

  // The panes that show the clip.
  get panes() { return this.explorer.panesFrom(this.home); }

  // Another model is chosen, or that of the other pane is active.
  changeModel() {
    const models = String(this.panes.map(({view}) => view.model));
    if (models !== this.models) this.pause();
    this.models = models;
    if (this.last > 0) this.classes.start(this.clip);
  }

  load(number) { return loadFrames(this.cache, this.panes, number); }

  // The frame that is shown at a time in seconds.
  frameAt(seconds) {
    const {times} = this.clip;
    let low = 0, high = times.length;
    while (high - low > 1) {
      const middle = low + high >> 1;
      if (times[middle] <= seconds + 1e-6) low = middle;
      else high = middle;
    }
    return low;
  }

  onKey(event) {
    if (!this.isOpen || !isPlain(event)) return;
    const move = JUMPS[event.key];
    if (move === undefined && event.key !== " ") return;
    event.preventDefault();
    if (move === undefined) this.toggle();
    else this.seek(this.wanted + move);
  }

  // Goes to a frame. Whoever asks for another one meanwhile sees the last that was asked for.
  seek(number) {
    this.pause();
    const wanted = inside(number, this.clip.times.length);
    if (wanted !== this.wanted) this.step = Math.sign(wanted - this.wanted);
    this.wanted = wanted;
    this.draw();
    this.moving ??= withBusy("running the model", signal => this.follow(signal)).finally(() => { this.moving = null; });
    return this.moving;
  }

  async follow(signal) {
    signal.addEventListener("abort", () => this.cache?.cancel());
    try {
      while (this.isOpen && this.shown !== this.wanted) {
        const {clip, wanted} = this, loaded = await this.load(wanted);
        if (this.clip === clip) await this.present(loaded, wanted);
      }
      if (this.isOpen) this.readAhead();
    } finally {
      if (this.isOpen && this.shown >= 0 && this.shown !== this.wanted) { // that frame couldn't be had
        this.wanted = this.shown;
        this.draw();
      }
    }
  }

  async present(loaded, number) {
    const {clip} = this;
    await showInPanes(loaded, this.explorer.panes);
    if (this.clip === clip) this.shown = number;
  }

  // Fetches the next frames in the direction of the last move, while nothing else is asked for.
  async readAhead() {
    const {clip, shown} = this;
    for (let ahead = 1; ahead <= AHEAD; ahead++) {
      const number = shown + ahead * this.step;
      if (this.clip !== clip || this.shown !== shown || this.isPlaying || number < 0 || number > this.last) return;
      try { await this.load(number); } catch { return; } // whoever asks for it is told why
    }
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play().catch(error => { this.pause(); if (!(error instanceof Cancelled)) showError(error); });
  }

  pause() {
    if (!this.isPlaying) return;
    this.isPlaying = this.explorer.isPlaying = false;
    this.wanted = this.shown;
    this.rate = null;
    this.draw();
    this.explorer.writeLink();
    this.explorer.emit("still");
    this.readAhead();
  }

  // Plays at the clip's own rate; where the model is slower, frames are left out.
  async play() {
    if (this.shown === this.last) await this.seek(0);
    const {times} = this.clip, run = this.run = Symbol("run");
    this.isPlaying = this.explorer.isPlaying = true;
    const began = performance.now() - 1000 * times[this.shown], drawn = [];
    let number = this.shown + 1, needed = 0;
    const fetch = () => {
      const asked = performance.now(), loading = this.load(number);
      loading.then(() => { needed = (performance.now() - asked) / 1000; }, () => {});
      return loading;
    };
    for (let next = fetch(); number <= this.last;) {
      const loaded = await next, current = number;
      if (!this.isPlaying || this.run !== run) return;
      number = Math.max(current + 1, this.frameAt((performance.now() - began) / 1000 + needed));
      if (number <= this.last) next = fetch();
      await sleep(Math.max(0, began + 1000 * times[current] - performance.now()));
      if (!this.isPlaying || this.run !== run) return;
      await this.present(loaded, current);
      if (!this.isPlaying || this.run !== run) return;
      this.wanted = current;
      drawn.push(performance.now());
      while (drawn.length > 1 && drawn[0] < performance.now() - 2000) drawn.shift();
      this.rate = drawn.length > 2 ? 1000 * (drawn.length - 1) / (drawn.at(-1) - drawn[0]) : null;
      this.draw();
    }
    if (this.run === run) this.pause();
  }

  draw() {
    const {clip, wanted, isPlaying} = this, seconds = clip.times[wanted];
    const text = `${seconds.toFixed(2)} s of ${clip.end.toFixed(2)} s · frame ${wanted + 1} of ${clip.times.length}`;
    at("scrub").value = seconds;
    at("scrub").ariaValueText = text;
    at("clip-time").textContent = isPlaying && this.rate ? `${text} · ${this.rate.toFixed(1)} frames/s` : text;
    at("play").ariaLabel = isPlaying ? "Pause" : "Play";
    at("play").classList.toggle("playing", Boolean(isPlaying));
    this.classes.setTime(seconds);
  }
}

function makeCache(clip, name) {
  const {width, height, dimming, is_resized} = clip;
  return new FrameCache((key, signal) => {
    const {number, ...wanted} = JSON.parse(key);
    return loadFrame({image: `${clip.clip}-${number}`, name, width, height, dimming, is_resized, truth: null, seconds: clip.times[number]}, wanted, {signal});
  });
}

const loadFrames = (cache, panes, number, changes) => loadForPanes(panes, wanted => cache.get(JSON.stringify({...wanted, number})), changes);
