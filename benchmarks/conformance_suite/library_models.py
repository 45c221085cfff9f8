"""The known models as other libraries build them: their own classes, their own loading, our weights."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import transformers
import vit_pytorch
from einops import rearrange
from safetensors.torch import save_file
from torch import nn

from conformance_suite.known_models import KnownModel
from conformance_suite.subject import NotApplicable
from conformance_suite.vitreous_tool import build_vitreous
from vitreous.pretrained.formats.registry import FORMATS


def timm_model(known: KnownModel, *, fused: bool = True) -> nn.Module:
    """timm's VisionTransformer, with fused attention (timm's default) or built while that is switched off."""
    found = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(fused)
    try:
        return _loaded(known, "timm", lambda folder: timm.create_model(f"local-dir:{folder}", pretrained=True))
    finally:
        timm.layers.set_fused_attn(bool(found))


def timm_unfused(known: KnownModel) -> nn.Module:
    """The same after `timm.layers.set_fused_attn(False)`."""
    return timm_model(known, fused=False)


def transformers_model(known: KnownModel, implementation: str | None = None) -> nn.Module:
    """ViTForImageClassification, or Dinov2WithRegistersModel for registers, with its default attention or another."""
    if known.config.global_pool != "token":
        raise NotApplicable("this library's ViT always has a class token")
    registers = known.config.reg_tokens > 0
    kind = transformers.Dinov2WithRegistersModel if registers else transformers.ViTForImageClassification
    more = {} if implementation is None else {"attn_implementation": implementation}
    layout = "hf-dinov2-registers" if registers else "hf-vit"
    return _loaded(known, layout, lambda folder: kind.from_pretrained(folder, **more))


def transformers_eager(known: KnownModel) -> nn.Module:
    """The same with `attn_implementation="eager"`, as its documentation asks for to see attention."""
    return transformers_model(known, "eager")


def _loaded(known: KnownModel, layout: str, load: Callable[[str], nn.Module]) -> nn.Module:
    """The model that a library loads from a folder in its own layout."""
    ours = build_vitreous(known)
    with tempfile.TemporaryDirectory() as folder:
        config = FORMATS[layout].external_config(known.config, [f"class {i}" for i in range(known.config.num_classes)])
        Path(folder, "config.json").write_text(json.dumps(config))
        tensors = FORMATS[layout].to_external(ours.state_dict(), known.config)
        save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
        return load(folder).eval()


@torch.no_grad()
def vit_pytorch_model(known: KnownModel) -> nn.Module:
    """vit_pytorch.ViT; the two norms around its patch embedding, which other ViTs lack, are taken out."""
    config, state = known.config, known.state
    if config.reg_tokens:
        raise NotApplicable("this library's `ViT` has no registers")
    model = vit_pytorch.ViT(
        image_size=config.image_size, patch_size=config.patch_size, num_classes=config.num_classes,
        dim=config.embed_dim,
        depth=config.depth, heads=config.num_heads, dim_head=config.head_dim,
        pool="cls" if config.num_prefix_tokens else "mean",
        mlp_dim=int(config.mlp_ratio * config.embed_dim),
    )  # fmt: skip
    model.to_patch_embedding[1], model.to_patch_embedding[3] = nn.Identity(), nn.Identity()
    theirs = {
        "to_patch_embedding.2.weight": rearrange(state["patch_embed.proj.weight"], "w c p1 p2 -> w (p1 p2 c)"),
        "to_patch_embedding.2.bias": state["patch_embed.proj.bias"],
        "pos_embedding": state["pos_embed"][0],
        "cls_token": torch.zeros(0, config.embed_dim),
    }
    if config.num_prefix_tokens:
        theirs["pos_embedding"] = torch.cat([torch.zeros(1, config.embed_dim), theirs["pos_embedding"]])
        theirs["cls_token"] = state["cls_token"][0]
    for name, ours in {"transformer.norm": "norm", "mlp_head": "head"}.items():
        theirs |= {f"{name}.{end}": state[f"{ours}.{end}"] for end in ("weight", "bias")}
    for layer in range(config.depth):
        theirs |= _vit_pytorch_block(known, layer)
    model.load_state_dict(theirs, strict=True)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config.norm_eps
    return model.eval()


def _vit_pytorch_block(known: KnownModel, layer: int) -> dict[str, torch.Tensor]:
    """One block's weights under their names."""
    ours, theirs = f"blocks.{layer}.", f"transformer.layers.{layer}."
    names = {
        "0.norm": "norm1", "0.to_out.0": "attn.proj", "1.net.0": "norm2",
        "1.net.1": "mlp.fc1", "1.net.4": "mlp.fc2",
    }  # fmt: skip
    tensors = {
        f"{theirs}{name}.{end}": known.state[f"{ours}{our_name}.{end}"]
        for name, our_name in names.items()
        for end in ("weight", "bias")
    }
    return tensors | {f"{theirs}0.to_qkv.weight": known.state[f"{ours}attn.qkv.weight"]}
