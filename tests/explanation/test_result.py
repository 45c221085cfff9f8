"""Explanations print, save and show themselves; the table of methods prints as a table."""

import io
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.figures import draw_explanation_figure
from vitreous.explanation.options import MethodKeywords, MethodOptions, merge_options
from vitreous.explanation.registry import METHODS, methods
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT


def explanation(method="attention", names=("cat", "dog"), target=None):
    torch.manual_seed(0)
    vit = ViT(ViTConfig((16, 24), 4, embed_dim=16, depth=2, num_heads=2, num_classes=len(names)))
    classifier = ImageClassifier(vit, Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4), names)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return explain_batch(classifier, [image], method, target=target)[0]


def test_a_saved_image_is_the_figure(tmp_path):
    found = explanation(target="dog")
    found.save(tmp_path / "a.png", truth="cat")
    found.save(str(tmp_path / "new" / "b.png"))
    assert np.array_equal(Image.open(tmp_path / "a.png"), draw_explanation_figure(found, "cat"))
    assert np.array_equal(Image.open(tmp_path / "new" / "b.png"), found.figure())


@pytest.mark.parametrize("method", ["attention", "input-x-gradient", "features"])
def test_a_saved_npz_holds_the_arrays(method, tmp_path):
    found = explanation(method, target="dog")
    found.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        assert np.array_equal(data["heatmap"], found.heatmap) and np.array_equal(data["patch_map"], found.patch_map)
        assert np.array_equal(data["image"], found.image_u8) and tuple(data["box"]) == found.geometry.box
        assert str(data["method"]) == method and str(data["target"]) == "dog"
        assert tuple(zip(data["labels"].tolist(), data["scores"].tolist(), strict=True)) == found.prediction.scores
        assert ("patch_colors" in data) == (method == "features")


def test_an_unknown_suffix_raises_and_nothing_is_written(tmp_path):
    for name in ("a.txt", "a"):
        with pytest.raises(InputError, match=r"\.png"):
            explanation().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_figure():
    found = explanation()
    assert np.array_equal(Image.open(io.BytesIO(found._repr_png_())), found.figure())


def test_explanations_print_in_one_short_line():
    text = repr(explanation("attention", target="dog"))
    assert text.startswith("Explanation(attention · layer 1 · mean over heads, heatmap 40 × 60, target dog, score 0.")
    assert "\n" not in text and len(text) < 200
    features = repr(explanation("rollout", names=()))
    assert features == "Explanation(rollout · all layers · mean over heads, heatmap 40 × 60)"


def test_methods_print_as_a_table():
    table = methods()
    assert dict(table) == METHODS and table["rollout"].scale_kind == "proportion" and len(table) == len(METHODS)
    lines = repr(table).splitlines()
    assert lines[0].split() == ["method", "scale", "target", "options", "summary"]
    assert [line.split()[0] for line in lines[1:]] == list(METHODS)
    assert table._repr_html_().count("<tr>") == len(METHODS) + 1


def test_method_keywords_are_the_fields_of_the_options_without_the_query():
    hints, keywords = get_type_hints(MethodOptions), get_type_hints(MethodKeywords)
    assert list(keywords) == [field.name for field in fields(MethodOptions) if field.name != "query"]
    assert all(keywords[name] == hints[name] | None for name in keywords)


def test_a_query_in_patches_is_not_merged():
    with pytest.raises(InputError, match=r"give query=\(x, y\) in pixels, next to the options"):
        merge_options(MethodOptions(query=(1, 2)), {})


@pytest.mark.parametrize("method", ["attention", "grad-cam"])
def test_an_explanation_with_another_patch_heatmap(method):
    found = explanation(method)
    same = found.with_patch_heatmap(found.patch_heatmap)
    assert np.allclose(same.patch_map, found.patch_map) and same.prediction == found.prediction
    double = found.with_patch_heatmap(2 * found.patch_heatmap)
    assert double.patch_map.dtype == np.float32 and np.allclose(double.heatmap, 2 * found.heatmap)


def test_options_are_merged_and_checked():
    merged = merge_options(MethodOptions(layer=1, head=2), {"layer": -1, "head": None, "head_fusion": "max"})
    assert merged == MethodOptions(layer=-1, head=2, head_fusion="max")
    assert repr(merged) == "MethodOptions(layer=-1, head=2, head_fusion='max')"
    assert merge_options(None, {}) == MethodOptions()
    with pytest.raises(InputError, match="n_steps"):
        merge_options(None, {"n_steps": "many"})
