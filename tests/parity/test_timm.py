"""timm's and DINO's formats against the architecture written down here from timm's names, without timm.

`benchmarks/library_parity.py` holds the same against the real timm, where it can be imported.
"""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

WIDTH, HEADS, PATCH, GRID = 48, 4, 8, (4, 6)
SIZE = (32, 48)


@dataclass(frozen=True)
class Case:
    """Which tensors a file has, and what its config.json states."""

    name: str
    tokens: dict[str, int] = field(default_factory=lambda: {"cls_token": 1})
    rows: int = 1
    """Rows of the positions' table before the patches'."""
    parts: frozenset[str] = frozenset({"norm", "head"})
    """Tensors beyond those of every file, by the beginnings of their names."""
    pool: str = "token"
    act: str = "gelu"
    fmt: str = "timm"

    def __str__(self) -> str:
        return self.name


HEAD = frozenset({"norm", "head"})
MEAN = frozenset({"fc_norm", "head"})
CASES = [
    Case("class"),
    Case("no-rows", rows=0, parts=HEAD | {"ls1"}),
    Case("registers", {"cls_token": 1, "reg_token": 3}, 0),
    Case("registers-with-rows", {"cls_token": 1, "reg_token": 3}, 4, HEAD | {"q_norm"}),
    Case("mean", parts=MEAN, pool="avg"),
    Case("mean-without-class-token", {"reg_token": 2}, 0, MEAN | {"ls1"}, "avg"),
    Case("mean-of-normed", {}, 0, HEAD, "avg", "gelu_tanh"),
    Case("map", {}, 0, HEAD | {"attn_pool"}, "map", "gelu_tanh"),
    Case("map-extra_arrays-registers", {"reg_token": 2}, 2, HEAD | {"attn_pool"}, "map"),
    Case("clip", parts=HEAD | {"norm_pre"}, act="quick_gelu"),
    Case("swiglu", parts=HEAD | {"ls1"}, act="silu"),
    Case("no-qkv-bias", parts=HEAD | {"no bias"}),
    Case("distilled", {"cls_token": 1, "dist_token": 1}, 2, HEAD | {"head_dist"}),
    Case("headless", parts=frozenset({"norm"}), fmt="dino"),
]


def random_tensors(case: Case) -> dict[str, Tensor]:
    """Weights under timm's names; factors are about 1, so that outputs are too."""
    shapes: dict[str, tuple[int, ...]] = {name: (1, count, WIDTH) for name, count in case.tokens.items()}
    shapes["pos_embed"] = (1, GRID[0] * GRID[1] + case.rows, WIDTH)
    shapes["patch_embed.proj.weight"] = (WIDTH, 3, PATCH, PATCH)
    if "norm_pre" not in case.parts:
        shapes["patch_embed.proj.bias"] = (WIDTH,)
    for block in ("blocks.0", "blocks.1"):
        shapes |= block_shapes(case, block)
    for norm in case.parts & {"norm", "fc_norm", "norm_pre"}:
        shapes |= pair(norm, (WIDTH,))
    for head in case.parts & {"head", "head_dist"}:
        shapes |= pair(head, (7, WIDTH))
    if "attn_pool" in case.parts:
        shapes["attn_pool.latent"] = (1, 1, WIDTH)
        shapes |= pair("attn_pool.q", (WIDTH, WIDTH)) | pair("attn_pool.kv", (2 * WIDTH, WIDTH))
        shapes |= pair("attn_pool.proj", (WIDTH, WIDTH)) | pair("attn_pool.norm", (WIDTH,))
        shapes |= pair("attn_pool.mlp.fc1", (100, WIDTH)) | pair("attn_pool.mlp.fc2", (WIDTH, 100))
    torch.manual_seed(0)
    return {
        name: torch.randn(shape) * shape[-1] ** -0.5 + (len(shape) == 1 and not name.endswith("bias"))
        for name, shape in shapes.items()
    }


def block_shapes(case: Case, block: str) -> dict[str, tuple[int, ...]]:
    hidden = 96 if case.act == "silu" else 100
    shapes = pair(f"{block}.norm1", (WIDTH,)) | pair(f"{block}.norm2", (WIDTH,))
    shapes |= pair(f"{block}.attn.qkv", (3 * WIDTH, WIDTH)) | pair(f"{block}.attn.proj", (WIDTH, WIDTH))
    shapes |= pair(f"{block}.mlp.fc1", (hidden, WIDTH))
    shapes |= pair(f"{block}.mlp.fc2", (WIDTH, hidden // 2 if case.act == "silu" else hidden))
    if "no bias" in case.parts:
        del shapes[f"{block}.attn.qkv.bias"]
    if "ls1" in case.parts:
        shapes |= {f"{block}.ls1.gamma": (WIDTH,), f"{block}.ls2.gamma": (WIDTH,)}
    if "q_norm" in case.parts:
        shapes |= pair(f"{block}.attn.q_norm", (WIDTH // HEADS,)) | pair(f"{block}.attn.k_norm", (WIDTH // HEADS,))
    return shapes


def pair(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


class Reference:
    """timm's VisionTransformer, in the words of its keys."""

    def __init__(self, tensors: dict[str, Tensor], case: Case, *, antialias: bool = True) -> None:
        self.tensors, self.case, self.antialias = tensors, case, antialias
        self.epsilon = 1e-5 if "norm_pre.weight" in tensors else 1e-6

    def linear(self, name: str, values: Tensor) -> Tensor:
        return functional.linear(values, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, values: Tensor) -> Tensor:
        if f"{name}.weight" not in self.tensors:
            return values
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias, self.epsilon)

    def mlp(self, name: str, tokens: Tensor) -> Tensor:
        hidden = self.linear(f"{name}.fc1", tokens)
        if self.case.act == "silu":
            gate, value = hidden.chunk(2, -1)
            hidden = functional.silu(gate) * value
        elif self.case.act == "quick_gelu":
            hidden = hidden * torch.sigmoid(1.702 * hidden)
        else:
            hidden = functional.gelu(hidden, approximate="tanh" if self.case.act == "gelu_tanh" else "none")
        return self.linear(f"{name}.fc2", hidden)

    def block(self, name: str, tokens: Tensor) -> Tensor:
        factors = [self.tensors.get(f"{name}.ls{index}.gamma", torch.ones(())) for index in (1, 2)]
        qkv = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1", tokens))
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
        query, key = self.norm(f"{name}.attn.q_norm", query), self.norm(f"{name}.attn.k_norm", key)
        gathered = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + factors[0] * self.linear(f"{name}.attn.proj", gathered)
        return tokens + factors[1] * self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", tokens))

    def with_positions(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """The tokens before the patches, then the patches, each with its position."""
        names = [name for name in ("cls_token", "dist_token", "reg_token") if name in self.tensors]
        first = [self.tensors[name].expand(len(patches), -1, -1) for name in names]
        table = self.tensors["pos_embed"]
        rows = table.shape[1] - GRID[0] * GRID[1]
        planes = table[:, rows:].transpose(1, 2).unflatten(2, GRID)
        if grid != GRID:
            planes = functional.interpolate(planes, grid, mode="bicubic", antialias=self.antialias)
        places = planes.flatten(2).transpose(1, 2)
        if rows:
            return torch.cat([*first, patches], 1) + torch.cat([table[:, :rows], places], 1)
        return torch.cat([*first, patches + places], 1)

    def pooled(self, tokens: Tensor, before: int) -> Tensor:
        if self.case.pool == "avg":
            return tokens[:, before:].mean(1)
        if self.case.pool == "token":
            return tokens[:, 0]
        query = self.linear("attn_pool.q", self.tensors["attn_pool.latent"].expand(len(tokens), -1, -1))
        parts = (query, *self.linear("attn_pool.kv", tokens[:, before:]).chunk(2, -1))
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        gathered = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pooled = self.linear("attn_pool.proj", gathered)
        return (pooled + self.mlp("attn_pool.mlp", self.norm("attn_pool.norm", pooled)))[:, 0]

    def __call__(self, images: Tensor) -> Tensor:
        grid = images.shape[2] // PATCH, images.shape[3] // PATCH
        kernel, bias = self.tensors["patch_embed.proj.weight"], self.tensors.get("patch_embed.proj.bias")
        patches = functional.conv2d(images, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        tokens = self.norm("norm_pre", self.with_positions(patches, grid))
        before = tokens.shape[1] - patches.shape[1]
        for name in ("blocks.0", "blocks.1"):
            tokens = self.block(name, tokens)
        tokens = self.norm("norm", tokens)
        pooled = self.norm("fc_norm", self.pooled(tokens, before))
        if "head_dist.weight" in self.tensors:
            return (self.linear("head", tokens[:, 0]) + self.linear("head_dist", tokens[:, 1])) / 2
        return self.linear("head", pooled) if "head.weight" in self.tensors else pooled


def config_json(case: Case) -> dict:
    """A config.json as timm writes it."""
    arguments = {"num_heads": HEADS, "img_size": list(SIZE)} | ({} if case.act == "silu" else {"act_layer": case.act})
    return {"architecture": "vit", "global_pool": case.pool, "model_args": arguments}


def convert_weights(tensors: dict[str, Tensor], external: dict) -> ViT:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = fmt.read_config(tensors, external)
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    return vit


def assert_same(vit: ViT, external: Reference, sizes=(SIZE, (64, 24), (40, 40))) -> None:
    for image_size in sizes:
        images = torch.randn(2, 3, *image_size)
        expected = external(images)
        with torch.no_grad():
            found = vit(images)
        assert found.shape == expected.shape
        assert expected.std() > 0.1
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_logits_both_ways(case):
    tensors = random_tensors(case)
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    assert fmt is FORMATS[case.fmt]
    vit = convert_weights(tensors, config_json(case))
    assert_same(vit, Reference(tensors, case))
    written = FORMATS["timm"].to_external(vit.state_dict(), vit.config)
    assert_same(vit, Reference(written, case))
    described = FORMATS["timm"].external_config(vit.config, [])
    assert FORMATS["timm"].read_config(written, described).mlp_layer == vit.config.mlp_layer
    again = convert_weights(written, described)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in vit.state_dict().items())


def test_a_backbone_without_timms_config_resamples_as_dino_does():
    case = CASES[-1]
    tensors = random_tensors(case)
    wrapped = {f"backbone.{name}": tensor for name, tensor in tensors.items()} | {"head.mlp.0.weight": torch.ones(4, 4)}
    vit = convert_weights(wrapped, {"model_args": config_json(case)["model_args"]})
    assert not FORMATS["dino"].caveats(vit.config)
    assert_same(vit, Reference(tensors, case, antialias=False))


def test_a_bias_of_our_patch_embedding_goes_into_the_positions():
    case = next(case for case in CASES if case.name == "clip")
    vit = convert_weights(random_tensors(case), config_json(case))
    with torch.no_grad():
        vit.patch_embed.proj.bias.normal_()
    assert_same(vit, Reference(FORMATS["timm"].to_external(vit.state_dict(), vit.config), case))


@pytest.mark.parametrize("case", [case for case in CASES if not {"norm_pre", "head_dist"} & case.parts], ids=str)
def test_our_weights_are_timms_without_conversion(case):
    vit = convert_weights(random_tensors(case), config_json(case))
    state = vit.state_dict()
    written = FORMATS["timm"].to_external(state, vit.config)
    assert written.keys() == state.keys() and all(torch.equal(written[name], state[name]) for name in state)
    assert_same(vit, Reference(dict(state), case))


def test_a_model_of_ours_can_be_timms():
    config = ViTConfig(
        (32, 48), 8, num_classes=7, embed_dim=48, depth=2, num_heads=4, global_pool="avg", mlp_ratio=100 / 48
    )
    vit = ViT(config).eval()
    torch.nn.init.normal_(vit.head.weight)
    written = FORMATS["timm"].to_external(vit.state_dict(), config)
    assert_same(vit, Reference(written, Case("vit", {}, 0, pool="avg")), (SIZE,))
    described = FORMATS["timm"].external_config(config, ["a", "b", "c", "d", "e", "f", "g"])
    assert described["architecture"] == "vit_base_patch16_224"
    assert described["pretrained_cfg"]["label_names"] == ["a", "b", "c", "d", "e", "f", "g"]
    assert FORMATS["timm"].caveats(config) == [
        "timm always computes with pos_embed_antialias=True, but this model has pos_embed_antialias=False: "
        "its outputs will differ there"
    ]


@pytest.mark.parametrize(
    ("name", "external", "message"),
    [
        ("clip", {"model_args": {"img_size": [32, 48], "num_heads": 4}}, "don't say which GELU they use"),
        ("map", {"model_args": {"img_size": [32, 48], "num_heads": 4}}, "don't say which GELU they use"),
        ("distilled", {"model_args": {"num_heads": 4}}, "24 learned positions make no square grid"),
        (
            "class",
            {"model_args": {"img_size": [32, 48]}},
            "width 48 don't determine the number of heads",
        ),
        ("class", {"architecture": "vit_base_patch16_rpn_224"}, "normalizes after each branch"),
        (
            "map",
            {"architecture": "vit", "model_args": {"pool_include_prefix": True}},
            "pools class token and registers",
        ),
        ("class", {"global_pool": "max"}, "there is no global_pool 'max'"),
        (
            "class",
            {"model_args": {"img_size": [32, 48], "num_heads": 4, "act_layer": "relu"}},
            "there is no act_layer 'relu'",
        ),
    ],
)
def test_what_the_weights_do_not_determine_is_asked_for(name, external, message):
    tensors = random_tensors(next(case for case in CASES if case.name == name))
    with pytest.raises(InputError, match=message):
        FORMATS["timm"].read_config(tensors, external)


def test_a_part_that_timms_model_lacks_is_named():
    tensors = random_tensors(CASES[0]) | {"blocks.0.attn.lambda_q1": torch.ones(12)}
    with pytest.raises(InputError, match=r"have 'blocks\.0\.attn\.lambda_q1', "):
        convert_weights(tensors, config_json(CASES[0]))


def test_epsilons_that_no_architecture_of_timm_has_are_refused():
    with pytest.raises(InputError, match=r"norm_eps=0\.001"):
        FORMATS["timm"].external_config(ViTConfig(norm_eps=1e-3), [])


def test_a_distillation_token_beside_registers_is_refused():
    config = ViTConfig((32, 48), 8, embed_dim=48, depth=1, num_heads=4, reg_tokens=2, global_pool="token-dist")
    with pytest.raises(InputError, match="a distillation token and other registers"):
        FORMATS["timm"].to_external(ViT(config).state_dict(), config)
