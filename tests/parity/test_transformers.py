"""With the same weights, our ViT computes what transformers' does. Random weights: no download."""

import pytest
import torch

from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

transformers = pytest.importorskip("transformers")


def reference(image_size=(32, 32)):
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=image_size,
        patch_size=8, num_labels=7, layer_norm_eps=1e-6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    return model


OUTER = {
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "head": "classifier",
}
INNER = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def convert_weights(external) -> ViT:
    """Our model with transformers' weights: the class token's position is added to the token itself."""
    config = ViTConfig(external.config.image_size, 8, num_classes=7, embed_dim=48, depth=3, num_heads=4, mlp_ratio=2)
    weights = external.state_dict()
    table = weights["vit.embeddings.position_embeddings"][0]
    state = {
        "cls_token": weights["vit.embeddings.cls_token"] + table[:1],
        "pos_embed": table[None, 1:],
    }
    for kind in ("weight", "bias"):
        state |= {f"{vit}.{kind}": weights[f"{name}.{kind}"] for vit, name in OUTER.items()}
        for index in range(config.depth):
            block, layer = f"blocks.{index}", f"vit.layers.{index}"
            state |= {f"{block}.{vit}.{kind}": weights[f"{layer}.{name}.{kind}"] for vit, name in INNER.items()}
            parts = [weights[f"{layer}.attention.{part}_proj.{kind}"] for part in "qkv"]
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
    vit = ViT(config).eval()
    vit.load_state_dict(state)
    return vit


SQUARE, WIDE, TALL = (32, 32), (32, 48), (64, 24)


# transformers resamples square position tables only, so a model with a non-square one gets images of its own size.
@pytest.mark.parametrize(
    ("trained_size", "image_size"), [(SQUARE, SQUARE), (SQUARE, WIDE), (SQUARE, TALL), (WIDE, WIDE)]
)
def test_same_logits_and_attention(trained_size, image_size):
    external = reference(trained_size)
    vit, trace = convert_weights(external), Trace()
    images = torch.randn(2, 3, *image_size)
    with torch.no_grad():
        expected = external(images, interpolate_pos_encoding=image_size != trained_size, output_attentions=True)
        assert (vit(images, trace) - expected.logits).abs().max() < 1e-5
        for record, attention in zip(trace.records, expected.attentions, strict=True):
            assert (reference_attention(record) - attention).abs().max() < 1e-5
