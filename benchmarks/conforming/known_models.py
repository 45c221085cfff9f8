"""Small Vision Transformers whose attention is known: random ones, and ones wired so that it falls where we say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT

PATCH, WIDTH = 4, 32
TAGS = 8
"""The first numbers of a token are its tag, which no layer changes; the others are its content."""

Wires = Mapping[str, str]
"""Of one layer: tokens with this tag look at tokens with that tag, and hardly anywhere else."""


@dataclass(frozen=True, eq=False)
class Known:
    """A model of known weights, the images that it is asked about, and what is known of its maps."""

    config: ViTConfig
    state: Mapping[str, Tensor] = field(repr=False)
    """Under the names of our ViT, float32. Queries, keys and values have no bias: vit-pytorch knows none."""
    peak: tuple[int, int] | None = None
    """The patch (row, column) that everything looks at."""
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Patches by their tags."""

    @property
    def images(self) -> Tensor:
        """Two images (2, 3, height, width), float32."""
        return torch.randn(2, 3, *self.config.image_size, generator=torch.Generator().manual_seed(1))

    def token(self, tag: str) -> int:
        """The token of the patch with this tag."""
        row, column = self.places[tag]
        return self.config.num_prefix_tokens + row * self.config.grid_size[1] + column


def config_of(grid_hw: tuple[int, int], **more: object) -> ViTConfig:
    """A small configuration with a grid of this height and width."""
    usual: dict[str, object] = {"channels": 3, "classes": 5, "depth": 3, "heads": 2, "mlp_ratio": 2.0}
    size_hw = grid_hw[0] * PATCH, grid_hw[1] * PATCH
    return ViTConfig(size_hw, PATCH, embed_dim=WIDTH, **{**usual, **more})  # ty: ignore[invalid-argument-type]


def random_known(config: ViTConfig) -> Known:
    """Random weights, large enough that attention is uneven."""
    draw = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, generator=draw) * 0.2 + ("norm.weight" in name)
        for name, tensor in ViT(config).state_dict().items()
    }
    for name in state:
        if name.endswith("qkv.bias"):
            state[name].zero_()
    return Known(config, state)


def wired_known(
    config: ViTConfig,
    wires: Sequence[Wires],
    places: Mapping[str, tuple[int, int]],
    others: Mapping[str, int] | None = None,
) -> Known:
    """A model whose layers look along `wires`, one mapping a layer; the rest of its weights is random.

    `places` tags patches; `others` tags prefix tokens by number. Patches also all have the tag "patch".
    """
    known = random_known(config)
    state, tags = dict(known.state), {"patch": 0}
    for name in [*places, *(others or {})]:
        tags.setdefault(name, len(tags))
    assert len(tags) <= TAGS
    for name, tensor in state.items():
        if "norm" in name or name.endswith("factor"):
            tensor.fill_(float(not name.endswith("bias")))
        elif any(part in name for part in ("stem", "projection", "contract")):
            tensor[:TAGS] = 0
    state["positions.table"][..., :TAGS] = 0
    state["positions.table"][..., 0] = 2
    for name, place in places.items():
        state["positions.table"][place][tags[name]] = 4
    if config.num_prefix_tokens:
        state["prefix"][:, :TAGS] = 0
    for name, number in (others or {}).items():
        state["prefix"][number, tags[name]] = 4
    for layer, looks in enumerate(wires):
        name = f"blocks.{layer}.attn.qkv.weight"
        state[name] = _wire(state[name], config, [(tags[query], tags[key]) for query, key in looks.items()])
    return Known(config, state, places.get("peak"), places)


def _wire(weight: Tensor, config: ViTConfig, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Query and key rows that let tokens with one tag look at tokens with another; values of the content alone."""
    query, key, value = weight.clone().view(3, config.num_heads, config.head_dim, WIDTH)
    query.zero_()
    key.zero_()
    value[..., :TAGS] = 0
    for number, (asks, answers) in enumerate(pairs):
        query[:, number, asks] = 2.5
        key[:, number, answers] = 2.5
    return torch.stack([query, key, value]).view(-1, WIDTH)


PEAK = (1, 4)
"""Off the diagonal and off the middle: transposed, mirrored and shifted maps peak elsewhere."""
_TO_PEAK = [{"class": "peak"}] * 3

PLAIN = random_known(config_of((6, 6)))
SQUARE = wired_known(config_of((6, 6)), _TO_PEAK, {"peak": PEAK}, {"class": 0})
OBLONG = wired_known(config_of((4, 6)), _TO_PEAK, {"peak": PEAK}, {"class": 0})
MEAN = wired_known(config_of((6, 6), pooling="mean"), [{"patch": "peak"}] * 3, {"peak": PEAK})
REGISTERS = wired_known(
    config_of((6, 6), registers=4, classes=0, layer_scale=1.0),
    [{"class": "register"}] * 2 + [{"class": "peak"}],
    {"peak": PEAK},
    {"class": 0, "register": 3},
)
CHAIN = wired_known(
    config_of((6, 6), depth=2),
    [{"relay": "near", "class": "early"}, {"class": "relay", "early": "late"}],
    {"near": (0, 2), "relay": (2, 5), "early": (4, 1), "late": (5, 3)},
    {"class": 0},
)
"""near -> relay -> class reaches the class token; late -> early does only after the class token has read early."""
LARGE = random_known(config_of((33, 33), heads=4))
