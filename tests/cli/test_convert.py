"""`vitreous convert` writes what the other library loads without warnings, or one line that says why it can't."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import save_config
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.load import load
from vitreous.workflows import convert as workflow
from vitreous.workflows.convert import LIBRARIES, choose_format, convert

PLAIN = ViTConfig((32, 48), 8, num_classes=3, embed_dim=32, depth=2, num_heads=2)
SCALED = replace(PLAIN, image_size=(32, 32), init_values=1.0)
PIXELS = Preprocessing((32, 48), "squash", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 8)

MODELS = {
    "plain": PLAIN,
    "features": replace(PLAIN, num_classes=0),
    "mean": replace(PLAIN, global_pool="avg"),
    "square-mean": replace(PLAIN, image_size=(32, 32), global_pool="avg"),
    "sequence": replace(PLAIN, global_pool="attention"),
    "scaled": SCALED,
    "scaled-features": replace(SCALED, num_classes=0),
    "registers": replace(SCALED, num_classes=0, reg_tokens=4, pos_embed_antialias=True),
    "wide-scaled": replace(PLAIN, init_values=1.0, num_classes=0),
}


def save(config: ViTConfig, folder: Path) -> ImageClassifier:
    """Write a random model as a run would."""
    torch.manual_seed(0)
    vit = ViT(config)
    for weight in vit.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    names = ["cat", "dog", "eel"][: config.num_classes]
    square = replace(PIXELS, input_size=(32, 32), resize_mode="crop", crop_pct=0.8)
    classifier = ImageClassifier(vit, PIXELS if config.image_size == (32, 48) else square, names)
    classifier.save(folder)
    return classifier


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


CAN = {
    "plain": ("hf", "timm"),
    "features": ("hf", "timm"),
    "mean": ("timm",),
    "square-mean": ("hf", "timm"),
    "sequence": (),
    "scaled": ("hf", "timm"),
    "scaled-features": ("hf", "timm", "dinov2"),
    "registers": ("hf", "timm", "dinov2"),
    "wide-scaled": ("timm",),
}


@pytest.mark.parametrize(("name", "to"), [(name, to) for name in MODELS for to in LIBRARIES])
def test_supported_models_are_read_back_equal_and_others_are_refused(name, to, here, capsys):
    expected = save(MODELS[name], here / "run")
    code = run(["convert", "run", "--to", to, "-o", "out"])
    printed = capsys.readouterr()
    if to not in CAN[name]:
        assert code == 2 and "can't hold" in printed.err
        assert name != "wide-scaled" or "positions for 4 × 6 patches" in printed.err
        able = [f"--to {other}" for other in CAN[name]]
        assert all(other in printed.err for other in able) or not able
        assert ("no other supported library can either" in printed.err) == (not able)
        assert [path.name for path in here.iterdir()] == ["run"]
        return
    assert code == 0 and printed.out.startswith("out: written for") and "same outputs" in printed.out
    assert sorted(path.name for path in here.iterdir()) == ["out", "run"]
    written, images = load("out", "cpu", callback=Callback()), torch.randn(1, 3, *PIXELS.input_size)
    with torch.no_grad():
        assert (written.model(images) - expected.model(images)).abs().max() < (1e-6 if to != "timm" else 1e-2)
    assert written.class_names == expected.class_names
    assert written.preprocessing == expected.preprocessing


ARCHITECTURES = {
    "plain": "ViTForImageClassification",
    "features": "ViTModel",
    "square-mean": "SiglipForImageClassification",
    "scaled": "Dinov2ForImageClassification",
    "scaled-features": "Dinov2Model",
    "registers": "Dinov2WithRegistersModel",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_transformers_loads_it_strictly_with_equal_outputs(name, here):
    transformers = pytest.importorskip("transformers")
    expected = save(MODELS[name], here / "run")
    converted = convert("run", "hf", "out", callback=Callback())
    assert converted.load_code.startswith(f'transformers.{ARCHITECTURES[name]}.from_pretrained("out"')
    kind = getattr(transformers, ARCHITECTURES[name])
    bare = {"add_pooling_layer": False} if name == "features" else {}
    theirs, report = kind.from_pretrained("out", output_loading_info=True, **bare)
    assert not any(report.values()), report
    assert [theirs.config.id2label[i] for i in range(len(expected.class_names))] == list(expected.class_names)
    images = torch.randn(2, 3, *MODELS[name].image_size)
    with torch.no_grad():
        answer = theirs.eval()(images)
        found = answer.logits if expected.class_names else answer.last_hidden_state[:, 0]
        assert (found - expected.model(images)).abs().max() < 1e-5
    assert list(transformers.AutoImageProcessor.from_pretrained("out").image_mean) == [0.1, 0.2, 0.3]


WHOLE = Preprocessing((32, 32), "aspect", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 8)


@pytest.mark.parametrize(
    "exact", [WHOLE, replace(WHOLE, resize_mode="squash", crop_pct=0.9)], ids=["aspect", "central"]
)
@pytest.mark.parametrize(
    ("name", "to"), [(name, to) for name in ("square-mean", "scaled", "scaled-features") for to in CAN[name]]
)
def test_preprocessing_that_others_cannot_express_comes_back(name, to, exact, here, capsys):
    vit = save(MODELS[name], here / "run").model
    names = ["cat", "dog", "eel"][: MODELS[name].num_classes]
    save_config(ImageClassifier(vit, exact, names), here / "run")
    assert run(["convert", "run", "--to", to, "-o", "out"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "other libraries have no 'aspect'" in line]
    assert len(lines) == (exact.resize_mode == "aspect")
    first, again = (load(folder, "cpu", callback=Callback()) for folder in ("run", "out"))
    assert (again.preprocessing, again.class_names) == (exact, tuple(names))
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    pixels, expected = again.preprocess(image)[0], first.preprocess(image)[0]
    assert torch.equal(pixels, expected)
    Image.fromarray(image).save("image.png")
    assert run(["explain", "out", "image.png", "--method", "attention", "-o", "map.png"]) == 0
    if names and to == "hf":
        for (found, score), (expected_label, other) in zip(
            again.predict(image).scores, first.predict(image).scores, strict=True
        ):
            assert found == expected_label and abs(score - other) < 1e-5
    transformers = pytest.importorskip("transformers")
    if to == "hf":
        transformers.AutoConfig.from_pretrained("out")  # ignores our key


def test_changes_in_the_other_librarys_config_count(here):
    save(MODELS["scaled"], here / "run")
    classifier = load("run", "cpu")
    convert(ImageClassifier(classifier.model, WHOLE, classifier.class_names), "hf", "out", callback=Callback())
    processor = json.loads(Path("out/preprocessor_config.json").read_text())
    Path("out/preprocessor_config.json").write_text(json.dumps(processor | {"image_mean": [0.7, 0.7, 0.7]}))
    found = load("out", "cpu", callback=Callback()).preprocessing
    assert (found.resize_mode, found.mean) == ("crop", (0.7, 0.7, 0.7))
    config = json.loads(Path("out/config.json").read_text())
    Path("out/config.json").write_text(json.dumps(config | {"vitreous_preprocessing": {"resize": 3}}))
    with pytest.raises(InputError, match="vitreous_preprocessing"):
        load("out", "cpu")


def test_class_names_of_a_clip_head_come_back(here):
    config = replace(SCALED, init_values=None, pre_norm=True, norm_eps=1e-5)
    classifier = save(config, here / "run")
    torch.nn.init.zeros_(classifier.vit.head.bias)
    torch.nn.init.zeros_(classifier.vit.patch_embed.proj.bias)
    assert convert(classifier, "hf", "out", callback=Callback()).format_name == "clip"
    assert load("out", "cpu", callback=Callback()).class_names == ("cat", "dog", "eel")


def test_a_local_folder_is_no_name_at_an_origin(here, capsys):
    save(MODELS["square-mean"], here / "run")
    assert run(["convert", "run", "--to", "hf", "-o", "own/out"]) == 0
    for origin in ("hf", "timm"):
        assert run(["explain", f"{origin}:own/out", "image.png"]) == 2
        assert f"write own/out alone, without '{origin}:'" in capsys.readouterr().err


def test_an_existing_folder_is_left_alone(here, capsys):
    save(PLAIN, here / "run")
    (here / "out").mkdir()
    (here / "out" / "letter.txt").write_text("dear")
    for output in ("out", "out/letter.txt"):
        assert run(["convert", "run", "--to", "hf", "-o", output]) == 2
        assert f"{output} exists already: name a new folder" in capsys.readouterr().err
    assert (here / "out" / "letter.txt").read_text() == "dear"
    (here / "out" / "letter.txt").unlink()
    assert run(["convert", "run", "--to", "hf", "-o", "out"]) == 0


def test_nothing_incomplete_stays_after_a_failure(here, capsys, monkeypatch):
    save(PLAIN, here / "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workflow, "write_tensors", full)
    assert run(["convert", "run", "--to", "hf", "-o", "out"]) == 2
    assert "can't write" in (message := capsys.readouterr().err) and "no space left on device" in message
    monkeypatch.undo()
    monkeypatch.setattr(workflow, "MAX_RELATIVE_DIFFERENCE", -1.0)
    with pytest.raises(AssertionError, match="outputs of the written model differ"):
        convert(here / "run", "hf", here / "out")
    assert [path.name for path in here.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("to", "words"), [("tim", "did you mean 'timm'"), ("onnx", "choose one of (hf, timm, dinov2)")]
)
def test_unsupported_libraries(to, words, here, capsys):
    save(PLAIN, here / "run")
    assert run(["convert", "run", "--to", to, "-o", "out"]) == 2
    assert words in capsys.readouterr().err


def test_real_dinov2_weights_convert_to_transformers_and_back(shared, here, notes):
    source = shared / "weights" / "dinov2-vits14.safetensors"
    assert convert(source, "hf", "out", callback=notes).format_name == "hf-dinov2"
    assert any("other libraries have no 'aspect' at 224 × 224: they get 'crop'" in line for line in notes.lines)
    convert("out", "dinov2", "back", callback=Callback())
    first, last = (load(path, "cpu", callback=Callback()).vit.state_dict() for path in (source, "back"))
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_every_format_of_the_table_exists():
    assert {name for names in LIBRARIES.values() for name in names} <= set(FORMATS)
    assert choose_format(PLAIN, ViT(PLAIN).state_dict(), "hf")[0].name == "hf-vit"
