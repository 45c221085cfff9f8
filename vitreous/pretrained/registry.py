"""The public places that models come from, by name: "timm:NAME", "hf:OWNER/NAME", "dinov2:vits14" and others."""

import re
import sys
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vitreous.errors import InputError, unknown
from vitreous.files import make_folder, reason
from vitreous.hub import HubRepository
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.pretrained.preprocessing_formats import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Address:
    """A weights file on the web, and what its publisher says of the images.

    The eight letters before its ending are the first of its SHA-256 (hex), as PyTorch's own model files have them.
    """

    url: str
    preprocessing: Preprocessing

    def obtain(self) -> Path:
        """The file's path in torch's own cache (TORCH_HOME), downloaded once and checked.

        Raises:
            InputError: it can't be downloaded or written, or is not the published file.
        """
        name = self.url.rpartition("/")[2]
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if path.is_file():
            return path
        make_folder(path.parent)
        try:
            start = Path(name).stem.rpartition("-")[2]
            torch.hub.download_url_to_file(self.url, str(path), start, progress=sys.stderr.isatty())
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            cause = error.reason if isinstance(error.reason, OSError) else error
            raise InputError(
                f"can't download {self.url}: {reason(cause)}; fetch it by other means and put it into {path.parent}"
            ) from None
        except OSError as error:
            raise InputError(f"can't download {self.url} to {path}: {reason(error)}") from None
        except RuntimeError:
            raise InputError(f"{self.url} is not the published file (another SHA-256): try again later") from None
        return path


Place = HubRepository | Address | Path
"""A repository of the hub, a file on the web, or a folder here that is a run of ours."""


@dataclass(frozen=True)
class Origin:
    """One kind of name, and what each stands for."""

    summary: str
    """What is found there, in words."""
    example: str
    find: Callable[[str], "Place"]


def hub(text: str) -> HubRepository:
    """OWNER/NAME, with @REVISION where another than the main branch is meant."""
    name, _, revision = text.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"'hf:{text}' names no repository: write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
    return HubRepository(name, revision or None)


def timm(text: str) -> HubRepository:
    """A model of timm by its full name, with the tag of its weights after the dot."""
    if not re.fullmatch(r"[\w.-]+(@.+)?", text):
        raise InputError(f"'timm:{text}' names no model: write it as timm:{ORIGINS['timm'].example}")
    return hub(f"timm/{text}")


def listed(
    origin: str, table: dict[str, HubRepository] | dict[str, Address] | dict[str, Path]
) -> Callable[[str], Place]:
    """Look a name up in a table."""

    def find(text: str) -> Place:
        if text not in table:
            raise unknown(f"{origin} model", text, table)
        return table[text]

    return find


DINOV2_SIZES = {"vits14": "small", "vitb14": "base", "vitl14": "large", "vitg14": "giant"}
DINOV2 = {name: HubRepository(f"facebook/dinov2-{size}") for name, size in DINOV2_SIZES.items()} | {
    f"{name}_reg": HubRepository(f"facebook/dinov2-with-registers-{size}") for name, size in DINOV2_SIZES.items()
}

# timm's copies: facebook's own are pickles only.
DINO = {
    "vits16": HubRepository("timm/vit_small_patch16_224.dino"),
    "vits8": HubRepository("timm/vit_small_patch8_224.dino"),
    "vitb16": HubRepository("timm/vit_base_patch16_224.dino"),
    "vitb8": HubRepository("timm/vit_base_patch8_224.dino"),
}


def torchvision(file: str, patch_size: int, side: int = 224, resized: int = 256) -> Address:
    """A file of torchvision's: the shorter side becomes `resized` pixels, the central `side` × `side` are seen."""
    preprocessing = Preprocessing(
        (side, side), "crop", IMAGENET_MEAN, IMAGENET_STD, patch_size, crop_pct=side / resized
    )  # fmt: skip
    return Address(f"https://download.pytorch.org/models/{file}", preprocessing)


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

SHIPPED = {"cifar10": Path(__file__).parents[1] / "shipped" / "cifar10"}

ORIGINS = {
    "vitreous": Origin("models that come with Vitreous", "cifar10", listed("vitreous", SHIPPED)),
    "timm": Origin("timm's models", "vit_base_patch16_224.augreg_in21k_ft_in1k", timm),
    "hf": Origin("any repository of the Hugging Face hub", "google/vit-base-patch16-224", hub),
    "dinov2": Origin("DINOv2 (Oquab et al. 2024)", "vits14", listed("dinov2", DINOV2)),
    "dino": Origin("DINO (Caron et al. 2021)", "vits16", listed("dino", DINO)),
    "torchvision": Origin("torchvision's models", "vit_b_16", listed("torchvision", TORCHVISION)),
}
"""Every origin by the word before the colon."""


def is_origin(model: str) -> bool:
    """Whether a model is named by its origin, "dinov2:vits14", and not by a path on this machine."""
    return bool(re.match(r"[A-Za-z][\w-]+:", model)) and not Path(model).exists()  # one letter is a drive of Windows


def find_origin(model: str) -> Place:
    """Where the model called "origin:name" lies.

    Raises:
        InputError: there is no such origin, or it knows no such name; names the nearest. Or the name is a folder's.
    """
    origin, _, name = model.partition(":")
    if origin not in ORIGINS:
        raise unknown("origin", origin, ORIGINS)
    if (Path(name) / "config.json").is_file():
        raise InputError(f"'{name}' is a model's folder here: write {name} alone, without '{origin}:'")
    return ORIGINS[origin].find(name)
