"""The strip of images of a data set as a person uses it: filters, search, keys."""

import re
import shutil

import pytest
from page_driver import drop_file, expect, wait_for_text, watched_pages

from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer


@pytest.fixture(scope="module")
def explorer(trained_run, colored_folder):
    return Explorer({"run": load(trained_run, "cpu")}, ImageGallery(f"folder:{colored_folder}", 30, print))


@pytest.fixture(scope="module")
def address(explorer):
    with ExplorerServer(explorer, AppServer(port=0)) as server:
        yield server.url


def shown(page, count):
    """Wait until so many images fit, and return their names."""
    expect(page.locator("#gallery-count")).to_have_text(re.compile(rf"^{count} images?$"), timeout=30_000)
    expect(page.locator("#strip button")).to_have_count(count, timeout=30_000)
    return [one.get_attribute("data-image") for one in page.locator("#strip button").all()]


def test_the_strip_is_searched_filtered_and_walked_by_keys(open_page, explorer):
    page, gallery = open_page(), explorer.gallery
    shown(page, 30)  # all are predicted: the strip isn't drawn again by itself
    page.fill("#gallery-search", "RED 1")
    fits = [i for i in range(30) if "red" in f"{gallery.name(i)} {gallery.labels[i]}" and "1" in gallery.name(i)]
    assert shown(page, len(fits)) == [f"data-{i}" for i in fits] and 0 < len(fits) < 30
    page.focus("#strip")
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#image-name", gallery.name(fits[0]))
    page.fill("#gallery-search", "zebra")
    wait_for_text(page, "#strip", "No image fits.")
    page.fill("#gallery-search", "")
    shown(page, 30)
    page.select_option("#gallery-class", "blue")
    assert shown(page, 10) == [f"data-{i}" for i in range(30) if gallery.labels[i] == "blue"]
    scored = gallery.scored(0)
    blue = [i for i in scored if gallery.labels[i] == "blue"]
    page.select_option("#gallery-order", "least-confident")
    least = sorted(blue, key=lambda i: scored[i].score)
    wait_for_text(page, f"#strip button:first-child[data-image=data-{least[0]}]", "blue")
    assert shown(page, 10) == [f"data-{i}" for i in least]
    page.select_option("#gallery-order", "misclassified")
    wrong = [i for i in blue if scored[i].label != "blue"]
    assert sorted(shown(page, len(wrong))) == sorted(f"data-{i}" for i in wrong)


def test_the_filters_are_in_the_link_which_restores_them(open_page, explorer):
    page, gallery = open_page(), explorer.gallery
    shown(page, 30)
    page.select_option("#gallery-class", "blue")
    shown(page, 10)
    page.select_option("#gallery-order", "least-confident")
    page.fill("#gallery-search", "1")
    fits = [i for i in range(30) if gallery.labels[i] == "blue" and "1" in gallery.name(i)]
    names = shown(page, len(fits))
    expect(page).to_have_url(re.compile("order=least-confident&class=blue&search=1$"))
    page.reload()
    assert shown(page, len(fits)) == names and 0 < len(fits) < 10
    values = [page.input_value(f"#gallery-{name}") for name in ("order", "class", "search")]
    assert values == ["least-confident", "blue", "1"]
    odd = open_page(fragment="#order=text&class=%3Cb%3E&search=")
    assert len(shown(odd, 30)) == 30, "what can't be chosen is as at first"
    assert [odd.input_value(f"#gallery-{name}") for name in ("order", "class")] == ["stored", ""]


def test_an_image_whose_true_class_the_model_lacks_is_no_mistake(colored_folder, tmp_path, browser, tiny_model):
    """A model of red, green and blue, and images of red, blue and violet."""
    for name, other in (("red", "red"), ("green", "violet"), ("blue", "blue")):
        shutil.copytree(colored_folder / "test" / name, tmp_path / "test" / other)
    gallery = ImageGallery(f"folder:{tmp_path}", 12, print)
    explorer = Explorer({"tiny": load(tiny_model)}, gallery)
    with ExplorerServer(explorer, AppServer(port=0)) as server, watched_pages(browser, server.url) as open_it:
        page = open_it()
        shown(page, 12)
        scored = gallery.scored(0)
        assert {scored[i].is_correct is None for i in range(12) if gallery.labels[i] == "violet"} == {True}
        assert {scored[i].is_correct for i in range(12) if gallery.labels[i] != "violet"} <= {True, False}
        without = gallery.labels.index("violet")
        page.click(f"#strip [data-image=data-{without}]")
        expect(page.locator("#truth")).to_have_text("true class violet, which this model doesn't have")
        expect(page.locator("#truth")).to_have_attribute("class", "")
        page.click(f"#strip [data-image=data-{gallery.labels.index('red')}]")
        expect(page.locator("#truth")).to_have_text(re.compile("^(✓ red is|✗ the true class is red)"))
        page.select_option("#gallery-order", "misclassified")
        wrong = [i for i in range(12) if scored[i].is_correct is False]
        assert sorted(shown(page, len(wrong))) == sorted(f"data-{i}" for i in wrong) and len(wrong) < 12


def test_an_image_of_the_data_set_is_called_what_it_is(open_page, explorer):
    page, name = open_page(fragment="#i=data-2&n=daisy%2FOLD.jpg"), explorer.gallery.name(2)
    wait_for_text(page, "#image-name", name)
    wait_for_text(page, "#toast", f"daisy/OLD.jpg is no longer data-2: that is {name}")


def test_an_image_that_is_chosen_ends_an_upload(open_page, explorer, png):
    page = open_page()
    shown(page, 30)
    page.route("**/api/images", lambda route: None)  # the upload doesn't end by itself
    drop_file(page, png)
    wait_for_text(page, "#busy-text", "reading the image")
    page.click("#strip [data-image=data-1]")
    wait_for_text(page, "#image-name", explorer.gallery.name(1))
    expect(page.locator("#busy")).to_be_hidden()


def test_the_last_image_of_the_strip_is_a_key_away(open_page, explorer):
    page = open_page()
    shown(page, 30)
    page.focus("#strip")
    page.keyboard.press("End")
    wait_for_text(page, "#image-name", explorer.gallery.name(29))


def test_without_an_image_no_view_is_controlled(open_page):
    page = open_page(fragment="#i=upload-0123456789abcdef0123")
    wait_for_text(page, "#toast", "there is no such image")
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#method")).to_be_hidden()
    page.click("#strip [data-image=data-1]")
    expect(page.locator("#method")).to_be_visible()
