"""What a Vision Transformer is made of, in timm's words: one frozen record, and the table of the usual sizes."""

import re
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Literal, TypedDict, Unpack, get_args, get_type_hints

from pydantic import BeforeValidator

from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import grid_for, to_pair

Stem = Literal["linear", "conv"]
GlobalPool = Literal["token", "avg", "attention", "map", "token-avg", "token-dist"]
PosEmbed = Literal["learned", "sincos", "rope"]
NormLayer = Literal["layernorm", "rmsnorm"]
MlpLayer = Literal["gelu", "gelu-tanh", "quick-gelu", "swiglu"]
MOST_LAYERS = 10_000
"""Of blocks, and of convolutions in a stem: more would take minutes to build, however narrow they are."""


def _to_sides(size: object) -> object:
    """Turn one side into the two of a square, and JSON's list into a tuple."""
    if isinstance(size, Integral):
        return size, size
    return tuple(size) if isinstance(size, list) else size


def _is_finite(number: float) -> bool:
    try:
        return isfinite(number)
    except OverflowError:  # an integer of hundreds of digits
        return False


_ONE_SIDE_TOO = BeforeValidator(_to_sides)


@dataclass(frozen=True)
class ViTConfig:
    """Everything that decides a ViT's weights and its forward pass.

    Attributes:
        image_size: Height and width in pixels that the positions are made for; one number means a square. Other sizes
            run too.
        patch_size: Side of a patch in pixels.
        in_chans: Channels of an image: 3 for RGB, 1 for gray.
        num_classes: Outputs of the head; 0 for a model without one, which gives its pooled vector.
        embed_dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads in a block; each is embed_dim / num_heads wide.
        mlp_ratio: Hidden width of the MLP over `embed_dim` (SwiGLU takes two thirds of it, for equal cost).
        stem: How pixels become tokens: one linear map of each patch (Dosovitskiy et al. 2021), or 3 × 3 convolutions
            that halve the sides step by step (Xiao et al. 2021), at the cost of about two blocks.
        stem_convs: Number of convolutions for each halving in a convolutional stem; more of them let each token see
            further around its patch.
        pre_norm: Normalize the tokens before the first block, as CLIP does (Radford et al. 2021, section 2.4).
        global_pool: How tokens become one vector: the class token, the average of the patches, a learned weighting of
            them (sequence pooling, Hassani et al. 2021), or multi-head attention of a learned query (map: Zhai et al.
            2022, section 3). Or two vectors, concatenated: the class token and the patches' average (Oquab et al.
            2024, linear evaluation), or the class token and the distillation token, which is the first register
            (Touvron et al. 2021, section 4).
        fc_norm: Normalize the pooled vector instead of every token, as timm's average-pooled models do.
        pos_embed: Learned vectors, fixed sines and cosines, or rotary positions (Su et al. 2021), which turn queries
            and keys.
        pos_embed_antialias: Resample learned positions with an antialiasing filter, as timm does, and DINOv2 with
            registers.
        reg_tokens: Registers: learned tokens without a patch (Darcet et al. 2024).
        mlp_layer: Exact GELU, its tanh form, x · sigmoid(1.702 x) (Hendrycks and Gimpel 2016), or gated (Shazeer
            2020).
        init_values: Initial value of a learned factor per channel on each branch (layer scale, Touvron et al. 2021);
            none turns it off.
        qk_norm: Normalize queries and keys, each head by itself (Dehghani et al. 2023, section 2.1).
        drop_path_rate: Probability with which the last block is skipped in training, rising linearly from 0 (Huang et
            al. 2016).
        patch_drop_rate: Fraction of the patches left out in training (Liu et al. 2022).

    >>> ViTConfig(image_size=(32, 32), patch_size=4).grid_size
    (8, 8)
    """

    image_size: Annotated[tuple[int, int], _ONE_SIDE_TOO] = (224, 224)
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    stem: Stem = "linear"
    stem_convs: int = 2
    pre_norm: bool = False
    global_pool: GlobalPool = "token"
    fc_norm: bool = False
    pos_embed: PosEmbed = "learned"
    pos_embed_antialias: bool = False
    reg_tokens: int = 0
    norm_layer: NormLayer = "layernorm"
    norm_eps: float = 1e-6
    mlp_layer: MlpLayer = "gelu"
    init_values: float | None = None
    qk_norm: bool = False
    drop_path_rate: float = 0.0
    patch_drop_rate: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", to_pair(self.image_size, "image_size"))
        self._check_types()
        self._check_choices()
        self._check_ranges()
        self._check_combinations()
        grid_for(self.image_size, self.patch_size)

    def _check_types(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, optional = getattr(self, name), isinstance(hint, UnionType)
            kind = get_args(hint)[0] if optional else hint
            if (value is None and optional) or kind not in (int, float, bool):
                continue
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, Integral if kind is int else Real):
                words = {int: "an integer", float: "a number", bool: "True or False"}[kind]
                raise InputError(f"{name}={value!r} has the wrong type: it must be {words}{' or None' * optional}")
            if not _is_finite(value):
                raise InputError(f"{name} is {value}: it must be finite")
            object.__setattr__(self, name, int(value) if kind is int else value)

    def _check_choices(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint)
            if choices and isinstance(choices[0], str) and getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)

    def _check_ranges(self) -> None:
        for name in ("patch_size", "stem_convs", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("depth", "stem_convs"):
            if getattr(self, name) > MOST_LAYERS:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at most {MOST_LAYERS:,}")
        for name in ("drop_path_rate", "patch_drop_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if self.init_values is not None and not 0 < self.init_values < 1e30:
            raise InputError(f"init_values is {self.init_values}: it must be above 0 and below 1e30, or none")
        if self.mlp_ratio * self.embed_dim < 2:
            raise InputError(f"mlp_ratio {self.mlp_ratio} leaves no hidden units in the MLP: raise it")
        for name in ("num_classes", "reg_tokens"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if not 0 <= self.norm_eps < 1:  # which is about the variance of a token: more leaves nothing of the image
            raise InputError(f"norm_eps is {self.norm_eps}: it must be at least 0 and below 1")

    def _check_combinations(self) -> None:
        if self.embed_dim % self.num_heads:
            raise InputError(
                f"embed_dim {self.embed_dim} can't be divided among {self.num_heads} heads: it must be a multiple"
            )
        if self.global_pool == "token-dist" and not self.reg_tokens:
            raise InputError(
                "the distillation token is the first register: raise reg_tokens, or choose another pooling"
            )
        if self.pooled_dim != self.embed_dim and self.fc_norm:
            raise InputError(f"global_pool {self.global_pool} concatenates two vectors: it needs fc_norm=false")
        if self.pos_embed == "sincos" and self.embed_dim % 4:
            raise InputError(f"sine-cosine positions need an embed_dim that is a multiple of 4, not {self.embed_dim}")
        if self.pos_embed == "rope" and self.head_dim % 4:
            raise InputError(f"rotary positions need heads whose width is a multiple of 4, not {self.head_dim}")
        if self.stem == "conv" and (self.patch_size < 2 or self.patch_size & (self.patch_size - 1)):
            raise InputError(f"the convolutional stem needs a patch size that is a power of two, not {self.patch_size}")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.embed_dim // self.num_heads

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches in an image of `image_size`."""
        return grid_for(self.image_size, self.patch_size)

    @property
    def has_class_token(self) -> bool:
        """Whether there is a class token, which is the first token."""
        return self.global_pool.startswith("token")

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token, if there is one, then the registers."""
        return self.has_class_token + self.reg_tokens

    @property
    def stem_widths(self) -> list[int]:
        """Channels after each halving of the sides by the convolutional stem: four times as many, up to `embed_dim`.

        >>> ViTConfig(patch_size=8, embed_dim=192, stem="conv").stem_widths
        [16, 48, 192]
        """
        halvings = self.patch_size.bit_length() - 1
        return [max(min(16, self.embed_dim), self.embed_dim >> 2 * left) for left in reversed(range(halvings))]

    @property
    def gated_dim(self) -> int:
        """Width of each half of SwiGLU: two thirds of a plain MLP's, rounded up to a multiple of 8."""
        return -(-int(self.mlp_ratio * self.embed_dim * 2 / 3) // 8) * 8

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector, which the head reads."""
        return 2 * self.embed_dim if self.global_pool.startswith("token-") else self.embed_dim


class ViTFields(TypedDict, total=False):
    """The fields of `ViTConfig`, all optional: what `named_config` and `create_model` may change."""

    image_size: int | tuple[int, int]
    patch_size: int
    in_chans: int
    num_classes: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    stem: Stem
    stem_convs: int
    pre_norm: bool
    global_pool: GlobalPool
    fc_norm: bool
    pos_embed: PosEmbed
    pos_embed_antialias: bool
    reg_tokens: int
    norm_layer: NormLayer
    norm_eps: float
    mlp_layer: MlpLayer
    init_values: float | None
    qk_norm: bool
    drop_path_rate: float
    patch_drop_rate: float


def _size(shape: tuple[int, int, int], patch_size: int) -> ViTConfig:
    embed_dim, depth, num_heads = shape
    return ViTConfig(patch_size=patch_size, embed_dim=embed_dim, depth=depth, num_heads=num_heads)


def _small_size(shape: tuple[int, int, int], side: int = 32, in_chans: int = 3) -> ViTConfig:
    size = _size(shape, patch_size=4)
    return replace(size, image_size=(side, side), in_chans=in_chans, num_classes=10, global_pool="avg")


# Width, depth, heads: Dosovitskiy et al. 2021 (table 1) for B, L and H; Touvron et al. 2021 (table 1) for Ti and S.
_LETTERS = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "H": (1280, 32, 16)}

SIZES: dict[str, ViTConfig] = {
    **{
        f"{name}/{patch_size}": _size(shape, patch_size)
        for name, shape in _LETTERS.items()
        for patch_size in (32, 16, 14, 8)
    },
    "nano/4-28": _small_size((64, 4, 1), side=28, in_chans=1),
    "nano/4-32": _small_size((64, 4, 1)),
    "micro/4-32": _small_size((128, 6, 2)),
    "mini/4-32": _small_size((192, 6, 3)),
    "small/4-32": _small_size((256, 8, 4)),
}
"""The usual sizes by name: Ti, S, B, L, H at 224 pixels and patches of 32, 16, 14 or 8; small ones for 28 and 32."""
_TIMM_LETTERS = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"}


def named_config(name: str, **changes: Unpack[ViTFields]) -> ViTConfig:
    """Look up the configuration of a size by its name, and change some of its fields.

    Args:
        name: one of `SIZES`, in any usual spelling ("S/16", "small/16", "ViT-S/16"), or timm's name of a plain ViT,
            such as "vit_small_patch16_224".
        changes: fields of `ViTConfig` with other values.

    Raises:
        InputError: no size or field is called so (names the nearest), or a value doesn't fit.

    >>> named_config("Ti/16", num_classes=10).embed_dim
    192
    >>> named_config("vit_base_patch32_384").grid_size
    (12, 12)
    """
    if not isinstance(name, str):
        raise InputError(f"{name!r} is not the name of a size: give one such as 'S/16'")
    if wrong := next((field for field in changes if field not in ViTFields.__annotations__), None):
        raise unknown("field", wrong, ViTFields.__annotations__, "ViTConfig")
    if found := re.fullmatch(r"vit_(tiny|small|base|large|huge)_patch(\d+)_(\d+)", name):
        letter, patch_size, side = _TIMM_LETTERS[found[1]], int(found[2]), int(found[3])
        fields: ViTFields = {"patch_size": patch_size, "image_size": (side, side), **changes}
        return replace(SIZES[f"{letter}/16"], **fields)
    return replace(SIZES[_size_name(name)], **changes)


def _size_name(name: str) -> str:
    """Return the name in `SIZES` of a size in another spelling, such as "small/16", "s/16" or "ViT-S/16".

    >>> _size_name("small/16"), _size_name("ViT-B/32"), _size_name("small/4-32")
    ('S/16', 'B/32', 'small/4-32')
    """
    if name in SIZES:
        return name
    letter, slash, patch_size = name.lower().removeprefix("vit-").removeprefix("vit_").partition("/")
    spelled = f"{_TIMM_LETTERS.get(letter, letter.capitalize())}{slash}{patch_size}"
    if spelled not in SIZES:
        raise unknown_size(name)
    return spelled


def unknown_size(name: str) -> InputError:
    """Build the error for a name that no size has."""
    return InputError(f"{unknown('size', name, SIZES)}: vitreous.sizes() and the verb 'vitreous models' list all")
