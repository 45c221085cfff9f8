"""What `explain` writes beside its maps: marks, values, notes and progress."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.explanation.figures import (
    caption_lines,
    draw_explanation_figure,
    draw_gallery,
    query_mask,
    scale_labels,
    shared_legends,
)
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap
from vitreous.workflows.explain import draw_all_methods, explain
from vitreous.workflows.explain_files import ExplainRequest, warn_on_artifacts, without, write_explanations


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def test_the_patch_that_was_asked_about_is_marked(trained_run, photo):
    plain, asked = explain(trained_run, photo), explain(trained_run, photo, query=(31, 9))
    assert query_mask(plain) is None
    mask = query_mask(asked)
    rows, columns = asked.patch_map.shape
    top, left, bottom, right = asked.geometry.box
    assert mask.shape == (40, 60) and mask[9, 31]
    assert mask.sum() == pytest.approx((bottom - top) * (right - left) / rows / columns, rel=0.3)
    assert np.array(draw_explanation_figure(asked) != draw_explanation_figure(plain)).any()


def test_a_region_is_marked_for_every_method_that_takes_one(trained_run, photo):
    for method in ("grad-cam", "occlusion"):
        mask = query_mask(explain(trained_run, photo, method, target="region:20,10,40,30"))
        assert mask[20, 30] and not mask[0, 0] and not mask[-1, -1]


def test_the_colors_ends_are_in_numbers(trained_run, photo):
    attention = explain(trained_run, photo, "attention")
    low, high = scale_labels(attention)
    assert float(low.removesuffix(" × even")) < 1 < float(high.removesuffix(" × even"))
    assert low.endswith(" × even") and high.endswith(" × even")
    low, high = scale_labels(explain(trained_run, photo, "input-x-gradient"))
    assert low == f"−{high}" and float(high) > 0
    assert scale_labels(explain(trained_run, photo, "features")) is None


def test_a_sheet_explains_each_way_to_color_once(trained_run, photo):
    shown = [explain(trained_run, photo, name) for name in ("rollout", "grad-cam", "input-x-gradient", "features")]
    legends = shared_legends(shown)
    assert [one.ends for one in legends] == [("little", "much"), ("against", "for"), None]
    assert "features: patches of like color" in legends[-1].name


REGION = "region:20,10,40,30"
SAME = "this method's map is the same for every target"


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.is_class_specific])
def test_a_region_that_a_method_has_no_use_for_is_said_and_not_outlined(trained_run, photo, method):
    plain, asked = explain(trained_run, photo, method), explain(trained_run, photo, method, target=REGION)
    assert np.array_equal(plain.patch_map, asked.patch_map)
    assert query_mask(asked) is None and f"region 20,10 to 40,30 · {SAME}" in caption_lines(asked, None)
    assert not any(SAME in line for line in caption_lines(plain, None))


def test_beside_a_region_without_use_the_patch_that_is_followed_is_outlined(trained_run, photo):
    both, query = (explain(trained_run, photo, target=target, query=(3, 3)) for target in (REGION, None))
    assert (
        np.array_equal(query_mask(both), query_mask(query)) and query_mask(both)[3, 3] and not query_mask(both)[20, 30]
    )
    assert f"region 20,10 to 40,30 · {SAME}" in caption_lines(both, None)
    assert not any(SAME in line for line in caption_lines(query, None))


def test_a_margin_that_a_method_has_no_use_for_is_said(trained_run, photo):
    lines = caption_lines(explain(trained_run, photo, target="red - blue"), None)
    assert lines[-1].startswith("red rather than blue ") and lines[-1].endswith(SAME)


@pytest.mark.parametrize(
    ("method", "target", "title"),
    [
        ("gradient-rollout", "green", "prediction / gradient-rollout · explains: green"),
        ("grad-cam", REGION, " · explains: region 20,10 to 40,30"),
        ("attention", REGION, f" · region 20,10 to 40,30 · {SAME}"),
        ("rollout", "green", f" · green · {SAME}"),
        ("rollout", None, "prediction / rollout · all layers · mean over heads"),
    ],
)
def test_a_grids_title_names_the_target(trained_run, photo, monkeypatch, method, target, title):
    titles = []
    monkeypatch.setattr("vitreous.explanation.figures.gallery", lambda items, words, legends: titles.append(words))
    draw_gallery([explain(trained_run, photo, method, target=target)] * 2, [None, None])
    assert titles[0].endswith(title)


def test_the_methods_sheet_outlines_a_region_where_it_is_explained(trained_run, photo, monkeypatch):
    drawn = []
    monkeypatch.setattr("vitreous.workflows.explain.tile", lambda tiles, *_, **words: drawn.extend(tiles))
    draw_all_methods(trained_run, [photo], REGION)
    found = {one.lines[0]: one for one in drawn if one.lines}
    named = [name for name in METHODS if name in found]
    assert len(named) > 6 and all(
        (found[name].outlined is not None) == METHODS[name].is_class_specific for name in named
    )
    alike = {name for name in named if found[name].lines[1:] == ("same for every target",)}
    assert alike == {name for name in named if not METHODS[name].is_class_specific}
    assert drawn[0].outlined[20, 30]


def test_methods_that_a_target_excludes_are_named_with_the_reason(trained_run, photo, tmp_path):
    request = ExplainRequest(layout="methods", target=REGION)
    (written,) = write_explanations(trained_run, [photo], request, tmp_path / "methods.png")
    assert written.words.count("without") == 1 and "legrad, input-x-gradient, integrated-gradients" in written.words
    assert written.words.endswith(": the target 'region 20,10 to 40,30' is read from the model's last tokens, which "
                                  "this method can't see")  # fmt: skip
    assert "apply" not in written.words
    assert without({}) == ""


def test_the_gap_is_to_what_the_score_gains(trained_run, photo):
    shown = explain(trained_run, photo, "integrated-gradients")
    assert (
        f"the map's sum misses the score's gain over the mean color by {shown.convergence_delta:+.2g}"
        in caption_lines(shown, None)
    )


def test_without_images_what_helps_is_said(trained_run):
    loaded = load(trained_run)
    without_recipe, features = (
        ImageClassifier(loaded.model, loaded.preprocessing, names) for names in (loaded.class_names, ())
    )
    with pytest.raises(InputError, match=r"give images after the model, or test images with --data"):
        write_explanations(without_recipe, [], ExplainRequest(), None)
    for data in (None, "cifar10"):
        with pytest.raises(InputError, match=r"no classes, .*: give images after the model$"):
            write_explanations(features, [], ExplainRequest(data=data), None)


def test_images_may_stand_behind_options(trained_run, photo, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    words = ["explain", str(trained_run), str(photo), "--layout", "grid", str(other), "-o", str(tmp_path / "x.png")]
    assert run(words) == 0 and (tmp_path / "x.png").is_file()


def test_where_no_attention_is_seen_what_works_is_named(photo):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    classifier = wrap(network, preprocessing=Preprocessing((16, 16), "squash", (0.5,) * 3, (0.5,) * 3, 1))
    refused, works = {}, []
    for name in METHODS:
        try:
            explain(classifier, photo, name)
            works.append(name)
        except InputError as error:
            refused[name] = str(error)
    assert works == re.split(", | or ", ATTENTION_FREE_METHODS)
    assert len(refused) == len(METHODS) - len(works)
    assert all(words.endswith(f"choose {ATTENTION_FREE_METHODS}") for words in refused.values())


def test_a_grid_of_images_of_several_shapes_is_drawn_with_its_marks(trained_run, photo):
    shown = [explain(trained_run, photo, "attention", query=(31, 9))] * 2
    bare = [explain(trained_run, photo, "attention")] * 2
    sizes = [draw_gallery(each, [None, None]).size for each in (shown, bare)]
    assert sizes[0][0] == sizes[1][0]


def test_every_method_is_told_when_it_begins(trained_run, photo):
    told = []
    draw_all_methods(trained_run, [photo], on_progress=lambda *words: told.append(words))
    count = len(METHODS)
    assert [done for done, _, _ in told] == [*range(count), count] and {total for _, total, _ in told} == {count}
    assert all(words.startswith(name) for name, (_, _, words) in zip(METHODS, told, strict=False))


def test_all_methods_on_one_sheet_say_which_is_running(trained_run, photo, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "vitreous"):
        write_explanations(trained_run, [photo], ExplainRequest(layout="methods"), tmp_path / "methods.png")
    assert f"rise, method {list(METHODS).index('rise') + 1} of {len(METHODS)}" in caplog.messages
    assert (tmp_path / "methods.png").is_file()


def with_grid(explanation, grid):
    return replace(explanation, grid=grid)


def test_rollouts_made_of_single_patches_are_noted_once(trained_run, photo, caplog):
    rolled, looked = explain(trained_run, photo), explain(trained_run, photo, "attention")
    spot = np.ones((4, 4), np.float32) / 20
    spot[1, 1] = 10 / 20
    even = np.ones((4, 4), np.float32) / 16
    with caplog.at_level(logging.WARNING, "vitreous"):
        warn_on_artifacts([with_grid(rolled, even), with_grid(looked, spot)])
        assert not caplog.messages
        warn_on_artifacts([with_grid(rolled, spot)])
        warn_on_artifacts([with_grid(rolled, spot), with_grid(rolled, even)])
    assert len(caplog.messages) == 2 and "in this rollout single patches" in caplog.messages[0]
    assert "hold 40% of the map" in caplog.messages[0]
    assert "the rollouts of 1 of 2 images" in caplog.messages[1] and "--method attention" in caplog.messages[1]


def test_dinov2_is_noted_on_the_command_line(shared, tmp_path, capsys, caplog):
    weights, photo = shared / "weights/dinov2-vits14.safetensors", shared / "photos/two-cats.png"
    for method in ("rollout", "attention"):
        caplog.clear()
        assert run(["explain", str(weights), str(photo), "--method", method, "-o", str(tmp_path / "x.png")]) == 0
        assert any("stand alone" in line for line in caplog.messages) == (method == "rollout")
