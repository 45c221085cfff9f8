"""The explorer as a person uses it: drop, hover, click, keys, cancel, reload."""

import os
import re
import time

import numpy as np
import pytest
from explorer_page import caption, drop, middle_of_patch, pixels, python_lines
from page_driver import drop_file, ending, expect, starting, wait_for_text, wait_until
from PIL import Image

import vitreous as vt
from vitreous.explanation.explain import explain_batch
from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

LABELS = """
selector => [...document.querySelectorAll(selector)].map(plot => [...plot.querySelectorAll("text")].map(label => {
  const own = label.getBoundingClientRect();
  const marks = [...plot.querySelectorAll("circle")].map(one => one.getBoundingClientRect());
  return {text: label.textContent, free: !marks.some(mark => mark.left < own.right && mark.right > own.left
    && mark.top < own.bottom && mark.bottom > own.top)};
}))
"""
"""The labels of plots, and whether each is free of marks."""
slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return load(tiny_model)


@pytest.fixture(scope="module")
def address(classifier):
    with ExplorerServer(Explorer({"tiny": classifier}), AppServer(port=0)) as server:
        yield server.url


def test_an_image_that_is_dropped_shows_its_prediction_and_map(open_page, png, image, classifier):
    page = open_page()
    expect(page.locator("#empty")).to_be_visible()
    drop(page, png)
    expect(page.locator("#caption")).to_have_text("rollout · all layers · mean over heads")
    expect(page.locator("#image-name")).to_have_text("photo.png · 90 × 60")
    prediction = classifier(image)
    expect(page.locator("#bars .cut")).to_have_text([label for label, _ in prediction.scores])
    expect(page.locator("#bars .score")).to_have_text([f"{100 * score:.1f} %" for _, score in prediction.scores])
    expect(page.locator("#legend-high")).to_have_text(ending(" × uniform"))
    first = float(page.locator("#bars .score").first.inner_text().removesuffix(" %"))
    assert first == pytest.approx(100 * prediction.score, abs=0.5)
    page.select_option("#method", "features")
    page.select_option("#feature", "norms")
    wait_for_text(page, "#reading", "0 is the median, 1 twice that")
    page.select_option("#method", "rollout")
    drop(page, png, event="paste")
    expect(page.locator("#image-name")).to_have_text(starting("photo.png"))


def test_hovering_shows_where_a_patch_looks_and_a_click_pins_it(open_page, png):
    page = open_page()
    drop(page, png)
    before = pixels(page)
    page.mouse.move(*middle_of_patch(page, 1, 3))
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 1, column 3"))
    wait_until(page, lambda: pixels(page) != before)
    page.mouse.click(*middle_of_patch(page, 1, 3))
    page.mouse.move(5, 5)
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 1, column 3"))
    page.click("#direction [data-value=to]")
    expect(page.locator("#caption")).to_have_text(ending("toward the patch in row 1, column 3"))
    page.locator("#starts button").last.click()
    expect(page.locator("#caption")).to_have_text("rollout · all layers · mean over heads · toward the class token")
    page.click("#direction [data-value=from]")
    expect(page.locator("#caption")).to_have_text("rollout · all layers · mean over heads")


def test_everything_works_by_keyboard(open_page, png):
    page = open_page()
    drop(page, png)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 2, column 2"))
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 1, column 3"))  # it stays on the image
    page.keyboard.press("d")
    expect(page.locator("#caption")).to_contain_text("toward")
    page.keyboard.press("Escape")
    expect(page.locator("#caption")).to_have_text(ending("toward the class token"))
    page.keyboard.press("d")
    expect(page.locator("#caption")).to_have_text("rollout · all layers · mean over heads")
    page.focus("#multiples")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#multiples-text")).to_have_text(starting("layer 1, head 0"))
    page.keyboard.press("Enter")
    expect(page.locator("#caption")).to_have_text("attention · layer 1 · head 0")
    page.focus("#stage")
    page.keyboard.press("[")
    expect(page.locator("#caption")).to_have_text("attention · layer 0 · head 0")
    page.keyboard.press("h")
    expect(page.locator("#caption")).to_have_text("attention · layer 0 · head 1")


def test_the_line_under_the_small_maps_and_the_plots_can_be_read(open_page, png):
    page = open_page()
    drop(page, png)
    page.mouse.click(*middle_of_patch(page, 1, 3))
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 1, column 3"))
    page.locator("#multiples-canvas").hover(position={"x": 3, "y": 3})
    text = page.locator("#multiples-text")
    expect(text).to_have_text(starting("layer 0, head 0: "))
    before = text.inner_text()
    page.evaluate("() => document.querySelector('#starts button').click()")  # the pointer stays on the small map
    expect(text).not_to_have_text(before)
    expect(text).to_have_text(starting("layer 0, head 0: "))
    plots = [[part["text"] for part in plot if part["free"]] for plot in page.evaluate(LABELS, "#plots svg")]
    assert [sum("uniform attention" in label for label in labels) for labels in plots] == [1, 1]


@slow
def test_a_small_map_or_a_dot_is_one_click_from_its_head(open_page, png):
    page = open_page()
    drop(page, png)
    canvas = page.locator("#multiples-canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.75 * box["width"], "y": 0.25 * box["height"]})
    expect(page.locator("#caption")).to_have_text("attention · layer 0 · head 1")
    page.locator("#entropy-plot circle").last.click()
    expect(page.locator("#caption")).to_have_text("attention · layer 1 · head 1")
    page.click("#heads button >> text=all")
    expect(page.locator("#caption")).to_have_text("attention · layer 1 · mean over heads")


@slow
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
    expect(page.locator("#reading")).to_contain_text(f"{found.score:.2f}")


def test_a_long_method_shows_its_progress_and_can_be_cancelled(open_page, png, classifier):
    page = open_page()
    drop(page, png)
    hook = classifier.model.register_forward_pre_hook(lambda *_: time.sleep(1.5))
    try:
        page.select_option("#method", "occlusion")
        page.wait_for_selector("#busy:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#busy", state="hidden")
    finally:
        hook.remove()
    page.select_option("#method", "rollout")
    expect(page.locator("#caption")).to_have_text(starting("rollout"))


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
    wait_until(page, lambda: caption(page) == before and pixels(page) == drawn)
    page.click("#copy-link")
    wait_until(page, lambda: page.evaluate("navigator.clipboard.readText()") == page.url and "patch=2.1" in page.url)


DRAG = """([from, to]) => {
  const slider = document.getElementById("opacity");
  for (let value = from; value !== to; value += Math.sign(to - from)) {
    slider.value = 5 * value;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
  }
}"""
"""Moves the slider of the opacity over all values from one to before another, in fives."""


def test_a_slider_that_is_dragged_changes_the_link_a_few_times_and_in_the_end(open_page, png):
    page = open_page()
    drop(page, png)
    page.evaluate("""() => { const write = history.replaceState.bind(history); window.written = 0;
        history.replaceState = (...all) => { window.written++; write(...all); }; }""")
    for _ in range(3):
        page.evaluate(DRAG, [20, 0])
        page.evaluate(DRAG, [0, 20])
    expect(page).to_have_url(re.compile(r"&opacity=95\b"))
    assert 1 <= page.evaluate("window.written") <= 20, "of 120 values"
    page.evaluate(DRAG, [1, 19])
    page.click("#copy-link")
    wait_for_text(page, "#toast", "Link copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("&opacity=90")
    page.evaluate(DRAG, [19, 10])
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    assert page.url.endswith("&opacity=55")


@slow
def test_links_that_are_broken_or_hostile_do_no_harm(open_page):
    page = open_page(fragment="#i=upload-0&method=%3Cscript%3E&layer=99&patch=a.b&heads=7.-3&palette=__proto__&m=9")
    page.wait_for_selector("#toast.error")
    wait_until(
        page,
        lambda: (
            "no such image" in page.locator("#toast").inner_text() or "ended" in page.locator("#toast").inner_text()
        ),
    )


def test_what_looks_at_the_class_token_is_the_column_of_its_matrix(
    open_page, png, classifier, image, tmp_path, monkeypatch
):
    page = open_page(fragment="#method=attention&layer=1&toward=1")
    drop(page, png)
    expect(page.locator("#caption")).to_have_text(ending("toward the class token"))
    Image.fromarray(image).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python_lines(page), names)
    weights = vt.attention_weights(classifier, classifier.preprocess(image)[0][None])[1][0].mean(0)
    assert np.allclose(names["patch_map"].ravel(), weights[1:, 0].numpy(), atol=1e-6)


def test_the_link_to_the_image_keeps_the_view(open_page, png):
    page = open_page()
    drop(page, png)
    page.click("#direction [data-value=to]")
    before = page.url
    page.focus(".skip")
    page.keyboard.press("Enter")
    wait_until(page, lambda: page.url == before and page.evaluate("document.activeElement.id") == "stage")


def test_of_two_files_the_last_one_is_shown(open_page, png):
    page = open_page()
    page.evaluate(
        """() => { const send = window.fetch; let count = 0;
        window.fetch = (path, options) => options?.method === "POST" && path === "/api/images" && !count++
            ? new Promise(done => setTimeout(() => done(send(path, options)), 800)) : send(path, options); }"""
    )
    drop_file(page, png, "slow.png", "image/png")
    drop(page, png, name="newest.png")
    page.wait_for_timeout(1200)
    expect(page.locator("#image-name")).to_contain_text("newest.png")


def test_keys_bring_opacity_back_and_leave_heads_that_a_method_lacks(open_page, png):
    page = open_page(fragment="#opacity=60")
    drop(page, png)
    page.focus("#stage")
    for value in ("0 %", "60 %"):
        page.keyboard.press("o")
        expect(page.locator("#opacity-value")).to_have_text(value)
    page.select_option("#method", "gradient-rollout")
    page.wait_for_selector("#legend:not([hidden])")
    page.focus("#stage")
    for key in ("h", "o"):
        page.keyboard.press(key)
    expect(page.locator("#opacity-value")).to_have_text("0 %")
    assert "heads" not in page.url


def test_beside_one_head_the_rollout_is_that_of_all(open_page, png):
    page = open_page(fragment="#method=attention&layer=0&heads=1")
    drop(page, png)
    page.click("#compare")
    expect(page.locator("#b-caption")).to_have_text("rollout · all layers · mean over heads")
