"""vitreous report of two runs: the paired difference, the curves of both, and images on which they differ."""

import re
import shutil
from pathlib import Path

import pytest
from test_report_page import Page
from tiny_run import tiny_recipe

import vitreous
from vitreous.evaluation.intervals import wilson_interval


@pytest.fixture(scope="module")
def worse(colored_folder, tmp_path_factory) -> Path:
    """A run on the same data that learned less."""
    folder = tmp_path_factory.mktemp("worse") / "less"
    vitreous.train(tiny_recipe(colored_folder, epochs=1.5, seed=1), folder, callback=vitreous.Callback())
    return folder


def test_the_difference_is_that_of_compare(worse, trained_run, tmp_path):
    report = vitreous.report(worse, trained_run, output=tmp_path / "two.html")
    found = vitreous.compare(worse, trained_run)
    page, top1 = Page(report.html), found.comparison.top1
    low, high = (100 * end for end in top1.interval)
    assert (
        f"{found.second} minus {found.first} {100 * top1.value:+.2f} points 95 %: {low:+.2f} to {high:+.2f}"
        in page.text
    )
    ends = wilson_interval(top1.first * 30, 30)
    one = f"top-1 of {found.first} {top1.first:.2%} 95 %: {ends[0]:.1%} to {ends[1]:.1%} n = 30 images"
    assert found.summary in page.text and one in page.text
    assert "Of 3 intervals, about 0.15 exclude 0 by chance alone." in page.text
    assert f"only {found.second} right {found.comparison.only_second_correct} " in page.text
    for one in found.comparison.recall:
        assert f"{one.name} {one.first:.1%} {one.second:.1%} {100 * one.value:+.1f}" in page.text
    gained = [one.name for one in found.comparison.recall if one.interval[0] > 0]
    assert gained and f"above 0: {gained[0]}" in page.text


def test_both_curves_are_drawn_and_the_settings_that_differ_are_listed(worse, trained_run, tmp_path):
    page = Page(vitreous.report(worse, trained_run, output=tmp_path / "two.html", count=12).html)
    assert len(re.findall(r'<path class="line (?:cool|warm)" d="M', page.html)) >= 4
    assert "12 test images of" in page.text and "epochs 1.5 20" in page.text and "seed 1 0" in page.text
    assert "learning rate" not in page.text and not page.html.count("Neither model comes from a run")


def test_images_on_which_they_differ_have_the_maps_of_both(worse, trained_run, tmp_path):
    page = Page(vitreous.report(worse, trained_run, output=tmp_path / "two.html").html)
    found = vitreous.compare(worse, trained_run).comparison
    shown = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    count = sum(min(6, number) for number in (found.only_first_correct, found.only_second_correct))
    assert count and len(shown) == 3 * count and sum("run: " in text for text in shown) == count


def test_two_models_without_runs_are_compared(trained_run, worse, colored_folder, tmp_path):
    models = [vitreous.load(folder) for folder in (worse, trained_run)]
    for name, model in zip("ab", models, strict=True):
        model.save(tmp_path / name)
    report = vitreous.report(
        tmp_path / "a", tmp_path / "b", data=f"folder:{colored_folder}", output=tmp_path / "two.html", count=6
    )
    assert report.missing == ("Training", "How they were made") and "b minus a" in Page(report.html).text
    with pytest.raises(vitreous.InputError, match="same model"):
        vitreous.report(tmp_path / "a", tmp_path / "a", data=f"folder:{colored_folder}", output=tmp_path / "x.html")


def test_the_same_recipe_is_said_to_be_the_same(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "copy")
    page = Page(vitreous.report(trained_run, tmp_path / "copy", output=tmp_path / "two.html", count=3).html)
    assert "Recipes, versions, hardware and data are the same." in page.text and "There are none." in page.text


@pytest.mark.parametrize("name", ["faithfulness_count", "doctor_count"])
def test_what_the_page_of_two_models_lacks_is_refused(worse, trained_run, tmp_path, name):
    with pytest.raises(vitreous.InputError, match=f"has no section on {name.removesuffix('_count')}: leave out {name}"):
        vitreous.report(worse, trained_run, output=tmp_path / "two.html", **{name: 4})
    assert not (tmp_path / "two.html").exists()
