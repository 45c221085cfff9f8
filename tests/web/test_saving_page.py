"""What a person takes away from the explorer: files, one page to send, the lines of Python."""

import json
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from explorer_page import caption, drop, middle_of_patch, pixels, python_lines
from page_driver import expect, wait_for_text, wait_until, watched_pages
from page_look import look_problems
from PIL import Image

from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A small model with weights that make different maps for different classes, at another size than its own."""
    torch.manual_seed(1)
    vit = ViT(ViTConfig(image_size=(16, 16), patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2))
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    preprocessing = Preprocessing((16, 16), "squash", (0.5,) * 3, (0.5,) * 3, 4)
    folder = tmp_path_factory.mktemp("model")
    ImageClassifier(vit, preprocessing, ("red", "green", "blue")).save(folder)
    return load(folder, input_size=24)


@pytest.fixture(scope="module")
def address(classifier):
    with ExplorerServer(Explorer({"tiny": classifier}), AppServer(port=0)) as server:
        yield server.url


def save(page, kind):
    """Choose an item of the menu; return the name and the path of the file that comes."""
    page.click("#save")
    with page.expect_download() as download:
        page.click(f"#save-{kind}")
    return download.value.suggested_filename, download.value.path()


VIEWS = {
    "patch": "patch=1.4",
    "head": "method=attention&layer=1&heads=1&patch=1.4",
    "layers": "first=1&layer=1&patch=1.4&toward=1",
    "class-token": "method=attention&fusion=max&layer=0&token=0",
    "class": "method=gradient-rollout&target=blue",
    "contrast": "method=gradient-rollout&target=blue&contrast=red",
    "layer": "method=attention-gradient&layer=0&heads=1&target=green",
    "similarity": "method=features&feature=similarity&layer=1&patch=1.4",
    "colors": "method=features&feature=colors&layer=1&patch=1.4",
}
"""What follows the image in a link."""


def open_view(page, kind):
    """Open a view of the image that is open."""
    link = page.url.partition("&")[0]
    page.goto("about:blank")
    page.goto(f"{link}&n=photo.png&{VIEWS[kind]}")
    page.wait_for_selector("#added:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")


def test_the_lines_of_python_make_the_map_that_is_saved(open_page, png, tmp_path, monkeypatch):
    page = open_page()
    drop(page, png)
    (tmp_path / "photo.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    for kind in VIEWS:
        open_view(page, kind)
        name, path = save(page, "npz")
        assert name.startswith("photo-") and name.endswith(".npz")
        lines, names = python_lines(page), {}
        assert "input_size=(24, 24)" in lines
        exec(lines, names)
        found = names.get("found")
        expected = names["patch_map"] if found is None else found.patch_map
        with np.load(path, allow_pickle=False) as saved:
            assert saved["patch_map"].shape == expected.shape == (6, 6)
            difference = np.abs(saved["patch_map"] - expected).max()
            assert difference < 1e-3 * max(1, np.abs(expected).max()) and difference < 0.1 * np.ptp(expected), kind
            assert ("patch_colors" in saved) == (kind == "colors")
            if kind == "colors":
                assert np.abs(saved["patch_colors"] - found.patch_colors).max() < 1e-3
            if kind == "contrast":
                assert str(saved["target"]) == found.target == "blue rather than red"


def test_the_arrays_say_what_they_belong_to(open_page, png, classifier, image):
    page = open_page()
    drop(page, png)
    page.mouse.click(*middle_of_patch(page, 2, 0, grid=6))
    page.mouse.move(5, 5)
    _, path = save(page, "npz")
    prediction = classifier(image)
    with np.load(path, allow_pickle=False) as found:
        assert str(found["fingerprint"]) == weights_fingerprint(classifier)
        assert found["box"].tolist() == [0, 0, 60, 90] and found["image_size"].tolist() == [60, 90]
        assert str(found["method"]) == "rollout" and str(found["caption"]) == caption(page)
        assert str(found["model"]) == classifier.origin and str(found["image_name"]) == "photo.png"
        assert json.loads(str(found["settings"]))["patch"] == [2, 0]
        assert dict(zip(found["labels"].tolist(), found["scores"].tolist(), strict=True)) == pytest.approx(
            dict(prediction.scores), abs=1e-5
        )


def test_the_drawing_holds_image_map_patch_legend_and_text(open_page, png, image):
    page = open_page()
    drop(page, png)
    page.mouse.click(*middle_of_patch(page, 0, 0, grid=6))
    page.mouse.move(5, 5)
    name, path = save(page, "svg")
    assert name == "photo-rollout.svg"
    root = ElementTree.parse(path).getroot()
    parts = {one.get("id"): one for one in root.iter() if one.get("id")}
    assert set(parts) == {"image", "map", "patch", "colors", "legend"}
    for part in ("image", "map"):
        assert parts[part].get("href").startswith("data:image/png;base64,")
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert caption(page) in texts and any("photo.png" in one for one in texts)
    assert caption(page) in root.find(f"{SVG}title").text
    assert root.get("role") == "img" and not list(root.iter(f"{SVG}script"))
    rectangle = parts["patch"].find(f"{SVG}rect")
    assert [float(rectangle.get(side)) for side in ("x", "y", "width", "height")] == [0, 0, 120, 80]


def test_the_png_looks_as_the_page(open_page, png, image):
    page = open_page()
    drop(page, png)
    page.locator("#opacity").fill("0")
    name, path = save(page, "png")
    assert name == "photo-rollout.png"
    with Image.open(path) as saved:
        assert saved.width == 90 * 8 and saved.height > 60 * 8
        shown = np.asarray(saved.convert("RGB"))[4 : 60 * 8 : 8, 4::8]
    assert np.abs(shown.astype(int) - image).max() <= 2, "without the map it is the image"


@slow
def test_the_image_is_saved_as_it_was_opened(open_page, png, image):
    page = open_page()
    drop(page, png)
    name, path = save(page, "image")
    assert name == "photo.png"
    with Image.open(path) as saved:
        assert (np.asarray(saved.convert("RGB")) == image).all()


@pytest.fixture
def open_file(browser):
    """Opens a file without any network, as from a mail."""
    with watched_pages(browser, "file://") as open_it:
        yield lambda path, **options: open_it(fragment=str(path), offline=True, permissions=[], **options)


@slow
def test_two_panes_are_saved_side_by_side(open_page, png):
    page = open_page()
    drop(page, png)
    page.click("#compare")
    page.wait_for_selector("#b-added:not([hidden])")
    _, path = save(page, "svg")
    root = ElementTree.parse(path).getroot()
    assert {"map", "map-2"} <= {one.get("id") for one in root.iter()} and int(root.get("width")) == 2 * 720 + 16
    texts = [one.text for one in root.iter(f"{SVG}text")]
    captions = [page.locator(one).inner_text() for one in ("#caption", "#b-caption")]
    assert captions[0] != captions[1] and set(captions) <= set(texts)
    _, path = save(page, "npz")
    with np.load(path, allow_pickle=False) as found:
        assert str(found["caption"]) == captions[1], "that of the active pane"


@pytest.mark.parametrize(
    "kind", ["layers", pytest.param("head", marks=slow), pytest.param("similarity", marks=slow), "class"]
)
def test_the_saved_page_works_from_a_file(kind, open_page, open_file, png, tmp_path):
    page = open_page()
    drop(page, png)
    open_view(page, kind)
    name, path = save(page, "html")
    assert name.startswith("photo-") and name.endswith(".html")
    path = path.rename(tmp_path / "view.html")
    shown = {text: page.locator(text).inner_text() for text in ("#caption", "#reading", "#legend-low", "#legend-high")}
    drawn = np.array(pixels(page))
    saved = open_file(path)
    saved.wait_for_selector("#frame:not([hidden])")
    assert shown == {text: saved.locator(text).inner_text() for text in shown}
    assert np.abs(np.array(pixels(saved)) - drawn).max() <= 4
    assert "photo.png" in saved.title()
    expect(saved.locator("#empty")).to_be_hidden()
    expect(saved.locator("#python")).to_contain_text("vt.load")
    for one in (saved, page):
        one.evaluate("scrollTo(0, 0)")
        one.mouse.move(*middle_of_patch(one, 3, 2, grid=6))
    if kind == "class":
        wait_for_text(saved, "#reading", "row 3, column 2: ")
        expect(saved.locator("#note")).to_contain_text("needs the model")
        return
    for one in (saved, page):
        wait_for_text(one, "#caption", "row 3, column 2")
    wait_until(
        page,
        lambda: saved.locator("#reading").inner_text() == page.locator("#reading").inner_text() != shown["#reading"],
    )
    saved.focus("#stage")
    saved.keyboard.press("ArrowRight")
    wait_for_text(saved, "#caption", "row 1, column 5")
    if kind == "similarity":
        return
    saved.evaluate("() => { dispatchEvent(new Event('beforeprint')); }")
    expect(saved.locator("#layers canvas:not([hidden])")).to_have_count(0)
    saved.evaluate("() => { dispatchEvent(new Event('afterprint')); }")
    expect(saved.locator("#layers canvas:not([hidden])")).to_have_count(3)
    saved.click("#direction [data-value=from]")
    assert "from the patch" in caption(saved)


@slow
def test_the_saved_page_looks_right(open_page, open_file, png, tmp_path):
    page = open_page()
    drop(page, png, name="a photo with a long name that was given by a camera and a person.png")
    path = save(page, "html")[1].rename(tmp_path / "view.html")
    for theme in ("dark", "light"):
        saved = open_file(path, theme=theme)
        saved.wait_for_selector("#frame:not([hidden])")
        expect(saved.locator("html")).to_have_attribute("data-theme", theme)
        for width, height in ((360, 740), (768, 1024), (1280, 800), (2560, 1440)):
            saved.set_viewport_size({"width": width, "height": height})
            assert look_problems(saved) == [], (theme, width)


@slow
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_menu_and_the_lines_look_right(theme, open_page, png):
    page = open_page(theme=theme)
    drop(page, png)
    for width, height in ((360, 740), (1280, 800), (2560, 1440)):
        page.set_viewport_size({"width": width, "height": height})
        page.click("#save")
        menu = page.locator("#save-menu").bounding_box()
        assert menu["x"] >= 0 and menu["x"] + menu["width"] <= width and menu["y"] >= 0
        assert not [one for one in look_problems(page) if "save-" in one and "overlaps" not in one]
        page.keyboard.press("Escape")
        page.click("#show-python")
        assert not [one for one in look_problems(page) if "python" in one and "overlaps" not in one]
        page.keyboard.press("Escape")


@slow
def test_the_saved_page_shows_the_image_without_scripts(open_page, browser, png, tmp_path):
    page = open_page()
    drop(page, png, name="<b>&\"'.png")
    path = save(page, "html")[1].rename(tmp_path / "view.html")
    context = browser.new_context(java_script_enabled=False, offline=True)
    saved = context.new_page()
    saved.goto(f"file://{path}")
    assert saved.locator("h1").inner_text() == "<b>&\"'.png"
    wait_until(saved, lambda: saved.locator("#empty img").evaluate("one => one.naturalWidth") == 720)
    wait_until(page, lambda: caption(page) in saved.locator("#empty img").get_attribute("alt"))
    context.close()


def test_the_menu_and_the_lines_work_by_keyboard(open_page, png):
    page = open_page(360, 740)
    drop(page, png)
    page.focus("#save")
    page.keyboard.press("ArrowDown")
    focused = "document.activeElement.id"
    wait_until(page, lambda: page.evaluate(focused) == "save-png")
    expect(page.locator("#save")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowUp")
    wait_until(page, lambda: page.evaluate(focused) == "save-image")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    wait_until(page, lambda: page.evaluate(focused) == "save-svg")
    box = page.locator("#save-menu").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.keyboard.press("Escape")
    wait_until(page, lambda: page.evaluate(focused) == "save")
    expect(page.locator("#save-menu")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#save-menu")).to_be_hidden()
    page.click("#show-python")
    page.click("#copy-python")
    wait_for_text(page, "#copy-python", "Copied")
    wait_until(page, lambda: page.evaluate("navigator.clipboard.readText()") == page.locator("#python").text_content())
    page.keyboard.press("Escape")
    expect(page.locator("#python-panel")).to_be_hidden()
    wait_until(page, lambda: page.evaluate(focused) == "show-python")
