"""Wrapped modules classify real images; every method explains them or raises an error with the reason."""

import numpy as np
import pytest
import torch
from example_models import PATCH, Tutorial
from torch import nn

import vitreous
from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.create import create_model
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.wrap import wrap

UNSUPPORTED = {
    "grad-cam": "tokens between",
    "hires-cam": "tokens between",
    "legrad": "classify the tokens of each layer",
    "features": "tokens",
}
"""Methods that need what can't be observed in a wrapped model, and their messages."""
PREPROCESSING = Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, PATCH)


def photo(height: int = 40, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("attention", ["kernel", "einsum", "bmm-heads-first", "masked-kernel"])
def test_every_method_explains_a_wrapped_model_or_raises(method, attention):
    torch.manual_seed(0)
    classifier = wrap(Tutorial(attention, prefix=2, pooling="two"), PREPROCESSING, list("abcde"))
    settings = MethodOptions(n_steps=4) if "n_steps" in METHODS[method].options else MethodOptions()
    settings = MethodOptions(n_samples=4) if "n_samples" in METHODS[method].options else settings
    images = [photo(), photo(20, 50), photo()]
    if method in UNSUPPORTED:
        with pytest.raises(InputError, match=UNSUPPORTED[method]):
            explain_batch(classifier, images, method, settings)
        return
    found = explain_batch(classifier, images, method, settings)
    assert [one.heatmap.shape for one in found] == [(40, 30), (20, 50), (40, 30)]
    assert all(np.isfinite(one.heatmap).all() and np.ptp(one.heatmap) > 0 for one in found)
    assert np.allclose(found[0].heatmap, found[2].heatmap, atol=1e-5)
    assert classifier.model.module.head.weight.grad is None and not classifier.model.module._forward_hooks


def test_a_wrapped_model_caches_its_structure_for_each_size():
    torch.manual_seed(0)
    wrapped = WrappedModel(Tutorial()).eval()
    first = wrapped.structure(torch.randn(2, 3, 16, 24))
    assert wrapped.structure(torch.randn(5, 3, 16, 24)) is first
    assert wrapped.structure(torch.randn(5, 3, 24, 16)).layout.grid_height == 6


def test_a_model_that_processes_batches_differently_raises():
    model = Tutorial().eval()
    block = model.blocks[2]
    block.forward = lambda tokens, own=block.forward: own(tokens) if len(tokens) == 1 else tokens
    from vitreous.model.trace import Trace

    with (
        torch.no_grad(),
        pytest.raises(InputError, match="this pass had 2 layers of attention over 25 tokens, that of a single image"),
    ):
        WrappedModel(model).eval()(torch.randn(2, 3, 16, 24), Trace())


class OutputModel(nn.Module):
    """OutputModel with whatever it is told to."""

    def __init__(self, output) -> None:
        super().__init__()
        self.output = output

    def forward(self, images):
        return self.output(images)


class OutputRecord:
    def __init__(self, **fields) -> None:
        vars(self).update(fields)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (lambda p: p[:, 0, 0], 0),
        (lambda p: (p[:, 1, 0], p), 1),
        (lambda p: {"logits": p[:, 2, 0], "pooler_output": p[:, 0, 0]}, 2),
        (lambda p: OutputRecord(pooler_output=p[:, 1, 0], last_hidden_state=p[:, 0]), 1),
        (lambda p: OutputRecord(pooler_output=None, last_hidden_state=p[:, 2]), 2),
    ],
)
def test_logits_are_found_among_several_outputs(output, expected):
    images = torch.randn(2, 3, 16, 24)
    assert torch.equal(WrappedModel(OutputModel(output))(images), images[:, expected, 0])


@pytest.mark.parametrize("output", [lambda p: p, lambda p: None, lambda p: {"boxes": p}, lambda p: p.sum()])
def test_other_outputs_raise(output):
    with pytest.raises(InputError, match="not one row of numbers per image"):
        WrappedModel(OutputModel(output))(torch.randn(2, 3, 16, 24))


def test_wrap_reads_the_configuration_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=(16, 24), patch_size=8, id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    classifier = wrap(transformers.ViTForImageClassification(config))
    assert classifier.preprocessing == Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 8)
    assert classifier.class_names == ("cat", "dog") and classifier.predict(photo()).label in ("cat", "dog")
    features = wrap(transformers.ViTModel(config))
    assert features.class_names == () and explain_batch(features, [photo()], "rollout")[0].heatmap.shape == (40, 30)


class TokenOutput(Tutorial):
    """Returns the tokens of the last layer, as transformers' models without a pooler do."""

    def __init__(self, prefix: int) -> None:
        super().__init__(prefix=prefix)
        self.head = nn.Identity()

    def read(self, tokens):
        return tokens

    def forward(self, images):
        return {"last_hidden_state": super().forward(images)}


class MeanOutput(nn.Module):
    """The mean of another model's tokens."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images)["last_hidden_state"].mean(1)


def test_the_first_of_tokens_without_a_class_token_is_no_output():
    torch.manual_seed(0)
    message = "no class token and doesn't pool its tokens, .* the upper left one"
    with pytest.raises(InputError, match=message):
        wrap(TokenOutput(prefix=0), PREPROCESSING)
    model = TokenOutput(prefix=0).eval()
    with pytest.raises(InputError, match=message), observe(model):
        model(torch.randn(1, 3, 16, 24))
    trace = Trace()
    wrap(MeanOutput(model), PREPROCESSING).model(torch.randn(1, 3, 16, 24), trace)
    assert trace.readout[0].tolist() == pytest.approx([1 / 24] * 24, abs=1e-5)
    assert wrap(TokenOutput(prefix=1), PREPROCESSING).class_names == ()


@pytest.mark.parametrize("name", ["PixtralVision", "Idefics3Vision"])
def test_transformers_models_without_class_token_and_pooling_raise(name):
    transformers = pytest.importorskip("transformers")
    makers = [getattr(transformers, f"{name}{kind}", None) for kind in ("Model", "Transformer")]
    maker = next((one for one in makers if one is not None), None) or pytest.skip(f"no {name} here")
    config = getattr(transformers, f"{name}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4
    )
    with pytest.raises(InputError, match="the upper left one"):
        wrap(maker(config))


def test_a_patch_size_that_is_not_found_is_noted(notes):
    model = Tutorial("windows", prefix=0)
    model.pretrained_cfg = {"input_size": (3, 16, 24), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert wrap(model, callback=notes).preprocessing.patch_size == 1
    (line,) = notes.lines
    assert line.startswith("the model's patches aren't known, so patch_size=1 is assumed: ") and "windows" in line
    assert wrap(model, PREPROCESSING, callback=notes).preprocessing.patch_size == PATCH and len(notes.lines) == 1


def test_wrap_reads_the_configuration_of_timm():
    model = Tutorial()
    model.pretrained_cfg = {"input_size": (3, 16, 24), "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1), "crop_pct": 0.9}
    found = wrap(model).preprocessing
    assert found == Preprocessing((16, 24), "crop", (0.1, 0.2, 0.3), (1, 1, 1), PATCH, crop_pct=0.9)


def test_wrap_keeps_our_own_vit():
    vit = ViT(ViTConfig((16, 24), patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5))
    classifier = wrap(vit, PREPROCESSING)
    assert classifier.vit is vit and len(classifier.class_names) == 5
    assert wrap(nn.DataParallel(vit), PREPROCESSING).vit is vit
    nn.init.normal_(vit.head.weight)
    assert explain_batch(classifier, [photo()], "legrad")[0].heatmap.shape == (40, 30)


@pytest.mark.parametrize(("in_chans", "mean"), [(3, "0.485, 0.456, 0.406"), (1, "0.5")])
def test_the_preprocessing_of_our_own_vit_is_assumed_and_noted(in_chans, mean, notes):
    vit = create_model("nano/4-32", image_size=(16, 24), in_chans=in_chans, num_classes=2)
    found = wrap(vit, callback=notes)
    (line,) = notes.lines
    assert "does not state its preprocessing: assuming resize_mode 'crop' at 16 × 24 pixels" in line
    assert f"with mean {mean}" in line and found.preprocessing.patch_size == 4
    assert found.predict(photo()).score == pytest.approx(0.5)


def test_wrap_accepts_a_model_without_attention():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    classifier = wrap(model, Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 1))
    assert classifier.class_names == ("class 0", "class 1") and classifier.predict(photo()).score > 0
    with pytest.raises(InputError, match="no attention was observed"):
        explain_batch(classifier, [photo()], "rollout")
    with pytest.raises(InputError, match="needs a ViT of Vitreous"):
        _ = classifier.vit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Tutorial(),), "Tutorial doesn't state its preprocessing"),
        ((Tutorial(), PREPROCESSING, ["a"]), "1 class names were given, but the model has 5 outputs"),
        ((Tutorial(), Preprocessing((16, 24), "squash", (0.5,), (0.5,), PATCH)), "can't be run .* with 1 channels"),
        ((Tutorial(), Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 8)), "patch_size=8, .* are 4 pixels"),
        (("vit",), "a torch.nn.Module is needed, not str"),
        ((Tutorial(), (16, 24)), r"preprocessing=\(16, 24\) has the wrong type: wrap takes a vitreous"),
        ((Tutorial(), PREPROCESSING, "abcde"), "class_names='abcde' is invalid: give a list of strings"),
        ((Tutorial(), PREPROCESSING, set("abcde")), "class_names=.* is invalid: give a list of strings"),
    ],
)
def test_invalid_arguments_of_wrap_raise(arguments, message):
    with pytest.raises(InputError, match=message):
        wrap(*arguments)


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, lambda names: dict(enumerate(names)).values()])
def test_any_iterable_of_class_names_in_order_is_taken(kind):
    names = ["e", "d", "c", "b", "a"]
    assert wrap(Tutorial(), PREPROCESSING, kind(names)).class_names == tuple(names)
    model = wrap(Tutorial(), PREPROCESSING).model
    assert vitreous.ImageClassifier(model, PREPROCESSING, kind(names)).class_names == tuple(names)


class NoPositions(nn.Module):
    """Patches without positions, of which a gray image's are all equal, read by `pool`."""

    def __init__(self, pool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.attention = nn.Conv2d(3, 16, PATCH, PATCH), nn.MultiheadAttention(16, 2, batch_first=True)
        self.pool, self.head = pool, nn.Linear(16, 5)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.pool(tokens + self.attention(tokens, tokens, tokens)[0]))


@pytest.mark.parametrize("pool", [lambda tokens: tokens.amax(1), lambda tokens: tokens.max(1).values])
def test_max_pooling_raises(pool):
    with pytest.raises(InputError, match="read"):
        explain_batch(wrap(NoPositions(pool), PREPROCESSING), [photo()], "attention")
    assert explain_batch(wrap(NoPositions(lambda tokens: tokens.mean(1)), PREPROCESSING), [photo()], "attention")


def test_models_made_in_inference_mode_raise():
    with torch.inference_mode():
        inside, found = Tutorial(), wrap(module := without_gradients(), PREPROCESSING)
    with pytest.raises(InputError, match="inference_mode"):
        wrap(inside, PREPROCESSING)
    assert found.preprocessing.patch_size == wrap(module, PREPROCESSING).preprocessing.patch_size == PATCH
    assert np.isfinite(explain_batch(found, [photo()], "gradient-rollout")[0].heatmap).all()


def without_gradients() -> Tutorial:
    with torch.inference_mode(mode=False):
        return Tutorial()


class WeightedPooling(Tutorial):
    """Reads a weighted mean of the patches."""

    def __init__(self):
        super().__init__(prefix=0)
        self.weights = nn.Parameter(torch.full((16,), 1 / 16))

    def read(self, tokens):
        return torch.einsum("n,bnw->bw", self.weights, tokens)


def test_the_inspection_follows_the_weights():
    """A pooling whose weights change after the first trace is read anew."""
    torch.manual_seed(0)
    model = WeightedPooling().eval()
    wrapped, images = WrappedModel(model).eval(), torch.rand(1, 3, 16, 16)
    readouts = []
    for _ in range(2):
        trace = Trace()
        wrapped(images, trace)
        readouts.append(trace.readout.flatten())
        with torch.no_grad():
            model.weights[3] = 4.0
    assert torch.allclose(readouts[0], torch.full((16,), 1 / 16), atol=1e-3)
    assert readouts[1].argmax() == 3


def test_observe_after_a_refused_call():
    """A call that is refused doesn't leave the next one unobserved."""
    torch.manual_seed(0)
    model = Tutorial().eval()
    with observe(model) as trace:
        with pytest.raises((InputError, RuntimeError)):
            model(torch.rand(1, 5, 16, 16))
        model(torch.rand(1, 3, 16, 16))
    assert len(trace.records) == 3
