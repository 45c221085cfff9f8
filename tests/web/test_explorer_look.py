"""How the explorer looks, at every width, in light and dark, and what keyboard and screen reader get of it."""

import os

import pytest
from explorer_page import drop
from page_driver import drop_file, wait_for_text, watched_pages
from page_look import look_problems, tab_stops

from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

SIZES = ((360, 740), (390, 844), (768, 1024), (1280, 800), (1440, 900), (2560, 1440), (3840, 2160))
SOME_SIZES = ((360, 740), (1280, 800))
slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")


@pytest.fixture(scope="module")
def address(tiny_model, colored_folder):
    gallery = ImageGallery(f"folder:{colored_folder}", 9, print)
    models = {"tiny": load(tiny_model), "a second model with a name that is rather long": load(tiny_model)}
    with ExplorerServer(Explorer(models, gallery), AppServer(port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def empty_address(tiny_model):
    with ExplorerServer(Explorer({"tiny": load(tiny_model)}), AppServer(port=0)) as server:
        yield server.url


def check_look(page, sizes):
    """Fail with all that is wrong at any of these sizes, in both themes."""
    found = []
    for theme in ("light", "dark"):
        page.click("#theme")
        page.mouse.move(1, 1)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        for width, height in sizes:
            page.set_viewport_size({"width": width, "height": height})
            found += [f"{width} x {height}, {theme}: {one}" for one in look_problems(page)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("sizes", [SOME_SIZES, pytest.param(SIZES, marks=slow)], ids=["some", "all"])
def test_an_open_image_looks_right(sizes, open_page, png):
    page = open_page()
    drop(page, png, name="a photo with a name that doesn't fit into the head of the page.png")
    check_look(page, sizes)
    image, stage = page.locator("#frame").bounding_box(), page.locator("#stage").bounding_box()
    assert image["width"] / image["height"] == pytest.approx(1.5, abs=0.02) and image["width"] <= stage["width"] + 1


@slow
@pytest.mark.parametrize("state", ["empty", "method", "busy", "error"])
def test_every_state_looks_right(state, browser, empty_address, png):
    with watched_pages(browser, empty_address, expected="status of 400") as open_it:
        page = open_it()
        page.wait_for_selector("body[data-ready]")
        if state != "empty":
            drop(page, png)
        if state == "method":
            page.select_option("#method", "gradient-rollout")
            wait_for_text(page, "#reading", "for ")
        elif state == "busy":
            page.evaluate("document.getElementById('busy').hidden = false")
            page.evaluate("document.getElementById('busy-text').textContent = 'occlusion: 17 of 196 images'")
        elif state == "error":
            drop_file(page, b"this is no image", "notes.txt", "text/plain")
            page.wait_for_selector("#toast.error")
        check_look(page, SOME_SIZES)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(open_page, png):
    page = open_page()
    drop(page, png)
    stops, unseen = tab_stops(page)
    assert unseen == []
    for control in ("a# Skip", "select#model", "button#open", "select#gallery-order", "div#stage", "select#method",
                    "input#opacity", "select#palette", "button#copy-link", "div#multiples"):  # fmt: skip
        assert any(stop.startswith(control) for stop in stops), (control, stops)
