"""Gradient rollout of another library's model is what its own attention matrices and autograd give."""

import pytest
import torch

from vitreous.explanation.methods.gradient_rollout import gradient_rollout
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.explanation.options import MethodOptions
from vitreous.tasks.classification.targets import ClassTarget

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradient_rollout_of_transformers_vit(attention):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=(16, 24),
        patch_size=8,
        num_labels=5,
    )
    theirs, images = transformers.ViTForImageClassification(config).eval(), torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.3)
        theirs.set_attn_implementation(attention)
        maps = gradient_rollout(WrappedModel(theirs), images, ClassTarget(1, "eel"), MethodOptions())
    theirs.set_attn_implementation("eager")
    answer = theirs(images, output_attentions=True)
    slopes = torch.autograd.grad(answer.logits[:, 1].sum(), answer.attentions)
    brought = torch.zeros(7, 7)  # R − I (Chefer et al. 2021, equations 5 and 6)
    for weights, slope in zip(answer.attentions, slopes, strict=True):
        positive = (weights.detach() * slope).clamp(min=0).mean(1)
        brought = brought + positive + positive @ brought
    expected = brought[:, 0, 1:].unflatten(1, (2, 3))
    assert expected.max() > 0 and (maps.values - expected).abs().max() < 1e-5 * expected.max()
