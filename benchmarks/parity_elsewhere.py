"""Real timm, torchvision and open_clip models with random weights against ours, both ways.

They can't be imported beside the CPU torch of the main environment, so this runs in one of its own:

    pip install -c constraints.txt torch==2.13.0 numpy safetensors pyyaml huggingface_hub einops pillow
    pip install --no-deps timm torchvision==0.28.0 open_clip_torch && pip install ftfy regex tqdm && pip install -e .

Command:  python benchmarks/parity_elsewhere.py [--all]      (--all: every ViT that timm names, two blocks deep)

Each line: the largest difference of the answers, theirs to ours and ours to theirs (loaded strictly), over all sizes.
"""

# ruff: noqa: E402  (torchvision must find its operators' names before its import)
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

for _operator in ("nms", "qnms"):  # torchvision's CUDA build has them compiled; only their names are needed here
    torch.library.define(f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip
import timm
import torchvision
from timm.layers import SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

SIZE = {
    "img_size": (32, 48), "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 7,
    "mlp_ratio": 2.7, "dynamic_img_size": True,
}  # fmt: skip
SIZES = ((32, 48), (64, 24), (40, 40))

TIMM = {
    "class token": {},
    "no head": {"num_classes": 0},
    "class token, fc_norm": {"fc_norm": True},
    "class token without a row, LayerScale": {"no_embed_class": True, "init_values": 0.1},
    "class token and registers": {"reg_tokens": 3, "no_embed_class": True},
    "class token and registers with rows": {"reg_tokens": 3},
    "mean": {"global_pool": "avg"},
    "mean, no class token, norm before": {"global_pool": "avg", "class_token": False, "fc_norm": False},
    "mean, registers, qk_norm": {"global_pool": "avg", "class_token": False, "reg_tokens": 2, "qk_norm": True},
    "no bias of query, key, value": {"qkv_bias": False},
    "attention pooling, tanh GELU": {"global_pool": "map", "class_token": False, "act_layer": "gelu_tanh"},
    "attention pooling beside registers": {"global_pool": "map", "class_token": False, "reg_tokens": 2},
    "CLIP, quick GELU": {"pre_norm": True, "act_layer": "quick_gelu", "norm_layer": partial(nn.LayerNorm, eps=1e-5)},
    "SwiGLU": {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "init_values": 0.1, "mlp_ratio": 16 / 3},
}


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """The model with random weights: none is an initial value that hides another, and answers are about 1."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        weight.normal_(std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.2)
        if weight.ndim == 1 and not name.endswith("bias"):
            weight.add_(1)
    return model.eval()


def converted(tensors: dict[str, Tensor], their_config: dict) -> ViT:
    """Our model with their weights."""
    layout = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = layout.read_config(tensors, their_config)
    ours = ViT(config).eval()
    ours.load_state_dict(layout.from_external(tensors, config))
    return ours


@torch.no_grad()
def largest_difference(theirs: Callable, ours: Callable, sizes: tuple) -> float:
    """Over images of several sizes, the largest difference of two models' answers."""
    differences = []
    for size_hw in sizes:
        images = torch.randn(2, 3, *size_hw)
        expected, found = theirs(images), ours(images)
        assert expected.shape == found.shape, (expected.shape, found.shape)
        differences.append((expected - found).abs().max().item())
    return max(differences)


def timm_loaded(ours: ViT) -> nn.Module:
    """timm's model from a folder that we write, which timm loads strictly; at other sizes it resamples."""
    layout = FORMATS["timm"]
    with tempfile.TemporaryDirectory() as folder:
        config = layout.external_config(ours.config, [f"class {index}" for index in range(ours.config.num_classes)])
        Path(folder, "config.json").write_text(json.dumps(config))
        save_file(layout.to_external(ours.state_dict(), ours.config), Path(folder, "model.safetensors"))
        return timm.create_model(f"local-dir:{folder}", pretrained=True, dynamic_img_size=True).eval()


def timm_cases() -> Iterator[tuple[str, float, float]]:
    """timm's VisionTransformer with each of its options that we know, and its distilled DeiT."""
    for name, options in TIMM.items():
        theirs = randomize(VisionTransformer(**(SIZE | options)))
        arguments = {"img_size": SIZE["img_size"], "num_heads": 4, "act_layer": options.get("act_layer", "gelu")}
        said = {"architecture": "vit", "global_pool": theirs.global_pool, "model_args": arguments}
        ours = converted(theirs.state_dict(), said)
        back = largest_difference(timm_loaded(ours), ours, SIZES)
        yield f"timm: {name}", largest_difference(theirs, ours, SIZES), back
    theirs = randomize(VisionTransformerDistilled(**SIZE))
    ours = converted(theirs.state_dict(), {"model_args": {"img_size": SIZE["img_size"], "num_heads": 4}})
    back = largest_difference(timm_loaded(ours), ours, SIZES)
    yield "timm: distilled DeiT", largest_difference(theirs, ours, SIZES), back


def torchvision_cases() -> Iterator[tuple[str, float, float]]:
    """torchvision's ViT: a small one, and vit_b_16 as it is."""
    small = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 200}
    for name, build, side in (
        ("small", lambda: torchvision.models.VisionTransformer(**small, num_classes=7), 32),
        ("vit_b_16", torchvision.models.vit_b_16, 224),
    ):
        theirs = randomize(build())
        ours, again = converted(theirs.state_dict(), {}), build().eval()
        layout = detect_format({name: tensor.shape for name, tensor in theirs.state_dict().items()})
        forth = largest_difference(theirs, ours, ((side, side),))
        again.load_state_dict(layout.to_external(ours.state_dict(), ours.config), strict=True)
        yield f"torchvision: {name}", forth, largest_difference(again, ours, ((side, side),))


def open_clip_cases() -> Iterator[tuple[str, float, float]]:
    """open_clip's image towers, whose file holds the text tower too."""
    for name in ("ViT-B-32-quickgelu", "ViT-B-16"):
        theirs = randomize(open_clip.create_model(name))
        ours = converted(theirs.state_dict(), {"model_cfg": open_clip.get_model_config(name)})
        layout = detect_format({name: tensor.shape for name, tensor in theirs.state_dict().items()})
        forth = largest_difference(theirs.encode_image, ours, ((224, 224),))
        again = open_clip.create_model(name).visual.eval()
        written = layout.to_external(ours.state_dict(), ours.config)
        again.load_state_dict({name.removeprefix("visual."): tensor for name, tensor in written.items()}, strict=True)
        yield f"open_clip: {name}", forth, largest_difference(again, ours, ((224, 224),))


def every_timm_vit() -> Iterator[tuple[str, float, None]]:
    """Every ViT that timm names, two blocks deep, told to us by its architecture alone; what we refuse is said so."""
    for name in timm.list_models(module="vision_transformer") + timm.list_models("deit*"):
        with torch.device("meta"):
            theirs = timm.create_model(name, depth=2, num_classes=5)
        theirs = randomize(theirs.to_empty(device="cpu"))
        try:
            ours = converted(theirs.state_dict(), {"architecture": name, "global_pool": theirs.global_pool})
        except InputError as error:
            print(f"{name}: {error}")
            continue
        height, width = ours.config.image_size  # timm's own may leave a margin that no patch covers
        cut = partial(cropped, ours, height, width)
        yield name, largest_difference(theirs, cut, (theirs.patch_embed.img_size,)), None


def cropped(model: nn.Module, height: int, width: int, images: Tensor) -> Tensor:
    """A model's answer on the upper left part of the images."""
    return model(images[..., :height, :width])


def main() -> None:
    """Print a line a model."""
    cases = [timm_cases, torchvision_cases, open_clip_cases]
    print(f"timm {timm.__version__}, torchvision {torchvision.__version__}, open_clip {open_clip.__version__}")
    for case in [*cases, every_timm_vit] if "--all" in sys.argv else cases:
        for name, forth, back in case():
            print(f"{name:45} {forth:9.1e} {'' if back is None else f'{back:9.1e}'}", flush=True)


if __name__ == "__main__":
    main()
