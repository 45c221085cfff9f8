"""An explained video: every layout, its maps against the methods themselves, and bad requests."""

import csv
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from video_clips import moving_square
from video_requests import make_request, make_stage, map_request

from vitreous.cli import run
from vitreous.clips.explain import explain_video, output_seconds
from vitreous.clips.explain_stage import scale_query
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.render.frame_layouts import LAYOUTS, SINGLE_IMAGE_LAYOUTS, panel_grid_for
from vitreous.render.frame_view import DrawStyle
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.video.info import Frame, read_info
from vitreous.video.options import VideoOptions

HW = (72, 128)
FRAMES = 10


def small_model(classes: int = 3) -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=3, num_heads=2, num_classes=classes, stem="linear"))
    preprocessing = Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)
    return ImageClassifier(vit, preprocessing, ("dog", "cat", "cow")[:classes])


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return small_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, moving_square(FRAMES, HW), Fraction(10))
    return path


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_writes_every_frame_at_its_own_size(model, clip, layout, tmp_path):
    methods = ["attention", "rollout", "grad-cam"] if layout == "methods" else "attention"
    panels = {"heads": 2, "layers": 3, "methods": 3}.get(layout, 1)
    result = explain_video(model, clip, tmp_path / "out.mkv", method=methods, layout=layout, batch_size=4)
    size_hw = HW if layout in SINGLE_IMAGE_LAYOUTS else panel_grid_for(HW, layout, panels, DrawStyle()).size_hw
    assert result.video.frames == FRAMES and result.video.info.size_hw == size_hw
    assert result.flicker.still[1] < result.flicker.still[0]
    assert result.flicker.everywhere[1] < result.flicker.everywhere[0]


def test_the_result_does_not_change_with_the_batch_size(model, tmp_path):
    write_video(tmp_path / "clip.mp4", moving_square(37, HW), Fraction(30))
    images = []
    for size in (1, 5, 16, 64):
        target = tmp_path / f"{size}.mkv"
        explain_video(model, tmp_path / "clip.mp4", target, batch_size=size, quality=0)
        images.append(np.stack([frame.image_u8 for frame in read_frames(target)]).astype(int))
    assert all(len(one) == 37 and np.abs(one - images[0]).max() <= 2 for one in images)


def test_the_default_method_is_attention():
    assert make_request("attention") == VideoRequest()


@pytest.mark.parametrize(
    ("view", "ends"), [("similarity", "unlike / alike"), ("norms", "short / long"), ("colors", "")]
)
def test_each_view_of_features_has_its_end_labels(model, view, ends):
    query = (64.0, 36.0) if view == "similarity" else None
    request = make_request("features", view=view)
    (found,) = map_request(model, moving_square(1, HW), request, [query])
    assert found.maps[0].end_labels == ends
    (found,) = map_request(model, moving_square(1, HW), make_request("input-x-gradient"), [None])
    assert found.maps[0].end_labels == ("against / for" if found.maps[0].signed else "")


def test_features_keep_their_colors_from_batch_to_batch_until_a_cut(model):
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 120, (6, 8, 3)) + tint for tint in ((0, 60, 130), (130, 0, 20))]
    first, second = (np.kron(one, np.ones((12, 16, 1))).astype(np.uint8) for one in blocks)
    stage = make_stage(model, make_request("features"))

    def colors(*images):
        found = stage.explain([Frame(image, Fraction(i, 25)) for i, image in enumerate(images)])
        return [one.maps[0].patch_colors for one in found]

    begun = colors(first, np.roll(first, 16, 1))
    assert np.allclose(colors(first)[0], begun[0], atol=1e-4)
    later = colors(first, second, second)
    assert np.allclose(later[0], begun[0], atol=1e-4) and np.allclose(later[1], later[2], atol=1e-4)
    (alone,) = map_request(model, [second], make_request("features"), [None])
    assert np.allclose(later[1], alone.maps[0].patch_colors, atol=0.03)  # the quantiles of two images differ a little


def test_class_strip_excerpt_and_height(model, clip, tmp_path):
    result = explain_video(model, clip, tmp_path / "a.webm", class_strip=True, start=0.2, end=0.8, every=2, height=144)
    height, width = result.video.info.size_hw
    assert result.video.frames == 3 and width == 256 and height > 144 and (height + 144) % 2 == 0
    assert output_seconds(read_info(clip), VideoOptions(start=0.2, end=8)) == pytest.approx(0.8)


@pytest.mark.parametrize("query", [None, (60.0, 40.0)])
def test_heads_and_layers_equal_the_method_itself(model, clip, query):
    images = [frame.image_u8 for frame in read_frames(clip)]
    for layout, panels in (("heads", 2), ("layers", 3)):
        found = map_request(model, images, make_request("attention", layout=layout), [query] * len(images))
        for number in range(panels):
            settings = MethodOptions(head=number) if layout == "heads" else MethodOptions(layer=number)
            alone = explain_batch(model, images, "attention", settings, query=query)
            for one, whole in zip(alone, found, strict=True):
                assert np.allclose(whole.maps[number].patch_heatmap, one.patch_heatmap, atol=1e-5)
                assert whole.box == one.geometry.box and whole.prediction.label == one.prediction.label
        assert [one.title for one in found[0].maps] == [f"{layout[:-1]} {i}" for i in range(panels)]


def test_saved_maps_are_those_of_the_method(model, clip, tmp_path):
    result = explain_video(
        model, clip, tmp_path / "o.mp4", method="grad-cam", save_maps=tmp_path / "deep/o.npz", batch_size=3
    )
    assert result.files == (tmp_path / "deep/o.npz", tmp_path / "deep/o.csv")
    frames = list(read_frames(clip))
    wanted = explain_batch(model, [frame.image_u8 for frame in frames], "grad-cam")
    with np.load(tmp_path / "deep/o.npz", allow_pickle=False) as data:
        maps = data["maps"] * data["peaks"][..., None, None]
        assert data["maps"].dtype == np.float16 and data["titles"].tolist() == ["grad-cam"]
        assert data["times"].tolist() == [float(frame.time_seconds) for frame in frames]
        assert data["box"].tolist() == list(wanted[0].geometry.box)
    for one, values, row in zip(wanted, maps, rows_of(tmp_path / "deep/o.csv"), strict=True):
        assert np.allclose(values[0], one.patch_heatmap, atol=1e-3 * np.abs(one.patch_heatmap).max())
        assert row["class_1"] == one.prediction.label
        assert float(row["probability_1"]) == pytest.approx(one.prediction.score, abs=1e-6)
        assert 0 <= float(row["entropy"]) <= 1 or row["entropy"] == "nan"


def test_positions_are_in_pixels_of_the_source_whatever_size_is_written(model, clip, tmp_path):
    for name, size in (("own", None), ("twice", 144)):
        explain_video(
            model, clip, tmp_path / f"{name}.mkv", method="attention", height=size, save_maps=tmp_path / f"{name}.npz"
        )
    own, twice = ([float(row["center_x"]) for row in rows_of(tmp_path / f"{name}.csv")] for name in ("own", "twice"))
    assert np.allclose(own, twice, atol=2) and min(own) > 16 and max(own) < 112
    request = make_request("attention", query=(64, 18), height=144)
    source_hw = read_info(clip).size_hw
    assert scale_query(request.query, source_hw, request.video_options.output_size(source_hw)) == (128, 36)


def test_panels_have_columns_of_their_own(model, clip, tmp_path):
    explain_video(model, clip, tmp_path / "o.mp4", method=["attention", "rollout"], save_maps=tmp_path / "o.npz")
    assert {"entropy_attention", "center_y_rollout"} <= rows_of(tmp_path / "o.csv")[0].keys()
    with np.load(tmp_path / "o.npz") as data:
        assert data["maps"].shape == (FRAMES, 2, 3, 4)


def test_timeline_is_an_image(model, clip, tmp_path):
    result = explain_video(model, clip, tmp_path / "o.mp4", method="attention", timeline=tmp_path / "o.png")
    assert result.files == (tmp_path / "o.png",) and (tmp_path / "o.png").stat().st_size > 10_000


def test_a_model_without_classes_predicts_nothing_and_refuses_the_class_strip(clip, tmp_path):
    headless = small_model(0)
    result = explain_video(headless, clip, tmp_path / "o.mp4", method="attention", save_maps=tmp_path / "o.npz")
    assert result.predictions == () and result.segments == ()
    assert list(rows_of(tmp_path / "o.csv")[0]) == ["time_seconds", "entropy", "center_x", "center_y"]
    with pytest.raises(InputError, match="this model has no classes"):
        explain_video(headless, clip, tmp_path / "p.mp4", class_strip=True)


def test_the_timeline_of_a_model_without_classes_shows_the_entropy(clip, tmp_path):
    result = explain_video(small_model(0), clip, tmp_path / "o.mp4", method="attention", timeline=tmp_path / "t.png")
    assert result.files == (tmp_path / "t.png",)
    with Image.open(tmp_path / "t.png") as image:
        assert image.width == 1600 and image.height < 500


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("rollout", {"layout": "heads"}, "shows the method 'attention'"),
        ("attention", {"layout": "heads", "head": 1}, "leave out the option head"),
        ("attention", {"layout": "layers", "layer": 1}, "leave out the option layer"),
        ("attention", {"layout": "heds"}, "did you mean 'heads'"),
        (["attention", "rollout"], {"layout": "overlay"}, "takes one method, not 2"),
        (["rollout", "grad-cam"], {"head": 1}, "none of rollout, grad-cam uses the option head"),
        ("attention", {"track": True}, "nothing to track"),
        ("attention", {"query": (128, 5)}, "not on the image, which is 128 × 72"),
        ("attention", {"save_maps": "maps.zip"}, "choose a name that ends in .npz"),
        ("attention", {"smooth": -1}, "or 0 for no smoothing"),
        ("attention", {"batch_size": 0}, "give 1 or more"),
        ("attention", {"layer": 3}, "there is no layer 3"),
        ("grad-cam", {"target": "dgo"}, "did you mean 'dog'"),
        ("attention", {"opacity": 2}, "outside \\[0, 1\\]"),
    ],
)
def test_bad_requests_name_the_problem_and_leave_no_file(model, clip, tmp_path, method, given, words):
    with pytest.raises(InputError, match=words):
        explain_video(model, clip, tmp_path / "out.mp4", method=method, **given)
    with pytest.raises(TypeError, match="'color'"):
        explain_video(model, clip, tmp_path / "out.mp4", color=1)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_fails_midway_leaves_no_file(clip, tmp_path):
    model, calls = small_model(), []

    def fail(*_):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("broken")

    model.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken"):
        explain_video(model, clip, tmp_path / "o.mp4", batch_size=2, save_maps=tmp_path / "o.npz")
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_segments_and_predictions(trained_run, tmp_path, capsys):
    blue = np.full((36, 64, 3), (40, 60, 220), np.uint8)
    red = np.full((36, 64, 3), (220, 50, 40), np.uint8)
    write_video(tmp_path / "c.mp4", [blue] * 12 + [red] * 8, Fraction(10))
    code = run(["video", str(trained_run), str(tmp_path / "c.mp4"), "-o", str(tmp_path / "o.mp4"), "--class-strip"])
    output = capsys.readouterr().out
    assert code == 0 and "0.0-1.2 s blue" in output and "1.2-2.0 s red" in output and "mean of logits" in output
    assert load(trained_run).class_names == ("blue", "green", "red")
