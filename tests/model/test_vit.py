"""One contract over the options of a ViT, and the properties that every one of them must have."""

import copy
import itertools

import numpy as np
import pytest
import torch

from vitreous.errors import InputError
from vitreous.imaging.geometry import grid_for
from vitreous.model.config import SIZES, ViTConfig, ViTFields, named_config
from vitreous.model.create import create_model, sizes
from vitreous.model.trace import Trace
from vitreous.model.vit import NO_WEIGHT_DECAY, ViT, patchify

SMALL = {"image_size": (16, 24), "patch_size": 4, "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 2}
VARIANTS = [
    {"global_pool": pooling, "pos_embed": positions, "stem": stem}
    for pooling, positions, stem in itertools.product(
        ("token", "avg", "attention", "map"), ("learned", "sincos", "rope"), ("linear", "conv")
    )
] + [
    {"reg_tokens": 3},
    {"global_pool": "token-avg", "reg_tokens": 2},
    {"global_pool": "token-dist", "reg_tokens": 1},
    {"norm_layer": "rmsnorm"},
    {"mlp_layer": "swiglu"},
    {"mlp_layer": "gelu-tanh", "pre_norm": True},
    {"mlp_layer": "quick-gelu", "global_pool": "avg", "fc_norm": True},
    {"pos_embed_antialias": True, "reg_tokens": 1},
    {"init_values": 0.1},
    {"qk_norm": True, "pos_embed": "rope", "reg_tokens": 2, "global_pool": "attention"},
    {"drop_path_rate": 0.3},
    {"patch_drop_rate": 0.5},
    {"patch_drop_rate": 0.5, "pos_embed": "rope", "reg_tokens": 1},
]


def build(**options) -> ViT:
    """A small ViT whose weights are all random, so that every part of it counts."""
    torch.manual_seed(0)
    model = ViT(ViTConfig(**{**SMALL, **options})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    return model


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_variant_runs_learns_and_is_observed_to_the_bit(options):
    model = build(**options)
    images = torch.randn(3, 3, 16, 24)
    plain, trace = model(images), Trace()
    assert torch.equal(model(images, trace), plain)
    assert plain.shape == (3, 5) and plain.isfinite().all()
    assert len(trace.records) == 2 and len(trace.tokens) == 3
    assert torch.equal(model.logit_lens(trace.tokens[-1]), plain)
    for record in trace.records:
        query, key = record.recompute_query_key()
        assert torch.equal(query, record.query) and torch.equal(key, record.key)
    assert trace.layout.num_tokens == trace.readout.shape[1] == trace.records[0].query.shape[2]
    assert torch.allclose(trace.readout.sum(1), torch.ones(3))
    model.train()(images).square().sum().backward()
    # A class token whose model pools otherwise doesn't exist; every weight there is takes part.
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_methods_of_timm_are_the_parts_of_the_forward_pass(options):
    model, images = build(**options), torch.randn(2, 3, 16, 24)
    tokens = model.forward_features(images)
    prefix = model.config.num_prefix_tokens
    assert tokens.shape == (2, prefix + 24, 24) and model.num_features == model.embed_dim == 24
    pooled = model.forward_head(tokens, pre_logits=True)
    assert pooled.shape == (2, model.config.pooled_dim)
    assert torch.equal(model.forward_head(tokens), model(images)) and torch.equal(model.head(pooled), model(images))
    (last,) = model.get_intermediate_layers(images)
    assert torch.equal(last, tokens[:, prefix:])
    trace = Trace()
    model(images, trace)
    for index, (patches, before) in enumerate(
        model.get_intermediate_layers(images, n=2, reshape=True, return_prefix_tokens=True, norm=False)
    ):
        assert patches.shape == (2, 24, 4, 6) and torch.equal(before, trace.tokens[index + 1][:, :prefix])
        assert torch.equal(patches[0, :, 1, 2], trace.tokens[index + 1][0, prefix + 8])
    assert torch.equal(model.get_intermediate_layers(images, n=[-1])[0], last)
    for n in (3, 0, -1, True, [2], [0, -3], [], "a", [0.5]):
        with pytest.raises(InputError, match="the model has 2"):
            model.get_intermediate_layers(images, n=n)
    features, every = model.forward_intermediates(images, return_prefix_tokens=True)
    assert torch.equal(features, tokens)
    for found, block in zip(every, trace.tokens[1:], strict=True):
        assert torch.equal(found[0].flatten(2).transpose(1, 2), block[:, prefix:])
        assert torch.equal(found[1], block[:, :prefix])
    assert torch.equal(model.forward_intermediates(images, [-1], norm=True, output_fmt="NLC")[1][0], last)
    calls = []
    model.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    (first,) = model.forward_intermediates(images, [0], output_fmt="NLC", intermediates_only=True)
    assert torch.equal(first, trace.tokens[1][:, prefix:]) and not calls, "later blocks aren't computed"
    with pytest.raises(InputError, match="no output_fmt 'NHWC'"):
        model.forward_intermediates(images, output_fmt="NHWC")


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradient_checkpointing_recomputes_the_blocks_and_changes_no_bit(options):
    images, gradients, runs = torch.randn(2, 3, 16, 24), [], []
    for enable in (False, True):
        model = build(**options).train()
        model.set_grad_checkpointing(enable)
        model.blocks[0].attn.register_forward_hook(lambda *_, enable=enable: runs.append(enable))
        torch.manual_seed(1)
        model(images).square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert all(map(torch.equal, *gradients)) and (runs.count(False), runs.count(True)) == (1, 2)
    model.eval()(images, trace := Trace()).sum().backward()
    assert len(trace.records) == 2, "a trace sees each layer once"
    model.set_grad_checkpointing(False)
    model(images).sum().backward()
    assert runs.count(True) == 4


def test_attributes_have_timms_names_and_follow_the_configuration():
    model = build(reg_tokens=2)
    assert (model.num_classes, model.num_prefix_tokens, model.num_features, model.embed_dim) == (5, 3, 24, 24)
    assert model.get_classifier() is model.head
    model.reset_classifier(0)
    assert model.num_classes == 0 and isinstance(model.get_classifier(), torch.nn.Identity)


def test_patches_left_out_have_no_grid():
    model = build(patch_drop_rate=0.5).train()
    assert model.forward_intermediates(torch.randn(1, 3, 16, 24), output_fmt="NLC")[1][0].shape == (1, 12, 24)
    with pytest.raises(InputError, match=r"patch dropout leaves no grid of patches: call model.eval"):
        model.forward_intermediates(torch.randn(1, 3, 16, 24))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_weights_have_timms_names(options):
    model = build(**options)
    timms = {"cls_token", "reg_token", "pos_embed", "patch_embed", "norm_pre", "blocks", "norm", "fc_norm", "head"}
    assert {name.split(".")[0] for name in model.state_dict()} <= timms | {"attn_pool"}
    assert {name.split(".")[2] for name in model.state_dict() if name.startswith("blocks.0")} <= {
        "norm1", "attn", "ls1", "norm2", "mlp", "ls2",
    }  # fmt: skip
    width, patch = model.config.embed_dim, model.config.patch_size
    assert options.get("stem") == "conv" or model.patch_embed.proj.weight.shape == (width, 3, patch, patch)
    without_decay = {name for name, weight in model.named_parameters() if weight.ndim > 1} & model.no_weight_decay()
    assert without_decay == {name for name in NO_WEIGHT_DECAY if name in model.state_dict()}


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_copy_and_a_reloaded_model_compute_the_same(options):
    model, images = build(**options), torch.randn(2, 3, 16, 24)
    again = ViT(model.config).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images), model(images))
    assert torch.equal(copy.deepcopy(model)(images), model(images))


def test_it_compiles_whole():
    model, images = build(reg_tokens=2, qk_norm=True), torch.randn(2, 3, 16, 24)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), atol=1e-5)


def test_without_classes_the_output_is_the_pooled_vector():
    assert build(num_classes=0)(torch.randn(2, 3, 16, 24)).shape == (2, build().config.embed_dim)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("image_size", [(16, 24), (24, 16), (4, 4), (32, 8)])
def test_any_size_that_the_patch_divides(options, image_size):
    model, trace = build(**options), Trace()
    assert model(torch.randn(1, 3, *image_size), trace).isfinite().all()
    assert (trace.layout.grid_height, trace.layout.grid_width) == (image_size[0] // 4, image_size[1] // 4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_observed_pass_returns_the_same_bits_in_every_precision(precision):
    model, images = build(global_pool="avg"), torch.randn(2, 3, 16, 24)
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        assert torch.equal(model(images), model(images, Trace()))


def test_record_is_what_the_layer_computed_and_stays_on_the_graph():
    model, trace = build(), Trace()
    logits = model(torch.randn(2, 3, 16, 24), trace)
    record = trace.records[0]
    attention = torch.softmax(record.scale * record.query @ record.key.transpose(-2, -1), -1)
    assert torch.allclose(attention @ record.value, record.output, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.sum(), record.output)
    assert gradient.abs().sum() > 0


def test_both_kernels_agree(monkeypatch):
    from vitreous.model import kernels

    model, images = build(), torch.randn(2, 3, 16, 24)
    eager = model(images)
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", {})
    assert torch.allclose(model(images), eager, atol=1e-5)


def test_rotary_positions_turn_with_the_distance_only():
    from vitreous.model.positions import apply_rope, rope_angles

    angles = rope_angles((3, 5), 8, 0).double()
    query, key = torch.randn(8).double(), torch.randn(8).double()
    scores = apply_rope(query.expand(15, 8), angles) @ apply_rope(key.expand(15, 8), angles).T
    scores = scores.reshape(3, 5, 3, 5)
    assert torch.allclose(scores[0, 0, 1, 2], scores[1, 1, 2, 3])
    assert torch.allclose(scores[0, 1, 2, 0], scores[0, 4, 2, 3])


def test_sincos_positions_on_a_finer_grid_lie_between_the_trained_ones():
    from vitreous.model.positions import sincos_pos_embed

    coarse = sincos_pos_embed((4, 6), 16, (4, 6)).unflatten(1, (4, 6))[0]
    fine = sincos_pos_embed((12, 6), 16, (4, 6)).unflatten(1, (12, 6))[0]
    assert torch.allclose(fine[1::3], coarse, atol=1e-6)


def test_patches_are_cut_row_by_row():
    images = torch.randn(2, 3, 12, 20)
    patches = patchify(images, 4)
    assert torch.equal(patches[0, 6].reshape(3, 4, 4), images[0, :, 4:8, 4:8])


def test_the_patch_embedding_is_its_convolution():
    embed, images = build().patch_embed, torch.randn(2, 3, 16, 24)
    assert torch.allclose(embed(images), embed.proj(images).flatten(2).transpose(1, 2), atol=1e-5)


def test_patch_dropout_keeps_each_patch_with_its_own_position():
    model = build(patch_drop_rate=0.75, global_pool="avg").train()
    images = torch.randn(4, 3, 16, 24)
    whole = model.patch_embed(images) + model.pos_embed
    kept, _ = model.embed(images)
    assert kept.shape == (4, 6, 24)
    assert all((kept[i, j] == whole[i]).all(-1).any() for i in range(4) for j in range(6))


@pytest.mark.parametrize("name", SIZES)
def test_every_size_has_the_parameters_it_is_known_for(name):
    config = SIZES[name]
    known = {"Ti/16": 5_717_416, "S/16": 22_050_664, "B/16": 86_567_656, "L/16": 304_326_632}
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in ViT(config).parameters())
    # transformers and timm store a position for the class token; here it is part of that token.
    assert name not in known or parameters == known[name] - config.embed_dim


def test_weights_learned_at_another_size_are_resampled_on_load():
    small, large, images = build(), build(image_size=(24, 40)), torch.randn(2, 3, 24, 40)
    large.load_state_dict(small.state_dict())
    assert large.pos_embed.shape == (1, 60, 24)
    assert torch.allclose(large(images), small(images), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pos_embed": "sincos"}, {"pos_embed": "rope"}, {"pos_embed_antialias": True}])
def test_set_input_size_changes_no_output(options):
    model, images = build(**options), torch.randn(2, 3, 24, 40)
    before = model(images)
    model.set_input_size((24, 40))
    assert model.config.grid_size == (6, 10)
    # Sine-cosine positions belong to the size: those of the new one are finer.
    assert options.get("pos_embed") == "sincos" or torch.allclose(model(images), before, atol=1e-5)
    assert model.pos_embed is None or (model.pos_embed.shape == (1, 60, 24) and model.pos_embed.requires_grad)
    ViT(model.config).load_state_dict(model.state_dict())
    with pytest.raises(InputError, match="use 24 × 40"):
        model.set_input_size((25, 40))
    for size in ("a", 0, True, (8,), None, (8, 8.5)):
        with pytest.raises(InputError, match=r"image_size=.* is invalid: give a side"):
            model.set_input_size(size)


@pytest.mark.parametrize(
    ("options", "pool"),
    [({}, None), ({}, "token-avg"), ({"global_pool": "avg"}, "map"), ({"global_pool": "map"}, "attention")],
)
def test_reset_classifier_starts_a_new_head(options, pool):
    model, images = build(**options), torch.randn(2, 3, 16, 24)
    model.reset_classifier(3, pool)
    assert torch.equal(model(images), torch.zeros(2, 3)) and model.config.num_classes == 3
    assert model.config.global_pool == (pool or options.get("global_pool", "token"))
    model.reset_classifier(0)
    assert torch.equal(model(images), model.forward_head(model.forward_features(images), pre_logits=True))
    assert set(model.state_dict()) == set(ViT(model.config).state_dict())
    if not options:
        with pytest.raises(InputError, match="has a class token, which global_pool 'avg' doesn't fit"):
            model.reset_classifier(3, "avg")


def test_sizes_that_do_not_fit_name_the_nearest():
    with pytest.raises(InputError, match=r"33 × 46 .* patches of 16: use 32 × 32, 32 × 48, 48 × 32, 48 × 48"):
        grid_for((33, 46), 16)
    for image_size in ((-33, 0), (0, 8), (-16, 1)):
        with pytest.raises(InputError, match=r"patches of 16: use 16 × 16$"):
            grid_for(image_size, 16)
    with pytest.raises(InputError, match="use 4 × 4"):
        build()(torch.randn(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"global_pool": "ave"}, "did you mean 'avg'"),
        ({"global_pool": "token-dist"}, "the distillation token is the first register"),
        ({"global_pool": "token-avg", "fc_norm": True}, "concatenates two vectors: it needs fc_norm=false"),
        ({"num_heads": 5}, "can't be divided among 5 heads"),
        ({"drop_path_rate": 1.0}, "below 1"),
        ({"embed_dim": 0}, "must be above 0"),
        ({"num_classes": "ten"}, "num_classes='ten' has the wrong type: it must be an integer"),
        ({"num_classes": -1}, "num_classes is -1: it must be at least 0"),
        ({"depth": True}, "depth=True has the wrong type"),
        ({"depth": 2.0}, "depth=2.0 has the wrong type"),
        ({"init_values": "1"}, "init_values='1' has the wrong type: it must be a number or None"),
        ({"qk_norm": 1}, "qk_norm=1 has the wrong type: it must be True or False"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio is nan: it must be finite"),
        ({"norm_eps": -1.0}, "norm_eps is -1.0"),
        ({"pos_embed": None}, "there is no pos_embed 'None'"),
        ({"image_size": "a"}, "image_size='a' is invalid: give a side or"),
        ({"image_size": (-16, 8)}, r"image_size=\(-16, 8\) is invalid"),
        ({"stem": "conv", "stem_convs": 0}, "stem_convs is 0: it must be above 0"),
        ({"stem": "conv", "patch_size": 6, "image_size": (12, 12)}, "power of two"),
        ({"pos_embed": "rope", "embed_dim": 12, "num_heads": 2}, "multiple of 4"),
    ],
)
def test_settings_that_make_no_model(options, words):
    with pytest.raises(InputError, match=words):
        ViTConfig(**{**SMALL, **options})


def test_unknown_size_names_the_nearest():
    with pytest.raises(InputError, match="did you mean"):
        named_config("Ti/15")
    with pytest.raises(InputError, match="5 is not the name of a size"):
        create_model(5)
    with pytest.raises(InputError, match=r"^ViTConfig has no field 'img_size': did you mean 'image_size'"):
        create_model("Ti/16", img_size=32)
    with pytest.raises(TypeError, match="set_input_size has no argument 'img_size': did you mean 'image_size'"):
        create_model("nano/4-32").set_input_size(img_size=32)
    with pytest.raises(InputError, match=r"no size 'tiny'.*vitreous.sizes\(\) and the verb 'vitreous models' list all"):
        create_model("tiny")
    with pytest.raises(InputError, match="'Ti/16' is not a ViTConfig: give one, or call create_model"):
        ViT("Ti/16")


def test_numbers_of_numpy_are_numbers():
    config = ViTConfig(np.int64(16), np.int64(4), num_classes=np.int64(3))
    assert config == ViTConfig(16, 4, num_classes=3) and type(config.num_classes) is int


def test_models_are_created_by_name():
    model = create_model("nano/4-32", num_classes=7, image_size=16)
    assert model.config.image_size == (16, 16) and model(torch.zeros(1, 3, 16, 16)).shape == (1, 7)
    assert named_config("vit_small_patch16_224") == SIZES["S/16"] == sizes()["S/16"]
    assert set(ViTFields.__annotations__) == set(ViTConfig.__dataclass_fields__)


def test_wrong_channels_are_an_error():
    with pytest.raises(InputError, match=r"expected float images \(batch, 3"):
        build()(torch.randn(1, 1, 16, 24))


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("size", [16, 24])
def test_positions_of_prefix_tokens_as_timm_writes_them_are_added_to_the_tokens(registers, size):
    """timm's default has positions for class token and registers too: a constant that belongs to these tokens."""
    ours = ViT(ViTConfig(16, 4, num_classes=3, embed_dim=16, depth=1, num_heads=2, reg_tokens=registers)).eval()
    weights = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    prefix = torch.randn(1, 1 + registers, 16)
    theirs = dict(weights, pos_embed=torch.cat([prefix, weights["pos_embed"]], 1))
    theirs["cls_token"] = theirs["cls_token"] - prefix[:, :1]
    if registers:
        theirs["reg_token"] = theirs["reg_token"] - prefix[:, 1:]
    loaded = ViT(ViTConfig(size, 4, num_classes=3, embed_dim=16, depth=1, num_heads=2, reg_tokens=registers)).eval()
    loaded.load_state_dict(theirs)
    same = ViT(loaded.config).eval()
    same.load_state_dict(weights)
    images = torch.rand(2, 3, size, size)
    torch.testing.assert_close(loaded.forward_features(images), same.forward_features(images))


def test_positions_that_fit_no_grid_are_refused():
    vit = ViT(ViTConfig(16, 4, num_classes=3, embed_dim=16, depth=1, num_heads=2, global_pool="avg"))
    weights = dict(vit.state_dict(), pos_embed=torch.zeros(1, 197, 16))
    with pytest.raises(RuntimeError, match="pos_embed"):
        vit.load_state_dict(weights)


def test_images_in_bytes_are_refused_in_one_line():
    wanted = r"expected float images \(batch, 3, height, width\), got \(1, 3, 16, 24\) of torch.uint8"
    with pytest.raises(InputError, match=wanted):
        ViT(ViTConfig(**SMALL))(torch.zeros(1, 3, 16, 24, dtype=torch.uint8))
