"""Clips and cameras with what else the page does: interventions, saved files, the lines of Python, the doctor."""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from explorer_page import python_lines
from page_driver import containing, drop_file, expect, wait_for_text, wait_until
from PIL import Image
from torch import nn
from video_clips import moving_square

import vitreous as vt
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.pretrained.load import load
from vitreous.video.camera import VideoFileSource
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven by Playwright, which isn't there")
FRAMES = 20
WAIT = 30_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds, 64 x 36 pixels: a square goes over a slope."""
    path = tmp_path_factory.mktemp("clips") / "square.webm"
    write_video(path, moving_square(FRAMES), Fraction(10))
    return path


@pytest.fixture(scope="module")
def frames(clip):
    return [frame.image_u8 for frame in read_frames(clip)]


@pytest.fixture(scope="module")
def classifier(tiny_model, tmp_path_factory):
    """A model that depends on every patch and head."""
    made = load(tiny_model)
    torch.manual_seed(1)
    for weight in made.model.parameters():
        nn.init.normal_(weight, std=0.8)
    folder = tmp_path_factory.mktemp("changed")
    made.save(folder)
    return load(folder)


@pytest.fixture(scope="module")
def address(classifier, clip):
    source = VideoFileSource(clip, loop=True)
    with ExplorerServer(Explorer({"tiny": classifier}, live=source), AppServer(port=0)) as server:
        yield server.url


def wait_for_frame(page, number):
    """Wait until a frame is drawn: its link is written then."""
    wait_for_text(page, "#clip-time", f"frame {number + 1} of {FRAMES}")
    playwright.expect(page).to_have_url(re.compile(rf"i=clip-[0-9a-f]+-{number}&"), timeout=WAIT)


@pytest.fixture
def page(open_page, clip):
    """A page on the clip, on which the patches in row 1, columns 1 and 2, are masked by keys."""
    made = open_page()
    drop_file(made, clip.read_bytes(), "square.webm", "video/webm")
    wait_for_frame(made, 0)
    made.focus("#stage")
    for key in ("b", "-", "ArrowUp", "ArrowUp", " ", "ArrowLeft", " "):
        made.keyboard.press(key)
    playwright.expect(made).to_have_url(re.compile("masked=5-6"), timeout=WAIT)
    expect(made.locator("#play")).to_have_attribute("aria-label", "Play")  # the brush has the space bar
    made.keyboard.press("b")
    return made


def scores_of(classifier, image, heads=()):
    """The score of the class that is predicted for the image, without and with the masked patches."""
    mask = np.zeros((4, 4), bool)
    mask.flat[[5, 6]] = True
    before = classifier(image)
    with vt.mask_patches(classifier, mask, fill="mean"), vt.ablate_heads(classifier, heads):
        return before.score, dict(classifier(image).scores)[before.label]


def wait_for_change(page, scores):
    was, now = (f"{100 * score:.1f}" for score in scores)
    text = re.compile(rf": {re.escape(was)} % before, {re.escape(now)} % after")
    playwright.expect(page.locator("#change-text")).to_have_text(text, timeout=WAIT)


def test_each_frame_is_changed_as_the_first_one_was_until_that_is_undone(page, classifier, frames):
    wait_for_change(page, scores_of(classifier, frames[0]))
    expect(page.locator("#classes-unchanged")).to_be_visible()
    page.focus("#scrub")
    page.keyboard.press("PageUp")
    wait_for_frame(page, 10)
    wait_for_change(page, scores_of(classifier, frames[10]))
    expect(page.locator("#masked")).to_be_visible()
    page.keyboard.press(" ")
    wait_for_frame(page, FRAMES - 1)
    wait_for_change(page, scores_of(classifier, frames[-1]))
    page.click("#undo")
    page.click("#undo")
    page.wait_for_selector("#change", state="hidden")
    expect(page).not_to_have_url(containing("masked"))
    expect(page.locator("#masked")).to_be_hidden()
    expect(page.locator("#classes-unchanged")).to_be_hidden()


def test_an_intervention_of_a_link_that_is_impossible_is_dropped_with_a_word(browser, address, page):
    page.wait_for_selector("#busy", state="hidden")
    link = page.url.replace("masked=5-6", "masked=900")
    page.goto("about:blank")
    page.goto(link)
    wait_for_text(page, "#toast.error", "there is no patch 900")
    wait_for_frame(page, 0)
    expect(page).not_to_have_url(containing("masked"))


def test_a_frame_is_saved_with_its_name_and_time_and_the_lines_of_python_make_its_map(
    page, clip, classifier, frames, tmp_path, monkeypatch
):
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, FRAMES - 1)
    called, files = "square.webm, frame 20 at 1.90 s", {}
    for kind in ("npz", "svg", "html", "image"):
        page.click("#save")
        with page.expect_download() as download:
            page.click(f"#save-{kind}")
        files[kind] = download.value.path()
        assert download.value.suggested_filename.startswith("square-frame-20"), kind
    assert called in files["svg"].read_text("utf-8") and called in files["html"].read_text("utf-8")
    with Image.open(files["image"]) as saved:
        assert (np.asarray(saved.convert("RGB")) == frames[-1]).all()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "square.webm").write_bytes(clip.read_bytes())
    names = {}
    exec(python_lines(page), names)
    assert (names["before"], names["after"]) == pytest.approx(scores_of(classifier, frames[-1]), abs=1e-5)
    with np.load(files["npz"]) as saved:
        assert [*saved["frame"], *saved["time_seconds"]] == [FRAMES - 1, 1.9]
        assert (
            str(saved["fingerprint"]) == weights_fingerprint(classifier) and str(saved["image_name"]) == "square.webm"
        )
        assert np.abs(saved["patch_map"] - names["found"].patch_map).max() < 1e-3


def test_two_panes_show_the_frame_one_changed_and_one_not(page, classifier, frames):
    page.click("#compare")
    page.wait_for_selector("#b-added:not([hidden])")
    page.click("#clear")
    playwright.expect(page.locator("#b-masked")).to_be_hidden()
    page.focus("#scrub")
    page.keyboard.press("End")
    playwright.expect(page.locator("#clip-time")).to_contain_text(f"frame {FRAMES} of", timeout=WAIT)
    playwright.expect(page).to_have_url(re.compile(rf"-{FRAMES - 1}&"), timeout=WAIT)
    expect(page.locator("#masked")).to_be_visible()
    expect(page.locator("#b-masked")).to_be_hidden()
    page.click("#pane-choose")
    wait_for_change(page, scores_of(classifier, frames[-1]))


def test_the_images_of_a_camera_are_changed_and_the_doctor_waits_for_its_end(open_page):
    page = open_page(fragment="#live=server&masked=5-6&off=0h1")
    wait_for_text(page, "#live-numbers", "latency")
    wait_for_text(page, "#change-text", "before")
    expect(page.locator("#heads-off button")).to_have_text("layer 0 head 1 ✕")
    page.wait_for_timeout(1500)
    expect(page.locator("#diagnosis")).to_be_hidden()
    expect(page.locator("#live")).to_be_visible()
    page.click("#live-stop")
    page.wait_for_selector("#diagnosis:not([hidden])")
    wait_until(page, lambda: "camera" not in python_lines(page) and "masked=5-6" in page.url)
    page.click("#clear")
    page.wait_for_selector("#change", state="hidden")
