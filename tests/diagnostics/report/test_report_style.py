"""The report's look: contrast in both themes, the charts' axes, and the page in a browser at several widths."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from page_driver import expect, watched_pages
from page_look import look_problems, tab_stops
from PIL import Image
from tiny_run import make_folder, tiny_recipe

import vitreous
from vitreous.diagnostics.report.charts import (
    CurveLine,
    IntervalRow,
    curve_table,
    interval_chart,
    loss_chart,
    metric_chart,
    shorten_name,
    text_width,
)
from vitreous.diagnostics.report.page import page_style
from vitreous.diagnostics.report.svg import round_axis
from vitreous.diagnostics.report.training_page import run_subtitle
from vitreous.render.plots.curves import ReferenceBand
from vitreous.tasks.classification.task import CLASSIFICATION

LONG_NAME = "a_class_whose_name_is_longer_than_any_room_for_it_in_a_chart_or_a_table_of_the_page"
TEXT, GRAPHICS = 4.5, 3.0
"""Contrast that WCAG 2.2 AA asks of text, and of what one has to tell apart in graphics."""


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory) -> Path:
    """The page that training writes at its end, of classes with a long name and with one in wide letters."""
    root = tmp_path_factory.mktemp("style")
    folder = make_folder(root / "images")
    for split in ("train", "test"):
        for old, new in (("blue", LONG_NAME), ("green", "汉字" * 14)):
            (folder / split / old).rename(folder / split / new)
    recipe = tiny_recipe(folder, epochs=2, report=True, keep_maps=3)
    return vitreous.train(recipe, root / "run", callback=vitreous.Callback()).path / "report.html"


def themes() -> dict[str, dict[str, np.ndarray]]:
    """The colors of each theme, by their names in the style sheet."""
    blocks = re.findall(r":root \{(.*?)\}", page_style(), re.DOTALL)
    found = []
    for block in blocks:
        pairs = re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
        found.append({name: np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255 for name, code in pairs})
    return dict(zip(("light", "dark", "print"), found, strict=True))


def luminance(color: np.ndarray) -> float:
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_and_graphics_have_the_contrast_of_wcag_aa(theme):
    colors = themes()[theme]
    for ink in ("ink", "muted", "cool", "warm", "correct", "wrong"):
        for paper in ("paper", "page"):
            assert contrast(colors[ink], colors[paper]) >= TEXT, (ink, paper)
    for mark in ("cool", "warm", "gray"):
        assert contrast(colors[mark], colors["paper"]) >= GRAPHICS, mark
    for kind in ("right-cell", "wrong-cell"):
        for level in range(1, 11):
            cell = level / 10 * colors[kind] + (1 - level / 10) * colors["paper"]
            assert contrast(colors["ink"], cell) >= TEXT, (kind, level)
    assert contrast(colors["muted"], colors["page"]) >= TEXT, "the dot of an empty cell"


def test_axes_have_round_numbers_that_lie_on_them():
    for values in ([0.0, 8.0], [0.0466, 3.4], [-0.2, 0.4], [5.0], [1.0, 1.0], [0.0], [2e-6, 9e-6], [1200.0, 90_000.0]):
        axis = round_axis(values, "")
        assert axis.low <= min(values) and max(values) <= axis.high and 2 <= len(axis.ticks) <= 8, values
        assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
        assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)
    assert round_axis([99.0, 100.0], "", (0.0, 100.0)).high == 100
    assert round_axis([100.0], "", (0.0, 100.0)).high == 100 > round_axis([100.0], "", (0.0, 100.0)).low


@pytest.mark.parametrize(("epochs", "words"), [(1.0, "1 epoch ·"), (0.5, "0.5 epochs ·"), (2.0, "2 epochs ·")])
def test_one_epoch_is_no_epochs(epochs, words, tmp_path):
    run = SimpleNamespace(recipe=tiny_recipe(tmp_path, epochs=epochs))
    assert words in run_subtitle(run)


def test_curves_with_gaps_nothing_and_a_reference():
    lines = [{"step": i, "epoch": i / 10, "split": "train", "loss": 2 - i / 100, "top1": i / 200} for i in range(100)]
    lines += [{"step": i, "epoch": i / 10, "split": "validation", "loss": None if i == 40 else 1.0, "top1": 0.5}
              for i in (20, 40, 60)]  # fmt: skip
    loss = loss_chart(lines)
    assert loss is not None and loss.svg.count('<path class="line warm"') == 1
    assert re.search(r'class="line warm" d="M[^L]*M', loss.svg), "a value that isn't finite leaves a gap"
    rows = {row[0]: row[1:] for row in loss.table.rows}
    assert {"2.00", "4.00", "6.00"} < rows.keys() and rows["4.00"][1] == "not finite"
    assert rows["2.00"] == ("1.8", "1") and (min(rows), max(rows)) == ("0.00", "9.90")
    assert [values for epoch, values in rows.items() if float(epoch) > 7] and all(
        values[1] == "–" for epoch, values in rows.items() if float(epoch) > 7
    ), "no validation is near"
    band = ReferenceBand(np.array([2.0, 4.0]), np.array([0.4, 0.6]), np.array([0.01, 0.02]), "reference (n = 3)")
    accuracy = metric_chart(lines, CLASSIFICATION.metric, band)
    assert accuracy is not None and ("muted", "reference (n = 3)") in accuracy.legend and "band muted" in accuracy.svg
    assert accuracy.table.columns[-1] == "reference (n = 3)"
    known = {row[0]: row[-1] for row in accuracy.table.rows if row[-1] != "–"}
    assert known == {"2.00": "40.00% ± 1.00%", "4.00": "60.00% ± 2.00%"}
    assert "reference (n = 3): from 40.0% to 60.0% at epoch 4" in accuracy.svg
    assert loss_chart([]) is None and loss_chart([{**lines[-1], "loss": None}]) is None


def test_a_chart_shortens_long_names_and_escapes_them():
    rows = [IntervalRow("<b>" + 40 * "x", 0.5, 0.4, 0.6), IntervalRow("short", 0.9, 0.8, 1.0)]
    chart = interval_chart("key", "Title", rows, CLASSIFICATION.metric)
    assert (
        "<b>" not in chart.svg and "&lt;b&gt;xxxxxxxxxxxxxxxx…" in chart.svg and rows[0].name in chart.table.rows[0][0]
    )


def test_the_table_of_two_runs_has_the_epochs_of_both():
    short = CurveLine("short", "cool", np.array([1.0, 2.0]), np.array([0.1, 0.2]))
    long = CurveLine("long", "warm", np.arange(1.0, 7.0), np.arange(1.0, 7.0) / 10)
    table = curve_table("Accuracy", [short, long], CLASSIFICATION.metric)
    assert table.rows[1:3] == (("2.00", "20.00%", "20.00%"), ("3.00", "–", "30.00%"))
    assert [row[0] for row in table.rows] == [f"{epoch}.00" for epoch in range(1, 7)]
    many = CurveLine("many", "cool", np.arange(1.0, 301.0), np.ones(300))
    assert len(curve_table("Loss", [many], CLASSIFICATION.metric).rows) <= 40


def test_wide_letters_take_two_places():
    names = ["汉" * 9, "汉" * 30, "é" * 20]
    rows = [IntervalRow(name, 0.5, 0.4, 0.6) for name in names]
    narrow = interval_chart("key", "Title", [IntervalRow("x" * 9, 0.5, 0.4, 0.6)], CLASSIFICATION.metric)
    wide = interval_chart("key", "Title", rows[:1], CLASSIFICATION.metric)
    assert [text_width(name) for name in names] == [18, 60, 20]
    assert [text_width(shorten_name(name)) for name in names] == [18, 19, 20] and shorten_name(names[1]).endswith("…")
    assert first_dot(wide.svg) > first_dot(narrow.svg)


def first_dot(svg: str) -> float:
    return float(re.search(r'<circle[^>]* cx="([\d.]+)"', svg)[1])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_browser_draws_it_at_every_width(wide_page, browser, theme):
    page_uri = wide_page.resolve().as_uri()
    with watched_pages(browser, page_uri) as open_page:
        page, found = open_page(theme=theme), []
        for width in (360, 768, 1280, 2560):
            page.set_viewport_size({"width": width, "height": 1000})
            found += [f"{width}, {theme}: {one}" for one in look_problems(page)]
        assert not found, "\n".join(found)
        gray = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    assert (gray.mean() > 200) if theme == "light" else (gray.mean() < 60)
    assert gray.std() > 10, "something is drawn"


def test_the_printed_page_is_dark_on_white(wide_page, browser):
    with watched_pages(browser, wide_page.resolve().as_uri()) as open_page:
        page = open_page(width=794, height=1123, theme="dark")  # A4
        page.emulate_media(media="print")
        found = [one for one in look_problems(page) if "under 24" not in one]  # nobody points at paper
        assert not found, "\n".join(found)
        assert np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")).mean() > 200
        assert page.pdf()[:5] == b"%PDF-"
        heights = page.evaluate("[...document.querySelectorAll('.unfolding table')].map(one => one.clientHeight)")
        assert len(heights) >= 3 and min(heights) > 40, "recipe, faithfulness and fixed images are printed unfolded"
        assert page.evaluate("document.querySelector('.chart details').clientHeight") == 0


def test_the_strip_keeps_its_size_on_a_phone_and_scrolls(wide_page, browser):
    with watched_pages(browser, wide_page.resolve().as_uri()) as open_page:
        page = open_page(width=360)
        strip = page.locator(".wide")
        assert strip.locator("img").bounding_box()["width"] > 600 > strip.bounding_box()["width"]
        expect(strip).to_have_attribute("tabindex", "0")
        assert strip.get_attribute("aria-label")


def test_what_scrolls_on_a_phone_fades_out_until_its_end(wide_page, browser):
    with watched_pages(browser, wide_page.resolve().as_uri()) as open_page:
        page = open_page(width=360)
        matrix = page.locator(".scroll:has(.matrix)")
        assert matrix.evaluate("one => one.scrollWidth > one.clientWidth")
        expect(matrix).to_have_css("mask-image", re.compile("^linear-gradient"))
        matrix.evaluate("one => { one.scrollLeft = one.scrollWidth; }")
        expect(matrix).to_have_css("mask-image", "none")
        page.set_viewport_size({"width": 2560, "height": 1000})
        expect(matrix).to_have_css("mask-image", "none")  # all of it is seen


def test_every_link_and_table_of_the_page_is_reached_by_keyboard(wide_page, browser):
    with watched_pages(browser, wide_page.resolve().as_uri()) as open_page:
        stops, unseen = tab_stops(open_page())
    assert stops and not unseen
