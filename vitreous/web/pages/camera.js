// Live images: of the browser's camera, or of a camera or video of the server. The model gets the newest image whenever
// it is free; those that came meanwhile are dropped.
import {Cancelled, getJson, upload} from "./api.js";
import {at, made} from "./dom.js";
import {loadForPanes, loadFrame, showInPanes} from "./frames.js";
import {showError, toast} from "./notices.js";

const LONG_SIDE = 640; // pixels of the images that are sent
const RECENT = 2000, WRITTEN_EVERY = 250; // milliseconds
const painted = () => new Promise(resolve => requestAnimationFrame(resolve));

export function addCamera(explorer) {
  const camera = explorer.camera = new Camera(explorer), {live} = explorer.start, toggle = kind => camera.kind === kind ? camera.stop() : camera.start(kind);
  at("camera").onclick = at("use-camera").onclick = () => toggle("browser");
  at("server-camera").hidden = !live;
  at("server-camera").querySelector("span").textContent = live ?? "";
  at("server-camera").onclick = () => toggle("server");
  at("live-stop").onclick = () => camera.stop();
  explorer.on("image", ({pane}) => pane.image.isLive || camera.leave([pane]));
  const {view} = explorer, kind = view.live;
  view.live = "";
  if (kind) camera.start(kind);
}

class Camera {
  constructor(explorer) {
    this.explorer = explorer;
    this.controller = null;
    this.kind = ""; // of the one that runs
  }

  get isRunning() { return this.controller !== null; }

  // The view of a pane as the link has it: of one that shows the camera, which one that is.
  viewOf({image, view}) { return {...view, live: image?.isLive ? this.kind : ""}; }

  async start(kind, home = this.explorer.pane) {
    this.stop();
    this.explorer.clip.pause();
    const {signal} = this.controller = new AbortController();
    this.kind = kind;
    this.home = home;
    this.meter = new Meter();
    this.draw("starting");
    try {
      if (kind === "server") await this.followServer(signal);
      else await this.followBrowser(signal);
    } catch (error) {
      if (!signal.aborted && !(error instanceof Cancelled)) showError(error);
    }
    if (!signal.aborted) this.stop();
  }

  // Something else is opened in panes.
  leave(panes) {
    const own = this.explorer.panesFrom(this.home);
    if (panes.some(pane => own.includes(pane))) this.stop();
  }

  // The last image stays, and can be explored.
  stop() {
    if (!this.controller) return;
    this.controller.abort();
    this.controller = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.kind = "";
    at("live").hidden = true;
    this.mark();
    if (!this.explorer.attention) return;
    this.explorer.writeLink();
    this.explorer.emit("still");
  }

  async followServer(signal) {
    if (!this.explorer.start.live) throw new Error("this server has no camera: start it with vitreous live");
    for (let after = 0; !signal.aborted;) {
      const found = await getJson(`/api/live?after=${after}`, {signal}), received = performance.now();
      if (found.has_ended) {
        if (found.error) throw new Error(found.error);
        return toast(`${this.explorer.start.live} has ended`);
      }
      if (!found.number) continue;
      after = found.number;
      await this.show(found, signal, {captured: received - found.age_ms, number: found.number});
    }
  }

  async followBrowser(signal) {
    const video = made("video"), canvas = made("canvas");
    const stream = await openCamera();
    if (signal.aborted) return stream.getTracks().forEach(track => track.stop());
    this.stream = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => { showError(new Error("the camera gives no more images")); this.stop(); });
    Object.assign(video, {srcObject: stream, muted: true, playsInline: true});
    await video.play();
    while (!signal.aborted) {
      const {captured, number} = await nextImage(video);
      if (signal.aborted) return;
      const scale = Math.min(1, LONG_SIDE / Math.max(video.videoWidth, video.videoHeight));
      Object.assign(canvas, {width: Math.round(scale * video.videoWidth), height: Math.round(scale * video.videoHeight)});
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const [picture, blob] = await Promise.all([createImageBitmap(canvas), new Promise(resolve => canvas.toBlob(resolve, "image/jpeg", 0.92))]);
      const found = await upload(blob, "/api/images?live=1", signal);
      await this.show({...found, name: "camera"}, signal, {captured, number, picture});
    }
  }

  async show(found, signal, {captured, number, picture}) {
    const {explorer} = this;
    const loaded = await loadForPanes(explorer.panesFrom(this.home), wanted => loadFrame({...found, isLive: true}, wanted, {picture, signal}));
    if (signal.aborted) return;
    await showInPanes(loaded, explorer.panes);
    await painted();
    this.meter.add(performance.now() - captured, number);
    if (!signal.aborted) this.draw();
  }

  mark() {
    at("camera").ariaPressed = this.kind === "browser";
    at("server-camera").ariaPressed = this.kind === "server";
  }

  draw(text) {
    const {meter} = this, now = performance.now();
    if (!text && now - meter.written < WRITTEN_EVERY) return;
    meter.written = now;
    at("live").hidden = false;
    at("live-numbers").textContent = text ?? [`latency ${Math.round(meter.latency)} ms`, `${meter.rate.toFixed(1)} images/s`,
      `${Math.round(100 * meter.dropped)} % dropped`].join(" · ");
    this.mark();
  }
}

async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("the browser gives its camera only to pages on localhost or over https");
  try {
    return await navigator.mediaDevices.getUserMedia({video: {width: {ideal: LONG_SIDE}, facingMode: "environment"}, audio: false});
  } catch (error) {
    throw new Error({NotAllowedError: "the camera is not allowed: allow it for this page in the browser",
      NotFoundError: "this device has no camera", NotReadableError: "another program uses the camera: close that program",
    }[error.name] ?? `the camera can't be opened: ${error.message}`);
  }
}

// When the newest image of a camera was taken, on the clock of performance.now(), and its number.
function nextImage(video) {
  return new Promise(resolve => video.requestVideoFrameCallback((now, {captureTime, presentedFrames}) => {
    const isKnown = captureTime > now - 5000 && captureTime <= performance.now();
    resolve({captured: isKnown ? captureTime : now, number: presentedFrames});
  }));
}

// Latency, rate and dropped images, over the last two seconds.
class Meter {
  constructor() {
    this.shown = [];
    this.written = 0;
  }

  add(latency, number) {
    const time = performance.now();
    this.shown.push({time, latency, number});
    while (this.shown.length > 2 && this.shown[0].time < time - RECENT) this.shown.shift();
  }

  get latency() { return this.shown.map(one => one.latency).sort((a, b) => a - b)[this.shown.length >> 1]; }

  get span() { return (this.shown.at(-1).time - this.shown[0].time) / 1000; }

  get rate() { return this.span ? (this.shown.length - 1) / this.span : 0; }

  get dropped() {
    const given = this.shown.at(-1).number - this.shown[0].number;
    return given > 0 ? Math.max(0, 1 - (this.shown.length - 1) / given) : 0;
  }
}
