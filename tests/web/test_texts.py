"""Image-text models in the explorer: a text as target, and the strip sorted by a text."""

import pytest
from explorer_page import caption, drop
from image_text_models import write_clip
from page_driver import expect, wait_for_text

import vitreous as vt
from vitreous.explanation.text_targets import takes_text, text_target
from vitreous.pretrained.load import load
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

TEXT = "a cat"


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
    pytest.importorskip("transformers")
    return load(write_clip(tmp_path_factory.mktemp("clip")), "cpu")


@pytest.fixture(scope="module")
def explorer(clip_model, small_classifier, colored_folder):
    made = Explorer(
        {"clip": clip_model, "small": small_classifier}, ImageGallery(f"folder:{colored_folder}", 12, print)
    )
    with ExplorerServer(made, AppServer(port=0)) as server:
        made.address = server.url
        yield made


@pytest.fixture(scope="module")
def address(explorer):
    return explorer.address


def cosine(model, image_u8):
    return float(text_target(model, TEXT)(model.embed(image_u8)[None]))


def sorted_by_text(explorer, model):
    pairs = {f"data-{i}": cosine(model, explorer.gallery.image(i).image_u8) for i in range(len(explorer.gallery))}
    return sorted(pairs.items(), key=lambda pair: -pair[1])


def test_models_say_whether_they_take_texts(clip_model, small_classifier, tiny_model):
    assert takes_text(clip_model) and not takes_text(small_classifier) and not takes_text(load(tiny_model))


def test_the_images_are_sorted_by_a_text(client, explorer, clip_model):
    expected = sorted_by_text(explorer, clip_model)
    found = {"scored": 0}
    while found["scored"] < 12:
        found = client.get("/api/gallery", params={"order": "text", "search": TEXT}).json()
    assert [one["image"] for one in found["items"]] == [image for image, _ in expected]
    assert [one["similarity"] for one in found["items"]] == pytest.approx([value for _, value in expected], abs=2e-3)
    assert {one["prediction"] for one in found["items"]} == {None}
    unsorted = client.get("/api/gallery", params={"order": "text"}).json()["items"]
    assert [one["image"] for one in unsorted] == [f"data-{i}" for i in range(12)]


def test_an_answer_counts_no_image_that_it_lacks(client, explorer, monkeypatch):
    while client.get("/api/gallery").json()["scored"] < 12:
        pass
    gallery = explorer.gallery
    select = gallery.select
    monkeypatch.setitem(gallery._done, 0, 4)

    def select_while_scoring(*options):
        chosen = select(*options)
        gallery._done[0] = 12
        return chosen

    monkeypatch.setattr(gallery, "select", select_while_scoring)
    assert client.get("/api/gallery").json()["scored"] == 4


def test_a_model_without_texts_is_refused_in_one_line(client):
    response = client.get("/api/gallery", params={"order": "text", "search": TEXT, "model": 1})
    assert response.status_code == 400 and "not an embedding" in response.json()["error"]


def test_a_person_asks_by_texts(open_page, png, image, clip_model, explorer):
    page = open_page()
    drop(page, png)
    page.fill("#text-target", TEXT)
    page.keyboard.press("Enter")
    wait_for_text(page, "#reading", "cosine similarity")
    (found,) = [vt.explain(clip_model, image, method="gradient-rollout", target=f"text:{TEXT}")]
    assert caption(page).startswith(found.caption().split(" · ")[0])
    wait_for_text(page, "#reading", f"text '{TEXT}' (cosine similarity {found.score:.3f})")
    page.click("#show-python")
    wait_for_text(page, "#python", f'target="text:{TEXT}"')
    page.keyboard.press("Escape")
    assert found.score == pytest.approx(cosine(clip_model, image), abs=1e-4)
    drop(page, png, name="again.png")
    expect(page.locator("#text-target")).to_have_value(TEXT)  # the text stays with another image
    page.select_option("#gallery-order", "text")
    expect(page.locator("#gallery-search")).to_have_attribute("placeholder", "a photo of a cat")
    page.fill("#gallery-search", TEXT)
    best, value = sorted_by_text(explorer, clip_model)[0]
    wait_for_text(page, f"#strip button:first-child[data-image={best}]", f"{value:.2f}"[:-1])
    page.select_option("#model", "1")
    page.wait_for_selector("#text-row", state="hidden")
    expect(page.locator("#gallery-order")).to_have_value("stored")
    expect(page.locator("#order-text")).to_be_hidden()
