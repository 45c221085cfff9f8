"""Localization from the command line and from Python: known truth, baselines, files, and all that can be wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.cli import run
from vitreous.diagnostics.localization.run import BASELINES, USUAL_METHODS, baseline_heat, localization
from vitreous.errors import InputError
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load


def bright_seeker(resize="squash") -> ImageClassifier:
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


def clip(folder, frames=4, size_hw=(32, 48), empty=0):
    """Frames with a white square that moves, and its masks; the last `empty` masks are black."""
    for part in ("frames", "masks"):
        (folder / "square" / part).mkdir(parents=True)
    for i in range(frames):
        mask = np.zeros(size_hw, np.uint8)
        mask[8:16, 8 * i + 8 : 8 * i + 16] = 255
        Image.fromarray(np.repeat(mask[..., None], 3, 2)).save(folder / "square" / "frames" / f"{i}.png")
        Image.fromarray(mask * (i < frames - empty)).save(folder / "square" / "masks" / f"{i}.png")
    return folder


def test_a_model_that_looks_at_the_object_is_told_from_maps_that_know_nothing(tmp_path):
    told = []
    result = localization(
        bright_seeker(), f"masks:{clip(tmp_path)}", ["attention"], on_progress=lambda *now: told.append(now)
    )
    by_name = {maps.name: maps.scores for maps in result.maps}
    assert by_name["attention"]["pointing"].value == 1 and by_name["attention"]["precision"].value > 0.9
    for name in BASELINES:
        assert by_name[name]["energy"].value < by_name["attention"]["energy"].low
    assert result.object_share == pytest.approx(64 / (32 * 48)) and len(result.names) == 4
    assert told[-1][:2] == (4, 4)


def test_empty_masks_are_left_out_and_counted(tmp_path):
    result = localization(bright_seeker(), f"masks:{clip(tmp_path, empty=1)}", ["attention"])
    assert len(result.names) == 3 and result.empty == 1
    with pytest.raises(InputError, match=r"all 2 masks of .* are empty"):
        localization(bright_seeker(), f"masks:{clip(tmp_path / 'more', 2, empty=2)}", ["attention"])


@pytest.mark.parametrize("resize", ["squash", "crop", "aspect"])
def test_a_random_map_scores_what_chance_gives(resize):
    model, image = bright_seeker(resize), np.zeros((32, 80, 3), np.uint8)
    shares = []
    for i in range(200):
        heat = baseline_heat("random map", model, image, i)
        assert heat.shape == (32, 80)
        shares.append(heat[8:16, 30:50].sum() / heat.sum())
    assert np.array_equal(heat, baseline_heat("random map", model, image, 199))
    seen = {"squash": 80, "crop": 48, "aspect": 80}[resize]
    assert np.mean(shares) == pytest.approx(8 * 20 / (32 * seen), rel=0.1)


def test_usual_methods_that_cannot_explain_the_model_are_named(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise InputError("no gradient here")

    monkeypatch.setitem(METHODS, "legrad", replace(METHODS["legrad"], attribute=refuse))
    result = localization(bright_seeker(), f"masks:{clip(tmp_path, 1)}")
    assert result.skipped == {"legrad": "no gradient here"}
    assert [maps.name for maps in result.maps] == [*(n for n in USUAL_METHODS if n != "legrad"), *BASELINES]
    with pytest.raises(InputError, match="no gradient here"):
        localization(bright_seeker(), f"masks:{tmp_path}", ["legrad"])


def test_images_are_ordered_by_how_well_the_methods_do_on_them(tmp_path):
    result = localization(bright_seeker(), f"masks:{clip(tmp_path)}", ["attention", "rollout"])
    rows = {maps.name: maps.images for maps in result.maps}
    values = [rows["attention"][i].precision + rows["rollout"][i].precision for i in result.ordered()]
    assert values == sorted(values, reverse=True)


def test_the_command_writes_table_json_and_figures(trained_run, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["localization", str(trained_run), "--data", f"masks:{clip(tmp_path, 7, (32, 64))}", "-o", str(out)]
    assert run([*arguments, "--methods", "attention,rollout", "--layer", "0"]) == 0
    said = capsys.readouterr().out
    assert "frames of one clip are not independent" in said
    assert "7 images" in said and "centerd blob" in said and "overlap at best threshold (oracle)" in said
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
        (["--methods", "attention,features"], "features shows what patches hold, and no place that counts"),
        (["--data", "cifar10"], "source with masks"),
        (["--data", "masks:nowhere"], "no folder nowhere"),
        (["--count", "0"], "--count 0"),
        (["--layer", "9", "--methods", "attention"], "no layer 9"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, words, trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["localization", str(trained_run), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not list(tmp_path.iterdir())


def test_dinov2_looks_at_the_dog_and_the_swan(shared):
    """A sample of issue 4's measure; on all 110 frames the peak is on the object (LOG.md)."""
    model = load(shared / "weights" / "dinov2-vits14.safetensors", on_note=lambda text: None)
    result = localization(model, f"masks:{shared / 'davis'}", ["attention"], count=8)
    assert {name.split("/")[0] for name in result.names} == {"dog", "blackswan"}
    assert result.maps[0].scores["pointing"].value >= 0.85
    assert result.maps[0].scores["precision"].low > max(maps.scores["precision"].high for maps in result.maps[1:])
