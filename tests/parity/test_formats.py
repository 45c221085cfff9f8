"""What every format must do, and the message where weights are in none, or incomplete, or a model can't be held."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.checkpoint_keys import find_weights, strip_wrappers
from vitreous.pretrained.formats.infer_config import infer_activation, infer_depth, infer_image_size, infer_mlp_ratio
from vitreous.pretrained.formats.registry import FORMATS, detect_format
from vitreous.pretrained.formats.rules import Constant, Rename
from vitreous.pretrained.formats.state_dict_format import state_shapes

PLAIN = ViTConfig((16, 16), 4, num_classes=5, embed_dim=64, depth=2, num_heads=1)
SCALED = replace(PLAIN, num_classes=0, init_values=1.0)
CONFIGS = {
    "hf-vit": PLAIN,
    "hf-deit": replace(PLAIN, reg_tokens=1, global_pool="token-dist"),
    "hf-dinov2": replace(PLAIN, init_values=1.0, global_pool="token-avg"),
    "hf-dinov2-registers": replace(SCALED, reg_tokens=2, pos_embed_antialias=True),
    "hf-dinov3": replace(SCALED, reg_tokens=2, pos_embed="rope", norm_eps=1e-5),
    "dinov2": SCALED,
    "dinov3": replace(SCALED, reg_tokens=2, pos_embed="rope", norm_eps=1e-5),
}
KEYED = ("hf-dinov3", "dinov3")
"""Formats whose keys (of attention) have no bias."""


def random_state(config: ViTConfig, *, key_bias: bool = True) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {name: torch.randn(shape) for name, shape in state_shapes(config).items()}
    for name in () if key_bias else [name for name in state if name.endswith("qkv.bias")]:
        state[name][config.embed_dim : 2 * config.embed_dim] = 0
    return state


def written(name: str) -> dict[str, torch.Tensor]:
    return FORMATS[name].to_external(random_state(CONFIGS[name], key_bias=name not in KEYED), CONFIGS[name])


def shapes_of(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


def test_formats_are_found_by_their_names():
    assert all(name == fmt.name for name, fmt in FORMATS.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_what_we_write_is_recognized_and_comes_back_to_the_bit(name):
    fmt, config = FORMATS[name], CONFIGS[name]
    external = written(name)
    assert detect_format(shapes_of(external)) is fmt
    description = fmt.external_config(config, [f"class {index}" for index in range(config.num_classes)])
    description.setdefault("num_heads", config.num_heads)
    read = fmt.read_config(external, description)
    assert replace(read, image_size=(16, 16), init_values=config.init_values) == config
    state = random_state(config, key_bias=name not in KEYED)
    again = fmt.from_external(external, config)
    for vit, tensor in state.items():
        assert torch.equal(again[vit], tensor), vit
    assert len({tensor.untyped_storage().data_ptr() for tensor in external.values()}) == len(external)
    assert all(tensor.is_contiguous() for tensor in external.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_is_read_as_float32(name):
    halves = {key: tensor.half() for key, tensor in written(name).items()}
    assert {tensor.dtype for tensor in FORMATS[name].from_external(halves, CONFIGS[name]).values()} == {torch.float32}


@pytest.mark.parametrize("name", CONFIGS)
def test_options_that_a_format_lacks_are_refused(name):
    for options in (
        {"norm_layer": "rmsnorm"}, {"global_pool": "map"}, {"stem": "conv"}, {"qk_norm": True}, {"pre_norm": True},
    ):  # fmt: skip
        config = replace(CONFIGS[name], **options)
        with pytest.raises(InputError, match=f"{name} can't hold a model with {next(iter(options))}="):
            FORMATS[name].to_external(ViT(config).state_dict(), config)
        assert FORMATS[name].unsupported_reason(config)
    assert FORMATS[name].unsupported_reason(CONFIGS[name]) is None


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_a_head_that_a_format_lacks_is_refused(name):
    config = replace(CONFIGS[name], num_classes=3)
    with pytest.raises(InputError, match=r"can't hold 'head\.bias', 'head\.weight'"):
        FORMATS[name].to_external(random_state(config, key_bias=False), config)


def test_a_head_on_the_class_token_has_zeros_for_the_average_in_dinov2():
    config = replace(PLAIN, init_values=1.0)
    vit = ViT(config).eval()
    vit.load_state_dict(random_state(config))
    fmt = FORMATS["hf-dinov2"]
    external = fmt.to_external(vit.state_dict(), config)
    read = fmt.read_config(external, fmt.external_config(config, list("abcde")))
    assert read.global_pool == "token-avg"
    again = ViT(read).eval()
    again.load_state_dict(fmt.from_external(external, read))
    images = torch.randn(2, 3, 16, 24)
    assert torch.allclose(again(images), vit(images), rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_tensor_missing_one_too_many_one_of_another_shape(name):
    fmt, config, external = FORMATS[name], CONFIGS[name], written(name)
    key = next(key for key in external if key.endswith(("1.norm2.weight", "1.layernorm_after.weight")))
    bare = next(bare for bare, given in fmt.bare_keys(external).items() if given == key)
    with pytest.raises(InputError, match=f"lack '{bare}', which {name} models have"):
        fmt.from_external({other: tensor for other, tensor in external.items() if other != key}, config)
    with pytest.raises(InputError, match=r"have 'surplus\.weight', no part of"):
        fmt.from_external(external | {"surplus.weight": torch.zeros(1)}, config)
    with pytest.raises(InputError, match=rf"^'{re.escape(bare)}' \(3,\) can't become the \(64,\) that a {name} model"):
        fmt.from_external(external | {key: torch.zeros(3)}, config)
    with pytest.raises(InputError, match="lack"):
        fmt.read_config({other: tensor for other, tensor in external.items() if "cls_token" not in other}, {})


def test_weights_of_no_format_name_the_nearest_and_what_is_missing():
    shapes = shapes_of(written("hf-vit"))
    without = {name: shape for name, shape in shapes.items() if "position_embeddings" not in name}
    with pytest.raises(InputError) as raised:
        detect_format(without | {"vit.embeddings.rotary.angles": (3,)})
    assert "nearest is hf-vit: it has 'embeddings.position_embeddings', which are missing here" in str(raised.value)
    assert "it has no 'embeddings.rotary.angles'" in str(raised.value)
    resnet = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3)}
    with pytest.raises(InputError, match=r"in no known format \(.*hf-vit.*\): they have 'conv1.weight', 'layer1"):
        detect_format(resnet)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_the_prefixes_of_trainers_are_removed(prefix):
    external, config = written("hf-vit"), CONFIGS["hf-vit"]
    wrapped = {prefix + name: tensor for name, tensor in external.items()}
    fmt = detect_format(shapes_of(wrapped))
    assert fmt is FORMATS["hf-vit"]
    plain, other = fmt.from_external(external, config), fmt.from_external(wrapped, config)
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_a_compiled_part_and_other_names_stay():
    names = ["blocks.0._orig_mod.norm1.weight", "cls_token", "model.x"]
    assert list(strip_wrappers(names)) == ["blocks.0.norm1.weight", "cls_token", "model.x"]
    assert strip_wrappers([]) == {}


def flatten(checkpoint):
    return find_weights(checkpoint)[0].tensors


def test_the_model_in_a_checkpoint():
    """The teacher before the student, the average before the model, records in records."""
    one, two = {"weight": torch.ones(1)}, {"weight": torch.zeros(1)}
    assert flatten({"epoch": 3, "student": two, "teacher": one}) is not two
    assert torch.equal(flatten({"epoch": 3, "student": two, "teacher": one})["weight"], one["weight"])
    assert torch.equal(flatten({"model": two, "model_ema": one, "optimizer": {}})["weight"], one["weight"])
    assert torch.equal(flatten({"state_dict": {"model": one}, "step": torch.tensor(1)})["weight"], one["weight"])
    assert flatten({"a": torch.ones(1), "args": "text"}).keys() == {"a"}
    with pytest.raises(InputError, match="there are no weights in this checkpoint, only epoch, args"):
        flatten({"epoch": 3, "args": "text"})


def test_caveats_name_what_the_other_library_assumes():
    fmt = FORMATS["dinov2"]
    assert fmt.caveats(SCALED) == []
    (caveat,) = fmt.caveats(replace(SCALED, norm_eps=1e-5))
    assert caveat.startswith("dinov2 always computes with norm_eps=1e-06, but this model has norm_eps=1e-05")
    assert len(FORMATS["hf-vit"].caveats(replace(PLAIN, pos_embed_antialias=True))) == 1


def test_shapes_take_no_memory_and_change_no_default_device():
    huge = ViTConfig(embed_dim=1024, depth=2, num_heads=16)
    assert state_shapes(huge) == shapes_of(ViT(huge).state_dict())
    assert nn.Linear(1, 1).weight.device.type == "cpu"


def test_rules_of_which_a_part_is_missing_are_an_error():
    rule = Rename("head.weight", ("a", "b"), optional=True)
    shapes = {"head.weight": torch.Size((4, 2))}
    assert torch.equal(rule.from_external({"c": torch.ones(1)}, shapes)["head.weight"], torch.zeros(4, 2))
    with pytest.raises(InputError, match="of a, b some are there and others missing"):
        rule.from_external({"a": torch.ones(2, 2)}, shapes)
    with pytest.raises(InputError, match="a, b make 6 rows, the configuration 4"):
        Rename(("head.weight",), ("a", "b"), into=lambda t: torch.cat([t, t[:1]])).from_external(
            {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, shapes
        )
    with pytest.raises(InputError, match="has no neck"):
        Rename("neck", "a").from_external({"a": torch.ones(1)}, shapes)


def test_a_constant_must_have_its_value():
    rule = Constant("periods", lambda: torch.tensor([1.0, 10.0]), checked=True)
    assert rule.from_external({"periods": torch.tensor([1.0, 10.03]).bfloat16()}, {}) == {}
    with pytest.raises(InputError, match="'periods' isn't what our model computes with"):
        rule.from_external({"periods": torch.tensor([1.0, 11.0])}, {})


@pytest.mark.parametrize("hidden", [1, 7, 96, 100, 1536, 4304])
@pytest.mark.parametrize("width", [3, 48, 384, 1152])
def test_every_hidden_width_has_a_ratio(hidden, width):
    ratio = infer_mlp_ratio(hidden, width)
    assert int(ratio * width) == hidden
    if hidden % 8 == 0:
        assert (
            replace(PLAIN, embed_dim=width, num_heads=1, mlp_ratio=infer_mlp_ratio(hidden, width, gated=True)).gated_dim
            == hidden
        )


def test_where_shapes_and_config_json_disagree():
    assert infer_image_size(16, 4, {}) == (16, 16)
    assert infer_image_size(24, 4, {"image_size": [17, 26]}) == (16, 24)
    with pytest.raises(
        InputError, match=r"24 learned positions make no square grid: give a config.json with image_size"
    ):
        infer_image_size(24, 4, {})
    with pytest.raises(InputError, match=r"16 learned positions don't fit image_size 20 .* patches of 4"):
        infer_image_size(16, 4, {"image_size": 20})
    assert infer_depth(["blocks.0.a", "blocks.1.a", "blocks.1.b", "head.2.b"], "blocks.{}.a") == 2
    for names in (["blocks.0.a", "blocks.2.a"], ["blocks.0.a", "blocks.1.b"]):
        with pytest.raises(InputError, match=r"lack 'blocks\.1\.a': a block, or a part of it, is missing"):
            infer_depth(names, "blocks.{}.a")
    with pytest.raises(InputError, match="there is no activation 'relu'"):
        infer_activation({"hidden_act": "relu"})
    with pytest.raises(InputError, match="only multiples of 8"):
        infer_mlp_ratio(100, 64, gated=True)
    with pytest.raises(InputError, match=r"base of 10000.0: only 100"):
        FORMATS["hf-dinov3"].read_config(written("hf-dinov3"), {"rope_theta": 10000.0})
    with pytest.raises(InputError, match=r"mlp_ratio=2.5, only whole numbers"):
        FORMATS["hf-dinov2"].external_config(replace(SCALED, mlp_ratio=2.5), [])
