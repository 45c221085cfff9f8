"""Two panes of the explorer side by side: linked pointers, models, methods and images of their own, and the link."""

import io
import re

import numpy as np
import pytest
import torch
from explorer_page import drop, middle_of_patch, pixels, python_lines
from page_driver import containing, ending, expect, settled, starting, wait_for_text, wait_until, watched_pages
from page_look import look_problems
from PIL import Image

from vitreous.explanation.methods.features import patch_features
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return load(tiny_model)


@pytest.fixture(scope="module")
def wide_classifier():
    """A model of 4 x 6 patches and the same classes."""
    torch.manual_seed(1)
    vit = ViT(ViTConfig(image_size=(16, 24), patch_size=4, num_classes=3, embed_dim=16, depth=3, num_heads=2))
    return ImageClassifier(vit, Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4), ("red", "green", "blue"))


@pytest.fixture(scope="module")
def address(classifier, wide_classifier):
    with ExplorerServer(Explorer({"tiny": classifier, "wide": wide_classifier}), AppServer(port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def other_image():
    return np.random.default_rng(8).integers(0, 256, (50, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def other_png(other_image):
    stream = io.BytesIO()
    Image.fromarray(other_image).save(stream, "PNG")
    return stream.getvalue()


def compare(page, model="0", method="attention"):
    """Open the second pane, which is active then."""
    page.click("#compare")
    wait_for_text(page, "#b-pane-title", "wide")
    wait_for_text(page, "#b-caption", "·")
    if model == "0":
        page.select_option("#model", "0")
        wait_for_text(page, "#b-pane-title", "tiny")
        page.wait_for_selector("#b-legend:not([hidden])")
    page.select_option("#method", method)
    wait_for_text(page, "#b-caption", method)


def open_other_image(page, other_png):
    """Open another image in the active pane alone."""
    page.uncheck("#same-image")
    drop(page, other_png, "other.png")
    wait_for_text(page, "#b-pane-title", "other.png")
    page.wait_for_selector("#b-legend:not([hidden])")


def show_similarity(page, pane, layer):
    page.click(f"#{pane}pane-choose")
    page.select_option("#method", "features")
    page.select_option("#feature", "similarity")
    page.locator("#layer").fill(layer)


def picture(page):
    """The second pane's image and map as they are drawn."""
    return page.locator("#b-frame").screenshot()


def middle(page, row, column):
    """The middle of a patch of the second pane's wide model."""
    box = page.locator("#b-frame").bounding_box()
    return box["x"] + (column + 0.5) / 6 * box["width"], box["y"] + (row + 0.5) / 4 * box["height"]


def test_pointers_are_linked_between_different_grids(open_page, png):
    page = open_page()
    drop(page, png)
    compare(page, model="1")
    before = picture(page)
    page.mouse.move(*middle_of_patch(page, 1, 3))
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 1, column 3"))
    expect(page.locator("#b-caption")).to_have_text(
        "attention · layer 2 · mean over heads · from the patch in row 1, column 5"
    )
    expect(page.locator("#b-cursor")).to_be_visible()
    wait_until(page, lambda: picture(page) != before)
    page.mouse.move(*middle(page, 3, 1))
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 3, column 1"))
    expect(page.locator("#cursor")).to_be_visible()
    page.mouse.move(5, 5)
    expect(page.locator("#cursor")).to_be_hidden()
    expect(page.locator("#b-cursor")).to_be_hidden()
    wait_until(page, lambda: picture(page) == before)
    page.mouse.click(*middle_of_patch(page, 2, 0))
    page.mouse.move(5, 5)
    expect(page.locator("#caption")).to_have_text(ending("row 2, column 0"))
    expect(page.locator("#b-caption")).to_have_text(ending("row 2, column 0"))
    expect(page.locator("#pin")).to_be_visible()
    expect(page.locator("#b-pin")).to_be_visible()


def test_each_pane_has_a_method_and_classes_of_its_own(open_page, png, image, classifier):
    page = open_page()
    drop(page, png)
    compare(page)
    first, second = (label for label, _ in classifier(image).scores[:2])
    page.select_option("#target-class", second)
    page.select_option("#target-contrast", first)
    wait_for_text(page, "#b-reading", f"for {second} rather than {first}")
    expect(page.locator("#caption")).to_have_text("rollout · all layers · mean over heads")
    page.click("#pane-choose")
    expect(page.locator("#method")).to_have_value("rollout")
    expect(page.locator("#target-contrast")).to_have_value("")
    page.click(f"#bars button >> text={first}")
    wait_for_text(page, "#reading", f"for {first}")
    expect(page.locator("#b-reading")).to_contain_text(f"for {second} rather than {first}")


def test_a_patch_is_found_again_in_another_image(open_page, png, image, other_png, other_image, classifier):
    page = open_page()
    drop(page, png)
    compare(page)
    open_other_image(page, other_png)
    show_similarity(page, "b-", "0")
    page.mouse.click(*middle_of_patch(page, 3, 2))
    with torch.no_grad():
        own, other = (patch_features(classifier.model, classifier.preprocess(one)[0][None], 0)[0]
                      for one in (image, other_image))  # fmt: skip
    cosines = torch.cosine_similarity(other, own[3, 2], dim=-1)
    row, column = divmod(int(cosines.argmax()), 4)
    wait_for_text(page, "#b-caption", "similarity to the patch in row 3, column 2 of photo.png")
    wait_for_text(page, "#b-reading", f"most similar: row {row}, column {column} · cosine {cosines.max():.2f}")
    expect(page.locator("#b-cursor")).to_be_visible()
    expect(page.locator("#b-pin")).to_be_hidden()
    expect(page.locator("#caption")).to_contain_text("from the patch in row 3, column 2")
    page.click("#b-pane-choose")
    assert 'path in ("other.png", "photo.png")' in python_lines(page)


def test_similarity_within_an_image_follows_the_pointer(open_page, png, image, classifier):
    page = open_page()
    drop(page, png)
    page.select_option("#method", "features")
    page.select_option("#feature", "similarity")
    wait_for_text(page, "#reading", "Point at a patch")
    with torch.no_grad():
        tokens = patch_features(classifier.model, classifier.preprocess(image)[0][None])[0]
    page.mouse.move(*middle_of_patch(page, 0, 1))
    cosines = torch.cosine_similarity(tokens, tokens[0, 1], dim=-1).flatten()
    cosines[1] = -1
    wait_for_text(page, "#reading", f"cosine {cosines.max():.2f}")


def test_two_images_of_one_model_share_their_components(open_page, png, other_png):
    page = open_page()
    drop(page, png)
    compare(page)
    open_other_image(page, other_png)
    page.select_option("#method", "features")
    wait_for_text(page, "#b-caption", "colors")
    page.wait_for_selector("#busy", state="hidden")
    alone = picture(page)
    page.click("#pane-choose")
    page.select_option("#method", "features")
    for reading in ("#reading", "#b-reading"):
        wait_for_text(page, reading, "components are those of both images")
    wait_until(page, lambda: picture(page) != alone)
    assert "PatchColors.fit(tokens)" in python_lines(page)


@pytest.mark.parametrize("feature", ["similarity", "colors"])
def test_the_python_lines_of_two_images_make_the_same_map(
    feature, open_page, png, image, other_png, other_image, classifier, tmp_path, monkeypatch
):
    page = open_page()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(png)
    (tmp_path / "other.png").write_bytes(other_png)
    drop(page, png)
    compare(page)
    open_other_image(page, other_png)
    for pane in ("", "b-"):
        show_similarity(page, pane, "1")
        page.select_option("#feature", feature)
    page.mouse.click(*middle_of_patch(page, 1, 1))
    page.click("#b-pane-choose")
    page.wait_for_selector("#busy", state="hidden")
    names = {}
    exec(python_lines(page), names)
    assert names["patch_map"].shape == (4, 4)
    if feature == "similarity":
        best = re.search(r"row (\d), column (\d) · cosine ([\d.-]+)", page.inner_text("#b-reading")).groups()
        assert np.unravel_index(names["patch_map"].argmax(), (4, 4)) == (int(best[0]), int(best[1]))
        assert names["patch_map"].max() == pytest.approx(float(best[2]), abs=0.006)


def test_a_link_restores_both_panes(open_page, png, other_png):
    page = open_page()
    drop(page, png)
    compare(page, model="1", method="rollout")
    open_other_image(page, other_png)
    page.locator("#first").fill("1")
    page.mouse.click(*middle_of_patch(page, 1, 1))
    page.click("#b-pane-choose")
    page.mouse.move(5, 5)
    names = ("#caption", "#b-caption", "#pane-title", "#b-pane-title", "#reading", "#b-reading")
    before, drawn, url = [page.inner_text(one) for one in names], pixels(page, "b-added"), page.url
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#b-legend:not([hidden])")
    wait_until(page, lambda: [page.inner_text(one) for one in names] == before and page.url == url)
    wait_until(page, lambda: pixels(page, "b-added") == drawn)
    expect(page.locator("#same-image")).not_to_be_checked()
    expect(page.locator("#b-pane-choose")).to_have_attribute("aria-pressed", "true")


def test_panes_work_by_keyboard(open_page, png):
    page = open_page()
    drop(page, png)
    page.focus("#stage")
    page.keyboard.press("c")
    wait_for_text(page, "#b-caption", "·")
    page.focus("#b-stage")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#b-caption")).to_have_text(ending("from the patch in row 2, column 3"))
    expect(page.locator("#caption")).to_have_text(ending("row 2, column 2"))  # the same place in 4 columns
    page.keyboard.press("Escape")
    expect(page.locator("#caption")).not_to_contain_text("patch")
    expect(page.locator("#b-caption")).not_to_contain_text("patch")
    page.keyboard.press("c")
    page.wait_for_selector("#b-pane", state="detached")
    expect(page.locator("#stage")).to_be_focused()
    expect(page).not_to_have_url(containing("b=1"))


def test_a_new_image_opens_in_both_panes(open_page, png, other_png):
    page = open_page()
    drop(page, png)
    compare(page, model="1")
    drop(page, other_png, "other.png")
    for title in ("#pane-title", "#b-pane-title"):
        wait_for_text(page, title, "other.png")
    page.wait_for_selector("#legend:not([hidden])")
    page.click("#b-pane-close")
    page.wait_for_selector("#b-pane", state="detached")
    expect(page.locator("#caption")).to_have_text(starting("rollout"))
    expect(page.locator("#model")).to_have_value("0")


def test_the_first_pane_closes_itself_and_what_the_second_shows_stays(open_page, png, other_png):
    page = open_page()
    drop(page, png)
    compare(page, model="1")
    open_other_image(page, other_png)
    page.mouse.click(*middle(page, 1, 2))
    page.mouse.move(5, 5)
    shown = ("#b-caption", "#b-reading")
    names, drawn = settled(page, lambda: ([page.inner_text(one) for one in shown], pixels(page, "b-added")))
    page.click("#pane-close")
    page.wait_for_selector("#b-pane", state="detached")
    wait_until(
        page, lambda: [page.inner_text(one) for one in ("#caption", "#reading")] == names and pixels(page) == drawn
    )
    expect(page.locator("#model")).to_have_value("1")
    expect(page.locator("#method")).to_have_value("attention")
    expect(page.locator("#image-name")).to_have_text(starting("other.png"))
    assert page.evaluate("document.activeElement.id") == "compare"
    page.mouse.move(*middle_of_patch(page, 3, 0))
    expect(page.locator("#caption")).to_contain_text("from the patch in row 3, column 0")
    page.mouse.move(5, 5)
    page.reload()
    page.wait_for_selector("#plots:not([hidden])")
    expect(page.locator("#caption")).to_have_text(names[0])
    expect(page.locator("#b-pane")).to_have_count(0)
    expect(page.locator("#model")).to_have_value("1")
    page.click("#compare")
    wait_for_text(page, "#b-caption", "·")
    page.click("#b-pane-close")
    page.wait_for_selector("#b-pane", state="detached")
    expect(page.locator("#caption")).to_have_text(names[0])


def test_two_panes_look_right(open_page, png):
    page, found = open_page(), []
    drop(page, png, "a photo with a name that doesn't fit into the head of a pane.png")
    compare(page)
    for theme in ("light", "dark"):
        page.click("#theme")
        page.mouse.move(1, 1)
        for width, height in ((360, 740), (900, 800), (1440, 900), (1920, 1080)):
            page.set_viewport_size({"width": width, "height": height})
            found += [f"{width}, {theme}: {one}" for one in look_problems(page)]
            first, second = (page.locator(one).bounding_box() for one in ("#pane", "#b-pane"))
            assert (second["y"] > first["y"]) == (width < 1000) and (second["x"] > first["x"]) == (width >= 1000)
    assert not found, "\n".join(found)


def test_the_key_goes_on_working_in_the_pane_that_it_opened(open_page, png):
    page = open_page()
    drop(page, png)
    page.focus("#stage")
    for closed in (False, True, False):
        page.keyboard.press("c")
        expect(page.locator("#b-stage")).to_have_count(0 if closed else 1)
    expect(page.locator("#b-stage")).to_be_focused()


def test_nothing_looks_at_an_output_that_is_no_token(browser, png):
    torch.manual_seed(1)
    vit = ViT(ViTConfig((16, 16), 4, num_classes=3, embed_dim=16, depth=2, num_heads=2, global_pool="avg"))
    classifier = ImageClassifier(vit, Preprocessing((16, 16), "squash", (0.5,) * 3, (0.5,) * 3, 4), ("a", "b", "c"))
    with (
        ExplorerServer(Explorer({"average": classifier}), AppServer(port=0)) as server,
        watched_pages(browser, server.url) as open_it,
    ):
        page = open_it(fragment="#toward=1")
        page.wait_for_selector("body[data-ready]")
        drop(page, png)
        expect(page.locator("#direction [data-value=to]")).to_be_disabled()
        expect(page.locator("#direction [data-value=from]")).to_have_attribute("aria-checked", "true")
        page.mouse.click(*middle_of_patch(page, 1, 1))
        page.click("#direction [data-value=to]")
        wait_for_text(page, "#caption", "toward the patch in row 1, column 1")
