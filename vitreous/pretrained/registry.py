"""Public origins of models: "timm:NAME", "hf:OWNER/NAME", "dinov2:vits14" and others."""

import re
import sys
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vitreous.errors import InputError, unknown
from vitreous.files import make_folder, os_error_reason
from vitreous.hub import HubRepository
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.pretrained.preprocessing_formats import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class WeightsUrl:
    """A weights file on the web, and the preprocessing that its publisher states.

    The eight characters before its suffix are the beginning of its SHA-256 (hex), as in PyTorch's own model files.
    """

    url: str
    preprocessing: Preprocessing

    def download(self) -> Path:
        """Download the file to torch's own cache (TORCH_HOME) once, check it, and return its path.

        Raises:
            InputError: it can't be downloaded or written, or is not the published file.
        """
        name = self.url.rpartition("/")[2]
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if path.is_file():
            return path
        make_folder(path.parent)
        try:
            checksum = Path(name).stem.rpartition("-")[2]
            torch.hub.download_url_to_file(self.url, str(path), checksum, progress=sys.stderr.isatty())
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            cause = error.reason if isinstance(error.reason, OSError) else error
            advice = f"download it by other means and put it into {path.parent}"
            raise InputError(f"can't download {self.url}: {os_error_reason(cause)}; {advice}") from None
        except OSError as error:
            raise InputError(f"can't download {self.url} to {path}: {os_error_reason(error)}") from None
        except RuntimeError:
            raise InputError(f"{self.url} is not the published file (another SHA-256): try again later") from None
        return path


OriginTarget = HubRepository | WeightsUrl | Path
"""A repository of the hub, a file on the web, or a packaged run folder."""


@dataclass(frozen=True)
class Origin:
    """One kind of public names, and how to find what a name stands for."""

    summary: str
    """What it offers, for help texts."""
    example: str
    lookup: Callable[[str], "OriginTarget"]


def hub(text: str) -> HubRepository:
    """Parse OWNER/NAME, with @REVISION for another revision than the main branch."""
    name, _, revision = text.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"'hf:{text}' is not a repository: write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
    return HubRepository(name, revision or None)


def timm(text: str) -> HubRepository:
    """Parse the full name of a timm model, with the tag of its weights after the dot."""
    if not re.fullmatch(r"[\w.-]+(@.+)?", text):
        raise InputError(f"'timm:{text}' is not a model: write it as timm:{ORIGINS['timm'].example}")
    return hub(f"timm/{text}")


def from_table(
    origin: str, table: dict[str, HubRepository] | dict[str, WeightsUrl] | dict[str, Path]
) -> Callable[[str], OriginTarget]:
    """Return a function that looks a name up in a table."""

    def lookup(text: str) -> OriginTarget:
        if text not in table:
            raise unknown(f"{origin} model", text, table)
        return table[text]

    return lookup


DINOV2_SIZES = {"vits14": "small", "vitb14": "base", "vitl14": "large", "vitg14": "giant"}
DINOV2 = {name: HubRepository(f"facebook/dinov2-{size}") for name, size in DINOV2_SIZES.items()} | {
    f"{name}_reg": HubRepository(f"facebook/dinov2-with-registers-{size}") for name, size in DINOV2_SIZES.items()
}

# timm's copies, because facebook's own are only pickles.
DINO = {
    "vits16": HubRepository("timm/vit_small_patch16_224.dino"),
    "vits8": HubRepository("timm/vit_small_patch8_224.dino"),
    "vitb16": HubRepository("timm/vit_base_patch16_224.dino"),
    "vitb8": HubRepository("timm/vit_base_patch8_224.dino"),
}


def torchvision(file: str, patch_size: int, side: int = 224, resized: int = 256) -> WeightsUrl:
    """Describe a file of torchvision: resize the shorter side to `resized` pixels, crop the central `side` × `side`."""
    preprocessing = Preprocessing(
        (side, side), "crop", IMAGENET_MEAN, IMAGENET_STD, patch_size, crop_pct=side / resized
    )  # fmt: skip
    return WeightsUrl(f"https://download.pytorch.org/models/{file}", preprocessing)


# Files and sizes as in torchvision/models/vision_transformer.py (its weights' `url` and `transforms`).
TORCHVISION = {
    "vit_b_16": torchvision("vit_b_16-c867db91.pth", 16),
    "vit_b_16_swag": torchvision("vit_b_16_swag-9ac1b537.pth", 16, 384, 384),
    "vit_b_16_lc_swag": torchvision("vit_b_16_lc_swag-4e70ced5.pth", 16, 224, 224),
    "vit_b_32": torchvision("vit_b_32-d86f8d99.pth", 32),
    "vit_l_16": torchvision("vit_l_16-852ce7e3.pth", 16, 224, 242),
    "vit_l_16_swag": torchvision("vit_l_16_swag-4f3808c9.pth", 16, 512, 512),
    "vit_l_16_lc_swag": torchvision("vit_l_16_lc_swag-4d563306.pth", 16, 224, 224),
    "vit_l_32": torchvision("vit_l_32-c7638314.pth", 32),
    "vit_h_14_swag": torchvision("vit_h_14_swag-80465313.pth", 14, 518, 518),
    "vit_h_14_lc_swag": torchvision("vit_h_14_lc_swag-c1eb923e.pth", 14, 224, 224),
}

PACKAGED = {"cifar10": Path(__file__).parents[1] / "shipped" / "cifar10"}

ORIGINS = {
    "vitreous": Origin("models that come with Vitreous", "cifar10", from_table("vitreous", PACKAGED)),
    "timm": Origin("timm's models", "vit_base_patch16_224.augreg_in21k_ft_in1k", timm),
    "hf": Origin("any repository of the Hugging Face hub", "google/vit-base-patch16-224", hub),
    "dinov2": Origin("DINOv2 (Oquab et al. 2024)", "vits14", from_table("dinov2", DINOV2)),
    "dino": Origin("DINO (Caron et al. 2021)", "vits16", from_table("dino", DINO)),
    "torchvision": Origin("torchvision's models", "vit_b_16", from_table("torchvision", TORCHVISION)),
}
"""Every origin by the name before the colon."""


def is_origin_name(model: str) -> bool:
    """Return whether a model is named by its origin, "dinov2:vits14", and not by a path on this machine."""
    # A single letter before the colon is a drive of Windows.
    return bool(re.match(r"[A-Za-z][\w-]+:", model)) and not Path(model).exists()


def resolve_origin(model: str) -> OriginTarget:
    """Find what the model called "origin:name" stands for.

    Raises:
        InputError: there is no such origin or name (the message names the nearest), or the name is a local folder.
    """
    origin, _, name = model.partition(":")
    if origin not in ORIGINS:
        raise unknown("origin", origin, ORIGINS)
    if (Path(name) / "config.json").is_file():
        raise InputError(f"'{name}' is a folder with a model: write {name} alone, without '{origin}:'")
    return ORIGINS[origin].lookup(name)
