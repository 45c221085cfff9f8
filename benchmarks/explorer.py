"""The explorer's speed and truth, as a browser has them; the report's size; what keeping maps costs a run.

Command:  python benchmarks/explorer.py [--run RUN] [--data parquet:DIR]
          python benchmarks/explorer.py --only hover         (or page, first-map, parity, clients, report, maps)
          python benchmarks/explorer.py --model vitreous:cifar10 --moves 20 --requests 16        (a dry run)

Needs Playwright's Python package and Chromium (`make chromium`). The model is by default a ViT-S/16 at 224 pixels with
random weights (12 layers x 6 heads, 197 tokens), as fast as a trained one.

page: from the request for the page, by a browser that has nothing of it, to its being usable.
first-map: from the drop to the drawn map, less the time of the forward pass alone in this process; the median of 5.
hover: for each move of the pointer to another patch, from the browser's time stamp of the event to the end of the
script that has drawn the rollout from that patch and the small maps of all heads on their canvases. `painted` also
waits until the browser has made the next frame, and so holds up to one frame of waiting. Each caption must name its
patch.
parity: rollout of 3 patches, by the mean and the maximum over heads.
clients: each of 8 clients uploads images of its own and asks for their attention; an answer is crossed if its
scores are nearer to those of another image than to those of its own. Memory is the process's before and after, once
its sessions have ended, both after a first round of the same load.
report: of RUN, or of vitreous:cifar10 on 1,000 test images; its bytes, its requests in Chromium, and the seconds to
write it, with all that is measured for it.
maps: by benchmarks/kept_maps.py, of the recipe cifar10-quick.
"""

import argparse
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import torch
from chromium import find_chromium
from PIL import Image
from playwright.sync_api import sync_playwright

import vitreous
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.create import create_model
from vitreous.process_tuning import share_cores
from vitreous.web.explorer.attention_export import export_attention
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

CLIENTS = 8
PARITY_FUSIONS = ("mean", "max")
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
HOVER = """async ({moves, rows, columns}) => {
  const frame = document.getElementById("frame"), caption = document.getElementById("caption");
  const box = frame.getBoundingClientRect(), times = [], painted = [];
  for (let move = 0; move < moves; move++) {
    await new Promise(requestAnimationFrame);
    const patch = (move * 83 + 7) % (rows * columns), column = patch % columns, row = Math.floor(patch / columns);
    const event = new PointerEvent("pointermove", {bubbles: true, pointerType: "mouse",
      clientX: box.left + (column + .5) / columns * box.width, clientY: box.top + (row + .5) / rows * box.height});
    frame.dispatchEvent(event);
    times.push(performance.now() - event.timeStamp);
    if (!caption.textContent.endsWith(`row ${row}, column ${column}`)) throw Error(`not drawn: ${caption.textContent}`);
    await new Promise(resolve => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = resolve;
      channel.port2.postMessage(0);
    }));
    painted.push(performance.now() - event.timeStamp);
  }
  return {times, painted};
}"""
PARITY = """async ([fields, patches, fusions]) => {
  const {Attention} = await import("/static/attention.js"), {runJob} = await import("/static/api.js");
  const {description, data} = await runJob(fields);
  const attention = new Attention(description, data), maps = [];
  for (const [row, column] of patches) {
    for (const fusion of fusions) {
      const all = {first: 0, last: attention.depth - 1, heads: null, fusion, start: attention.tokenOf(row, column)};
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
            elif parameter.ndim == 2 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)  # zeros: all predictions would be the same
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

    def __init__(self, url: str, images: list[np.ndarray], expected: np.ndarray, data_bytes: int) -> None:
        self.url, self.images, self.expected, self.data_bytes = url.rstrip("/"), images, expected, data_bytes
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
                scores = dict(status["result"]["prediction"]["scores"])
                data = call(f"/api/jobs/{job}/data")
                call(f"/api/jobs/{job}", method="DELETE")
            except (OSError, KeyError, TypeError) as error:
                self.lost.append(f"{index}: {error}")
                continue
            distances = np.abs(self.expected - [scores[label] for label in sorted(scores)]).sum(1)
            if distances.argmin() != index or len(data) != self.data_bytes:
                self.crossed.append(index)
        call("/api/session", method="DELETE")


def resident_mb() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_clients(classifier: ImageClassifier, server: ExplorerServer, requests: int) -> None:
    """Print what 8 clients get."""
    images = [random_photo(seed, 240) for seed in range(requests)]
    found = [classifier(image) for image in images]
    expected = np.array([[dict(one.scores)[label] for label in sorted(classifier.class_names)] for one in found])
    data_bytes = len(export_attention(classifier, images[0]).data)
    Clients(server.url, images, expected, data_bytes).run()
    gc.collect()
    before, clients = resident_mb(), Clients(server.url, images, expected, data_bytes)
    seconds = clients.run()
    gc.collect()
    time.sleep(1)
    after = resident_mb()
    print(
        f"clients: {CLIENTS} clients, {requests} requests with {len(np.unique(expected, axis=0))} predictions in "
        f"{seconds:.1f} s: {len(clients.lost)} lost, {len(clients.crossed)} crossed; memory {before:.0f} MB before, "
        f"{after:.0f} after ({after / before - 1:+.1%})"
    )
    for line in clients.lost[:3]:
        print(f"  lost {line}")


def measure_first_map(page: object, classifier: ImageClassifier) -> None:
    """Print the time from drop to map, of 5 images."""
    alone, times = forward_seconds(classifier, random_photo(1)), []
    for seed in range(5):
        page.evaluate("document.getElementById('legend').hidden = true")
        times.append(page.evaluate(FIRST_MAP, [list(to_png(random_photo(seed)))]) / 1000)
        page.wait_for_selector("#plots:not([hidden])")
    first = sorted(times)[2]
    print(
        f"first-map: {1000 * first:.0f} ms from drop to map (median of 5; first {1000 * times[0]:.0f}), of it the "
        f"forward pass alone {1000 * alone:.0f}: {1000 * (first - alone):.0f} ms over it"
    )


def measure_hover(page: object, grid: tuple[int, int], moves: int) -> None:
    """Print the time from pointer to map."""
    sizes = {"rows": grid[0], "columns": grid[1]}
    page.evaluate(HOVER, {"moves": 20, **sizes})
    found = page.evaluate(HOVER, {"moves": moves, **sizes})
    for name, values in (("drawn", found["times"]), ("painted", found["painted"])):
        middle, high, top = np.percentile(values, [50, 99, 100])
        print(
            f"hover, {name}: {middle:.1f} ms median, {high:.1f} ms 99th percentile, {top:.1f} ms at most, n = {moves}"
        )


def measure_parity(page: object, classifier: ImageClassifier, photo: np.ndarray, grid: tuple[int, int]) -> None:
    """Print how far the browser's maps of the open image are from PyTorch's."""
    rows, columns = grid
    patches = [(0, 0), (rows // 2, columns // 2), (rows - 1, 2)]
    image = page.evaluate("location.hash").split("i=")[1].split("&")[0]
    fields = {"kind": "attention", "model": 0, "image": image}
    maps, worst = iter(page.evaluate(PARITY, [fields, patches, PARITY_FUSIONS])), 0.0
    for row, column in patches:
        query = ((column + 0.5) * photo.shape[1] / columns, (row + 0.5) * photo.shape[0] / rows)
        for fusion in PARITY_FUSIONS:
            options = MethodOptions(head_fusion=fusion)
            (expected,) = explain_batch(classifier, [photo], "rollout", options, query=query)
            worst = max(worst, float(np.abs(np.array(next(maps)) - expected.patch_map.ravel()).max()))
    print(f"parity: rollout of 3 patches, mean and max over heads: at most {worst:.1e} from PyTorch's")


def measure_page(browser: object, server: ExplorerServer, classifier: ImageClassifier, options: object) -> None:
    """Print what a browser gets."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    started = time.perf_counter()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    print(f"page: usable after {1000 * (time.perf_counter() - started):.0f} ms, cold")
    photo = random_photo(4)
    if options.only in (None, "first-map"):
        measure_first_map(page, classifier)
    else:
        page.evaluate(DROP, [list(to_png(photo))])
        page.wait_for_selector("#plots:not([hidden])")
    layout = export_attention(classifier, photo).description["layout"]
    grid = layout["grid_height"], layout["grid_width"]
    if options.only in (None, "hover"):
        measure_hover(page, grid, options.moves)
    if options.only in (None, "parity"):
        measure_parity(page, classifier, photo, grid)
    page.close()


def measure_report(browser: object, run: str | None, data: str) -> None:
    """Print the size of a report, what it requests, and the seconds to write it."""
    with tempfile.TemporaryDirectory() as folder:
        path, started = Path(folder) / "report.html", time.perf_counter()
        vitreous.report(run or "vitreous:cifar10", output=path, data=data, count=1000)
        seconds, requests = time.perf_counter() - started, []
        page = browser.new_page()
        page.on("request", lambda one: None if one.url.startswith("data:") else requests.append(one.url))
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        page.close()
        print(
            f"report of {run or 'vitreous:cifar10'}: {path.stat().st_size / 1e6:.2f} MB, {len(requests) - 1} requests "
            f"but for the page itself, written in {seconds:.1f} s"
        )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("page", "first-map", "hover", "parity", "clients", "report", "maps"))
    parser.add_argument("--model", help="any model instead of the ViT-S")
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40, help="training steps of each run of kept_maps.py")
    parser.add_argument("--run", help="the run folder to report on")
    parser.add_argument("--data", default="cifar10", help="where CIFAR-10 is, such as parquet:DIR")
    options = parser.parse_args()
    only = options.only
    share_cores()
    classifier = vitreous.load(options.model) if options.model else make_classifier()
    name = options.model or "ViT-S/16 at 224, random weights"
    print(f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        if only not in ("clients", "maps"):
            driver = stack.enter_context(sync_playwright())
            browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            stack.callback(browser.close)
        if only not in ("report", "maps"):
            server = stack.enter_context(ExplorerServer(Explorer({"model": classifier}), AppServer(port=0)))
        if only in (None, "page", "first-map", "hover", "parity"):
            measure_page(browser, server, classifier, options)
        if only in (None, "clients"):
            measure_clients(classifier, server, options.requests)
        if only in (None, "report"):
            measure_report(browser, options.run, options.data)
    if only in (None, "maps"):
        script = Path(__file__).with_name("kept_maps.py")
        command = [sys.executable, script, "cifar10-quick", "--steps", str(options.steps), "--data", options.data]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
