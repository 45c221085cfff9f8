"""`observe` on models of transformers, timm, torchvision and vit-pytorch, held against what these say themselves."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.methods.rollout import propagate, reference_rollout
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.trace import TokenLayout, Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": (16, 24), "patch_size": 4}


@pytest.fixture(scope="module", autouse=True)
def torchvision_for_processors():
    """A torchvision built for CUDA can be imported beside a torch without it once two operators are declared."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)


@pytest.fixture(scope="module")
def timm():
    return imported("timm")


@pytest.fixture(scope="module")
def torchvision():
    return imported("torchvision")


@pytest.fixture(scope="module")
def vit_pytorch():
    return imported("vit_pytorch")


def imported(name: str):
    """The library, or a skip: it may be there and yet not be importable beside a torch for processors."""
    try:
        return __import__(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} can't be imported here: {error}")


def some_images(size_hw: tuple[int, int] = (16, 24)) -> torch.Tensor:
    return torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(1))


def traced(model: nn.Module, size_hw: tuple[int, int] = (16, 24)) -> Trace:
    """A trace of random images; logits are the unobserved ones, and every output is A value."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # libraries begin with a head of zeros and attention that is nearly even
    images = some_images(size_hw)
    alone = model.eval()(images)
    with observe(model) as trace:
        logits = model(images)
    first, second = (one if isinstance(one, torch.Tensor) else one[0] for one in (alone, logits))
    assert torch.equal(first, second)
    for record in trace.records:
        assert torch.allclose(reference_attention(record) @ record.value, record.output, atol=1e-5)
    return trace


def readout(trace: Trace) -> list[float]:
    assert trace.readout is not None
    return trace.readout[0].tolist()


def class_token(tokens: int) -> list[float]:
    return [1.0] + [0.0] * (tokens - 1)


def test_transformers_vit_attention_equals_that_of_eager():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**SMALL, intermediate_size=64, attn_implementation="eager")
    model = transformers.ViTForImageClassification(config)
    eager = traced(model)
    told = model(some_images(), output_attentions=True).attentions
    assert told[0].std() > 0.003
    model.set_attn_implementation("sdpa")
    fused = traced(model)
    assert fused.layout == eager.layout == TokenLayout(1, 4, 6)
    assert fused.records[0].weights is None and eager.records[0].weights is not None
    for one, other, expected in zip(fused.records, eager.records, told, strict=True):
        assert torch.allclose(reference_attention(one), expected, atol=1e-5)
        assert torch.allclose(reference_attention(other), expected, atol=1e-5)
    assert readout(fused) == readout(eager) == class_token(25)


def test_transformers_vit_rollout_equals_that_of_its_own_matrices():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**SMALL, intermediate_size=64, attn_implementation="eager")
    model = transformers.ViTForImageClassification(config).double().eval()
    images, product = torch.randn(1, 3, 16, 24, dtype=torch.float64), torch.eye(25, dtype=torch.float64)
    for weights in model(images, output_attentions=True).attentions:
        product = (weights[0].mean(0) + torch.eye(25)) / 2 @ product
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), observe(model) as trace:
        model(pixel_values=images)
    assert trace.readout is not None
    assert torch.allclose(propagate(trace.records, trace.readout), product[:1], atol=1e-10)
    assert torch.allclose(reference_rollout(trace, trace.readout), product[:1], atol=1e-10)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_transformers_dinov2_with_registers(implementation):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2WithRegistersConfig(
        **SMALL | {"image_size": 16}, mlp_ratio=2, num_register_tokens=4, attn_implementation=implementation
    )
    trace = traced(transformers.Dinov2WithRegistersModel(config))
    assert trace.layout == TokenLayout(5, 4, 6) and len(trace.records) == 3
    assert readout(trace) == class_token(29), "pooler_output is the class token"


def test_transformers_dinov2_reads_class_token_and_mean():
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(**SMALL | {"image_size": 16}, mlp_ratio=2)
    trace = traced(transformers.Dinov2ForImageClassification(config))
    assert readout(trace) == pytest.approx([1 / 2] + [1 / 48] * 24, abs=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_transformers_siglip_pools_by_attention(implementation):
    transformers = pytest.importorskip("transformers")
    small = SMALL | {"image_size": 16}
    config = transformers.SiglipVisionConfig(**small, intermediate_size=64, attn_implementation=implementation)
    model = transformers.SiglipVisionModel(config)
    trace = traced(model, (16, 16))
    assert trace.layout == TokenLayout(0, 4, 4)
    head = model.vision_model.head if hasattr(model, "vision_model") else model.head
    tokens = model(some_images((16, 16))).last_hidden_state
    _, weights = head.attention(head.probe.expand(2, -1, -1), tokens, tokens)
    assert torch.allclose(trace.readout, weights[:, 0], atol=1e-6)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_transformers_beit_with_a_position_bias(implementation):
    transformers = pytest.importorskip("transformers")
    config = transformers.BeitConfig(
        **SMALL, intermediate_size=64, use_relative_position_bias=True, attn_implementation=implementation
    )
    trace = traced(transformers.BeitForImageClassification(config))
    assert trace.layout == TokenLayout(1, 4, 6) and readout(trace) == pytest.approx([0] + [1 / 24] * 24, abs=1e-5)


def test_transformers_swin_raises():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    model = transformers.SwinForImageClassification(config).eval()
    with pytest.raises(InputError, match="works in windows"), observe(model):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("pooling", ["token", "avg", "token-avg", "map"])
def test_our_vit_observed_equals_its_own_trace(side, pooling):
    torch.manual_seed(0)
    config = ViTConfig(
        (side, side), patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5, reg_tokens=2, global_pool=pooling
    )
    model, images, own = ViT(config).double().eval(), torch.randn(2, 3, side, side, dtype=torch.float64), Trace()
    nn.init.normal_(model.head.weight)
    model(images, own)
    with torch.no_grad(), observe(model) as trace:
        model(images)
    assert trace.layout == own.layout and trace.readout is not None
    assert torch.allclose(trace.readout, own.readout.to(trace.readout), atol=1e-6)
    for one, other in zip(trace.records, own.records, strict=True):
        assert torch.allclose(reference_attention(one), reference_attention(other), atol=1e-10)
        assert one.projection is other.projection


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("registers", "pooling"), [(0, "token"), (4, "token"), (4, "avg")])
def test_timm_vit(timm, fused, registers, pooling):
    from timm.layers import set_fused_attn

    model_type = timm.models.vision_transformer.VisionTransformer
    set_fused_attn(enable=fused)
    try:
        model = model_type(
            img_size=(16, 24), patch_size=4, embed_dim=32, depth=3, num_heads=2, num_classes=5,
            reg_tokens=registers, global_pool=pooling,
        )  # fmt: skip
        trace = traced(model)
    finally:
        set_fused_attn(enable=True)
    prefix = 1 + registers
    assert trace.layout == TokenLayout(prefix, 4, 6) and (trace.records[0].weights is None) == fused
    expected = class_token(prefix + 24) if pooling == "token" else [0] * prefix + [1 / 24] * 24
    assert readout(trace) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("deit_tiny_distilled_patch16_224", 2, [1 / 2, 1 / 2] + [0] * 16),
        ("vit_small_patch16_dinov3", 5, [0] * 5 + [1 / 16] * 16),
        ("beit_base_patch16_224", 1, [0] + [1 / 16] * 16),
        ("eva02_tiny_patch14_224", 1, [0] + [1 / 16] * 16),
    ],
)
def test_other_timm_models(timm, name, prefix, expected):
    model = timm.create_model(name, img_size=32, patch_size=8, num_classes=5, depth=2, embed_dim=48, num_heads=3)
    trace = traced(model, (32, 32))
    assert trace.layout == TokenLayout(prefix, 4, 4)
    assert readout(trace) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "cait_xxs24_224", "xcit_nano_12_p16_224"])
def test_timm_models_that_are_no_plain_vits_raise(timm, name):
    with pytest.raises(InputError, match=r"choose input-x-gradient, .*, occlusion or rise"):
        traced(timm.create_model(name, num_classes=5), (224, 224))


def test_torchvision_vit(torchvision):
    model = torchvision.models.VisionTransformer(16, 4, 3, 2, 32, 64, num_classes=5)
    trace = traced(model, (16, 16))
    assert trace.layout == TokenLayout(1, 4, 4) and readout(trace) == class_token(17)
    assert trace.records[0].query.shape == (2, 2, 17, 16)
    with torch.no_grad(), observe(model) as unseen:
        model(torch.randn(2, 3, 16, 16))
    assert len(unseen.records) == 3, "the fused path of nn.MultiheadAttention isn't taken"


@pytest.mark.parametrize(
    ("kind", "prefix", "expected"),
    [
        ("cls", 1, class_token(25)),
        ("mean", None, None),
        ("simple", 0, [1 / 24] * 24),
        ("registers", 4, [0] * 4 + [1 / 24] * 24),
    ],
)
def test_vit_pytorch(vit_pytorch, kind, prefix, expected):
    sizes = {
        "image_size": (16, 24),
        "patch_size": 4,
        "num_classes": 5,
        "dim": 32,
        "depth": 3,
        "heads": 2,
        "mlp_dim": 64,
    }
    if kind in ("cls", "mean"):
        model = vit_pytorch.ViT(**sizes, pool=kind)
    elif kind == "simple":
        model = vit_pytorch.SimpleViT(**sizes)
    else:
        from vit_pytorch.simple_vit_with_register_tokens import SimpleViT

        model = SimpleViT(**sizes)
    trace = traced(model)
    count = trace.layout.num_prefix_tokens if prefix is None else prefix
    assert trace.layout == TokenLayout(count, 4, 6)
    assert readout(trace) == pytest.approx(expected or [1 / (24 + count)] * (24 + count), abs=1e-5)
    assert trace.records[0].scale == pytest.approx(64**-0.5)


def test_vit_pytorch_talking_heads_raise(vit_pytorch):
    from vit_pytorch.deepvit import DeepViT

    model = DeepViT(image_size=16, patch_size=4, num_classes=5, dim=32, depth=2, heads=2, mlp_dim=64)
    with pytest.raises(InputError, match="no product of it with values"):
        traced(model, (16, 16))


def test_a_wrapped_model_gives_the_same_trace_as_observe():
    transformers = pytest.importorskip("transformers")
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, intermediate_size=64)).eval()
    wrapped, trace, images = WrappedModel(model).eval(), Trace(), torch.randn(3, 3, 16, 24)
    with torch.no_grad():
        logits = wrapped(images, trace)
        assert torch.equal(logits, wrapped(images)) and logits.shape == (3, 2)
        with observe(model) as seen:
            model(images)
    assert trace.layout == seen.layout and torch.equal(trace.readout, seen.readout)
    for one, other in zip(trace.records, seen.records, strict=True):
        assert torch.equal(one.query, other.query) and torch.equal(one.output, other.output)


@pytest.mark.parametrize("method", ["attention", "rollout", "gradient-rollout", "value-norm"])
def test_maps_of_a_wrapped_model_equal_those_of_our_vit_with_its_weights(method, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL | {"image_size": 16}, intermediate_size=64)
    model = transformers.ViTForImageClassification(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    ours = load(tmp_path, "cpu")
    theirs = wrap(model, ours.preprocessing, ours.class_names)
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (one,), (other,) = (explain_batch(classifier, [photo], method) for classifier in (ours, theirs))
    assert np.ptp(one.patch_map) > 1e-3 * abs(one.patch_map).max()
    assert np.allclose(one.patch_map, other.patch_map, rtol=1e-4, atol=1e-5 * abs(one.patch_map).max())
    assert one.prediction.label == other.prediction.label


def test_wrap_reads_the_configuration_of_timm_models(timm):
    classifier = wrap(timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5))
    expected = Preprocessing((32, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8, crop_pct=0.9)
    assert classifier.preprocessing == expected and len(classifier.class_names) == 5
    assert wrap(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0)).class_names == ()


def test_wrap_reads_the_configuration_of_torchvision_models(torchvision):
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    classifier, photo = wrap(model), np.zeros((20, 30, 3), np.uint8)
    assert classifier.preprocessing.patch_size == 8 and classifier.preprocessing.crop_pct == 0.875
    assert explain_batch(classifier, [photo], "gradient-rollout")[0].heatmap.shape == (20, 30)
