"""Clips and cameras on the page, as a person uses them: drop, scrub, keys, play, chart; the camera and its latency."""

import re
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from explorer_page import python_lines
from page_driver import containing, drop_file, ending, expect, starting, wait_for_text, wait_until, watched_pages
from page_look import look_problems
from video_clips import moving_square

from vitreous import ablate_heads
from vitreous.explanation.methods.features import patch_features
from vitreous.pretrained.load import load
from vitreous.video.camera import VideoFileSource
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer

playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven by Playwright, which isn't there")
FRAMES = 40
WAIT = 30_000
PHOTO = "() => [...document.getElementById('photo').getContext('2d').getImageData(0, 0, 64, 36).data]"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds, 64 x 36 pixels: a square goes over a slope."""
    path = tmp_path_factory.mktemp("clips") / "square.webm"
    write_video(path, moving_square(FRAMES), Fraction(10))
    return path


@pytest.fixture(scope="module")
def classifier(tiny_model):
    return load(tiny_model)


@pytest.fixture(scope="module")
def address(classifier, clip):
    source = VideoFileSource(clip, loop=True)
    with ExplorerServer(Explorer({"tiny": classifier}, live=source), AppServer(port=0)) as server:
        yield server.url


def drop(page, path, name="square.webm", kind="video/webm"):
    drop_file(page, path.read_bytes(), name, kind)


def wait_for_frame(page, number):
    """Wait until a frame is drawn: its link is written then."""
    wait_for_text(page, "#clip-time", f"frame {number + 1} of {FRAMES}")
    playwright.expect(page).to_have_url(re.compile(rf"i=clip-[0-9a-f]+-{number}&"), timeout=WAIT)


def opened(page, clip):
    drop(page, clip)
    page.wait_for_selector("#clip:not([hidden])")
    wait_for_frame(page, 0)
    return page


def shown_pixels(page):
    return np.array(page.evaluate(PHOTO), np.uint8).reshape(36, 64, 4)[..., :3]


def test_a_clip_is_scrubbed_by_keys_and_each_frame_has_its_own_prediction(open_page, clip, classifier):
    page, frames = opened(open_page(), clip), [frame.image_u8 for frame in read_frames(clip)]
    page.focus("#scrub")
    for keys, number in ((["ArrowRight"], 1), (["End"], 39), (["ArrowLeft"] * 3, 36), (["Home"], 0), (["PageUp"], 10)):
        for key in keys:
            page.keyboard.press(key)
        wait_for_frame(page, number)
        assert np.array_equal(shown_pixels(page), frames[number]), "the frame is the one that vitreous video reads"
        expect(page.locator("#bars .cut")).to_have_text([name for name, _ in classifier(frames[number]).scores])
        text = page.locator("#scrub").get_attribute("aria-valuetext")
        assert text.startswith(f"{number / 10:.2f} s of 4.00 s"), text


def test_a_pinned_patch_stays_while_frames_change_and_the_map_follows(open_page, clip):
    page = opened(open_page(), clip)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    added = "() => [...document.getElementById('added').getContext('2d').getImageData(0, 0, 256, 256).data].join()"
    caption, before = page.locator("#caption").inner_text(), page.evaluate(added)
    assert "from the patch in row 2, column 2" in caption
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, 39)
    expect(page.locator("#caption")).to_have_text(caption)
    wait_until(page, lambda: page.evaluate(added) != before)
    page.select_option("#method", "gradient-rollout")
    wait_for_text(page, "#reading", "the predicted class")
    page.focus("#scrub")
    page.keyboard.press("Home")
    wait_for_frame(page, 0)
    wait_for_text(page, "#reading", "the predicted class")
    expect(page.locator("#added")).to_be_visible()


def test_side_by_side_both_panes_show_the_frame_each_with_its_own_map(open_page, clip):
    page = opened(open_page(), clip)
    page.click("#compare")
    wait_for_text(page, "#b-caption", "attention")
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, 39)
    other = np.array(page.evaluate(PHOTO.replace("'photo'", "'b-photo'")), np.uint8).reshape(36, 64, 4)[..., :3]
    assert np.array_equal(other, shown_pixels(page)) and np.array_equal(other, list(read_frames(clip))[39].image_u8)
    expect(page.locator("#caption")).to_have_text(starting("rollout"))
    page.click("#b-pane-close")
    page.focus("#scrub")
    page.keyboard.press("Home")
    wait_for_frame(page, 0)


def test_dragging_goes_to_the_frame_of_that_time(open_page, clip):
    page = opened(open_page(), clip)
    page.locator("#scrub").fill("2.55")
    wait_for_frame(page, 25)
    page.wait_for_selector("#classes-found:not([hidden])")
    box = page.locator("#classes-chart").bounding_box()
    page.mouse.click(box["x"] + 8 + (box["width"] - 16) * 12.5 / 39, box["y"] + 40)
    wait_for_frame(page, 12)


def test_space_plays_to_the_end_and_again_from_the_beginning(open_page, clip):
    page = opened(open_page(), clip)
    page.focus("#scrub")
    page.keyboard.press(" ")
    playwright.expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    wait_for_frame(page, 39)
    playwright.expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    page.click("#play")
    playwright.expect(page.locator("#clip-time")).not_to_contain_text("frame 40 of", timeout=WAIT)
    page.focus("#stage")
    page.keyboard.press(" ")
    playwright.expect(page.locator("#play")).to_have_attribute("aria-label", "Play")


def test_classes_over_time_have_a_chart_a_legend_and_a_table(open_page, clip, classifier):
    page = opened(open_page(), clip)
    page.wait_for_selector("#classes-found:not([hidden])")
    expect(page.locator("#classes-note")).to_have_text(f"all {FRAMES} frames")
    expect(page.locator("#classes-chart polyline")).to_have_count(3)
    frames = [frame.image_u8 for frame in read_frames(clip)]
    page.click("#classes-table summary")
    page.wait_for_selector("#classes-table tbody tr")
    head = page.locator("#classes-table thead th").all_inner_texts()
    cells = page.locator("#classes-table tbody tr").nth(30).locator("th, td").all_inner_texts()
    scores = dict(classifier(frames[30]).scores)
    expect(page.locator("#classes-table tbody tr")).to_have_count(FRAMES)
    assert cells[0] == "3.00 s"
    for name, text in zip(head[1:], cells[1:], strict=True):
        assert float(text.removesuffix(" %")) == pytest.approx(100 * scores[name], abs=0.51)
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, 39)
    legend = dict(line.rsplit("\n", 1) for line in page.locator("#classes-legend li").all_inner_texts())
    scores = dict(classifier(frames[39]).scores)
    assert {name: float(text.removesuffix(" %")) for name, text in legend.items()} == {
        name: pytest.approx(100 * score, abs=0.51) for name, score in scores.items()
    }
    wait_until(page, lambda: "Whole clip:" in page.locator("#classes-chart").get_attribute("aria-label"))
    wait_for_text(page, "#classes-summary", "Smoothed over 1 s: ")  # a vote of the frames half a second around
    label, cursor = (page.locator(f"#classes-chart {one}").bounding_box() for one in (".scale", ".cursor"))
    assert label["y"] + label["height"] <= cursor["y"] + 1, "the label is above all that is drawn"


def test_a_link_restores_the_frame_and_python_makes_its_map(open_page, clip, tmp_path, monkeypatch):
    page = opened(open_page(), clip)
    page.locator("#scrub").fill("1.7")
    wait_for_frame(page, 17)
    before = shown_pixels(page)
    page.reload()
    page.wait_for_selector("#clip:not([hidden])")
    wait_for_frame(page, 17)
    assert np.array_equal(shown_pixels(page), before)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "square.webm").write_bytes(clip.read_bytes())
    names = {}
    exec(python_lines(page), names)
    assert np.array_equal(names["frame"], before) and (tmp_path / "map.png").is_file()


def test_heads_that_are_off_stay_so_in_every_frame(open_page, clip, classifier):
    page, frames = opened(open_page(fragment="#off=0h1"), clip), [frame.image_u8 for frame in read_frames(clip)]
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, 39)
    with ablate_heads(classifier, [(0, 1)]):
        changed = dict(classifier(frames[39]).scores)
    names, scores = (page.locator(f"#bars {one}").all_inner_texts() for one in (".cut", ".score"))
    shown = {name: float(text.removesuffix(" %")) for name, text in zip(names, scores, strict=True)}
    assert shown == {name: pytest.approx(100 * score, abs=0.06) for name, score in changed.items()}


def test_what_is_no_clip_is_refused_and_an_image_closes_the_clip(browser, address, clip, tmp_path):
    with watched_pages(browser, address, expected="status of 400") as open_it:
        page = open_it()
        page.wait_for_selector("body[data-ready]")
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(b"no video at all")
        drop(page, bad, "bad.mp4", "video/mp4")
        wait_for_text(page, "#toast.error", "this file can't be read as a video")
        opened(page, clip)
        still = tmp_path / "still.gif"
        write_video(still, moving_square(1), Fraction(10))
        drop(page, still, "still.gif", "image/gif")
        wait_for_text(page, "#image-name", "still.gif")
        expect(page.locator("#clip")).to_be_hidden()  # one frame needs no scrubber


WATCH = """() => { window.hidden = 0;
  for (const id of ["legend", "b-legend"]) {
    const legend = document.getElementById(id);
    new MutationObserver(() => { window.hidden += legend.hidden; }).observe(legend, {attributes: true});
  }
}"""
"""Counts how often a map is hidden from now on."""


def test_similarity_between_an_image_and_a_clip_is_in_step_with_its_frames(open_page, png, image, clip, classifier):
    page = open_page()
    open_beside(page, png)
    drop(page, clip)
    page.wait_for_selector("#clip:not([hidden])")
    for pane in ("#pane-choose", "#b-pane-choose"):
        page.click(pane)
        page.select_option("#method", "features")
        page.select_option("#feature", "similarity")
    page.focus("#b-stage")
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#caption", "similarity to the patch in row 2, column 2 of square.webm")
    wait_for_text(page, "#b-reading", "cosine")
    page.evaluate(WATCH)
    page.focus("#scrub")
    page.keyboard.press("End")
    frame = list(read_frames(clip))[39].image_u8
    with torch.no_grad():
        own, other = (
            patch_features(classifier.model, classifier.preprocess(one)[0][None])[0] for one in (image, frame)
        )
    cosines = torch.cosine_similarity(own, other[2, 2], dim=-1)
    row, column = divmod(int(cosines.argmax()), 4)
    wait_for_text(page, "#reading", f"most similar: row {row}, column {column} · cosine {cosines.max():.2f}")
    for key in ("PageUp", "Home", "ArrowRight"):
        page.keyboard.press(key)
        page.wait_for_selector("#busy", state="hidden")
    wait_for_text(page, "#clip-time", f"frame 2 of {FRAMES}")
    playwright.expect(page).to_have_url(re.compile(r"b\.i=clip-\w+-1&"), timeout=WAIT)
    assert page.evaluate("window.hidden") == 0, "no frame is shown without its map"


@pytest.mark.parametrize("part", ["images", "clips"])
def test_an_upload_that_is_cancelled_leaves_the_page_as_it_was(part, open_page, clip, png):
    page = opened(open_page(), clip)
    before = page.url, page.inner_text("#image-name"), page.inner_text("#clip-time")
    page.route(f"**/api/{part}", lambda route: None)
    name = "large.png" if part == "images" else "large.webm"
    file = (png, name, "image/png") if part == "images" else (clip.read_bytes(), name, "video/webm")
    drop_file(page, *file)
    page.wait_for_selector("#busy:not([hidden])")
    page.click("#cancel")
    page.wait_for_selector("#busy", state="hidden")
    assert before == (page.url, page.inner_text("#image-name"), page.inner_text("#clip-time"))
    assert page.get_attribute("#toast", "class") != "shown error"
    page.unroute(f"**/api/{part}")
    drop_file(page, *file)
    wait_for_text(page, "#image-name", name)


def test_a_frame_that_is_cancelled_gives_way_to_the_one_that_is_shown(open_page, clip, classifier):
    page = opened(open_page(), clip)
    page.wait_for_selector("#classes-found:not([hidden])")
    before = shown_pixels(page)
    hook = classifier.model.register_forward_pre_hook(lambda *_: time.sleep(1.5))
    try:
        page.focus("#scrub")
        page.keyboard.press("End")
        wait_for_text(page, "#clip-time", f"frame {FRAMES} of")
        page.wait_for_selector("#busy:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#busy", state="hidden")
        expect(page.locator("#clip-time")).to_have_text(ending(f"frame 1 of {FRAMES}"))
        drop(page, clip, "other.webm")
        page.wait_for_selector("#busy:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#busy", state="hidden")
    finally:
        hook.remove()
    assert np.array_equal(shown_pixels(page), before)
    expect(page.locator("#image-name")).to_have_text(starting("square.webm"))
    page.focus("#scrub")
    page.keyboard.press("End")
    wait_for_frame(page, 39)


def latency_of(page):
    return float(re.match(r"latency (\d+) ms", page.locator("#live-numbers").inner_text())[1])


def test_the_browsers_camera_runs_with_its_latency_and_its_last_image_stays(open_page):
    page = open_page()
    page.click("#camera")
    wait_for_text(page, "#live-numbers", "latency")
    expect(page.locator("#image-name")).to_have_text("camera · 640 × 480")
    wait_until(page, lambda: 0 < latency_of(page) < WAIT and "live=browser" in page.url and "i=" not in page.url)
    first = page.locator("#caption").inner_text()
    page.select_option("#method", "attention")
    wait_for_text(page, "#caption", "attention · layer 1")
    assert first.startswith("rollout")
    page.click("#live-stop")
    expect(page.locator("#live")).to_be_hidden()
    expect(page).not_to_have_url(containing("live"))
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#caption", "from the patch in row 2, column 2")


def test_the_servers_video_runs_from_the_link_that_the_command_prints(open_page, clip):
    page = open_page(fragment="#live=server&method=attention&heads=1")
    wait_for_text(page, "#live-numbers", "latency")
    expect(page.locator("#caption")).to_have_text("attention · layer 1 · head 1")
    expect(page.locator("#server-camera")).to_have_text("square.webm")
    seen = {shown_pixels(page).tobytes() for _ in range(12) if page.wait_for_timeout(150) is None}
    assert len(seen) > 1, "the square moves"
    frames = {frame.image_u8.tobytes() for frame in read_frames(clip)}
    assert seen <= frames
    opened(page, clip)
    expect(page.locator("#live")).to_be_hidden()  # another source ends it


def open_beside(page, png, method="attention"):
    """Show a photo, and beside it in a second pane, which is active, the same with another method."""
    drop_file(page, png)
    page.wait_for_selector("#plots:not([hidden])")
    page.click("#compare")
    wait_for_text(page, "#b-caption", method)
    page.uncheck("#same-image")


def test_a_link_restores_the_frame_of_the_second_pane_with_its_scrubber(open_page, png, clip):
    page = open_page()
    open_beside(page, png)
    drop(page, clip)
    page.wait_for_selector("#clip:not([hidden])")
    page.locator("#scrub").fill("1.7")
    playwright.expect(page).to_have_url(re.compile(r"b\.i=clip-\w+-17&"), timeout=WAIT)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    wait_for_text(page, "#clip-time", f"frame 18 of {FRAMES}")
    page.focus("#scrub")
    page.keyboard.press("End")
    playwright.expect(page).to_have_url(re.compile(r"b\.i=clip-\w+-39&"), timeout=WAIT)
    wait_for_text(page, "#pane-title", "photo.png")
    wait_for_text(page, "#b-pane-title", "square.webm")


def test_a_link_restores_the_camera_in_its_panes(open_page, png):
    page = open_page()
    open_beside(page, png)
    page.click("#server-camera")
    wait_for_text(page, "#live-numbers", "latency")
    playwright.expect(page).to_have_url(re.compile(r"i=upload-.*b\.live=server"), timeout=WAIT)
    page.reload()
    wait_for_text(page, "#live-numbers", "latency")
    wait_for_text(page, "#pane-title", "photo.png")
    wait_for_text(page, "#b-pane-title", "square.webm")
    expect(page.locator("#b-caption")).to_have_text(starting("attention"))
    page.check("#same-image")
    wait_for_text(page, "#pane-title", "square.webm")
    playwright.expect(page).to_have_url(re.compile(r"#layer=1&live=server&b=1&b\.method=attention"), timeout=WAIT)
    page.reload()
    for name, method in (("", "rollout"), ("b-", "attention")):
        wait_for_text(page, f"#{name}pane-title", "square.webm")
        wait_for_text(page, f"#{name}caption", method)
    page.click("#b-pane-close")
    wait_for_text(page, "#live-numbers", "latency")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 1440])
def test_clips_and_cameras_look_right(width, theme, open_page, clip):
    page = opened(open_page(width, 800, theme), clip)
    page.wait_for_selector("#classes-found:not([hidden])")
    page.click("#classes-table summary")
    assert look_problems(page) == []
    page.click("#server-camera")
    wait_for_text(page, "#live-numbers", "latency")
    assert look_problems(page) == []
