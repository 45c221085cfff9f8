"""The tensor API: maps and attention weights of prepared images, for our ViT and for any other model."""

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.explanation.attribute import attention_weights, attribute, run_method
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassDifferenceTarget, ClassTarget, PredictedClassTarget


def small_vit(**options) -> ViT:
    torch.manual_seed(0)
    chosen = {"embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 3, "reg_tokens": 2, **options}
    vit = ViT(ViTConfig((16, 24), 4, **chosen)).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return vit


class BareTransformer(nn.Module):
    """A model that Vitreous doesn't know, with a class token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.cls_token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], 1)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        return self.head(tokens[:, 0])


def make_images(count=3):
    return torch.randn(count, 3, 16, 24, generator=torch.Generator().manual_seed(1))


FEW = {"integrated-gradients": {"n_steps": 3}, "smoothgrad": {"n_samples": 3}, "rise": {"n_samples": 20}}


@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_those_of_explain(method):
    """Images of the input's size need no resizing, so that both ways get the same pixels."""
    classifier = ImageClassifier(
        small_vit(), Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4), ("cat", "dog", "eel")
    )
    images = [np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8) for seed in range(3)]
    inputs = torch.stack([classifier.preprocess(image)[0] for image in images])
    options = MethodOptions(**FEW.get(method, {}))
    expected = np.stack([one.patch_map for one in explain_batch(classifier, images, method, options, "dog")])
    for model, target in ((classifier, "dog"), (classifier.vit, 1), (classifier.vit, [1, 1, 1])):
        found = attribute(model, inputs, method=method, target=target, options=options)
        assert np.array_equal(found.numpy(), expected), (type(model), target)
    assert np.array_equal(attribute(classifier.vit, inputs, method=method, target=1, **FEW.get(method, {})), expected)


@pytest.mark.parametrize("target", [[2, 0, 1], torch.tensor([2, 0, 1]), (2, 0, 1)])
@pytest.mark.parametrize("method", ["grad-cam", "legrad", "occlusion", "rise", "smoothgrad"])
def test_each_image_has_a_class_of_its_own(method, target):
    vit, images, few = small_vit(), make_images(), FEW.get(method, {})
    together = attribute(vit, images, method=method, target=target, **few)
    for i, index in enumerate((2, 0, 1)):
        alone = attribute(vit, images[i : i + 1], method=method, target=index, **few)[0]
        assert torch.allclose(together[i], alone, atol=1e-5)


def test_targets_may_be_objects_and_default_to_the_prediction():
    vit, images = small_vit(), make_images()
    with torch.no_grad():
        predicted = vit(images).argmax(1)
    default = attribute(vit, images, method="gradient-rollout")
    assert torch.equal(default, attribute(vit, images, method="gradient-rollout", target=predicted))
    difference = ClassDifferenceTarget(ClassTarget(0, "cat"), ClassTarget(1, "dog"))
    assert not torch.equal(default, attribute(vit, images, method="gradient-rollout", target=difference))
    features = small_vit(num_classes=0)
    assert attribute(features, images, method="gradient-rollout").isfinite().all()


@pytest.mark.parametrize("index", [np.int64(1), np.uint8(1), np.array(1), torch.tensor(1)], ids=repr)
def test_a_class_index_may_be_any_integer(index):
    vit, images = small_vit(), make_images()
    expected = attribute(vit, images, method="grad-cam", target=1)
    assert torch.equal(attribute(vit, images, method="grad-cam", target=index), expected)
    each = np.array([index.item()] * 3)
    assert torch.equal(attribute(vit, images, method="grad-cam", target=each), expected)
    assert torch.equal(attribute(vit, images, method="grad-cam", target=list(each)), expected)


def test_attention_is_the_default_method():
    vit, images = small_vit(), make_images()
    assert torch.equal(attribute(vit, images), attribute(vit, images, method="attention"))


@pytest.mark.parametrize("method", ["attention", "rollout", "value-norm"])
def test_a_query_is_in_pixels_of_the_input(method):
    vit, images = small_vit(), make_images()

    def from_patches(query):
        options = MethodOptions(query=query)
        return run_method(vit, images, METHODS[method], PredictedClassTarget(), options).values

    assert torch.equal(attribute(vit, images, method=method, query=(21, 5)), from_patches((1, 5)))
    assert torch.equal(attribute(vit, images, method=method, query=(16, 4, 24, 8)), from_patches((1, 4, 2, 6)))
    with pytest.raises(InputError, match="not on the part of the image"):
        attribute(vit, images, method=method, query=(24, 5))


def test_any_module_is_explained_and_stays_in_its_mode():
    model, images = BareTransformer().eval(), make_images()
    maps = attribute(model, images, method="attention", query=(9, 13))
    assert maps.shape == (3, 4, 6) and not model.training
    assert attribute(model, images, method="gradient-rollout", target=1).shape == (3, 4, 6)
    assert attribute(model, images, method="input-x-gradient").shape == (3, 16, 24)
    with pytest.raises(InputError, match="training mode"):
        attribute(BareTransformer(), images, method="attention")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "rolout"}, "did you mean 'rollout'"),
        ({"method": "rollout", "layer": 1}, "doesn't use the option layer"),
        ({"method": "rollout", "head_fusion": "median"}, "head_fusion"),
        ({"method": "attention", "layer": 3}, "no layer 3"),
        ({"method": "grad-cam", "target": 3}, "there is no class 3: the model has 3"),
        ({"method": "grad-cam", "target": [0, 1]}, "2 classes are given for 3 images"),
        ({"method": "grad-cam", "target": [0, 1, 3]}, "there is no such class: the model has 3"),
        ({"method": "grad-cam", "target": [0.0, 1.0, 2.0]}, "is not a target: give the index of a class"),
        ({"method": "grad-cam", "target": True}, "True is not a target"),
        ({"options": MethodOptions(query=(1, 2))}, r"give query=\(x, y\) in pixels"),
        ({"method": "grad-cam", "target": "cat"}, "a bare module has no class 'cat'"),
        ({"method": "grad-cam", "target": -1}, "there is no class -1"),
        ({"method": "attention", "query": (1, 2, 3)}, "is not a point on an image"),
    ],
)
def test_invalid_arguments_raise(given, message):
    with pytest.raises(InputError, match=message):
        attribute(small_vit(), make_images(), **given)


def test_an_unknown_keyword_raises():
    with pytest.raises(TypeError, match="'layers': did you mean 'layer'"):
        attribute(small_vit(), make_images(), layers=1)


def test_keywords_take_precedence_over_the_record():
    vit, images = small_vit(), make_images()
    record = MethodOptions(layer=0, head=1)
    found = attribute(vit, images, method="attention", options=record, layer=2)
    assert torch.equal(found, attribute(vit, images, method="attention", layer=2, head=1))


@pytest.mark.parametrize("layers", [None, [0], [-1, 0]])
def test_attention_weights_equal_the_definition(layers):
    vit, images, trace = small_vit(), make_images(), Trace()
    with torch.no_grad():
        vit(images, trace)
    expected = [reference_attention(record) for record in trace.records]
    expected = expected if layers is None else [expected[i] for i in layers]
    found = attention_weights(vit, images, layers=layers)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (3, 2, 27, 27) and torch.allclose(one, other, atol=1e-6)
        assert torch.allclose(one.sum(-1), torch.ones(()), atol=1e-5)


def test_attention_weights_of_one_layer():
    vit, images = small_vit(), make_images()
    (found,) = attention_weights(vit, images, layers=-1)
    assert torch.equal(found, attention_weights(vit, images)[-1])


def test_attention_weights_of_any_module():
    model, images = BareTransformer().eval(), make_images()
    (found,) = attention_weights(model, images)
    assert found.shape == (3, 2, 25, 25) and not found.requires_grad
    with pytest.raises(InputError, match="no layer 1"):
        attention_weights(model, images, layers=[1])
    with torch.inference_mode():
        assert torch.allclose(attention_weights(small_vit(), images)[0].sum(-1), torch.ones(()), atol=1e-5)
