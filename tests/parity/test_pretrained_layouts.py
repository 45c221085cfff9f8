"""What every layout must do, and what is said where weights are in none, or not whole, or a model can't be held."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.checkpoint_keys import bare_names, flat
from vitreous.pretrained.formats.infer_config import activation_of, blocks_in, mlp_ratio_of, size_of
from vitreous.pretrained.formats.registry import LAYOUTS, holding, recognize
from vitreous.pretrained.formats.rules import Entry, Fixed
from vitreous.pretrained.formats.state_dict_format import our_shapes

PLAIN = ViTConfig((16, 16), 4, classes=5, width=64, depth=2, heads=1)
SCALED = replace(PLAIN, classes=0, layer_scale=1.0)
CONFIGS = {
    "hf-vit": PLAIN,
    "hf-deit": replace(PLAIN, registers=1, pooling="class-and-distillation"),
    "hf-dinov2": replace(PLAIN, layer_scale=1.0, pooling="class-and-mean"),
    "hf-dinov2-registers": replace(SCALED, registers=2, positions_antialias=True),
    "hf-dinov3": replace(SCALED, registers=2, positions="rotary", norm_epsilon=1e-5),
    "dinov2": SCALED,
    "dinov3": replace(SCALED, registers=2, positions="rotary", norm_epsilon=1e-5),
}
KEYED = ("hf-dinov3", "dinov3")
"""Layouts whose keys have no bias."""


def random_state(config: ViTConfig, *, key_bias: bool = True) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {name: torch.randn(shape) for name, shape in our_shapes(config).items()}
    for name in () if key_bias else [name for name in state if name.endswith("qkv.bias")]:
        state[name][config.width : 2 * config.width] = 0
    return state


def written(name: str) -> dict[str, torch.Tensor]:
    return LAYOUTS[name].to_theirs(random_state(CONFIGS[name], key_bias=name not in KEYED), CONFIGS[name])


def shapes_of(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


def test_layouts_are_called_by_their_names():
    assert all(name == layout.name for name, layout in LAYOUTS.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_what_we_write_is_recognized_and_comes_back_to_the_bit(name):
    layout, config = LAYOUTS[name], CONFIGS[name]
    theirs = written(name)
    assert recognize(shapes_of(theirs)) is layout
    description = layout.their_config(config, [f"class {index}" for index in range(config.classes)])
    description.setdefault("num_heads", config.heads)
    read = layout.read_config(theirs, description)
    assert replace(read, image_size_hw=(16, 16), layer_scale=config.layer_scale) == config
    state = random_state(config, key_bias=name not in KEYED)
    again = layout.to_ours(theirs, config)
    for ours, tensor in state.items():
        assert torch.equal(again[ours], tensor), ours
    assert len({tensor.untyped_storage().data_ptr() for tensor in theirs.values()}) == len(theirs)
    assert all(tensor.is_contiguous() for tensor in theirs.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_is_read_as_float32(name):
    halves = {key: tensor.half() for key, tensor in written(name).items()}
    assert {tensor.dtype for tensor in LAYOUTS[name].to_ours(halves, CONFIGS[name]).values()} == {torch.float32}


@pytest.mark.parametrize("name", CONFIGS)
def test_options_that_a_layout_hasnt_are_refused(name):
    for options in ({"norm": "rms"}, {"pooling": "map"}, {"stem": "conv"}, {"qk_norm": True}, {"embedding_norm": True}):
        config = replace(CONFIGS[name], **options)
        with pytest.raises(InputError, match=f"{name} can't hold a model with {next(iter(options))}="):
            LAYOUTS[name].to_theirs(ViT(config).state_dict(), config)
        assert name not in holding(config)
    assert name in holding(CONFIGS[name])


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_a_head_that_a_layout_hasnt_is_refused(name):
    config = replace(CONFIGS[name], classes=3)
    with pytest.raises(InputError, match=r"can't hold 'head\.bias', 'head\.weight'"):
        LAYOUTS[name].to_theirs(random_state(config, key_bias=False), config)


def test_a_head_on_the_class_token_reads_no_mean_in_dinov2():
    config = replace(PLAIN, layer_scale=1.0)
    ours = ViT(config).eval()
    ours.load_state_dict(random_state(config))
    layout = LAYOUTS["hf-dinov2"]
    theirs = layout.to_theirs(ours.state_dict(), config)
    read = layout.read_config(theirs, layout.their_config(config, list("abcde")))
    assert read.pooling == "class-and-mean"
    again = ViT(read).eval()
    again.load_state_dict(layout.to_ours(theirs, read))
    images = torch.randn(2, 3, 16, 24)
    assert torch.allclose(again(images), ours(images), rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_tensor_missing_one_too_many_one_of_another_shape(name):
    layout, config, theirs = LAYOUTS[name], CONFIGS[name], written(name)
    key = next(key for key in theirs if key.endswith(("1.norm2.weight", "1.layernorm_after.weight")))
    bare = next(bare for bare, given in layout.bare(theirs).items() if given == key)
    with pytest.raises(InputError, match=f"lack '{bare}', which {name} models have"):
        layout.to_ours({other: tensor for other, tensor in theirs.items() if other != key}, config)
    with pytest.raises(InputError, match=r"have 'surplus\.weight', no part of"):
        layout.to_ours(theirs | {"surplus.weight": torch.zeros(1)}, config)
    with pytest.raises(InputError, match=rf"^'{re.escape(bare)}' \(3,\) can't become the \(64,\) that a {name} model"):
        layout.to_ours(theirs | {key: torch.zeros(3)}, config)
    with pytest.raises(InputError, match="lack"):
        layout.read_config({other: tensor for other, tensor in theirs.items() if "cls_token" not in other}, {})


def test_weights_of_no_layout_name_the_nearest_and_what_is_missing():
    shapes = shapes_of(written("hf-vit"))
    without = {name: shape for name, shape in shapes.items() if "position_embeddings" not in name}
    with pytest.raises(InputError) as raised:
        recognize(without | {"vit.embeddings.rotary.angles": (3,)})
    assert "nearest is hf-vit: it has 'embeddings.position_embeddings', which are missing here" in str(raised.value)
    assert "it has no 'embeddings.rotary.angles'" in str(raised.value)
    resnet = {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3)}
    with pytest.raises(InputError, match=r"in no known layout \(.*hf-vit.*\): they have 'conv1.weight', 'layer1"):
        recognize(resnet)


@pytest.mark.parametrize("around", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_what_trainers_put_around_a_model_is_taken_off(around):
    theirs, config = written("hf-vit"), CONFIGS["hf-vit"]
    wrapped = {around + name: tensor for name, tensor in theirs.items()}
    layout = recognize(shapes_of(wrapped))
    assert layout is LAYOUTS["hf-vit"]
    plain, other = layout.to_ours(theirs, config), layout.to_ours(wrapped, config)
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_a_compiled_part_and_other_names_stay():
    names = ["blocks.0._orig_mod.norm1.weight", "cls_token", "model.x"]
    assert list(bare_names(names)) == ["blocks.0.norm1.weight", "cls_token", "model.x"]
    assert bare_names([]) == {}


def test_the_model_in_a_checkpoint():
    """The teacher before the student, the average before the model, records in records."""
    one, two = {"weight": torch.ones(1)}, {"weight": torch.zeros(1)}
    assert flat({"epoch": 3, "student": two, "teacher": one}) is not two
    assert torch.equal(flat({"epoch": 3, "student": two, "teacher": one})["weight"], one["weight"])
    assert torch.equal(flat({"model": two, "model_ema": one, "optimizer": {}})["weight"], one["weight"])
    assert torch.equal(flat({"state_dict": {"model": one}, "step": torch.tensor(1)})["weight"], one["weight"])
    assert flat({"a": torch.ones(1), "args": "text"}).keys() == {"a"}
    with pytest.raises(InputError, match="there are no weights in this checkpoint, only epoch, args"):
        flat({"epoch": 3, "args": "text"})


def test_what_the_other_library_takes_for_granted_is_said():
    layout = LAYOUTS["dinov2"]
    assert layout.caveats(SCALED) == []
    assert layout.caveats(replace(SCALED, norm_epsilon=1e-5)) == [
        "dinov2 computes with norm_epsilon=1e-06, this model with 1e-05"
    ]
    assert len(LAYOUTS["hf-vit"].caveats(replace(PLAIN, positions_antialias=True))) == 1


def test_shapes_cost_no_memory_and_leave_nothing_behind():
    huge = ViTConfig(width=1024, depth=2, heads=16)
    assert our_shapes(huge) == shapes_of(ViT(huge).state_dict())
    assert nn.Linear(1, 1).weight.device.type == "cpu"


def test_entries_that_are_half_there_are_an_error():
    entry = Entry("head.weight", ("a", "b"), may_lack=True)
    shapes = {"head.weight": torch.Size((4, 2))}
    assert torch.equal(entry.to_ours({"c": torch.ones(1)}, shapes)["head.weight"], torch.zeros(4, 2))
    with pytest.raises(InputError, match="of a, b some are there and others missing"):
        entry.to_ours({"a": torch.ones(2, 2)}, shapes)
    with pytest.raises(InputError, match="a, b make 6 rows, the configuration 4"):
        Entry(("head.weight",), ("a", "b"), into=lambda t: torch.cat([t, t[:1]])).to_ours(
            {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, shapes
        )
    with pytest.raises(InputError, match="has no neck"):
        Entry("neck", "a").to_ours({"a": torch.ones(1)}, shapes)


def test_a_fixed_tensor_has_its_value():
    rule = Fixed("periods", lambda: torch.tensor([1.0, 10.0]), checked=True)
    assert rule.to_ours({"periods": torch.tensor([1.0, 10.03]).bfloat16()}, {}) == {}
    with pytest.raises(InputError, match="'periods' isn't what our model computes with"):
        rule.to_ours({"periods": torch.tensor([1.0, 11.0])}, {})


@pytest.mark.parametrize("hidden", [1, 7, 96, 100, 1536, 4304])
@pytest.mark.parametrize("width", [3, 48, 384, 1152])
def test_every_hidden_width_has_a_ratio(hidden, width):
    ratio = mlp_ratio_of(hidden, width)
    assert int(ratio * width) == hidden
    if hidden % 8 == 0:
        assert (
            replace(PLAIN, width=width, heads=1, mlp_ratio=mlp_ratio_of(hidden, width, gated=True)).gated_width
            == hidden
        )


def test_what_shapes_and_config_json_dont_agree_on():
    assert size_of(16, 4, {}) == (16, 16)
    assert size_of(24, 4, {"image_size": [17, 26]}) == (16, 24)
    with pytest.raises(InputError, match=r"24 places make no square grid: give a config.json with image_size"):
        size_of(24, 4, {})
    with pytest.raises(InputError, match=r"16 places don't fit image_size 20 .* patches of 4"):
        size_of(16, 4, {"image_size": 20})
    assert blocks_in(["blocks.0.a", "blocks.1.a", "blocks.1.b", "head.2.b"], "blocks.{}.a") == 2
    for names in (["blocks.0.a", "blocks.2.a"], ["blocks.0.a", "blocks.1.b"]):
        with pytest.raises(InputError, match=r"lack 'blocks\.1\.a': a block, or a part of it, is missing"):
            blocks_in(names, "blocks.{}.a")
    with pytest.raises(InputError, match="there is no activation 'relu'"):
        activation_of({"hidden_act": "relu"})
    with pytest.raises(InputError, match="only multiples of 8"):
        mlp_ratio_of(100, 64, gated=True)
    with pytest.raises(InputError, match=r"base of 10000.0: only 100"):
        LAYOUTS["hf-dinov3"].read_config(written("hf-dinov3"), {"rope_theta": 10000.0})
    with pytest.raises(InputError, match=r"mlp_ratio=2.5, only whole numbers"):
        LAYOUTS["hf-dinov2"].their_config(replace(SCALED, mlp_ratio=2.5), [])
