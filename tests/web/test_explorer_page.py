"""The explorer as a person uses it: drop, hover, click, keys, cancel, reload, narrow screens, light and dark."""

import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vitreous.explanation.explain import explain_batch
from vitreous.pretrained.load import load
from vitreous.web.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven by Playwright, which isn't there")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is driven in Chromium, which isn't there")

CONTRAST = """
() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const bar = one.querySelector(":scope > i");
      const found = numbers(getComputedStyle(bar ?? one).backgroundColor);
      if (found.length < 4 || found[3] > .9) return found;
    }
    return [255, 255, 255];
  };
  const bad = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({opacityProperty: true})) continue;
    if (element.closest("script, noscript, option, .hidden, .skip, :disabled")) continue;
    const style = getComputedStyle(element), isSvg = element instanceof SVGElement;
    const [a, b] = [light(numbers(isSvg ? style.fill : style.color)), light(behind(element))].sort((a, b) => b - a);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) bad.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return bad;
}
"""
DROP = """
([bytes, name, event]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], name, {type: "image/png"}));
  const init = {bubbles: true, cancelable: true};
  dispatchEvent(event === "paste" ? new ClipboardEvent("paste", {...init, clipboardData: transfer})
    : new DragEvent(event, {...init, dataTransfer: transfer}));
}
"""


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return load(tiny_model)


@pytest.fixture(scope="module")
def address(classifier):
    with ExplorerServer(Explorer({"tiny": classifier}), AppServer(port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def is_problem(line):
    return line.type == "error" and "status of 404" not in line.text  # of an image that a broken link names


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a browser of its own; at the end nothing may have gone wrong or been loaded from elsewhere."""
    contexts, problems = [], []

    def open_it(width=1280, height=800, theme="dark", fragment=""):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme,
            permissions=["clipboard-read", "clipboard-write"],
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if is_problem(line) else None)
        page.on("request", lambda one: one.url.startswith((address, "data:", "blob:")) or problems.append(one.url))
        page.goto(address + fragment)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not problems


def drop(page, png, name="photo.png", event="drop"):
    page.evaluate(DROP, [list(png), name, event])
    page.wait_for_selector("#plots:not([hidden])")


def caption(page):
    return page.locator("#caption").inner_text()


def wait_for_text(page, element, text):
    """Wait by asking again: the page's policy lets no script poll inside it."""
    playwright.expect(page.locator(element)).to_contain_text(text, timeout=20_000)


def pixels(page, canvas="added"):
    code = "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 16, 16).data]"
    return page.evaluate(code, canvas)


def middle_of_patch(page, row, column, grid=4):
    box = page.locator("#frame").bounding_box()
    return box["x"] + (column + 0.5) / grid * box["width"], box["y"] + (row + 0.5) / grid * box["height"]


def test_an_image_that_is_dropped_shows_its_prediction_and_map(open_page, png, image, classifier):
    page = open_page()
    assert page.locator("#empty").is_visible()
    drop(page, png)
    assert caption(page) == "rollout · all layers · mean over heads"
    assert page.locator("#image-name").inner_text() == "photo.png · 90 × 60"
    prediction = classifier(image)
    assert page.locator("#bars .cut").all_inner_texts() == [label for label, _ in prediction.scores]
    first = float(page.locator("#bars .score").first.inner_text().removesuffix(" %"))
    assert first == pytest.approx(100 * prediction.score, abs=0.5)
    drop(page, png, event="paste")
    assert page.locator("#image-name").inner_text().startswith("photo.png")


def test_hovering_shows_where_a_patch_looks_and_a_click_pins_it(open_page, png):
    page = open_page()
    drop(page, png)
    before = pixels(page)
    page.mouse.move(*middle_of_patch(page, 1, 3))
    assert caption(page).endswith("from the patch in row 1, column 3") and pixels(page) != before
    page.mouse.click(*middle_of_patch(page, 1, 3))
    page.mouse.move(5, 5)
    assert caption(page).endswith("from the patch in row 1, column 3")
    page.click("#direction [data-value=to]")
    assert caption(page).endswith("toward the patch in row 1, column 3")
    page.locator("#starts button").last.click()
    assert caption(page) == "rollout · all layers · mean over heads"


def test_everything_works_by_keyboard(open_page, png):
    page = open_page()
    drop(page, png)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert caption(page).endswith("from the patch in row 2, column 2")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert caption(page).endswith("from the patch in row 1, column 3"), "it stays on the image"
    page.keyboard.press("d")
    assert "toward" in caption(page)
    page.keyboard.press("Escape")
    assert "patch" not in caption(page)
    page.focus("#multiples")
    page.keyboard.press("ArrowDown")
    assert page.locator("#multiples-text").inner_text().startswith("layer 1, head 0")
    page.keyboard.press("Enter")
    assert caption(page) == "attention · layer 1 · head 0"
    page.focus("#stage")
    page.keyboard.press("[")
    assert caption(page) == "attention · layer 0 · head 0"
    page.keyboard.press("h")
    assert caption(page) == "attention · layer 0 · head 1"


def test_a_small_map_or_a_dot_is_one_click_from_its_head(open_page, png):
    page = open_page()
    drop(page, png)
    canvas = page.locator("#multiples-canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.75 * box["width"], "y": 0.25 * box["height"]})
    assert caption(page) == "attention · layer 0 · head 1"
    page.locator("#entropy-plot circle").last.click()
    assert caption(page) == "attention · layer 1 · head 1"
    page.click("#heads button >> text=all")
    assert caption(page) == "attention · layer 1 · mean over heads"


def test_classes_are_explained_and_compared(open_page, png, classifier, image):
    page = open_page()
    drop(page, png)
    first, second = (label for label, _ in classifier(image).scores[:2])
    page.click(f"#bars button >> text={first}")
    wait_for_text(page, "#caption", "gradient-rollout")
    wait_for_text(page, "#reading", f"for {first}")
    page.select_option("#target-contrast", second)
    wait_for_text(page, "#reading", f"for {first} rather than {second}")
    found = explain_batch(classifier, [image], "gradient-rollout", target=f"{first} - {second}")[0]
    assert f"{found.score:.2f}" in page.locator("#reading").inner_text()


def test_a_long_method_shows_its_progress_and_can_be_cancelled(open_page, png, classifier):
    page = open_page()
    drop(page, png)
    hook = classifier.model.register_forward_pre_hook(lambda *_: __import__("time").sleep(1.5))
    try:
        page.select_option("#method", "occlusion")
        page.wait_for_selector("#busy:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#busy", state="hidden")
    finally:
        hook.remove()
    page.select_option("#method", "rollout")
    assert caption(page).startswith("rollout")


def test_a_reload_and_a_link_restore_the_view(open_page, png):
    page = open_page()
    drop(page, png)
    page.select_option("#method", "attention")
    page.mouse.click(*middle_of_patch(page, 2, 1))
    page.select_option("#palette", "viridis")
    page.mouse.move(5, 5)
    before, drawn = caption(page), pixels(page)
    page.reload()
    page.wait_for_selector("#plots:not([hidden])")
    assert caption(page) == before and pixels(page) == drawn
    page.click("#copy-link")
    assert page.evaluate("navigator.clipboard.readText()") == page.url and "patch=2.1" in page.url


def test_links_that_are_broken_or_hostile_do_no_harm(open_page):
    page = open_page(fragment="#i=upload-0&method=%3Cscript%3E&layer=99&patch=a.b&heads=7.-3&palette=__proto__&m=9")
    page.wait_for_selector("#toast.error")
    assert "no such image" in page.locator("#toast").inner_text() or "ended" in page.locator("#toast").inner_text()


@pytest.mark.parametrize("kind", ["plain", "head", "toward", "server"])
def test_the_python_lines_make_the_same_map(kind, open_page, png, tmp_path, monkeypatch):
    page = open_page()
    (tmp_path / "photo.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    drop(page, png)
    page.mouse.click(*middle_of_patch(page, 1, 2))
    if kind == "head":
        page.select_option("#method", "attention")
        page.click("#heads button >> text=1")
    elif kind == "toward":
        page.click("#direction [data-value=to]")
    elif kind == "server":
        page.select_option("#method", "gradient-rollout")
    page.mouse.move(5, 5)
    page.wait_for_selector("#busy", state="hidden")
    reading = page.locator("#reading").inner_text()
    page.click("#copy-python")
    code, names = page.evaluate("navigator.clipboard.readText()"), {}
    exec(code, names)
    found = names["patch_map"] if "patch_map" in names else names["found"].patch_map
    assert found.shape == (4, 4)
    if kind == "server":
        assert (tmp_path / "map.png").is_file()
        return
    row, column, times = re.search(r"row (\d), column (\d): ([\d.]+) ×", reading).groups()
    assert np.unravel_index(found.argmax(), found.shape) == (int(row), int(column))
    assert 16 * found.max() == pytest.approx(float(times), abs=0.06)


def test_the_map_is_saved_as_a_png_with_its_caption(open_page, png):
    page = open_page()
    drop(page, png)
    with page.expect_download() as download:
        page.click("#save-png")
    assert download.value.suggested_filename == "photo-rollout.png"
    with Image.open(download.value.path()) as saved:
        assert saved.width == 90 * 8 and saved.height > 60 * 8


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800), (2560, 1440)])
def test_nothing_is_cut_and_everything_is_readable(width, height, theme, open_page, png):
    page = open_page(width, height, theme)
    assert page.evaluate(CONTRAST) == []
    drop(page, png)
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """() => [...document.querySelectorAll("button, h2, label span, output, .quiet, #caption")].filter(one =>
      one.checkVisibility() && !one.closest(".cut, .hidden") &&
      one.scrollWidth > one.clientWidth + 1 && one.clientWidth)
      .map(one => one.textContent)"""
    assert page.evaluate(cut) == []
    image, stage = page.locator("#frame").bounding_box(), page.locator("#stage").bounding_box()
    assert image["width"] / image["height"] == pytest.approx(1.5, abs=0.02) and image["width"] <= stage["width"] + 1
