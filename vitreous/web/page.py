"""The page of a live view: the image as large as the window allows, and under it what the model says and how fast.

It is whole in itself: no other file, no build step, nothing from elsewhere. The image is one endless stream; the
numbers are asked for four times a second, which costs a viewer that went away nothing.
"""

import json
from html import escape

from vitreous.render.theme import LABEL_INK, LABEL_MUTED, LABEL_PAPER

ROOM_PIXELS = 212  # what is above and below the image
GLOW, QUIET, EDGE, LIVELY = "#ffb454", "#8b95a7", "#232a38", "#4ade80"

STYLE = f"""
:root {{ color-scheme: dark; --ratio: 1.7778; --width: calc((100vh - {ROOM_PIXELS}px) * var(--ratio)); }}
* {{ box-sizing: border-box; margin: 0; }}
body {{ background: {LABEL_PAPER}; color: {LABEL_INK}; line-height: 1.4;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 16px; }}
main {{ max-width: clamp(760px, var(--width) + 48px, 1600px); margin: 0 auto; padding: 18px 24px 24px; }}
header {{ display: flex; gap: 14px; align-items: baseline; margin-bottom: 14px; font-size: 14px; color: {QUIET}; }}
h1 {{ font-size: 15px; color: {LABEL_INK}; font-weight: 600; white-space: nowrap; }}
h1 i {{ display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 9px; background: {LIVELY}; }}
.ended h1 i {{ background: {QUIET}; }}
.cut {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }}
img {{ display: block; margin: 0 auto; width: min(100%, max(var(--width), 240px)); aspect-ratio: var(--ratio);
  object-fit: contain; border-radius: 10px; background: #080a10; }}
.ended img {{ opacity: .5; }}
dl {{ display: grid; grid-template-columns: minmax(0, 1fr) auto auto; gap: 0 44px; margin-top: 18px; }}
dt, dd {{ font-size: 13px; color: {QUIET}; }}
.large {{ font-size: 30px; font-weight: 600; line-height: 1.25; color: {LABEL_INK};
  font-variant-numeric: tabular-nums; }}
.large small {{ font-size: 15px; font-weight: 400; color: {LABEL_MUTED}; }}
.answer {{ display: flex; gap: 14px; }}
.featureless .answer {{ font-size: 20px; font-weight: 500; }}
.featureless #name {{ white-space: normal; line-height: 1.4; margin-top: 5px; }}
.featureless .bar {{ display: none; }}
#confidence {{ font-weight: 400; color: {GLOW}; white-space: nowrap; }}
.bar {{ height: 4px; max-width: 420px; border-radius: 2px; background: {EDGE}; margin: 5px 0 8px; overflow: hidden; }}
.bar i {{ display: block; height: 100%; width: 0; border-radius: 2px; background: {GLOW}; transition: width .25s; }}
.numbers {{ text-align: right; }}
@media (max-width: 640px) {{
  :root {{ --width: calc(64vh * var(--ratio)); }}
  main {{ padding: 14px 14px 20px; }}
  dl {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px 24px; }}
  dl > div:first-child {{ grid-column: 1 / -1; }}
  .featureless .answer {{ font-size: 17px; }}
  .bar {{ max-width: none; }}
  .numbers {{ text-align: left; }}
}}
"""

SCRIPT = """
const at = id => document.getElementById(id), image = at("image");
let alive = true;
function watch() { image.src = "/stream?" + Date.now(); }
function percent(share) { return Math.round(100 * share) + " %"; }
function tell(state) {
  const [first, ...others] = state.ranking;
  at("name").textContent = first ? first[0] : HAS_CLASSES ? "…" : state.words || "…";
  at("confidence").textContent = first ? percent(first[1]) : "";
  at("filled").style.width = (first ? 100 * first[1] : 0) + "%";
  at("others").textContent = others.map(one => one[0] + " " + percent(one[1])).join("  ·  ");
  at("latency").textContent = state.latency_ms === null ? "–" : Math.round(state.latency_ms);
  at("fps").textContent = state.fps ? state.fps.toFixed(1) : "–";
  at("words").textContent = HAS_CLASSES ? state.words : "";
  if (image.naturalWidth) {
    document.documentElement.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  }
  const share = state.seen ? state.dropped / state.seen : 0;
  at("dropped").textContent = percent(share) + " of frames dropped";
}
async function ask() {
  try {
    tell(await (await fetch("/state", {signal: AbortSignal.timeout(3000)})).json());
    if (!alive) watch();
    alive = true;
  } catch { alive = false; }
  document.body.classList.toggle("ended", !alive);
  at("status").textContent = alive ? "Live" : "Ended";
  setTimeout(ask, alive ? 250 : 1000);
}
image.onerror = () => setTimeout(() => alive && !document.hidden && watch(), 1000);
document.addEventListener("visibilitychange", () => document.hidden ? image.removeAttribute("src") : watch());
watch();
ask();
"""


def live_page(model: str, source: str, *, has_classes: bool) -> str:
    """The page as HTML; `has_classes` is whether the model names what it sees."""
    about = escape(f"{source} · {model.rstrip('/').rsplit('/', 1)[-1]}")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' data:; connect-src 'self';
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>Vitreous live · {escape(source)}</title><style>{STYLE}</style></head>
<body class="{"" if has_classes else "featureless"}"><main>
<header><h1><i></i><span id="status">Live</span></h1><span class="cut">{about}</span></header>
<img id="image" alt="What the model looks at, live">
<dl>
<div><dt>{"The model sees" if has_classes else "The map shows"}</dt>
<dd class="large answer"><span id="name" class="cut">…</span><span id="confidence"></span></dd>
<dd class="bar"><i id="filled"></i></dd>
<dd id="others" class="cut"></dd><dd id="words" class="cut"></dd></div>
<div class="numbers"><dt>Latency</dt><dd class="large"><span id="latency">–</span> <small>ms</small></dd>
<dd>camera to browser</dd></div>
<div class="numbers"><dt>Images</dt><dd class="large"><span id="fps">–</span> <small>a second</small></dd>
<dd id="dropped"></dd></div>
</dl>
</main><script>const HAS_CLASSES = {json.dumps(has_classes)};{SCRIPT}</script></body></html>
"""
