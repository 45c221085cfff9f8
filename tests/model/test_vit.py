"""One contract over the options of a ViT, and the properties that every one of them must have."""

import itertools

import pytest
import torch

from vitreous.errors import InputError
from vitreous.model.config import SIZES, ViTConfig, grid_for, named_config
from vitreous.model.patches import patchify
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

SMALL = {"image_size_hw": (16, 24), "patch_size": 4, "classes": 5, "width": 24, "depth": 2, "heads": 2}
VARIANTS = [
    {"pooling": pooling, "positions": positions, "stem": stem}
    for pooling, positions, stem in itertools.product(
        ("class", "mean", "attention", "map"), ("learned", "sincos", "rotary"), ("patch", "conv")
    )
] + [
    {"registers": 3},
    {"pooling": "class-and-mean", "registers": 2},
    {"pooling": "class-and-distillation", "registers": 1},
    {"norm": "rms"},
    {"mlp": "swiglu"},
    {"mlp": "gelu-tanh", "embedding_norm": True},
    {"mlp": "quick-gelu", "pooling": "mean", "norm_after_pooling": True},
    {"positions_antialias": True, "registers": 1},
    {"layer_scale": 0.1},
    {"qk_norm": True, "positions": "rotary", "registers": 2, "pooling": "attention"},
    {"stochastic_depth": 0.3},
    {"patch_dropout": 0.5},
    {"patch_dropout": 0.5, "positions": "rotary", "registers": 1},
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
    assert torch.equal(model.read(trace.tokens[-1]), plain)
    for record in trace.records:
        assert torch.equal(record.recompute_query_key()[0], record.query) and torch.equal(
            record.recompute_query_key()[1], record.key
        )
    assert trace.layout.num_tokens == trace.readout.shape[1] == trace.records[0].query.shape[2]
    assert torch.allclose(trace.readout.sum(1), torch.ones(3))
    model.train()(images).square().sum().backward()
    # A class token whose model pools otherwise doesn't exist; every weight there is takes part.
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_without_classes_the_answer_is_the_pooled_vector():
    assert build(classes=0)(torch.randn(2, 3, 16, 24)).shape == (2, build().config.embed_dim)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("size_hw", [(16, 24), (24, 16), (4, 4), (32, 8)])
def test_any_size_that_the_patch_divides(options, size_hw):
    model, trace = build(**options), Trace()
    assert model(torch.randn(1, 3, *size_hw), trace).isfinite().all()
    assert (trace.layout.grid_height, trace.layout.grid_width) == (size_hw[0] // 4, size_hw[1] // 4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_observed_pass_returns_the_same_bits_in_every_precision(precision):
    model, images = build(pooling="mean"), torch.randn(2, 3, 16, 24)
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
    written_out = model(images)
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", {})
    assert torch.allclose(model(images), written_out, atol=1e-5)


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

    coarse, fine = sincos_pos_embed((4, 6), 16, (4, 6)), sincos_pos_embed((12, 6), 16, (4, 6))
    assert torch.allclose(fine[1::3], coarse, atol=1e-6)


def test_patches_are_cut_row_by_row():
    images = torch.randn(2, 3, 12, 20)
    patches = patchify(images, 4)
    assert torch.equal(patches[0, 6].reshape(3, 4, 4), images[0, :, 4:8, 4:8])


def test_patch_dropout_keeps_each_patch_with_its_own_position():
    model = build(patch_dropout=0.75, pooling="mean").train()
    images = torch.randn(4, 3, 16, 24)
    whole = model.positions(model.stem(images), (4, 6))
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
    small, large, images = build(), build(image_size_hw=(24, 40)), torch.randn(2, 3, 24, 40)
    large.load_state_dict(small.state_dict())
    assert large.positions.table.shape == (6, 10, 24)
    assert torch.allclose(large(images), small(images), atol=1e-5)


def test_sizes_that_do_not_fit_name_the_nearest():
    with pytest.raises(InputError, match=r"33 × 46 .* patches of 16: use 32 × 32, 32 × 48, 48 × 32, 48 × 48"):
        grid_for((33, 46), 16)
    for size_hw in ((-33, 0), (0, 8), (-16, 1)):
        with pytest.raises(InputError, match=r"patches of 16: use 16 × 16$"):
            grid_for(size_hw, 16)
    with pytest.raises(InputError, match="use 4 × 4"):
        build()(torch.randn(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "men"}, "did you mean 'mean'"),
        ({"pooling": "class-and-distillation"}, "the distillation token is the first register"),
        ({"pooling": "class-and-mean", "norm_after_pooling": True}, "normalized before, not after"),
        ({"heads": 5}, "can't be shared by 5 heads"),
        ({"stochastic_depth": 1.0}, "below 1"),
        ({"width": 0}, "must be above 0"),
        ({"stem": "conv", "stem_convolutions": 0}, "stem_convolutions is 0: it must be above 0"),
        ({"stem": "conv", "patch_size": 6, "image_size_hw": (12, 12)}, "power of two"),
        ({"positions": "rotary", "width": 12, "heads": 2}, "multiple of 4"),
    ],
)
def test_settings_that_make_no_model(options, words):
    with pytest.raises(InputError, match=words):
        ViTConfig(**{**SMALL, **options})


def test_unknown_size_names_the_nearest():
    with pytest.raises(InputError, match="did you mean"):
        named_config("Ti/15")


def test_wrong_channels_are_an_error():
    with pytest.raises(InputError, match=r"expected images \(batch, 3"):
        build()(torch.randn(1, 1, 16, 24))
