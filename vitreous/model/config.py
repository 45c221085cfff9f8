"""What a Vision Transformer is made of: one frozen record, and the table of the usual sizes."""

from dataclasses import dataclass, replace
from typing import Literal, get_args, get_type_hints

from vitreous.errors import InputError, unknown


@dataclass(frozen=True)
class ViTConfig:
    """Everything that decides a ViT's weights and its forward pass."""

    image_size_hw: tuple[int, int] = (224, 224)
    """Height and width in pixels that the position table is made for; other sizes run too."""
    patch_size: int = 16
    """Side of a patch in pixels."""
    channels: int = 3
    classes: int = 1000
    """Outputs of the head; 0 for a model without one, which answers with its pooled vector."""
    width: int = 192
    """Numbers in a token."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 3
    """Attention heads in a block; each has width / heads numbers."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over `width` (SwiGLU takes two thirds of it, for equal cost)."""
    stem: Literal["patch", "conv"] = "patch"
    """How pixels become tokens: one linear map a patch (Dosovitskiy et al. 2021), or 3 × 3 convolutions that halve the
    sides again and again (Xiao et al. 2021), at the cost of about two blocks."""
    stem_convolutions: int = 2
    """Convolutions of such a stem to each halving; the more, the further each token sees around its patch."""
    embedding_norm: bool = False
    """Layer-normalize the tokens before the first block, as CLIP does (Radford et al. 2021, section 2.4)."""
    pooling: Literal["class", "mean", "attention", "map", "class-and-mean", "class-and-distillation"] = "class"
    """How tokens become one vector: class token, mean over patches, a learned weighting (sequence pooling, Hassani
    et al. 2021), or multi-head attention of a learned query (Zhai et al. 2022, section 3). Or two vectors, joined: the
    class token and the patches' mean (Oquab et al. 2024, linear evaluation), or the class token and the first
    register, which was trained to answer as a teacher does (Touvron et al. 2021, section 4)."""
    norm_after_pooling: bool = False
    """Normalize the pooled vector instead of every token, as timm's average-pooled models do."""
    positions: Literal["learned", "sincos", "rotary"] = "learned"
    positions_antialias: bool = False
    """Resample learned positions with an antialiasing filter, as timm does and DINOv2 with registers."""
    registers: int = 0
    """Extra tokens without content (Darcet et al. 2024)."""
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 1e-6
    mlp: Literal["gelu", "gelu-tanh", "quick-gelu", "swiglu"] = "gelu"
    """Exact GELU, its tanh form, x · sigmoid(1.702 x) (Hendrycks and Gimpel 2016), or gated (Shazeer 2020)."""
    layer_scale: float | None = None
    """Initial value of a learned factor a channel on each residual branch (Touvron et al. 2021); none if null."""
    qk_norm: bool = False
    """Layer-normalize queries and keys, a head at a time (Dehghani et al. 2023, section 2.1)."""
    stochastic_depth: float = 0.0
    """Probability with which the last block is skipped in training, rising linearly from 0 (Huang et al. 2016)."""
    patch_dropout: float = 0.0
    """Share of patches left out in training (Liu et al. 2022)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size_hw", tuple(self.image_size_hw))
        self._check_choices()
        self._check_ranges()
        grid_for(self.image_size_hw, self.patch_size)

    def _check_choices(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint)
            if choices and isinstance(choices[0], str) and getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)

    def _check_ranges(self) -> None:
        for name in ("patch_size", "stem_convolutions", "channels", "width", "depth", "heads", "mlp_ratio"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("stochastic_depth", "patch_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if self.layer_scale is not None and not self.layer_scale > 0:
            raise InputError(f"layer_scale is {self.layer_scale}: it must be above 0, or none")
        if self.mlp_ratio * self.width < 2:
            raise InputError(f"mlp_ratio {self.mlp_ratio} leaves no hidden numbers in the MLP: raise it")
        for name in ("classes", "registers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if self.width % self.heads:
            raise InputError(f"width {self.width} can't be shared by {self.heads} heads: it must be a multiple")
        if self.pooling == "class-and-distillation" and not self.registers:
            raise InputError("the distillation token is the first register: raise registers, or choose another pooling")
        if self.pooled_width != self.width and self.norm_after_pooling:
            raise InputError(f"pooling {self.pooling} joins two vectors: they are normalized before, not after")
        if self.positions == "sincos" and self.width % 4:
            raise InputError(f"sine-cosine positions need a width that is a multiple of 4, not {self.width}")
        if self.positions == "rotary" and self.head_width % 4:
            raise InputError(f"rotary positions need heads of a multiple of 4 numbers, not {self.head_width}")
        if self.stem == "conv" and (self.patch_size < 2 or self.patch_size & (self.patch_size - 1)):
            raise InputError(f"the convolutional stem needs a patch size that is a power of two, not {self.patch_size}")

    @property
    def head_width(self) -> int:
        """Numbers in a head."""
        return self.width // self.heads

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches down and across an image of `image_size_hw`."""
        return grid_for(self.image_size_hw, self.patch_size)

    @property
    def prefix(self) -> int:
        """Tokens before the patches: the class token, if there is one, then the registers."""
        return self.pooling.startswith("class") + self.registers

    @property
    def stem_widths(self) -> list[int]:
        """Channels after each halving of the sides by the convolutional stem: four times as many, up to `width`.

        >>> ViTConfig(patch_size=8, width=192, stem="conv").stem_widths
        [16, 48, 192]
        """
        halvings = self.patch_size.bit_length() - 1
        return [max(min(16, self.width), self.width >> 2 * left) for left in reversed(range(halvings))]

    @property
    def gated_width(self) -> int:
        """Numbers in each half of SwiGLU: two thirds of an MLP's, rounded up to a multiple of 8."""
        return -(-int(self.mlp_ratio * self.width * 2 / 3) // 8) * 8

    @property
    def pooled_width(self) -> int:
        """Numbers in the pooled vector, which the head reads."""
        return 2 * self.width if self.pooling.startswith("class-and-") else self.width


def grid_for(size_hw: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Patches down and across an image of `size_hw` pixels.

    Raises:
        InputError: the patch doesn't divide both sides; names the nearest sizes that fit.
    """
    height, width = size_hw
    if height > 0 and width > 0 and height % patch_size == 0 and width % patch_size == 0:
        return height // patch_size, width // patch_size
    fits = [
        [patch_size * patches for patches in sorted({max(1, side // patch_size), max(1, -(-side // patch_size))})]
        for side in size_hw
    ]
    choices = ", ".join(f"{h} × {w}" for h in fits[0] for w in fits[1])
    raise InputError(
        f"an image of {height} × {width} (height × width) can't be cut into patches of {patch_size}: use {choices}"
    )


def _size(width: int, depth: int, heads: int, patch_size: int, side: int = 224, **more: object) -> ViTConfig:
    return ViTConfig((side, side), patch_size, width=width, depth=depth, heads=heads, **more)  # ty: ignore[invalid-argument-type]


# Width, depth, heads: Dosovitskiy et al. 2021 (table 1) for B, L and H; Touvron et al. 2021 (table 1) for Ti and S.
_LETTERS = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "H": (1280, 32, 16)}

SIZES: dict[str, ViTConfig] = {
    **{f"{name}/{patch}": _size(*shape, patch) for name, shape in _LETTERS.items() for patch in (32, 16, 14, 8)},
    "nano/4-28": _size(64, 4, 1, 4, 28, channels=1, classes=10, pooling="mean"),
    "nano/4-32": _size(64, 4, 1, 4, 32, classes=10, pooling="mean"),
    "micro/4-32": _size(128, 6, 2, 4, 32, classes=10, pooling="mean"),
    "mini/4-32": _size(192, 6, 3, 4, 32, classes=10, pooling="mean"),
    "small/4-32": _size(256, 8, 4, 4, 32, classes=10, pooling="mean"),
}
"""The usual sizes by name: Ti, S, B, L, H at 224 pixels and patches of 32, 16, 14 or 8; small ones for 28 and 32."""


def size(name: str, **changes: object) -> ViTConfig:
    """The configuration called `name`, with some fields changed.

    >>> size("Ti/16", classes=10).width
    192
    """
    if name not in SIZES:
        raise unknown("size", name, SIZES)
    return replace(SIZES[name], **changes)
