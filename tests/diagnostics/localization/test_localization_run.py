"""Localization from the command line and from Python: known truth, baselines, files, and bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.callbacks import Callback, Progress
from vitreous.cli import run
from vitreous.diagnostics.localization.run import BASELINES, DEFAULT_METHODS, baseline_heatmap, localization
from vitreous.errors import InputError
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load


def white_patch_model(resize="squash") -> ImageClassifier:
    """A model whose class token attends to white patches, by construction."""
    vit = ViT(ViTConfig((16, 24), 4, embed_dim=24, depth=1, num_heads=1, num_classes=2, pos_embed="sincos"))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.zero_()
        vit.blocks[0].norm1.weight.fill_(1)
        vit.patch_embed.proj.weight[0].fill_(1)
        vit.cls_token[..., 1] = 8
        qkv = vit.blocks[0].attn.qkv.weight
        qkv[0, 1], qkv[24, 0] = 30, 30
    return ImageClassifier(vit, Preprocessing((16, 24), resize, (0.5,) * 3, (0.25,) * 3, 4), ["cat", "dog"])


class Recorder(Callback):
    """Records the progress, and asks to stop after the first batch if told so."""

    def __init__(self, stop=False):
        self.seen: list[Progress] = []
        self.stop = stop

    def on_progress(self, progress):
        self.seen.append(progress)

    def should_stop(self):
        return self.stop


def write_clip(folder, frames=4, size_hw=(32, 48), empty=0):
    """Write frames with a moving white square, and their masks; the last `empty` masks are black."""
    for part in ("frames", "masks"):
        (folder / "square" / part).mkdir(parents=True)
    for i in range(frames):
        mask = np.zeros(size_hw, np.uint8)
        mask[8:16, 8 * i + 8 : 8 * i + 16] = 255
        Image.fromarray(np.repeat(mask[..., None], 3, 2)).save(folder / "square" / "frames" / f"{i}.png")
        Image.fromarray(mask * (i < frames - empty)).save(folder / "square" / "masks" / f"{i}.png")
    return folder


def test_a_model_that_attends_to_the_object_is_better_than_the_baselines(tmp_path):
    recorder = Recorder()
    result = localization(
        white_patch_model(), f"masks:{write_clip(tmp_path)}", methods=["attention"], callback=recorder
    )
    by_name = {method.name: method.scores for method in result.methods}
    assert by_name["attention"]["pointing_game"].value == 1 and by_name["attention"]["average_precision"].value > 0.9
    for name in BASELINES:
        assert by_name[name]["energy"].value < by_name["attention"]["energy"].low
    assert result.object_fraction == pytest.approx(64 / (32 * 48)) and len(result.names) == 4
    assert (recorder.seen[-1].done, recorder.seen[-1].total) == (4, 4)


def test_empty_masks_are_skipped_and_counted(tmp_path):
    result = localization(white_patch_model(), f"masks:{write_clip(tmp_path, empty=1)}", methods=["attention"])
    assert len(result.names) == 3 and result.num_empty_masks == 1
    with pytest.raises(InputError, match=r"all 2 masks of .* are empty"):
        localization(white_patch_model(), f"masks:{write_clip(tmp_path / 'more', 2, empty=2)}", methods=["attention"])


def test_full_masks_are_skipped_and_counted(tmp_path):
    folder = write_clip(tmp_path)
    Image.fromarray(np.full((32, 48), 7, np.uint8)).save(folder / "square" / "masks" / "1.png")
    result = localization(white_patch_model(), f"masks:{folder}", methods=["attention"])
    assert len(result.names) == 3 and (result.num_empty_masks, result.num_full_masks) == (0, 1)
    assert result.to_json()["skipped_images"] == {"empty_mask": 0, "full_mask": 1, "no_mask": 0}
    hits = result.methods[0].scores["pointing_game"]
    assert hits.value == 1 and hits.low == pytest.approx(0.4385, abs=1e-4)  # Wilson's interval of 3 of 3


def test_trimaps_with_codes_of_their_own_are_refused(tmp_path):
    folder = write_clip(tmp_path, 2)
    for path in (folder / "square" / "masks").iterdir():  # 1 animal, 2 background, 3 border
        trimap = np.full((32, 48), 2, np.uint8)
        trimap[4:9, 4:9], trimap[5:8, 5:8] = 3, 1
        Image.fromarray(trimap).save(path)
    with pytest.raises(InputError, match=r"every pixel is the object; the values in the first are 1, 2, 3: write 0"):
        localization(white_patch_model(), f"masks:{folder}", methods=["attention"])


def test_a_stopped_measurement_covers_the_images_so_far(tmp_path):
    result = localization(white_patch_model(), "shapes", methods=["attention"], count=20, callback=Recorder(stop=True))
    assert len(result.names) == 8 and result.num_empty_masks == 0 and len(result.methods[0].images) == 8
    assert "attention" in str(result) and "8 images of shapes" in str(result)


def test_a_result_is_saved_with_and_without_the_model(tmp_path):
    model = white_patch_model()
    result = localization(model, f"masks:{write_clip(tmp_path / 'clip')}", methods=["attention"])
    names = ["localization.json", "localization.png", "localization-maps.png"]
    assert [path.name for path in result.save(tmp_path / "out")] == names[:2]
    assert [path.name for path in result.save(tmp_path / "more", model)] == names
    assert all(path.is_file() for path in result.save(tmp_path / "more", model))
    assert json.loads((tmp_path / "out" / "localization.json").read_text()) == json.loads(json.dumps(result.to_json()))


def test_the_british_name_of_the_verb_still_works(trained_run, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["localisation", str(trained_run), "--data", f"masks:{write_clip(tmp_path)}", "-o", str(out)]
    assert run([*arguments, "--methods", "attention", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4 and (out / "localization.json").is_file()


@pytest.mark.parametrize("resize", ["squash", "crop", "aspect"])
def test_a_random_map_scores_what_chance_gives(resize):
    model, image = white_patch_model(resize), np.zeros((32, 80, 3), np.uint8)
    fractions = []
    for i in range(200):
        heatmap = baseline_heatmap("random map", model, image, i)
        assert heatmap.shape == (32, 80)
        fractions.append(heatmap[8:16, 30:50].sum() / heatmap.sum())
    assert np.array_equal(heatmap, baseline_heatmap("random map", model, image, 199))
    visible_width = {"squash": 80, "crop": 48, "aspect": 80}[resize]
    assert np.mean(fractions) == pytest.approx(8 * 20 / (32 * visible_width), rel=0.1)


def test_default_methods_that_cannot_explain_the_model_are_skipped(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise InputError("no gradient here")

    monkeypatch.setitem(METHODS, "legrad", replace(METHODS["legrad"], attribute=refuse))
    result = localization(white_patch_model(), f"masks:{write_clip(tmp_path, 1)}")
    assert result.skipped == {"legrad": "no gradient here"}
    assert [method.name for method in result.methods] == [*(n for n in DEFAULT_METHODS if n != "legrad"), *BASELINES]
    with pytest.raises(InputError, match="no gradient here"):
        localization(white_patch_model(), f"masks:{tmp_path}", methods=["legrad"])


def test_images_are_ranked_by_average_precision(tmp_path):
    result = localization(white_patch_model(), f"masks:{write_clip(tmp_path)}", methods=["attention", "rollout"])
    rows = {method.name: method.images for method in result.methods}
    values = [rows["attention"][i].average_precision + rows["rollout"][i].average_precision for i in result.ranking()]
    assert values == sorted(values, reverse=True)


def test_the_command_prints_a_table_and_writes_json_and_figures(trained_run, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        "localization",
        str(trained_run),
        "--data",
        f"masks:{write_clip(tmp_path, 7, (32, 64))}",
        "-o",
        str(out),
    ]
    assert run([*arguments, "--methods", "attention,rollout", "--layer", "0"]) == 0
    printed = capsys.readouterr().out
    assert "frames of one clip are not independent" in printed
    assert (
        "7 images" in printed
        and "center bias" in printed
        and "pointing game: fraction of the images on which" in printed
    )
    content = json.loads((out / "localization.json").read_text())
    assert content["images"] == 7 and content["methods"]["random map"]["baseline"]
    assert set(content["methods"]["rollout"]["images"]) == {f"square/{i}.png" for i in range(7)}
    for name in ("localization.png", "localization-maps.png"):
        with Image.open(out / name) as image:
            assert image.width > 600
    assert run([*arguments, "--json", "--count", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "rolout"], "did you mean 'rollout'"),
        (["--methods", "attention,features"], "features colors patches by their content and points to no location"),
        (["--data", "cifar10"], "source with masks"),
        (["--data", "masks:nowhere"], "no folder nowhere"),
        (["--count", "0"], "a count of 0"),
        (["--layer", "9", "--methods", "attention"], "no layer 9"),
        (["--device", "toaster"], "no device 'toaster'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, words, trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["localization", str(trained_run), *arguments]) == 2
    printed = capsys.readouterr().err
    assert words in printed and "Traceback" not in printed and not list(tmp_path.iterdir())


def test_dinov2_attends_to_the_dog_and_the_swan(shared):
    """On all 110 frames the peak is on the object (LOG.md); this is a sample."""
    model = load(shared / "weights" / "dinov2-vits14.safetensors", callback=Callback())
    result = localization(model, f"masks:{shared / 'davis'}", methods=["attention"], count=8)
    assert {name.split("/")[0] for name in result.names} == {"dog", "blackswan"}
    assert result.methods[0].scores["pointing_game"].value >= 0.85
    attention, *baselines = [method.scores["average_precision"] for method in result.methods]
    assert attention.low > max(score.high for score in baselines)
