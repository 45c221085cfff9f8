"""Targets: their scores, what they hold constant, how users write them, and texts encoded by transformers."""

import numpy as np
import pytest
import torch
from image_text_models import write_clip, write_tokenizer
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, parse_region
from vitreous.explanation.target_parsing import find_target
from vitreous.explanation.text_targets import embed_text, text_target
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassPerImageTarget, ClassTarget, PredictedClassTarget
from vitreous.tasks.targets import DirectionTarget, FeatureNormTarget, RegionTarget, TextTarget


def classifier(names=("cat", "dog", "text:x"), resize="squash", **options) -> ImageClassifier:
    torch.manual_seed(0)
    chosen = {"embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": len(names), "reg_tokens": 2, **options}
    vit = ViT(ViTConfig((16, 24), 4, **chosen))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return ImageClassifier(vit, Preprocessing((16, 24), resize, (0.5,) * 3, (0.25,) * 3, 4), names)


def make_image(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_a_region_scores_the_norms_of_its_last_tokens_along_constant_directions(pooling):
    vit, region = classifier(global_pool=pooling).model, RegionTarget.from_patch_box((1, 2, 3, 5), (4, 6))
    trace, changed = Trace(), Trace()
    images = torch.randn(2, 3, 16, 24)
    logits = vit(images, trace)
    prefix = trace.layout.num_prefix_tokens
    tokens = trace.tokens[-1][:, prefix:].unflatten(1, (4, 6))[:, 1:3, 2:5].flatten(1, 2)
    assert torch.allclose(region(logits, trace), tokens.norm(dim=-1).sum(1), rtol=1e-5)
    held = region.detached(logits, trace)
    vit(images + torch.randn_like(images), changed)
    others = changed.tokens[-1][:, prefix:].unflatten(1, (4, 6))[:, 1:3, 2:5].flatten(1, 2)
    wanted = (others * functional.normalize(tokens, dim=-1)).sum((1, 2))
    assert torch.allclose(held(logits, changed), wanted, rtol=1e-4)
    assert held.detached(logits, changed) is held and held.name == "region"


def test_the_gradient_of_a_region_is_the_direction():
    trace, region = Trace(), RegionTarget.from_patch_box((0, 0, 1, 1), (4, 6))
    logits = classifier().model(torch.randn(1, 3, 16, 24), trace)
    (gradient,) = torch.autograd.grad(region(logits, trace).sum(), [trace.tokens[-1]])
    wanted = torch.zeros_like(gradient)
    wanted[:, 3] = functional.normalize(trace.tokens[-1][:, 3], dim=-1)
    assert torch.allclose(gradient, wanted, atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 5, 1), (1, 1, 1, 2), (-1, 0, 1, 1), (0, 0, 1, 7)])
def test_a_box_outside_the_grid_raises(box):
    with pytest.raises(InputError, match="is not a part of the model's grid of 4 × 6"):
        RegionTarget.from_patch_box(box, (4, 6))


def test_a_region_without_tokens_or_on_another_grid_raises():
    vit, trace = classifier().model, Trace()
    logits = vit(torch.randn(1, 3, 16, 24), trace)
    with pytest.raises(InputError, match="this method can't observe"):
        RegionTarget.from_patch_box((0, 0, 1, 1), (4, 6))(logits)
    with pytest.raises(InputError, match="grid of 6 × 4 patches, the model's has 4 × 6"):
        RegionTarget.from_patch_box((0, 0, 1, 1), (6, 4))(logits, trace)


@pytest.mark.parametrize(
    ("box", "patches"),
    [
        ((0, 0, 60, 40), (0, 0, 4, 6)),
        ((10, 10, 30, 20), (1, 1, 2, 3)),
        ((11, 11, 12, 12), (1, 1, 2, 2)),
        ((59, 39, 60, 40), (3, 5, 4, 6)),
        ((50, 0, 600, 9), (0, 5, 1, 6)),
    ],
)
def test_a_box_in_pixels_selects_the_nearest_patches(box, patches):
    geometry = Geometry((40, 60), (16, 24), (0.0, 0.0, 40.0, 60.0))
    assert PixelRegion(*box).to_target(geometry, 4).patches == RegionTarget.from_patch_box(patches, (4, 6)).patches


def test_a_box_outside_the_crop_raises():
    cropped = Geometry((40, 100), (16, 24), (0.0, 20.0, 40.0, 80.0))
    assert PixelRegion(20, 0, 30, 10).to_target(cropped, 4).patches == ((0, 0),)
    with pytest.raises(InputError, match="not on the part of the image that the model sees: x 20 to 80"):
        PixelRegion(0, 0, 10, 10).to_target(cropped, 4)


@pytest.mark.parametrize("text", ["region:", "region:1,2,3", "region:a,b,c,d", "region:5,5,5,9", "region:-1,0,3,4"])
def test_malformed_regions_raise(text):
    with pytest.raises(InputError, match="x0,y0,x1,y1"):
        parse_region(text)


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_region_selects_the_patches_of_each_image(method):
    model = classifier(resize="aspect")
    wide, high = make_image(40, 60), make_image(60, 40)
    settings = MethodOptions(patch_window=1) if method == "occlusion" else None
    both = explain_batch(model, [wide, high, wide], method, settings, target="region:0,0,10,10")
    assert all(np.isfinite(one.heatmap).all() and one.target == "region 0,0 to 10,10" for one in both)
    assert np.allclose(both[0].heatmap, both[2].heatmap) and both[0].score is None
    alone = explain_batch(model, [high], method, settings, target="region:0,0,10,10")[0]
    assert np.allclose(alone.heatmap, both[1].heatmap, atol=1e-4)
    other = explain_batch(model, [wide], method, settings, target="region:40,30,60,40")[0]
    assert not np.allclose(other.heatmap, both[0].heatmap)


def test_a_class_may_be_named_like_a_text_or_a_region():
    assert find_target(classifier(), "text:x").name == "text:x"
    assert find_target(classifier(("cat", "region:1,2,3,4")), "region:1,2,3,4").name == "region:1,2,3,4"


def test_the_default_target_is_the_prediction_or_the_features():
    assert (
        find_target(classifier(), None) == PredictedClassTarget()
        and find_target(classifier(()), None) == FeatureNormTarget()
    )


def test_a_text_scores_the_cosine():
    vectors, text = torch.randn(5, 8), torch.randn(8)
    found = TextTarget(text, "text 'a cat'")(vectors)
    assert torch.allclose(found, (vectors @ text) / (vectors.norm(dim=1) * text.norm()))
    assert torch.allclose(TextTarget(text * 3, "three")(vectors * 2), found)
    with pytest.raises(InputError, match="vector of 8 numbers, and this model's output has 9"):
        TextTarget(text, "text 'a cat'")(torch.randn(1, 9))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_text_scores_equal_those_of_transformers(clip_folder):
    from transformers import CLIPModel, CLIPTokenizer

    from vitreous.pretrained.load import load

    theirs, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), CLIPTokenizer.from_pretrained(clip_folder)
    model = load(clip_folder, "cpu")
    images, texts = torch.randn(3, 3, 16, 16), ["a cat", "the longest dog"]
    with torch.no_grad():
        tokens = tokenizer(texts, return_tensors="pt", padding=True)
        wanted = theirs(pixel_values=images, **tokens).logits_per_image / theirs.logit_scale.exp()
        found = [text_target(model, text, clip_folder)(model.model(images)) for text in texts]
    assert torch.allclose(torch.stack(found, 1), wanted, atol=1e-5)
    assert torch.equal(embed_text(str(clip_folder), "a cat"), embed_text(str(clip_folder / "config.json"), "a cat"))


def test_siglip_encodes_padded_texts(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    words = write_tokenizer(tmp_path)
    tower = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**tower, "vocab_size": words, "max_position_embeddings": 20, "projection_size": 24},
        vision_config={**tower, "image_size": 16, "patch_size": 4},
    )
    theirs = transformers.SiglipModel(config).eval()
    theirs.save_pretrained(tmp_path)
    from vitreous.pretrained.load import load

    model, images = load(tmp_path, "cpu"), torch.randn(3, 3, 16, 16)
    tokens = transformers.CLIPTokenizer.from_pretrained(tmp_path)(
        "a cat", return_tensors="pt", padding="max_length", max_length=20
    )
    with torch.no_grad():
        answer = theirs(pixel_values=images, input_ids=tokens["input_ids"])
        wanted = (answer.logits_per_image[:, 0] - theirs.logit_bias) / theirs.logit_scale.exp()
        found = text_target(model, "a cat", tmp_path)(model.model(images))
    assert tokens["input_ids"].shape == (1, 20) and torch.allclose(found, wanted, atol=1e-5)


def test_maps_of_texts_differ(clip_folder):
    from vitreous.pretrained.load import load

    model = load(clip_folder, "cpu")
    model.origin = str(clip_folder)
    settings = MethodOptions(patch_window=1)
    cat, dog = (
        explain_batch(model, [make_image()], "occlusion", settings, f"text:{word}")[0] for word in ("cat", "dog")
    )
    assert cat.target == "text 'cat'" and not np.allclose(cat.heatmap, dog.heatmap) and -1 <= cat.score <= 1


def test_models_without_a_text_tower_raise(clip_folder, tmp_path):
    with pytest.raises(InputError, match="unknown where the text tower of this model is"):
        find_target(classifier((), num_classes=12), "text:a cat")
    with pytest.raises(InputError, match="is empty"):
        find_target(classifier(()), "text: ")
    with pytest.raises(InputError, match="output is not an embedding"):
        text_target(classifier(), "a cat", clip_folder)
    with pytest.raises(InputError, match="output is not an embedding"):
        text_target(classifier((), num_classes=0), "a cat", clip_folder)
    with pytest.raises(InputError, match="no text tower with a tokenizer can be loaded"):
        text_target(classifier((), num_classes=12), "a cat", tmp_path)


def test_a_vision_tower_alone_raises(tmp_path):
    transformers = pytest.importorskip("transformers")
    write_tokenizer(tmp_path)
    config = transformers.CLIPVisionConfig(hidden_size=24, intermediate_size=32, num_hidden_layers=1, image_size=16)
    transformers.CLIPVisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no text tower"):
        text_target(classifier((), num_classes=12), "a cat", tmp_path)


def different_images(count):
    return [np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8) for seed in range(count)]


@pytest.mark.parametrize("method", ["grad-cam", "attention"])
@pytest.mark.parametrize("batch_images", [1, 2, 16])
def test_a_class_per_image_is_explained_in_batches(method, batch_images, monkeypatch):
    monkeypatch.setattr("vitreous.explanation.explain.MAX_BATCH_PIXELS", batch_images * 16 * 24)
    model, images, indices = classifier(), different_images(5), [2, 0, 1, 1, 2]
    found = explain_batch(model, images, method, target=ClassPerImageTarget(torch.tensor(indices)))
    for one, image, index in zip(found, images, indices, strict=True):
        (alone,) = explain_batch(model, [image], method, target=index)
        assert np.allclose(one.patch_map, alone.patch_map, atol=1e-5)
        assert one.score == pytest.approx(alone.score, rel=1e-5) and 0 < one.score < 1
        assert one.target == alone.target == model.class_names[index]
    given = explain_batch(model, images, method, target=np.array(indices))
    assert [one.score for one in given] == [one.score for one in found]


def test_a_target_for_another_number_of_images_raises(monkeypatch):
    monkeypatch.setattr("vitreous.explanation.explain.MAX_BATCH_PIXELS", 2 * 16 * 24)
    model, images = classifier(), different_images(4)
    with pytest.raises(InputError, match="2 classes are given for 4 images"):
        explain_batch(model, images, "grad-cam", target=ClassPerImageTarget(torch.tensor([0, 1])))
    with pytest.raises(InputError, match="2 directions for 4 images"):
        explain_batch(model, images, "grad-cam", target=DirectionTarget(torch.eye(3)[:2], "two"))
    with pytest.raises(InputError, match="there is no class 3: the model has 3"):
        explain_batch(model, images, "attention", target=ClassPerImageTarget(torch.tensor([0, 1, 2, 3])))


@pytest.mark.parametrize("index", [1, np.int64(1), np.array(1), torch.tensor(1)], ids=repr)
def test_a_class_is_named_by_any_integer(index):
    assert find_target(classifier(), index) == ClassTarget(1, "dog")


@pytest.mark.parametrize(
    "wrong", [True, 1.0, np.array([0.5]), np.array([[0], [1]]), object()], ids=lambda wrong: type(wrong).__name__
)
def test_other_objects_are_not_targets(wrong):
    with pytest.raises(InputError, match="is not a target"):
        find_target(classifier(), wrong)


def test_a_class_of_a_model_without_names_has_its_logit_as_score():
    model = classifier()
    unnamed = ImageClassifier(model.model, model.preprocessing, ())
    (found,) = explain_batch(unnamed, [make_image()], "grad-cam", target=1)
    with torch.no_grad():
        logits = model.model(model.preprocess(make_image())[0][None])
    assert found.score == pytest.approx(float(logits[0, 1]), rel=1e-5)
