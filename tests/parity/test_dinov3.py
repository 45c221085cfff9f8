"""DINOv3 under facebookresearch's names computes what transformers' model does with the same weights, which are renamed
by hand here."""

import pytest
import torch

from vitreous.errors import InputError
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

transformers = pytest.importorskip("transformers")

WIDTH, DEPTH, REGISTERS = 64, 2, 3
RENAMED = {
    "patch_embed.proj": "embeddings.patch_embeddings", "storage_tokens": "embeddings.register_tokens",
    "cls_token": "embeddings.cls_token", "blocks.": "model.layer.", "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1", "fc1": "up_proj", "fc2": "down_proj",
    "w1": "gate_proj", "w2": "up_proj", "w3": "down_proj",
}  # fmt: skip


def random_tensors(hidden: int, *, gated: bool) -> dict[str, torch.Tensor]:
    """The tensors of a model whose keys have a bias that is masked, not zero."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, WIDTH), "storage_tokens": (1, REGISTERS, WIDTH)}
    shapes |= {"mask_token": (1, WIDTH), "local_cls_norm.weight": (WIDTH,), "norm.weight": (WIDTH,)}
    shapes |= {"norm.bias": (WIDTH,), "patch_embed.proj.weight": (WIDTH, 3, 8, 8), "patch_embed.proj.bias": (WIDTH,)}
    linear = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    ends = ("w1", "w2", "w3") if gated else ("fc1", "fc2")
    linear |= {f"mlp.{name}": (hidden, WIDTH) for name in ends[:-1]} | {f"mlp.{ends[-1]}": (WIDTH, hidden)}
    for block in (f"blocks.{index}." for index in range(DEPTH)):
        for name, shape in linear.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[block + name] = (WIDTH,)
    torch.manual_seed(0)
    tensors = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    for block in range(DEPTH):
        tensors[f"blocks.{block}.attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
    # Heads of 64 in quarters of 16: periods 100^(i / 16), in the precision in which they were trained.
    periods = [100 ** (i / 16) for i in range(16)]
    return tensors | {"rope_embed.periods": torch.tensor(periods).bfloat16()}


def by_transformers(tensors: dict[str, torch.Tensor], hidden: int, *, gated: bool):
    """Build transformers' model with these weights."""
    config = transformers.DINOv3ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=1, intermediate_size=hidden, patch_size=8,
        num_register_tokens=REGISTERS, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    state = {}
    for name, tensor in tensors.items():
        new = name
        for external, other in RENAMED.items():
            new = new.replace(external, other)
        if "qkv" in name and not name.endswith("bias_mask"):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                state[new.replace("attn.qkv", f"attention.{part}_proj")] = piece
        elif name not in ("mask_token", "local_cls_norm.weight", "rope_embed.periods") and "bias_mask" not in name:
            state[new] = tensor
    state = {name: tensor for name, tensor in state.items() if not name.endswith("k_proj.bias")}
    model = transformers.DINOv3ViTModel(config).eval()
    assert model.load_state_dict(state, strict=False) == (["embeddings.mask_token"], [])
    return model


@pytest.mark.parametrize(("hidden", "gated"), [(256, False), (176, True)])
def test_same_tokens_and_back(hidden, gated):
    tensors = random_tensors(hidden, gated=gated)
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    assert fmt is FORMATS["dinov3"]
    config = fmt.read_config(tensors, {})
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    external = by_transformers(tensors, hidden, gated=gated)
    for image_size in ((32, 32), (32, 48), (64, 24)):
        images, trace = torch.randn(2, 3, *image_size), Trace()
        with torch.no_grad():
            pooled, expected = vit(images, trace), external(images)
            assert (vit.norm(trace.tokens[-1]) - expected.last_hidden_state).abs().max() < 1e-5
            assert (pooled - expected.pooler_output).abs().max() < 1e-5
    written = fmt.to_external(vit.state_dict(), config)
    assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in written.items()} | {
        "local_cls_norm.weight": (WIDTH,)
    }
    again = fmt.from_external(written, config)
    assert all(torch.equal(again[name], tensor) for name, tensor in vit.state_dict().items())


def test_what_they_cannot_hold_or_we_do_not_compute():
    tensors = random_tensors(256, gated=False)
    fmt = FORMATS["dinov3"]
    config = fmt.read_config(tensors, {})
    state = fmt.from_external(tensors, config)
    with pytest.raises(InputError, match="periods"):
        fmt.from_external(tensors | {"rope_embed.periods": torch.ones(16)}, config)
    state["blocks.1.attn.qkv.bias"] = torch.ones(3 * WIDTH)
    with pytest.raises(InputError, match="keys have a bias"):
        fmt.to_external(state, config)
    with pytest.raises(InputError, match="has nothing for a part of 'blocks"):
        FORMATS["hf-dinov3"].to_external(state, config)


def test_heads_of_the_published_sizes():
    """ViT-H+ has 20 heads where other models of this width have 16."""
    tensors = random_tensors(256, gated=False)
    wide = {"patch_embed.proj.weight": torch.zeros(1280, 3, 16, 16)}
    assert FORMATS["dinov3"].read_config(tensors | wide, {}).num_heads == 20
