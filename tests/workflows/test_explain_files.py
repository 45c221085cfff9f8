"""What `explain` writes beside its maps: marks, values, notes and progress."""

import logging

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import run
from vitreous.explanation.methods import METHODS
from vitreous.workflows.explain import (
    common_legends,
    explain,
    explanation_image,
    gallery_image,
    marked,
    methods_image,
    scale_values,
)
from vitreous.workflows.explain_files import ExplainRequest, note_spots, write_explanations


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def test_the_patch_that_was_asked_about_is_marked(trained_run, photo):
    plain, asked = explain(trained_run, photo), explain(trained_run, photo, query=(31, 9))
    assert marked(plain) is None
    mask = marked(asked)
    rows, columns = asked.grid.shape
    top, left, bottom, right = asked.geometry.box
    assert mask.shape == (40, 60) and mask[9, 31]
    assert mask.sum() == pytest.approx((bottom - top) * (right - left) / rows / columns, rel=0.3)
    assert np.array(explanation_image(asked) != explanation_image(plain)).any()


def test_a_region_is_marked_for_every_method_that_takes_one(trained_run, photo):
    for method in ("grad-cam", "occlusion"):
        mask = marked(explain(trained_run, photo, method, target="region:20,10,40,30"))
        assert mask[20, 30] and not mask[0, 0] and not mask[-1, -1]


def test_the_colours_ends_are_in_numbers(trained_run, photo):
    attention = explain(trained_run, photo, "attention")
    low, high = scale_values(attention)
    assert high.endswith(" × even") and float(low) < 1 < float(high.removesuffix(" × even"))
    low, high = scale_values(explain(trained_run, photo, "input-x-gradient"))
    assert low == f"−{high}" and float(high) > 0
    assert scale_values(explain(trained_run, photo, "features")) is None


def test_a_sheet_explains_each_way_to_colour_once(trained_run, photo):
    shown = [explain(trained_run, photo, name) for name in ("rollout", "grad-cam", "input-x-gradient", "features")]
    legends = common_legends(shown)
    assert [one.ends for one in legends] == [("little", "much"), ("against", "for"), None]
    assert "features: patches of like colour" in legends[-1].name


def test_a_grid_of_pictures_of_several_shapes_is_drawn_with_its_marks(trained_run, photo):
    shown = [explain(trained_run, photo, "attention", query=(31, 9))] * 2
    bare = [explain(trained_run, photo, "attention")] * 2
    sizes = [gallery_image(each, [None, None]).size for each in (shown, bare)]
    assert sizes[0][0] == sizes[1][0]


def test_every_method_is_told_when_it_begins(trained_run, photo):
    told = []
    methods_image(trained_run, [photo], on_progress=lambda *words: told.append(words))
    count = len(METHODS)
    assert [done for done, _, _ in told] == [*range(count), count] and {total for _, total, _ in told} == {count}
    assert all(words.startswith(name) for name, (_, _, words) in zip(METHODS, told, strict=False))


def test_all_methods_on_one_sheet_say_which_is_running(trained_run, photo, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "vitreous"):
        write_explanations(trained_run, [photo], ExplainRequest(layout="methods"), tmp_path / "methods.png")
    assert f"rise, method {list(METHODS).index('rise') + 1} of {len(METHODS)}" in caplog.messages
    assert (tmp_path / "methods.png").is_file()


def with_grid(explanation, grid):
    from dataclasses import replace

    return replace(explanation, grid=grid)


def test_rollouts_made_of_single_patches_are_noted_once(trained_run, photo, caplog):
    rolled, looked = explain(trained_run, photo), explain(trained_run, photo, "attention")
    spot = np.ones((4, 4), np.float32) / 20
    spot[1, 1] = 10 / 20
    even = np.ones((4, 4), np.float32) / 16
    with caplog.at_level(logging.WARNING, "vitreous"):
        note_spots([with_grid(rolled, even), with_grid(looked, spot)])
        assert not caplog.messages
        note_spots([with_grid(rolled, spot)])
        note_spots([with_grid(rolled, spot), with_grid(rolled, even)])
    assert len(caplog.messages) == 2 and "in this rollout single patches" in caplog.messages[0]
    assert "hold 40% of the map" in caplog.messages[0]
    assert "the rollouts of 1 of 2 pictures" in caplog.messages[1] and "--method attention" in caplog.messages[1]


def test_dinov2_is_noted_on_the_command_line(shared, tmp_path, capsys, caplog):
    weights, photo = shared / "weights/dinov2-vits14.safetensors", shared / "photos/two-cats.png"
    for method in ("rollout", "attention"):
        caplog.clear()
        assert run(["explain", str(weights), str(photo), "--method", method, "-o", str(tmp_path / "x.png")]) == 0
        assert any("stand alone" in line for line in caplog.messages) == (method == "rollout")
