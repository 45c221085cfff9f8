"""DINOv2 under facebookresearch's names: random weights against the formulas, real ones against recorded outputs.

`plain_dinov2` states the paper's model (Oquab et al. 2024; Darcet et al. 2024) on the tensors as the file names them.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

WIDTH, HEADS, PATCH = 64, 1, 4
SQUARE, WIDE, TALL = (16, 16), (16, 24), (32, 12)


def random_tensors(*, depth: int = 2, registers: int = 0, gated: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a model for 16 × 16 pixels, in the order of Meta's own model."""
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 17, WIDTH), "mask_token": (1, WIDTH)}
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    shapes |= {"patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,)}
    linear = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    linear |= {"mlp.w12": (352, WIDTH), "mlp.w3": (WIDTH, 176)} if gated else {}
    linear |= {} if gated else {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    for block in (f"blocks.{index}." for index in range(depth)):
        for name, shape in linear.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[block + name] = (WIDTH,)
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    torch.manual_seed(0)
    return {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def reference_dinov2(tensors: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The normalized last tokens (batch, tokens, width)."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(values, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def mlp(block: str, values: torch.Tensor) -> torch.Tensor:
        if f"{block}.mlp.w12.weight" not in tensors:
            return linear(f"{block}.mlp.fc2", functional.gelu(linear(f"{block}.mlp.fc1", values)))
        gate, value = linear(f"{block}.mlp.w12", values).chunk(2, -1)
        return linear(f"{block}.mlp.w3", functional.silu(gate) * value)

    kernel, bias = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
    grid = functional.conv2d(images, kernel, bias, stride=PATCH)
    table, registers = tensors["pos_embed"], tensors.get("register_tokens")
    learned = table[:, 1:].reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
    if grid.shape[2:] != (4, 4):
        learned = functional.interpolate(learned, grid.shape[2:], mode="bicubic", antialias=registers is not None)
    patches = (grid + learned).flatten(2).transpose(1, 2)
    prefix = [tensors["cls_token"] + table[:, :1], *([] if registers is None else [registers])]
    tokens = torch.cat([*(token.expand(len(images), -1, -1) for token in prefix), patches], 1)
    for block in (f"blocks.{index}" for index in range(2)):
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", tokens))
        query, key, value = qkv.unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5, -1)
        attended = linear(f"{block}.attn.proj", (weights @ value).transpose(1, 2).flatten(2))
        tokens = tokens + tensors[f"{block}.ls1.gamma"] * attended
        tokens = tokens + tensors[f"{block}.ls2.gamma"] * mlp(block, norm(f"{block}.norm2", tokens))
    return norm("norm", tokens)


def convert_weights(tensors) -> ViT:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    assert fmt is FORMATS["dinov2"]
    config = fmt.read_config(tensors, {})
    model = ViT(config).eval()
    model.load_state_dict(fmt.from_external(tensors, config))
    return model


@torch.no_grad()
def last_tokens(model: ViT, images: torch.Tensor) -> tuple[torch.Tensor, Trace]:
    trace = Trace()
    pooled = model(images, trace)
    tokens = model.norm(trace.tokens[-1])
    assert torch.equal(pooled, tokens[:, 0])  # without a head the output is the normalized class token
    return tokens, trace


@pytest.mark.parametrize("options", [{}, {"registers": 3}, {"gated": True}, {"gated": True, "registers": 1}], ids=str)
def test_random_weights_follow_the_formulas_and_come_back(options):
    tensors = random_tensors(**options)
    vit = convert_weights(tensors)
    for image_size in (SQUARE, WIDE, TALL):
        images = torch.randn(2, 3, *image_size)
        assert (last_tokens(vit, images)[0] - reference_dinov2(tensors, images)).abs().max() < 1e-5
    written = FORMATS["dinov2"].to_external(vit.state_dict(), vit.config)
    assert {name: tensor.shape for name, tensor in written.items()} == {n: t.shape for n, t in tensors.items()}
    assert torch.allclose(reference_dinov2(written, images), reference_dinov2(tensors, images), atol=1e-6)
    again = convert_weights(written).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in vit.state_dict().items())
    folded = {"cls_token", "pos_embed", "mask_token"}
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items() if name not in folded)


@pytest.mark.parametrize("wrapped", ["blocks.{chunk}.{block}.", "teacher.backbone.blocks.{chunk}.{block}."])
def test_the_trainers_own_checkpoints(wrapped):
    """Blocks in chunks of two (the numbers go on in the second chunk), a teacher, and heads for training beside it."""
    tensors, named = random_tensors(depth=4), {}
    for name, tensor in tensors.items():
        first, *rest = name.split(".", 2)
        block = int(rest[0]) if first == "blocks" else None
        start = wrapped.split("blocks.")[0]
        inner = name if block is None else f"blocks.{block // 2}.{block}.{rest[1]}"
        named[start + inner] = tensor
    if "teacher" in wrapped:
        named |= {"teacher.dino_head.mlp.0.weight": torch.zeros(3, 3), "student.backbone.cls_token": torch.zeros(1)}
    plain, other = convert_weights(tensors).state_dict(), convert_weights(named).state_dict()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


@pytest.fixture(scope="module")
def real(shared) -> tuple[dict[str, torch.Tensor], ViT]:
    tensors = load_file(shared / "weights" / "dinov2-vits14.safetensors")
    return tensors, convert_weights(tensors)


def test_real_weights_give_the_reference(real, shared):
    """The weights are rounded to float16, the reference isn't: hence 1e-3, on tokens of up to 10."""
    with np.load(shared / "reference" / "dinov2-vits14-two-cats-224.npz") as file:
        reference = {name: torch.from_numpy(file[name]) for name in file.files}
    vit = real[1]
    assert vit.config == ViTConfig((518, 518), 14, num_classes=0, embed_dim=384, depth=12, num_heads=6, init_values=1.0)
    tokens, trace = last_tokens(vit, reference["pixel_values"])
    difference = (tokens - reference["last_norm_tokens"]).abs()
    assert difference.mean() < 3e-3 and difference.max() < 0.05
    attention = [reference_attention(record)[0] for record in trace.records]
    rows = torch.stack([layer[:, 0] for layer in attention])
    assert (rows - reference["cls_attention_all_layers"]).abs().max() < 1e-3
    assert (attention[-1] - reference["attention_last_layer"]).abs().max() < 3e-3


def test_real_weights_agree_with_transformers(real, tmp_path):
    """On other sizes than the trained one, through the folder that we write for transformers."""
    transformers = pytest.importorskip("transformers")
    fmt, vit = FORMATS["hf-dinov2"], real[1]
    (tmp_path / "config.json").write_text(json.dumps(fmt.external_config(vit.config, [])))
    save_file(fmt.to_external(vit.state_dict(), vit.config), tmp_path / "model.safetensors", {"format": "pt"})
    external, loading = transformers.Dinov2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    torch.manual_seed(0)
    for image_size in ((224, 224), (140, 196)):
        images = torch.randn(1, 3, *image_size)
        with torch.no_grad():
            expected = external.eval()(images).last_hidden_state
        # Tokens reach 8: measured 1.4e-5.
        assert (last_tokens(vit, images)[0] - expected).abs().max() < 1e-4
