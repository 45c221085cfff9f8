"""Notes on a model name the input size that it gets, and are logged once."""

import warnings

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.hub import HubRepository
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.create import create_model
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.load import load, with_input_size
from vitreous.pretrained.preprocessing_formats import CLIP_MEAN, HALF, IMAGENET_MEAN
from vitreous.pretrained.wrap import wrap
from vitreous.workflows.convert import convert

CONFIG = ViTConfig((64, 64), 8, num_classes=3, embed_dim=64, depth=1, num_heads=1)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(FORMATS["timm"].to_external(ViT(CONFIG).state_dict(), CONFIG), path)
    return path


def test_a_note_names_the_input_size_that_is_used(weights, notes):
    load(weights, "cpu", input_size=32, resize_mode="squash", callback=notes)
    (assumed,) = [line for line in notes.lines if "does not state its preprocessing" in line]
    assert "resize_mode 'squash' at 32 × 32 pixels" in assumed and "64 × 64 pixels" not in "".join(notes.lines)


def test_a_note_is_logged_once_for_each_model(weights, caplog):
    load(weights, "cpu")
    first = len(caplog.records)
    load(weights, "cpu")
    assert len(caplog.records) == first > 0
    load(weights, "cpu", input_size=32)
    assert "at 32 × 32 pixels" in caplog.text


def test_notes_are_given_when_loading_fails(tmp_path, notes):
    torch.save({"net": {"weight": torch.ones(3, 3)}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="no known format"):
        load(tmp_path / "other.pt", "cpu", callback=notes)
    assert any("the weights in 'net' are used" in line for line in notes.lines)


class FixedSize(nn.Module):
    """A model with positions for 32 × 32 pixels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.zeros(1, 16, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        return self.head(self.layer(self.patches(images).flatten(2).transpose(1, 2) + self.positions).mean(1))


def test_a_wrapped_model_at_another_size_gives_one_line():
    classifier = wrap(FixedSize(), Preprocessing(32, "squash", HALF, HALF, 8))
    for size, mode in ((64, None), (None, "aspect")):
        with pytest.raises(InputError, match=r"FixedSize can't be run on an image of \d+ x \d+ pixels") as caught:
            with_input_size(classifier, size, mode)
        assert "\n" not in str(caught.value)
    assert with_input_size(classifier, 32).preprocessing.input_size == (32, 32)


class Config:
    """What transformers' configurations hold."""

    def __init__(self, model_type: str, folder: str = "") -> None:
        self.model_type, self.image_size, self._name_or_path = model_type, 32, folder


@pytest.mark.parametrize(
    ("model_type", "mean"),
    [("beit", HALF), ("aimv2_vision_model", CLIP_MEAN), ("siglip_vision_model", HALF), ("dinov2", IMAGENET_MEAN)],
)
def test_an_assumed_mean_of_a_transformers_module_is_noted(model_type, mean, notes):
    module = FixedSize()
    module.config = Config(model_type)
    assert wrap(module, callback=notes).preprocessing.mean == mean
    (line,) = notes.lines
    assert line.startswith("FixedSize does not state its preprocessing: assuming resize_mode 'squash'")


def test_the_processor_beside_a_transformers_module_is_read(tmp_path, notes):
    module, processor = FixedSize(), '{"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3]}'
    (tmp_path / "preprocessor_config.json").write_text(processor)
    module.config = Config("vit", str(tmp_path))
    assert wrap(module, callback=notes).preprocessing.mean == (0.1, 0.2, 0.3) and not notes.lines


def test_images_in_bgr_are_not_guessed():
    module = FixedSize()
    module.config = Config("mobilevit")
    with pytest.raises(InputError, match="doesn't state its preprocessing"):
        wrap(module)


def test_a_cache_with_the_files_of_timm_alone(tmp_path, monkeypatch):
    """timm downloads config.json and model.safetensors only; config.json says all."""
    model = create_model("nano/4-32", num_classes=2)
    convert(ImageClassifier(model, Preprocessing(32, "crop", HALF, HALF, 4), ["a", "b"]), "timm", tmp_path / "timm")
    repository, commit = tmp_path / "hub" / "models--timm--vit_mine", "a" * 40
    (repository / "snapshots").mkdir(parents=True)
    (tmp_path / "timm").rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(HubRepository, "_online", False)
    assert load("timm:vit_mine", "cpu").class_names == ("a", "b")
    with pytest.raises(InputError, match="can't reach the Hugging Face hub for timm/vit_other"):
        load("timm:vit_other", "cpu")


@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_modules_that_cannot_be_observed_are_refused_with_the_reason(kind):
    images, module = torch.zeros(1, 3, 32, 32), FixedSize().eval()
    with warnings.catch_warnings(action="ignore"):  # torch calls its own TorchScript deprecated
        module = (
            torch.jit.trace(module, images, check_trace=False)
            if kind == "scripted"
            else torch.export.export(module, (images,)).module()
        )
    with pytest.raises(InputError, match=r"TorchScript program|was exported"):
        wrap(module, Preprocessing(32, "squash", HALF, HALF, 8))
