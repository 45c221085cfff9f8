"""The page of runs while they train, as a person uses it: curves grow, maps are played, newer weights are loaded."""

import os
import re
from contextlib import ExitStack
from functools import partial

import pytest
from explorer_page import drop, middle_of_patch
from page_driver import drop_file, ending, expect, starting, wait_for_text, wait_until, watched_pages
from page_look import look_problems, tab_stops
from running import paused_training

from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training_film.history import read_map_history
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.training.watched_run import WatchedRun

SIZES = ((360, 740), (390, 844), (768, 1024), (1280, 800), (2560, 1440), (3840, 2160))
SOME_SIZES = ((360, 740), (1280, 800))
slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")


@pytest.fixture
def serve_runs():
    """Starts servers of runs; those runs that have weights are loaded."""
    with ExitStack() as servers:

        def serve(*paths):
            runs, models = [], {}
            for path in paths:
                run = WatchedRun(path.name, path, partial(load, path))
                if run.has_weights:
                    models[run.name] = run.reload()
                    run.model = len(models) - 1
                runs.append(run)
            return servers.enter_context(ExplorerServer(Explorer(models, runs=runs), AppServer(port=0)))

        yield serve


@pytest.fixture
def open_runs(browser, serve_runs):
    """Opens the page of a server; it is closed before the server is."""
    with watched_pages(browser, "http://127.0.0.1") as open_it:

        def open_ready(server, part="training", **options):
            page = open_it(fragment=f":{server.server.port}/{part}", **options)
            page.wait_for_selector("body[data-ready]")
            return page

        yield open_ready


def canvas_pixels(page, number=0):
    """What is drawn of the map of an image, as text."""
    return page.evaluate("number => document.querySelectorAll('#cells canvas')[number].toDataURL()", number)


def test_a_run_is_watched_from_its_first_step_to_its_end(colored_folder, tmp_path, serve_runs, open_runs):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=0, checkpoint_seconds=0.0) as training:
        server = serve_runs(path)
        page = open_runs(server, part="")
        assert page.url.startswith(f"{server.url}training"), "without a model, the page of the training opens"
        wait_for_text(page, ".state", "starting")
        expect(page.locator("#explorer-link")).to_be_hidden()
        expect(page.locator(".run")).to_contain_text("no checkpoint yet")
        training.go_on(12)
        wait_for_text(page, ".state", "training")
        total = server.explorer.runs[0].steps
        wait_for_text(page, ".run", f"step 10 of {total}")
        wait_until(page, lambda: re.search(r"\d:\d\d left", page.inner_text(".run")))
        lines = read_metrics(RunFolder(path))
        loss = next(line["loss"] for line in reversed(lines) if line["split"] == "train")
        wait_for_text(page, ".run", f"training loss {loss:.3f}")
        drawn = page.locator("svg.curve .line").first.get_attribute("d")
        page.get_by_role("button", name="Reload the latest checkpoint").click()
        wait_for_text(page, "#toast", "The weights of step 10 are loaded")
        page.get_by_role("link", name="Open in the explorer").wait_for()
        training.go_on()
        wait_for_text(page, ".state", "finished")
        wait_for_text(page, ".run", f"step {total} of {total}")
        wait_until(page, lambda: page.locator("svg.curve .line").first.get_attribute("d") != drawn)
        wait_for_text(page, ".run", f"the explorer has step 10, saved: step {total}")
        page.get_by_role("link", name="Open in the explorer").click()
        page.wait_for_selector("#pages:not([hidden])")
        expect(page.locator("#reload-model")).to_be_visible()
        expect(page.locator("#model")).to_have_value("0")
        expect(page.locator("#model-step")).to_have_text("weights of step 10")
        page.click("#reload-model")
        wait_for_text(page, "#model-step", f"weights of step {total}")
        page.get_by_role("link", name="Training").click()
        wait_for_text(page, ".run", f"the explorer has the latest: step {total}")


def test_a_stopped_run_is_said_to_be_stopped(colored_folder, tmp_path, serve_runs, open_runs):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=13) as training:
        page = open_runs(serve_runs(path))
        wait_for_text(page, ".state", "training")
        training.stop()
        wait_for_text(page, ".state", "stopped")
        wait_for_text(page, ".run", "a resume goes on after step 13")
        wait_until(page, lambda: "left" not in page.inner_text(".run .numbers"))
        expect(page.locator("#said")).to_have_text("run: stopped")


@pytest.fixture(scope="module")
def finished(colored_folder, tmp_path_factory):
    """A run whose every step's maps were kept."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    with paused_training(colored_folder, path, pause_at=0) as training:
        training.go_on()
    return path


def test_the_maps_grow_over_the_kept_steps(finished, serve_runs, open_runs):
    history = read_map_history(finished)
    page = open_runs(serve_runs(finished))
    wait_for_text(page, "#step-value", f"{len(history.steps)} of {len(history.steps)} kept")
    page.locator("#cells canvas").first.wait_for()
    page.focus("#step")
    page.keyboard.press("Home")
    expect(page.locator("#step")).to_have_attribute("aria-valuetext", "step 0, epoch 0")
    first = canvas_pixels(page)
    for at, step in enumerate(history.steps):
        expect(page.locator("#step-value")).to_have_text(starting(f"step {step}, epoch"))
        for image in range(3):
            cell, prediction = page.locator(".cell").nth(image), history.predictions[at][image]
            assert prediction.caption() in cell.inner_text()
            assert ("✓" if history.is_correct(at, image) else "✗") in cell.inner_text()
            score = round(100 * history.truth_probability(at, image))
            expect(cell).to_contain_text(f"true label {history.truth(image)}: {score} %")
        page.keyboard.press("ArrowRight")
    wait_until(page, lambda: canvas_pixels(page) != first)
    at_end = canvas_pixels(page)
    page.get_by_role("radio", name="rollout").click()
    wait_until(page, lambda: canvas_pixels(page) != at_end and "method=rollout" in page.url)
    page.click("#play")
    wait_for_text(page, "#play", "Play")
    expect(page.locator("#step-value")).to_have_text(starting(f"step {history.steps[-1]},"))
    page.focus("#step")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    before = page.inner_text("#step-value")
    expect(page).to_have_url(re.compile(f"step={history.steps[1]}$"))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    wait_for_text(page, "#step-value", before)
    expect(page.get_by_role("radio", name="rollout")).to_have_attribute("aria-checked", "true")


@pytest.mark.parametrize("seen_by", ["return", "result"])
def test_what_old_weights_gave_is_dimmed_when_newer_ones_are_loaded(seen_by, finished, png, serve_runs, open_runs):
    server = serve_runs(finished)
    page = open_runs(server, part="")
    drop(page, png)
    parts = ["#prediction", "#all-heads", "#plots", "#frame"]
    wait_until(page, lambda: [page.get_attribute(part, "aria-busy") for part in parts] == ["false"] * 4)
    server.explorer.models.replace(0, load(finished))
    if seen_by == "return":
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    else:
        page.select_option("#method", "gradient-rollout")
    wait_for_text(page, "#toast", "Newer weights of this model are loaded")
    wait_for_text(page, "#model-step", "what is dimmed is of older ones")
    wait_until(page, lambda: [page.get_attribute(part, "aria-busy") for part in parts] == ["true"] * 4)
    assert page.evaluate("getComputedStyle(document.getElementById('frame')).opacity") == "0.45"
    drop_file(page, png, "again.png")
    page.wait_for_selector("#prediction[aria-busy=false]")
    page.wait_for_selector("#frame[aria-busy=false]")
    assert "dimmed" not in page.inner_text("#model-step")


def test_the_head_of_the_page_stays_as_it_is_when_the_other_pane_becomes_active(finished, png, serve_runs, open_runs):
    server = serve_runs(finished)
    server.explorer.models.add("other", load(finished))
    page = open_runs(server, part="")
    drop(page, png, name="a photo with a long name.png")
    page.click("#compare")
    wait_for_text(page, "#b-pane-title", "other")
    wait_for_text(page, "#b-caption", "·")
    for width in (1280, 1024, 390):
        page.set_viewport_size({"width": width, "height": 800})
        heights = set()
        for pane, reload in (("", "visible"), ("b-", "hidden")):
            page.click(f"#{pane}pane-choose")
            expect(page.locator("#reload")).to_be_visible(visible=reload == "visible")
            heights.add(page.locator("header").bounding_box()["height"])
            assert page.locator("#image-name").bounding_box()["width"] >= 120
        assert len(heights) == 1, (width, heights)


def test_the_patch_under_the_pointer_when_it_is_pressed_is_pinned(finished, png, serve_runs, open_runs):
    page = open_runs(serve_runs(finished), part="")
    drop(page, png)
    # The page changes under the pointer.
    page.evaluate("""document.getElementById("pane").addEventListener("pointerdown",
        () => { document.querySelector("header").style.paddingBottom = "200px"; })""")
    page.mouse.move(*middle_of_patch(page, 2, 1, grid=3))
    wait_for_text(page, "#caption", "from the patch in row 2, column 2")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#pin:not([hidden])")
    page.mouse.move(1, 1)
    expect(page.locator("#caption")).to_have_text(ending("from the patch in row 2, column 2"))


def test_the_curves_are_read_by_keyboard_and_as_a_table(finished, serve_runs, open_runs):
    lines = read_metrics(RunFolder(finished))
    page = open_runs(serve_runs(finished))
    loss = page.get_by_role("slider", name="Loss over the epochs")
    loss.focus()
    page.keyboard.press("Home")
    first = lines[0]
    name = "validation" if first["split"] == "validation" else "training"
    expect(loss).to_have_attribute("aria-valuetext", f"epoch {first['epoch']:.3g}: {name} {first['loss']:.2f}")
    page.keyboard.press("End")
    last = [line for line in lines if line["split"] == "validation"][-1]
    accuracy = page.get_by_role("slider", name="Accuracy in % over the epochs")
    assert f"validation {100 * last['top1']:.1f} %" in accuracy.get_attribute("aria-valuetext")
    expect(page.locator("svg.curve .cursor path")).to_have_count(3)
    rate = page.locator("figure", has_text="Learning rate").locator(".line")
    expect(rate).to_have_class("line run2")  # neither the color of training nor of validation, which the legend names
    expect(page.locator("#curves-legend .run2")).to_have_count(0)
    page.get_by_text("Loss: values as a table").click()
    rows = page.locator("#charts table tr")
    validated = [line for line in lines if line["split"] == "validation"]
    expect(rows).to_have_count(1 + len(validated))
    expect(rows.last.locator("td").last).to_have_text(f"{last['loss']:.3g}")


def test_several_runs_lie_over_each_other_with_their_names(finished, trained_run, serve_runs, open_runs):
    page = open_runs(serve_runs(finished, trained_run))
    expect(page.locator(".run h2")).to_have_text(["finished", "run"])
    legend = page.locator("#curves-legend").inner_text()
    assert all(name in legend for name in ("finished: validation", "run: validation"))
    colors = page.evaluate("""() => [...document.querySelectorAll("#charts figure:first-child .line")]
      .map(line => getComputedStyle(line).stroke)""")
    assert len(colors) == 4 and len(set(colors)) == 2
    wait_for_text(page, "#growing", "3 images of the validation split")
    page.select_option("#growing-run", "1")
    wait_for_text(page, "#growing", "This run keeps no maps: its setting keep_maps is 0.")


@pytest.mark.parametrize("sizes", [SOME_SIZES, pytest.param(SIZES, marks=slow)], ids=["some", "all"])
def test_the_page_looks_right(sizes, finished, trained_run, serve_runs, open_runs):
    page = open_runs(serve_runs(finished, trained_run))
    page.get_by_text("Loss: values as a table").click()
    found = []
    for theme in ("light", "dark"):
        page.click("#theme")
        page.mouse.move(1, 1)
        for width, height in sizes:
            page.set_viewport_size({"width": width, "height": height})
            found += [f"{width} x {height}, {theme}: {one}" for one in look_problems(page)]
    assert not found, "\n".join(found)
    stops, unseen = tab_stops(page)
    assert not unseen and any("Play" in stop for stop in stops) and sum("svg" in stop for stop in stops) == 3
