"""A lean trace keeps less and says the same."""

import pytest
import torch

from vitreous.explanation.methods.rollout import propagate
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming import light_trace
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT


def model(**options) -> ViT:
    torch.manual_seed(0)
    return ViT(
        ViTConfig((16, 24), 4, embed_dim=24, depth=3, num_heads=2, num_classes=3, reg_tokens=1, **options)
    ).eval()


@pytest.mark.parametrize("layer_scale", [None, 0.5])
@pytest.mark.parametrize("positions", ["learned", "rope"])
@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_half_precision_keeps_queries_and_keys_at_any_number_of_tokens(method, positions, layer_scale, monkeypatch):
    monkeypatch.setattr(light_trace, "MIN_TOKENS_TO_RECOMPUTE", 2)
    vit, images = model(init_values=layer_scale, pos_embed=positions), torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        exact = METHODS[method].attribute(vit, images, None, MethodOptions()).values
        with torch.autocast("cpu", torch.bfloat16):
            found = METHODS[method].attribute(vit, images, None, MethodOptions()).values
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, rtol=0.1, atol=1e-2)


@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_rows_under_autocast_sum_to_one(layer_scale, monkeypatch):
    monkeypatch.setattr(light_trace, "MIN_TOKENS_TO_RECOMPUTE", 2)
    trace = LightTrace()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(init_values=layer_scale)(torch.rand(2, 3, 16, 24), trace)
    for layer in trace.layers:
        row = torch.rand(2, 26)
        assert torch.allclose(row_times_attention(row, layer).sum(-1), row.sum(-1)[:, None].expand(2, 2), rtol=1e-5)


@pytest.mark.parametrize("recomputed_from", [2, 4096])
def test_rows_equal_those_of_a_whole_trace(recomputed_from, monkeypatch):
    monkeypatch.setattr(light_trace, "MIN_TOKENS_TO_RECOMPUTE", recomputed_from)
    vit, images, whole, less = model(), torch.rand(2, 3, 16, 24), Trace(), LightTrace()
    with torch.no_grad():
        vit(images, whole)
        vit(images, less)
    assert torch.allclose(propagate(less.layers, less.readout), propagate(whole.records, whole.readout), atol=1e-6)


@pytest.mark.parametrize("kept", [0, 2, -1, -3])
def test_only_the_chosen_layer_is_kept(kept):
    vit, images, whole, less = model(), torch.rand(1, 3, 16, 24), Trace(), LightTrace(only=kept)
    with torch.no_grad():
        vit(images, whole)
        vit(images, less)
    assert torch.equal(less.layers[0].query_and_key()[0], whole.records[kept].query)
