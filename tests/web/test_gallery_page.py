"""The strip of images of a data set as a person uses it: filters, search, keys."""

import pytest
from page_driver import wait_for_text

from vitreous.pretrained.load import load
from vitreous.web.explorer import Explorer
from vitreous.web.image_gallery import ImageGallery
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer


@pytest.fixture(scope="module")
def explorer(trained_run, colored_folder):
    return Explorer({"run": load(trained_run, "cpu")}, ImageGallery(f"folder:{colored_folder}", 30, print))


@pytest.fixture(scope="module")
def address(explorer):
    with ExplorerServer(explorer, AppServer(port=0)) as server:
        yield server.url


def shown(page):
    return [one.get_attribute("data-image") for one in page.locator("#strip button").all()]


def test_the_strip_is_searched_filtered_and_walked_by_keys(open_page, explorer):
    page, gallery = open_page(), explorer.gallery
    wait_for_text(page, "#gallery-count", "30 images")
    page.fill("#gallery-search", "RED 1")
    fits = [i for i in range(30) if "red" in f"{gallery.name(i)} {gallery.labels[i]}" and "1" in gallery.name(i)]
    wait_for_text(page, "#gallery-count", f"{len(fits)} image")
    assert shown(page) == [f"data-{i}" for i in fits] and 0 < len(fits) < 30
    page.focus("#strip")
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#image-name", gallery.name(fits[0]))
    page.fill("#gallery-search", "zebra")
    wait_for_text(page, "#strip", "No image fits.")
    page.fill("#gallery-search", "")
    page.select_option("#gallery-class", "blue")
    wait_for_text(page, "#gallery-count", "10 images")
    assert shown(page) == [f"data-{i}" for i in range(30) if gallery.labels[i] == "blue"]
    page.select_option("#gallery-order", "least-confident")
    scored = gallery.scored(0)
    least = sorted((i for i in scored if gallery.labels[i] == "blue"), key=lambda i: scored[i].score)
    wait_for_text(page, "#strip button:first-child", "%" if scored[least[0]].label == "blue" else "✗")
    assert shown(page) == [f"data-{i}" for i in least]
    page.select_option("#gallery-order", "misclassified")
    wrong = [i for i in scored if gallery.labels[i] == "blue" != scored[i].label]
    wait_for_text(page, "#gallery-count", f"{len(wrong)} image")
    assert sorted(shown(page)) == sorted(f"data-{i}" for i in wrong)
