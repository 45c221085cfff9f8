"""The explorer's speed and truth, as a browser has them: hover, first map, page, parity, many clients.

Command:  python benchmarks/explorer.py
          python benchmarks/explorer.py --only hover          (or first-map, page, parity, clients)

Needs Playwright's Python package and Chromium: pip install playwright, and a Chromium in PATH. The model is a ViT-S/16
at 224 pixels with random weights (12 layers x 6 heads, 197 tokens), as fast as a trained one.

hover: for each of 1,000 moves of the pointer to another patch, from the browser's time stamp of the event to the end of
the script that has drawn the rollout from that patch and the small maps of all heads on their canvases. `painted` also
waits until the browser has made the next frame, and so holds up to one frame of waiting.
first-map: from the drop to the drawn map, less the time of the forward pass alone in this process.
clients: each of 8 clients uploads 25 images of its own and asks for their attention, so 200 requests; an answer is
crossed if its prediction isn't that of its own image. Memory is the process's before and after, once its sessions have
ended, both after a first round of the same load.
"""

import argparse
import gc
import io
import json
import os
import shutil
import threading
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.create import create_model
from vitreous.process_tuning import share_cores
from vitreous.web.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

MOVES, CLIENTS, REQUESTS = 1000, 8, 200
DROP = """([bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], "photo.png", {type: "image/png"}));
  dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: transfer}));
}"""
FIRST_MAP = f"""([bytes]) => new Promise(resolve => {{
  const start = performance.now(), legend = document.getElementById("legend");
  new MutationObserver(() => legend.hidden || resolve(performance.now() - start)).observe(legend, {{attributes: true}});
  ({DROP})([bytes]);
}})"""
HOVER = """async ({moves}) => {
  const frame = document.getElementById("frame"), times = [], painted = [];
  const box = frame.getBoundingClientRect();
  for (let move = 0; move < moves; move++) {
    await new Promise(requestAnimationFrame);
    const patch = (move * 83 + 7) % 196, column = patch % 14, row = Math.floor(patch / 14);
    const event = new PointerEvent("pointermove", {bubbles: true, pointerType: "mouse",
      clientX: box.left + (column + .5) / 14 * box.width, clientY: box.top + (row + .5) / 14 * box.height});
    frame.dispatchEvent(event);
    times.push(performance.now() - event.timeStamp);
    await new Promise(resolve => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = resolve;
      channel.port2.postMessage(0);
    }));
    painted.push(performance.now() - event.timeStamp);
  }
  return {times, painted};
}"""
PARITY = """async ([fields]) => {
  const {Attention} = await import("/static/attention.js"), {runJob} = await import("/static/api.js");
  const {description, data} = await runJob(fields);
  const attention = new Attention(description, data), maps = [];
  for (const [row, column] of [[0, 0], [6, 7], [13, 2]]) {
    for (const fusion of ["mean", "max"]) {
      const all = {first: 0, last: 11, heads: null, fusion, start: attention.tokenOf(row, column)};
      maps.push([...attention.rollout(all).slice(attention.prefix)]);
    }
  }
  return maps;
}"""


def make_classifier() -> ImageClassifier:
    """Return a ViT-S/16 at 224 with random weights, sharpened so that its attention isn't uniform."""
    torch.manual_seed(0)
    model = create_model("small/16", num_classes=10).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "qkv" in name and parameter.ndim == 2:
                parameter.mul_(6)
    preprocessing = Preprocessing((224, 224), "squash", (0.5,) * 3, (0.5,) * 3, 16)
    return ImageClassifier(model, preprocessing, [f"class {number}" for number in range(10)])


def random_photo(seed: int, side: int = 480) -> np.ndarray:
    """Return a smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side * 4 // 3, side), Image.Resampling.BICUBIC))


def to_png(image_u8: np.ndarray) -> bytes:
    """Encode an image as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def forward_seconds(classifier: ImageClassifier, image_u8: np.ndarray) -> float:
    """Return the median time of a plain forward pass, with its preprocessing."""
    times = []
    for _ in range(9):
        started = time.perf_counter()
        classifier(image_u8)
        times.append(time.perf_counter() - started)
    return sorted(times)[4]


class Clients:
    """Clients with sessions of their own, which check that each answer belongs to its question."""

    def __init__(self, url: str, images: list[np.ndarray], expected: list[tuple[str, float]]) -> None:
        self.url, self.images, self.expected = url.rstrip("/"), images, expected
        self.lost, self.crossed = [], []

    def run(self) -> float:
        """Run all clients at once, and return the seconds that they took."""
        started = time.monotonic()
        threads = [threading.Thread(target=self.serve_one, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - started

    def serve_one(self, client: int) -> None:
        """Upload every eighth image and compare the prediction with its own."""
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

        def call(path: str, data: bytes | None = None, method: str | None = None, kind: str = "image/png") -> bytes:
            headers = {"Content-Type": kind} if data is not None else {}
            request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
            with opener.open(request, timeout=120) as response:
                return response.read()

        for index in range(client, len(self.images), CLIENTS):
            try:
                image = json.loads(call("/api/images", to_png(self.images[index])))["image"]
                body = json.dumps({"image": image}).encode()
                job = json.loads(call("/api/jobs", body, kind="application/json"))["job"]
                status = {"state": "queued", "number": 0}
                while status["state"] in ("queued", "running"):
                    status = json.loads(call(f"/api/jobs/{job}?after={status['number']}"))
                label, score = status["result"]["prediction"]["scores"][0]
                data = call(f"/api/jobs/{job}/data")
                call(f"/api/jobs/{job}", method="DELETE")
            except (OSError, KeyError, TypeError) as error:
                self.lost.append(f"{index}: {error}")
                continue
            if (label, round(score, 4)) != self.expected[index] or len(data) != 4 * 197 + 2 * 72 * 197**2:
                self.crossed.append(index)
        call("/api/session", method="DELETE")


def resident_mb() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_clients(classifier: ImageClassifier, server: ExplorerServer) -> None:
    """Print what 8 clients get."""
    images = [random_photo(seed, 240) for seed in range(REQUESTS)]
    found = [classifier(image) for image in images]
    expected = [(one.label, round(one.score, 4)) for one in found]
    distinct = len(set(expected))
    Clients(server.url, images, expected).run()
    gc.collect()
    before, clients = resident_mb(), Clients(server.url, images, expected)
    seconds = clients.run()
    gc.collect()
    time.sleep(1)
    after = resident_mb()
    print(
        f"clients: {CLIENTS} clients, {REQUESTS} requests ({distinct} different predictions) in {seconds:.1f} s: "
        f"{len(clients.lost)} lost, {len(clients.crossed)} crossed; memory {before:.0f} MB before, {after:.0f} after "
        f"({after / before - 1:+.1%})"
    )
    for line in clients.lost[:3]:
        print(f"  lost {line}")


def measure_page(page: object, server: ExplorerServer, classifier: ImageClassifier, only: str | None) -> None:
    """Print what a browser gets."""
    started = time.perf_counter()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    usable = time.perf_counter() - started
    if only in (None, "page"):
        print(f"page: usable after {1000 * usable:.0f} ms, cold")
    photo = random_photo(1)
    alone = forward_seconds(classifier, photo)
    times = []
    for seed in range(5):
        photo = random_photo(seed)
        page.evaluate("document.getElementById('legend').hidden = true")
        times.append(page.evaluate(FIRST_MAP, [list(to_png(photo))]) / 1000)
        page.wait_for_selector("#plots:not([hidden])")
    if only in (None, "first-map"):
        first = sorted(times)[2]
        print(
            f"first-map: {1000 * first:.0f} ms from drop to map (median of 5; first {1000 * times[0]:.0f}), of it the "
            f"forward pass alone {1000 * alone:.0f}: {1000 * (first - alone):.0f} ms over it"
        )
    if only in (None, "hover"):
        page.evaluate(HOVER, {"moves": 20})
        found = page.evaluate(HOVER, {"moves": MOVES})
        for name, values in (("drawn", found["times"]), ("painted", found["painted"])):
            middle, high, top = np.percentile(values, [50, 99, 100])
            print(f"hover, {name}: {middle:.1f} ms median, {high:.1f} ms 99th percentile, {top:.1f} ms at most")
    if only in (None, "parity"):
        image = page.evaluate("location.hash").split("i=")[1].split("&")[0]
        maps = iter(page.evaluate(PARITY, [{"kind": "attention", "model": 0, "image": image}]))
        worst = 0.0
        for row, column in ((0, 0), (6, 7), (13, 2)):
            query = ((column + 0.5) * photo.shape[1] / 14, (row + 0.5) * photo.shape[0] / 14)
            for fusion in ("mean", "max"):
                options = MethodOptions(head_fusion=fusion)
                (expected,) = explain_batch(classifier, [photo], "rollout", options, query=query)
                worst = max(worst, float(np.abs(np.array(next(maps)) - expected.patch_map.ravel()).max()))
        print(f"parity: rollout of 3 patches, mean and max over heads: at most {worst:.1e} from PyTorch's")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("hover", "first-map", "page", "parity", "clients"))
    only = parser.parse_args().only
    share_cores()
    classifier = make_classifier()
    print(f"ViT-S/16 at 224, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    with ExplorerServer(Explorer({"vit-s": classifier}), AppServer(port=0)) as server:
        if only != "clients":
            from playwright.sync_api import sync_playwright

            browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
                measure_page(browser.new_page(viewport={"width": 1280, "height": 800}), server, classifier, only)
                browser.close()
        if only in (None, "clients"):
            measure_clients(classifier, server)


if __name__ == "__main__":
    main()
