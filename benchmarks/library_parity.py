"""Compare models of timm, torchvision and open_clip with random weights with ours, converted in both directions.

They can't be installed with the CPU torch of the main environment, so this needs its own environment:

    pip install -c constraints.txt torch==2.13.0 numpy safetensors pyyaml huggingface_hub einops pillow
    pip install --no-deps timm torchvision==0.28.0 open_clip_torch && pip install ftfy regex tqdm && pip install -e .

Command:  python benchmarks/library_parity.py [--all]      (--all: every ViT that timm names, two blocks deep)

Each line has the largest difference of the outputs over all sizes: of the other library's model converted to ours, and
of ours converted to the other library (loaded strictly).
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
    """Randomize all weights, so that no two are equal by initialization and outputs are about 1."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        weight.normal_(std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.2)
        if weight.ndim == 1 and not name.endswith("bias"):
            weight.add_(1)
    return model.eval()


def convert(tensors: dict[str, Tensor], external_config: dict) -> ViT:
    """Convert weights of another library to our model."""
    state_dict_format = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = state_dict_format.read_config(tensors, external_config)
    ours = ViT(config).eval()
    ours.load_state_dict(state_dict_format.from_external(tensors, config))
    return ours


@torch.no_grad()
def largest_difference(external: Callable, ours: Callable, sizes: tuple) -> float:
    """Return the largest difference of two models' outputs over images of several sizes."""
    differences = []
    for size_hw in sizes:
        images = torch.randn(2, 3, *size_hw)
        expected, found = external(images), ours(images)
        assert expected.shape == found.shape, (expected.shape, found.shape)
        differences.append((expected - found).abs().max().item())
    return max(differences)


def to_timm(ours: ViT) -> nn.Module:
    """Write our model as a timm folder, which timm loads strictly and resamples for other sizes."""
    state_dict_format = FORMATS["timm"]
    with tempfile.TemporaryDirectory() as folder:
        config = state_dict_format.external_config(
            ours.config, [f"class {index}" for index in range(ours.config.num_classes)]
        )
        Path(folder, "config.json").write_text(json.dumps(config))
        save_file(state_dict_format.to_external(ours.state_dict(), ours.config), Path(folder, "model.safetensors"))
        return timm.create_model(f"local-dir:{folder}", pretrained=True, dynamic_img_size=True).eval()


def timm_cases() -> Iterator[tuple[str, float, float]]:
    """Yield timm's VisionTransformer with each of its supported options, and its distilled DeiT."""
    for name, options in TIMM.items():
        external = randomize(VisionTransformer(**(SIZE | options)))
        arguments = {"img_size": SIZE["img_size"], "num_heads": 4, "act_layer": options.get("act_layer", "gelu")}
        timm_config = {"architecture": "vit", "global_pool": external.global_pool, "model_args": arguments}
        ours = convert(external.state_dict(), timm_config)
        to_external = largest_difference(to_timm(ours), ours, SIZES)
        yield f"timm: {name}", largest_difference(external, ours, SIZES), to_external
    external = randomize(VisionTransformerDistilled(**SIZE))
    ours = convert(external.state_dict(), {"model_args": {"img_size": SIZE["img_size"], "num_heads": 4}})
    to_external = largest_difference(to_timm(ours), ours, SIZES)
    yield "timm: distilled DeiT", largest_difference(external, ours, SIZES), to_external


def torchvision_cases() -> Iterator[tuple[str, float, float]]:
    """Yield a small ViT of torchvision, and vit_b_16."""
    small = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 200}
    for name, build, side in (
        ("small", lambda: torchvision.models.VisionTransformer(**small, num_classes=7), 32),
        ("vit_b_16", torchvision.models.vit_b_16, 224),
    ):
        external = randomize(build())
        ours, again = convert(external.state_dict(), {}), build().eval()
        state_dict_format = detect_format({name: tensor.shape for name, tensor in external.state_dict().items()})
        to_ours = largest_difference(external, ours, ((side, side),))
        again.load_state_dict(state_dict_format.to_external(ours.state_dict(), ours.config), strict=True)
        yield f"torchvision: {name}", to_ours, largest_difference(again, ours, ((side, side),))


def open_clip_cases() -> Iterator[tuple[str, float, float]]:
    """Yield image towers of open_clip, whose files hold the text tower too."""
    for name in ("ViT-B-32-quickgelu", "ViT-B-16"):
        external = randomize(open_clip.create_model(name))
        ours = convert(external.state_dict(), {"model_cfg": open_clip.get_model_config(name)})
        state_dict_format = detect_format({name: tensor.shape for name, tensor in external.state_dict().items()})
        to_ours = largest_difference(external.encode_image, ours, ((224, 224),))
        again = open_clip.create_model(name).visual.eval()
        written = state_dict_format.to_external(ours.state_dict(), ours.config)
        again.load_state_dict({name.removeprefix("visual."): tensor for name, tensor in written.items()}, strict=True)
        yield f"open_clip: {name}", to_ours, largest_difference(again, ours, ((224, 224),))


def every_timm_vit() -> Iterator[tuple[str, float, None]]:
    """Yield every ViT that timm lists, two blocks deep, given by its architecture alone; print the unsupported ones."""
    for name in timm.list_models(module="vision_transformer") + timm.list_models("deit*"):
        with torch.device("meta"):
            external = timm.create_model(name, depth=2, num_classes=5)
        external = randomize(external.to_empty(device="cpu"))
        try:
            ours = convert(external.state_dict(), {"architecture": name, "global_pool": external.global_pool})
        except InputError as error:
            print(f"{name}: {error}")
            continue
        height, width = ours.config.image_size  # timm's own may have a margin without patches
        cut = partial(run_cropped, ours, height, width)
        yield name, largest_difference(external, cut, (external.patch_embed.img_size,)), None


def run_cropped(model: nn.Module, height: int, width: int, images: Tensor) -> Tensor:
    """Run a model on the upper left part of the images."""
    return model(images[..., :height, :width])


def main() -> None:
    """Print one line per model."""
    cases = [timm_cases, torchvision_cases, open_clip_cases]
    print(f"timm {timm.__version__}, torchvision {torchvision.__version__}, open_clip {open_clip.__version__}")
    for case in [*cases, every_timm_vit] if "--all" in sys.argv else cases:
        for name, to_ours, to_external in case():
            print(f"{name:45} {to_ours:9.1e} {'' if to_external is None else f'{to_external:9.1e}'}", flush=True)


if __name__ == "__main__":
    main()
