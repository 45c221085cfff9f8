"""Figures that `explain` writes: outlined regions, scale labels, captions, notes and progress."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.explanation.figures import (
    caption_lines,
    draw_explanation_figure,
    draw_gallery,
    draw_method_tiles,
    method_tiles,
    query_mask,
    scale_labels,
    shared_legends,
)
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.explanation.registry import METHODS
from vitreous.explanation.several_methods import describe_refused, explain_with_methods
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.imaging.reading import open_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap
from vitreous.workflows.explain import explain
from vitreous.workflows.explain_files import (
    ExplainRequest,
    LogCallback,
    explain_files,
    warn_on_artifacts,
)

DEFAULTS = {name: MethodOptions() for name in METHODS}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def write_explanations(*arguments):
    """Return all that `explain_files` yields."""
    return list(explain_files(*arguments))


class Recorder(Callback):
    """Keeps every progress."""

    def __init__(self):
        self.progress = []

    def on_progress(self, progress):
        self.progress.append(progress)


def test_the_patch_of_the_query_is_outlined(trained_run, photo):
    plain, with_query = (explain(trained_run, photo, method="rollout", query=query) for query in (None, (31, 9)))
    assert query_mask(plain) is None
    mask = query_mask(with_query)
    rows, columns = with_query.patch_map.shape
    top, left, bottom, right = with_query.geometry.box
    assert mask.shape == (40, 60) and mask[9, 31]
    assert mask.sum() == pytest.approx((bottom - top) * (right - left) / rows / columns, rel=0.3)
    assert np.array(draw_explanation_figure(with_query) != draw_explanation_figure(plain)).any()


def test_a_region_is_outlined_for_methods_that_explain_it(trained_run, photo):
    for method in ("grad-cam", "occlusion"):
        mask = query_mask(explain(trained_run, photo, method=method, target="region:20,10,40,30"))
        assert mask[20, 30] and not mask[0, 0] and not mask[-1, -1]


def test_the_ends_of_the_scale_are_labeled_with_values(trained_run, photo):
    attention = explain(trained_run, photo, method="attention")
    low, high = scale_labels(attention)
    assert float(low.removesuffix(" × uniform")) < 1 < float(high.removesuffix(" × uniform"))
    assert low.endswith(" × uniform") and high.endswith(" × uniform")
    low, high = scale_labels(explain(trained_run, photo, method="input-x-gradient"))
    assert low == f"−{high}" and float(high) > 0
    assert scale_labels(explain(trained_run, photo, method="features")) is None


def test_a_sheet_has_one_legend_for_each_way_to_color(trained_run, photo):
    names = ("rollout", "grad-cam", "input-x-gradient", "features")
    legends = shared_legends([explain(trained_run, photo, method=name) for name in names])
    assert [one.end_labels for one in legends] == [("low", "high"), ("against", "for"), None]
    assert "features: patches of similar color" in legends[-1].name


REGION = "region:20,10,40,30"
SAME = "this method's map is the same for every target"


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.is_class_specific])
def test_a_region_that_a_method_ignores_is_named_and_not_outlined(trained_run, photo, method):
    plain, with_region = (explain(trained_run, photo, method=method, target=target) for target in (None, REGION))
    assert np.array_equal(plain.patch_map, with_region.patch_map)
    assert query_mask(with_region) is None
    assert f"region 20,10 to 40,30 · {SAME}" in caption_lines(with_region, None)
    assert not any(SAME in line for line in caption_lines(plain, None))


def test_with_an_ignored_region_the_patch_of_the_query_is_outlined(trained_run, photo):
    both, query = (
        explain(trained_run, photo, method="rollout", target=target, query=(3, 3)) for target in (REGION, None)
    )
    mask = query_mask(both)
    assert np.array_equal(mask, query_mask(query)) and mask[3, 3] and not mask[20, 30]
    assert f"region 20,10 to 40,30 · {SAME}" in caption_lines(both, None)
    assert not any(SAME in line for line in caption_lines(query, None))


def test_a_class_difference_that_a_method_ignores_is_named(trained_run, photo):
    lines = caption_lines(explain(trained_run, photo, method="rollout", target="red - blue"), None)
    assert lines[-1].startswith("red rather than blue ") and lines[-1].endswith(SAME)


@pytest.mark.parametrize(
    ("method", "target", "title"),
    [
        ("gradient-rollout", "green", "prediction / gradient-rollout · target: green"),
        ("grad-cam", REGION, " · target: region 20,10 to 40,30"),
        ("attention", REGION, f" · region 20,10 to 40,30 · {SAME}"),
        ("rollout", "green", f" · green · {SAME}"),
        ("rollout", None, "prediction / rollout · all layers · mean over heads"),
    ],
)
def test_the_title_of_a_grid_names_the_target(trained_run, photo, monkeypatch, method, target, title):
    titles = []
    monkeypatch.setattr("vitreous.explanation.figures.gallery_sheet", lambda items, text, legends: titles.append(text))
    draw_gallery([explain(trained_run, photo, method=method, target=target)] * 2, [None, None])
    assert titles[0].endswith(title)


def test_the_sheet_of_methods_outlines_a_region_where_it_is_explained(trained_run, photo, monkeypatch):
    drawn = []
    monkeypatch.setattr("vitreous.explanation.figures.draw_tiles", lambda tiles, *_, **options: drawn.extend(tiles))
    image = open_image(photo)
    columns, _ = explain_with_methods(load(trained_run), [image], DEFAULTS, Callback(), REGION)
    row = [found for (found,) in columns.values()]
    draw_method_tiles(method_tiles(image, row, target_given=True), row)
    found = {one.lines[0]: one for one in drawn if one.lines}
    named = [name for name in METHODS if name in found]
    assert len(named) > 6
    assert all((found[name].outlined is not None) == METHODS[name].is_class_specific for name in named)
    same = {name for name in named if found[name].lines[1:] == ("same for every target",)}
    assert same == {name for name in named if not METHODS[name].is_class_specific}
    assert drawn[0].outlined[20, 30]


def test_methods_that_cannot_explain_a_target_are_named_with_the_reason(trained_run, photo, tmp_path):
    request = ExplainRequest(layout="methods", target=REGION)
    (written,) = write_explanations(trained_run, [photo], request, tmp_path / "methods.png")
    assert written.summary.count("without") == 1 and "legrad, input-x-gradient, integrated-gradients" in written.summary
    assert written.summary.endswith(": the target 'region 20,10 to 40,30' is read from the model's last tokens, which "
                                    "this method can't observe")  # fmt: skip
    assert "apply" not in written.summary
    assert describe_refused({}) == ""


def test_the_convergence_delta_is_in_the_caption(trained_run, photo):
    found = explain(trained_run, photo, method="integrated-gradients")
    line = f"convergence delta {found.convergence_delta:+.2g}: the score's gain minus the map's sum"
    assert line in caption_lines(found, None)


def test_without_images_the_error_says_what_to_do(trained_run):
    loaded = load(trained_run)
    without_recipe, features = (
        ImageClassifier(loaded.model, loaded.preprocessing, names) for names in (loaded.class_names, ())
    )
    with pytest.raises(InputError, match=r"give images after the model, or test images with --data"):
        write_explanations(without_recipe, [], ExplainRequest(), None)
    for data in (None, "cifar10"):
        with pytest.raises(InputError, match=r"no classes, .*: give images after the model$"):
            write_explanations(features, [], ExplainRequest(data=data), None)


def test_images_may_follow_options(trained_run, photo, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    words = ["explain", str(trained_run), str(photo), "--layout", "grid", str(other), "-o", str(tmp_path / "x.png")]
    assert run(words) == 0 and (tmp_path / "x.png").is_file()


def test_errors_name_the_methods_that_work_without_attention(photo):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    classifier = wrap(network, preprocessing=Preprocessing((16, 16), "squash", (0.5,) * 3, (0.5,) * 3, 1))
    refused, works = {}, []
    for name in METHODS:
        try:
            explain(classifier, photo, method=name)
            works.append(name)
        except InputError as error:
            refused[name] = str(error)
    assert works == re.split(", | or ", ATTENTION_FREE_METHODS)
    assert len(refused) == len(METHODS) - len(works)
    assert all(message.endswith(f"choose {ATTENTION_FREE_METHODS}") for message in refused.values())


def test_a_grid_has_the_same_width_with_outlines(trained_run, photo):
    outlined = [explain(trained_run, photo, method="attention", query=(31, 9))] * 2
    plain = [explain(trained_run, photo, method="attention")] * 2
    sizes = [draw_gallery(each, [None, None]).size for each in (outlined, plain)]
    assert sizes[0][0] == sizes[1][0]


def test_the_callback_receives_every_method(trained_run, photo):
    callback = Recorder()
    explain_with_methods(load(trained_run), [open_image(photo)], DEFAULTS, callback)
    count = len(METHODS)
    assert [one.done for one in callback.progress] == [*range(count), count]
    assert {one.total for one in callback.progress} == {count}
    pairs = zip(METHODS, callback.progress, strict=False)
    assert all(progress.message.startswith(name) for name, progress in pairs)


def test_the_callback_receives_the_number_of_explained_images(trained_run, photo):
    callback = Recorder()
    both = explain(trained_run, [photo, np.zeros((30, 30, 3), np.uint8)], callback=callback)
    assert len(both) == 2 and [one.heatmap.shape for one in both] == [(40, 60), (30, 30)]
    assert callback.progress[-1].done == callback.progress[-1].total == 2


def test_a_callback_that_stops_keeps_the_first_explanations(trained_run, photo, monkeypatch):
    class StopAfterOne(Recorder):
        def should_stop(self):
            return bool(self.progress)

    monkeypatch.setattr("vitreous.explanation.explain.MAX_BATCH_PIXELS", 1)
    assert len(explain(trained_run, [photo] * 3, callback=StopAfterOne())) == 1


def test_the_callback_names_the_running_method(trained_run, photo, tmp_path, caplog):
    callback = Recorder()
    with caplog.at_level(logging.WARNING, "vitreous"):
        write_explanations(trained_run, [photo], ExplainRequest(layout="methods"), tmp_path / "methods.png", callback)
    messages = [one.message for one in callback.progress]
    assert f"rise, method {list(METHODS).index('rise') + 1} of {len(METHODS)}" in messages
    assert (tmp_path / "methods.png").is_file() and not caplog.messages


class StopAfter(Recorder):
    """Asks to stop after some progress."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def should_stop(self):
        return len(self.progress) >= self.count


@pytest.mark.parametrize("layout", ["single", "grid", "sheet", "methods"])
def test_a_callback_that_stops_at_once_writes_nothing(trained_run, photo, tmp_path, layout):
    output = tmp_path / ("out" if layout == "single" else "out.png")
    assert write_explanations(trained_run, [photo], ExplainRequest(layout=layout), output, StopAfter(0)) == []
    assert not output.exists()


@pytest.mark.parametrize(("layout", "names"), [("single", ["0-attention.png"]), ("grid", ["grid.png"])])
def test_a_callback_that_stops_keeps_the_figures_so_far(trained_run, tmp_path, monkeypatch, layout, names):
    monkeypatch.setattr("vitreous.explanation.explain.MAX_BATCH_PIXELS", 1)
    photos = [tmp_path / f"{number}.png" for number in range(3)]
    for path in photos:
        Image.new("RGB", (30, 30), "red").save(path)
    output = tmp_path / "out" / ("grid.png" if layout == "grid" else "")
    written = write_explanations(trained_run, photos, ExplainRequest(layout=layout), output, StopAfter(1))
    assert [one.path.name for one in written] == names
    assert [path.name for path in (tmp_path / "out").iterdir()] == names
    assert layout == "single" or written[0].summary == "1 images"


def test_methods_that_were_not_reached_are_not_refused(trained_run, photo, tmp_path):
    columns, refused = explain_with_methods(load(trained_run), [open_image(photo)], DEFAULTS, StopAfter(0))
    assert (columns, refused) == ({}, {})
    (written,) = write_explanations(
        trained_run, [photo], ExplainRequest(layout="methods"), tmp_path / "some.png", StopAfter(2)
    )
    assert written.summary == "2 methods" and written.path.is_file()


def test_the_command_line_shows_progress_without_warnings(trained_run, photo, tmp_path, capsys, caplog):
    with caplog.at_level(logging.WARNING, "vitreous"):
        assert run(["explain", str(trained_run), str(photo), "-o", str(tmp_path / "x.png")]) == 0
    output = capsys.readouterr()
    assert not caplog.messages and output.out.count("\n") == 1
    assert re.fullmatch(r"explain 100%  attention, 1 of 1 image .*", output.err.strip())


def test_images_are_explained_at_the_given_input_size(trained_run, photo):
    size = 2 * load(trained_run).preprocessing.input_size[0]
    found = explain(trained_run, photo, input_size=size, resize_mode="letterbox")
    expected = explain(load(trained_run, input_size=size, resize_mode="letterbox"), photo)
    assert np.array_equal(found.patch_map, expected.patch_map) and found.geometry == expected.geometry
    assert found.geometry.input_size == (size, size)


def test_a_query_in_patches_is_refused(trained_run, photo):
    with pytest.raises(InputError, match=r"counts patches of the model's grid: give query=\(x, y\) in pixels"):
        explain(trained_run, photo, options=MethodOptions(query=(1, 2)))


def with_map(explanation, patch_map):
    return replace(explanation, patch_map=patch_map)


def test_artifacts_in_rollouts_are_noted_once(trained_run, photo, caplog):
    rollout, attention = (explain(trained_run, photo, method=name) for name in ("rollout", "attention"))
    spot = np.ones((4, 4), np.float32) / 20
    spot[1, 1] = 10 / 20
    even = np.ones((4, 4), np.float32) / 16
    with caplog.at_level(logging.WARNING, "vitreous"):
        warn_on_artifacts([with_map(rollout, even), with_map(attention, spot)], LogCallback())
        assert not caplog.messages
        warn_on_artifacts([with_map(rollout, spot)], LogCallback())
        warn_on_artifacts([with_map(rollout, spot), with_map(rollout, even)], LogCallback())
    assert len(caplog.messages) == 2 and "in this rollout artifact patches" in caplog.messages[0]
    assert "hold 40% of the map" in caplog.messages[0]
    assert "the rollouts of 1 of 2 images" in caplog.messages[1] and "--method attention" in caplog.messages[1]


def test_artifacts_of_dinov2_are_noted_on_the_command_line(shared, tmp_path, capsys):
    weights, photo = shared / "weights/dinov2-vits14.safetensors", shared / "photos/two-cats.png"
    for method in ("rollout", "attention"):
        assert run(["explain", str(weights), str(photo), "--method", method, "-o", str(tmp_path / "x.png")]) == 0
        assert ("stand alone" in capsys.readouterr().err) == (method == "rollout")


@pytest.mark.parametrize("layout", ["contour", "overlay", "side-by-side", "spotlight"])
@pytest.mark.parametrize(("method", "query"), [("attention", (31, 9)), ("input-x-gradient", None), ("features", None)])
def test_an_image_is_drawn_as_a_frame_of_a_video(trained_run, photo, tmp_path, layout, method, query):
    found = explain(trained_run, photo, method=method, query=query)
    drawn = found.figure("red", layout)
    found.save(tmp_path / "frame.png", "red", layout)
    with Image.open(tmp_path / "frame.png") as written:
        assert np.array_equal(np.asarray(written), np.asarray(drawn))
    width = drawn.width // 2 if layout == "side-by-side" else drawn.width
    assert 555 <= width <= 565 and (layout == "side-by-side" or drawn.height == round(560 * 40 / 60))
    plain = np.asarray(replace(found, patch_map=np.zeros_like(found.patch_map)).figure("red", layout))
    assert layout == "contour" or method == "features" or not np.array_equal(plain, np.asarray(drawn))


def test_a_frame_has_the_colors_of_the_overlay(trained_run):
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    found = explain(trained_run, image)
    difference = np.asarray(found.figure(layout="overlay"), float) - found.render()
    assert np.abs(difference[200:400]).mean() < 2


def test_an_unknown_layout_of_a_figure_is_refused(trained_run, photo):
    with pytest.raises(InputError, match=r"layout 'heads'.*single, contour, overlay, side-by-side, spotlight"):
        explain(trained_run, photo).figure(layout="heads")


def test_several_methods_are_shown_with_their_options(trained_run, photo, tmp_path):
    request = ExplainRequest(("attention", "grad-cam", "rollout"), MethodOptions(layer=0), query=(31, 9))
    (written,) = write_explanations(trained_run, [photo], request, tmp_path / "some.png")
    shown = [(one.explanation.method, one.explanation.layer, one.explanation.region is None) for one in written.images]
    assert shown == [("attention", 0, False), ("grad-cam", 0, True), ("rollout", None, False)]
    assert written.summary == "3 methods"
    alone = explain(trained_run, photo, method="attention", options=MethodOptions(layer=0), query=(31, 9))
    assert np.array_equal(written.images[0].explanation.patch_map, alone.patch_map)
    with Image.open(written.path) as sheet:
        assert sheet.width < 1300, "one row of four tiles"
