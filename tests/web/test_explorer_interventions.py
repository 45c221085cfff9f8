"""Interventions on the page as a person makes them: brush, keys, heads, undo, link, Python lines, the doctor."""

import re

import numpy as np
import pytest
import torch
from explorer_page import caption, drop, middle_of_patch, pixels, python_lines
from page_driver import containing, expect, starting, wait_for_text, wait_until
from page_look import look_problems
from PIL import Image
from torch import nn

import vitreous as vt
from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer


class LargeToken(nn.Module):
    """An MLP that also adds a large value to the patch in row 1, column 2."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, tokens):
        result = self.mlp(tokens).clone()
        result[:, -16 + 6, 0] += 300
        return result


@pytest.fixture(scope="module")
def classifier(tiny_model):
    """A model that depends on every patch and head, and has an outlier token."""
    made = load(tiny_model)
    torch.manual_seed(1)
    for weight in made.model.parameters():
        nn.init.normal_(weight, std=0.8)
    made.model.blocks[0].mlp = LargeToken(made.model.blocks[0].mlp).eval()
    return made


@pytest.fixture(scope="module")
def address(classifier):
    with ExplorerServer(Explorer({"tiny": classifier}), AppServer(port=0)) as server:
        yield server.url


def wait_for_link(page, part):
    """Wait until the link of the page holds this, at its end or before another part."""
    expect(page).to_have_url(re.compile(re.escape(part) + "(&|$)"), timeout=30_000)


def percent(text):
    return float(re.search(r"([\d.]+) %", text).group(1)) / 100


def measured(page):
    """The score of the target before and after, as the page says it."""
    page.wait_for_selector("#change[aria-busy=false]:not([hidden])")
    found = re.search(r": (.+) before, (.+) after", page.locator("#change-text").text_content())
    return percent(found[1]), percent(found[2])


def stroke(page, *patches):
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(*middle_of_patch(page, *patches[0]))
    page.mouse.down()
    for patch in patches[1:]:
        page.mouse.move(*middle_of_patch(page, *patch))
    page.mouse.up()


def expected(classifier, image, masked=(), heads=(), fill="mean"):
    mask = np.zeros((4, 4), bool)
    for patch in masked:
        mask[patch] = True
    before = classifier(image)
    with vt.mask_patches(classifier, mask, fill=fill), vt.ablate_heads(classifier, heads):
        after = classifier(image)
    after = dict(after.scores)[before.label]
    assert abs(after - before.score) > 0.01, "a change that the page can show"
    return before.score, after


def switch_head(page, layer, head, **options):
    box = page.locator("#multiples-canvas").bounding_box()
    place = {"x": (head + 0.5) / 2 * box["width"], "y": (layer + 0.5) / 2 * box["height"]}
    page.locator("#multiples-canvas").click(position=place, **options)


def start_brush(page, png, size=1):
    drop(page, png)
    page.click("#intervene summary")
    page.click("#brush-toggle")
    page.locator("#brush-size").fill(str(size))
    page.evaluate("scrollTo(0, 0)")


def test_a_stroke_masks_patches_and_the_change_is_measured(open_page, png, image, classifier):
    page = open_page()
    start_brush(page, png)
    before = pixels(page)
    stroke(page, (0, 0), (0, 3))
    assert measured(page) == pytest.approx(expected(classifier, image, [(0, n) for n in range(4)]), abs=6e-3)
    wait_until(page, lambda: "masked=0-3" in page.url and pixels(page) != before and "patch" not in caption(page))
    expect(page.locator("#prediction-title")).to_have_text("Prediction after the changes")
    page.select_option("#fill", "blur")
    wait_for_text(page, "#fill-note", "blurred")
    assert measured(page) == pytest.approx(
        expected(classifier, image, [(0, n) for n in range(4)], fill="blur"), abs=6e-3
    )
    page.click("#brush-mode [data-value=unmask]")
    stroke(page, (0, 0))
    wait_for_link(page, "masked=1-3")
    page.uncheck("#apply")
    page.wait_for_selector("#change", state="hidden")
    page.wait_for_selector("#busy", state="hidden")
    wait_until(page, lambda: pixels(page) == before)  # without the changes, the map is what it was
    page.check("#apply")
    measured(page)
    page.click("#clear")
    page.wait_for_selector("#change", state="hidden")
    expect(page).not_to_have_url(containing("masked"))
    expect(page.locator("#masked")).to_be_hidden()


def test_the_masked_patches_are_drawn_as_the_model_got_them(open_page, png, image, classifier):
    page = open_page()
    start_brush(page, png, 2)
    stroke(page, (1, 1))
    measured(page)
    found = page.evaluate("""() => { const canvas = document.getElementById("masked");
      return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]; }""")
    found = np.array(found).reshape(16, 16, 4)
    assert (
        (found[4:12, 4:12] == (128, 128, 128, 255)).all() and not found[:4, :, 3].any() and not found[12:, :, 3].any()
    )


def test_the_brush_works_by_keyboard_with_undo_and_invert(open_page, png, image, classifier):
    page = open_page()
    drop(page, png)
    page.focus("#stage")
    for key in ("b", "-", "-", "ArrowUp", "ArrowLeft", " "):
        page.keyboard.press(key)
    expect(page.locator("#brush-toggle")).to_have_attribute("aria-pressed", "true")
    wait_for_link(page, "masked=9")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for_link(page, "masked=9-10")
    page.keyboard.press("Shift+Enter")
    wait_for_link(page, "masked=9")
    page.keyboard.press("Control+z")
    wait_for_link(page, "masked=9-10")
    page.click("#invert")
    wait_for_link(page, "masked=0-8.11-15")
    masked = [divmod(n, 4) for n in range(16) if n not in (9, 10)]
    assert measured(page) == pytest.approx(expected(classifier, image, masked), abs=6e-3)
    page.focus("#stage")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#caption")).to_contain_text("from the patch")  # without the brush, arrows move it again


def test_heads_are_switched_off_and_combined_with_the_brush(open_page, png, image, classifier):
    page = open_page()
    drop(page, png)
    switch_head(page, 0, 1, modifiers=["Shift"])
    page.click("#intervene summary")
    assert measured(page) == pytest.approx(expected(classifier, image, heads=[(0, 1)]), abs=6e-3)
    page.click("#switch-heads")
    switch_head(page, 1, 0)
    wait_for_link(page, "off=0h1.1h0")
    expect(page.locator("#multiples-map .off")).to_have_count(2)
    expect(page.locator("#plots circle.off")).to_have_count(4)
    page.locator("#entropy-plot circle").last.click()
    wait_for_link(page, "off=0h1.1h0.1h1")
    page.click("#heads-off button >> text=layer 0 head 1")
    wait_for_link(page, "off=1h0.1h1")
    page.click("#brush-toggle")
    page.locator("#brush-size").fill("1")
    page.evaluate("scrollTo(0, 0)")
    stroke(page, (2, 2))
    wait_for_link(page, "masked=10")
    assert measured(page) == pytest.approx(expected(classifier, image, [(2, 2)], [(1, 0), (1, 1)]), abs=6e-3)
    page.click("#switch-heads")
    page.click("#brush-toggle")
    switch_head(page, 1, 1)
    expect(page.locator("#caption")).to_have_text("attention · layer 1 · head 1")


def test_saved_files_show_the_changed_image_and_say_so(open_page, png):
    page = open_page()
    start_brush(page, png, 2)
    stroke(page, (1, 1))
    switch_head(page, 0, 1, modifiers=["Shift"])
    wait_for_link(page, "off=0h1")
    measured(page)
    page.evaluate("scrollTo(0, 0)")
    page.locator("#opacity").fill("0")
    page.click("#save")
    with page.expect_download() as download:
        page.click("#save-png")
    with Image.open(download.value.path()) as saved:
        pixels_u8 = np.asarray(saved.convert("RGB"))[: 60 * 8, : 90 * 8]
    assert (np.abs(pixels_u8[150:330, 220:500].astype(int) - 128) <= 1).all()
    page.click("#save")
    with page.expect_download() as download:
        page.click("#save-svg")
    assert "4 patches masked by the mean color · switched off: layer 0 head 1" in download.value.path().read_text()


def test_touch_paints_and_does_not_scroll(open_page, png):
    page = open_page(390, 800)
    start_brush(page, png)
    wait_until(page, lambda: page.evaluate("getComputedStyle(document.getElementById('stage')).touchAction") == "none")
    paint = """([from, to]) => { const frame = document.getElementById("frame");
      const send = (name, [clientX, clientY]) => frame.dispatchEvent(new PointerEvent(name, {clientX, clientY,
        pointerId: 7, pointerType: "touch", bubbles: true, cancelable: true}));
      frame.setPointerCapture = () => {};
      send("pointerdown", from); send("pointermove", to); send("pointerup", to); }"""
    page.evaluate(paint, [middle_of_patch(page, 1, 0), middle_of_patch(page, 1, 2)])
    wait_for_link(page, "masked=4-6")
    expect(page.locator("#brush")).to_be_hidden()


def test_a_link_restores_the_intervention_and_a_broken_one_does_no_harm(open_page, png, image, classifier):
    page = open_page()
    start_brush(page, png)
    stroke(page, (3, 0), (3, 1))
    before = measured(page)
    page.reload()
    page.wait_for_selector("#plots:not([hidden])")
    assert measured(page) == before
    expect(page.locator("#masked")).to_be_visible()
    page.evaluate("location.hash += '&masked=3-99999.7e.-1.200&off=0h9.<b>.9'")
    page.wait_for_selector("#toast.error")
    page.wait_for_selector("#plots:not([hidden])")
    expect(page.locator("#toast")).to_contain_text("there is no")
    page.wait_for_selector("#busy", state="hidden")
    expect(page.locator("#caption")).to_have_text(starting("rollout"))
    expect(page.locator("#masked")).to_be_hidden()


@pytest.mark.parametrize("kind", ["class", "difference", "own map"])
def test_the_python_lines_reproduce_the_measured_change(kind, open_page, png, image, classifier, tmp_path, monkeypatch):
    page = open_page()
    (tmp_path / "photo.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    start_brush(page, png)
    stroke(page, (0, 1), (0, 2))
    measured(page)
    switch_head(page, 0, 0, modifiers=["Shift"])
    wait_for_link(page, "off=0h0")
    labels = [label for label, _ in classifier(image).scores]
    if kind == "difference":
        page.select_option("#target-class", labels[0])
        page.select_option("#target-contrast", labels[1])
        wait_for_text(page, "#change-title", "rather than")
        wait_for_text(page, "#reading", "rather than")
    elif kind == "own map":
        page.select_option("#method", "attention")
        page.click("#brush-toggle")
        page.evaluate("scrollTo(0, 0)")
        page.mouse.click(*middle_of_patch(page, 2, 2))
        page.click("#direction [data-value=to]")
    page.wait_for_selector("#change[aria-busy=false]")
    page.wait_for_selector("#busy", state="hidden")
    said = page.locator("#change-value").inner_text()
    code, names = re.sub(r'vt\.load\(".*"\)', "CLASSIFIER", python_lines(page)), {}
    names["CLASSIFIER"] = classifier
    exec(code, names)
    before, after = names["before"], names["after"]
    if kind == "difference":
        assert said == f"{before:.3f} → {after:.3f}"
    else:
        assert [percent(one) for one in said.split("→")] == pytest.approx([before, after], abs=6e-3)
    assert abs(before - after) > 1e-3
    found = names["patch_map"] if kind == "own map" else names["found"].patch_map
    assert found.shape == (4, 4)
    if kind == "own map":
        row, column = map(int, re.search(r"row (\d), column (\d):", page.locator("#reading").inner_text()).groups())
        assert np.unravel_index(found.argmax(), found.shape) == (row, column)


def test_outlier_tokens_are_marked_with_the_doctors_words(open_page, png, image, classifier):
    page = open_page()
    drop(page, png)
    page.wait_for_selector("#diagnosis:not([hidden])")
    expect(page.locator("#outliers-label")).to_contain_text("1 outlier token")
    wait_until(page, lambda: page.locator("#outliers path").last.get_attribute("d").count("M") == 1)
    wait_until(page, lambda: page.locator("#plots .outliers").count() >= 1)
    page.mouse.move(*middle_of_patch(page, 1, 2))
    wait_for_text(page, "#outlier-patch", "outlier token after layer")
    page.mouse.move(*middle_of_patch(page, 3, 3))
    expect(page.locator("#outlier-patch")).to_have_text("")
    page.uncheck("#mark-outliers")
    expect(page.locator("#outliers")).to_be_hidden()
    page.click("#doctor-open")
    said = page.locator("#doctor-findings").inner_text()
    with torch.no_grad():
        found = vt.doctor(classifier, image)
    assert all(one.message in said and one.advice in said for one in found.findings)
    page.keyboard.press("Escape")
    expect(page.locator("#doctor")).to_be_hidden()
    page.click("#doctor-open-plots")
    expect(page.locator("#doctor")).to_be_visible()


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800), (2560, 1440)])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_while_intervening(width, height, theme, open_page, png):
    page = open_page(width, height, theme)
    start_brush(page, png)
    stroke(page, (0, 0), (1, 1))
    switch_head(page, 0, 1, modifiers=["Shift"])
    wait_for_link(page, "off=0h1")
    measured(page)
    page.wait_for_selector("#diagnosis:not([hidden])")
    assert not (found := look_problems(page)), "\n".join(found)
    page.click("#doctor-open")
    assert not (found := look_problems(page)), "\n".join(found)


def test_side_by_side_one_image_is_changed_and_the_other_is_not(open_page, png, image, classifier):
    page = open_page()
    start_brush(page, png)
    page.focus("#stage")
    page.keyboard.press("c")
    page.wait_for_selector("#b-frame:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")
    box = page.locator("#b-frame").bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.1 * box["height"])
    wait_for_link(page, "b.masked=1")
    assert measured(page) == pytest.approx(expected(classifier, image, [(0, 1)]), abs=6e-3)
    expect(page.locator("#b-masked")).to_be_visible()
    expect(page.locator("#masked")).to_be_hidden()
    page.click("#pane-choose")
    expect(page.locator("#change")).to_be_hidden()
    expect(page.locator("#undo")).to_be_disabled()
    page.click("#b-pane-choose")
    expect(page.locator("#change")).to_be_visible()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#b-masked:not([hidden])")
    expect(page.locator("#masked")).to_be_hidden()
