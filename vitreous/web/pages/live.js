// The live view: the image is one endless stream; the numbers are fetched four times a second.
"use strict";
const at = id => document.getElementById(id), image = at("image");
let alive = true;

function play() { image.src = "/stream?" + Date.now(); }

function percent(fraction) { return Math.round(100 * fraction) + " %"; }

function show(state) {
  const [first, ...others] = state.scores;
  document.title = "Vitreous live · " + state.source;
  document.body.classList.toggle("featureless", !state.has_classes);
  at("about").textContent = state.source + " · " + state.model;
  at("heading").textContent = state.has_classes ? "Prediction" : "The map shows";
  at("label").textContent = first ? first[0] : state.has_classes ? "…" : state.caption || "…";
  at("score").textContent = first ? percent(first[1]) : "";
  at("filled").style.width = (first ? 100 * first[1] : 0) + "%";
  at("others").textContent = others.map(one => one[0] + " " + percent(one[1])).join("  ·  ");
  at("latency").textContent = state.latency_ms === null ? "–" : Math.round(state.latency_ms);
  at("fps").textContent = state.fps ? state.fps.toFixed(1) : "–";
  at("caption").textContent = state.has_classes ? state.caption : "";
  if (image.naturalWidth) {
    document.documentElement.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  }
  at("dropped").textContent = percent(state.received ? state.dropped / state.received : 0) + " of frames dropped";
}

async function poll() {
  try {
    show(await (await fetch("/state", {signal: AbortSignal.timeout(3000)})).json());
    if (!alive) play();
    alive = true;
  } catch { alive = false; }
  document.body.classList.toggle("ended", !alive);
  at("status").textContent = alive ? "Live" : "Ended";
  setTimeout(poll, alive ? 250 : 1000);
}

image.onerror = () => setTimeout(() => alive && !document.hidden && play(), 1000);
document.addEventListener("visibilitychange", () => document.hidden ? image.removeAttribute("src") : play());
play();
poll();
