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
class KnownModel:
    """A model of known weights, its input images, and what is known about its maps."""

    config: ViTConfig
    state: Mapping[str, Tensor] = field(repr=False)
    """Under the names of our ViT, float32. Queries, keys and values have no bias: vit-pytorch knows none."""
    peak: tuple[int, int] | None = None
    """The patch (row, column) that everything looks at."""
    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Patches by their tags."""

    @property
    def images(self) -> Tensor:
        """Two images (2, 3, height, width), float32."""
        return torch.randn(2, 3, *self.config.image_size, generator=torch.Generator().manual_seed(1))

    def token(self, tag: str) -> int:
        """The token of the patch with this tag."""
        row, column = self.positions[tag]
        return self.config.num_prefix_tokens + row * self.config.grid_size[1] + column


def config_of(grid_hw: tuple[int, int], **more: object) -> ViTConfig:
    """A small configuration with a grid of this height and width."""
    usual: dict[str, object] = {"in_chans": 3, "num_classes": 5, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0}
    size_hw = grid_hw[0] * PATCH, grid_hw[1] * PATCH
    return ViTConfig(size_hw, PATCH, embed_dim=WIDTH, **{**usual, **more})  # ty: ignore[invalid-argument-type]


def random_known(config: ViTConfig) -> KnownModel:
    """Random weights, large enough that attention is uneven."""
    draw = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, generator=draw) * 0.2 + ("norm" in name and name.endswith("weight"))
        for name, tensor in ViT(config).state_dict().items()
    }
    for name in state:
        if name.endswith("qkv.bias"):
            state[name].zero_()
    return KnownModel(config, state)


def wired_known(
    config: ViTConfig,
    wires: Sequence[Wires],
    positions: Mapping[str, tuple[int, int]],
    others: Mapping[str, int] | None = None,
) -> KnownModel:
    """A model whose layers look along `wires`, one mapping a layer; the rest of its weights is random.

    `positions` tags patches; `others` tags prefix tokens by number. Patches also all have the tag "patch".
    """
    known = random_known(config)
    state, tags = dict(known.state), {"patch": 0}
    for name in [*positions, *(others or {})]:
        tags.setdefault(name, len(tags))
    assert len(tags) <= TAGS
    for name, tensor in state.items():
        if "norm" in name or name.endswith("gamma"):
            tensor.fill_(float(not name.endswith("bias")))
        elif any(part in name for part in ("patch_embed", "attn.proj", "mlp.fc2")):
            tensor[:TAGS] = 0
    table = state["pos_embed"].view(*config.grid_size, config.embed_dim)
    table[..., :TAGS] = 0
    table[..., 0] = 2
    for name, place in positions.items():
        table[place][tags[name]] = 4
    prefix = [token for name in ("cls_token", "reg_token") for token in state.get(name, torch.zeros(1, 0, 0))[0]]
    for token in prefix:
        token[:TAGS] = 0
    for name, number in (others or {}).items():
        prefix[number][tags[name]] = 4
    for layer, looks in enumerate(wires):
        name = f"blocks.{layer}.attn.qkv.weight"
        state[name] = _wire(state[name], config, [(tags[query], tags[key]) for query, key in looks.items()])
    return KnownModel(config, state, positions.get("peak"), positions)


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
MEAN = wired_known(config_of((6, 6), global_pool="avg"), [{"patch": "peak"}] * 3, {"peak": PEAK})
REGISTERS = wired_known(
    config_of((6, 6), reg_tokens=4, num_classes=0, init_values=1.0),
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
LARGE = random_known(config_of((33, 33), num_heads=4))
