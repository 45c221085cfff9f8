"""CIFAR-10-C in its published layout, in a small folder made here."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.robustness import run as robustness
from vitreous.diagnostics.robustness.cifar10_c import CLASSES, open_cifar10_c
from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS, corrupt
from vitreous.diagnostics.robustness.run import measure_corruptions
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT

COUNT = 30


def tiny(class_names=CLASSES, size=16) -> ImageClassifier:
    torch.manual_seed(0)
    config = ViTConfig((size, size), 4, embed_dim=16, depth=1, num_heads=2, num_classes=len(class_names))
    return ImageClassifier(ViT(config), Preprocessing((size, size), "squash", (0.5,) * 3, (0.25,) * 3, 4), class_names)


def write_folder(folder: Path, corruptions, count=COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Write the files of some corruptions: image i at severity s is filled with 10 s + (i mod 10); return them."""
    folder.mkdir(exist_ok=True)
    labels = np.tile(np.random.default_rng(0).integers(0, 10, count), 5).astype(np.uint8)
    values = 10 * np.repeat(np.arange(1, 6), count) + np.tile(np.arange(count) % 10, 5)
    images = np.zeros((5 * count, 32, 32, 3), np.uint8) + values[:, None, None, None].astype(np.uint8)
    images[..., 1] += 100
    for name in corruptions:
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", labels)
    return images, labels


def test_each_severity_has_its_own_images_in_the_order_of_the_labels(tmp_path):
    images, labels = write_folder(tmp_path / "c", ["fog", "snow"])
    found = open_cifar10_c(tmp_path / "c", model := tiny(size=32))
    assert list(found.images) == ["snow", "fog"] and found.num_images == COUNT
    for severity in (1, 5):
        part = found.load("fog", severity, model)
        rows = slice((severity - 1) * COUNT, severity * COUNT)
        assert np.array_equal(part.images_u8.permute(0, 2, 3, 1).numpy(), images[rows])
        assert part.labels.tolist() == labels[rows].tolist() and part.class_names == CLASSES
    few = found.load("fog", 2, model, 3)
    assert few.images_u8[:, 0, 0, 0].tolist() == [20, 24, 29] and few.images_u8[0, :, 0, 0].tolist() == [20, 120, 20]


def test_labels_and_size_are_those_of_the_model(tmp_path):
    _, labels = write_folder(tmp_path / "c", ["fog"])
    model = tiny(CLASSES[::-1], 16)
    part = open_cifar10_c(tmp_path / "c", model).load("fog", 1, model)
    assert part.images_u8.shape == (COUNT, 3, 16, 16)
    assert [part.class_names[label] for label in part.labels] == [CLASSES[label] for label in labels[:COUNT]]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "labels.npy").unlink(), "does not hold CIFAR-10-C"),
        (lambda folder: (folder / "fog.npy").unlink(), "does not hold CIFAR-10-C"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((4, 32, 32, 3), np.uint8)), "it must be uint8"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((5 * COUNT, 32, 32, 3))), "it must be uint8"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros(7, np.int64)), "5 severities"),
        (lambda folder: np.save(folder / "labels.npy", np.full(5 * COUNT, 10)), "they must be 0 to 9"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"no array"), "is not a .npy file"),
        (lambda folder: (folder / "fog.npy").write_bytes(b""), "is not a .npy file"),
    ],
)
def test_damaged_folders_are_errors(damage, words, tmp_path):
    write_folder(tmp_path / "c", ["fog"])
    damage(tmp_path / "c")
    with pytest.raises(InputError, match=words):
        open_cifar10_c(tmp_path / "c", tiny())


def test_a_model_of_other_classes_is_an_error(tmp_path):
    write_folder(tmp_path / "c", ["fog"])
    with pytest.raises(InputError, match="needs a model of color images with the classes airplane"):
        open_cifar10_c(tmp_path / "c", tiny(("cat", "dog")))


@pytest.fixture
def clean_images(monkeypatch) -> ImageSet:
    """Stands for the test images of CIFAR-10."""
    pixels = torch.randint(0, 256, (COUNT, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(COUNT) % 10, CLASSES)
    monkeypatch.setattr("vitreous.diagnostics.evaluation_set.load_images", lambda *arguments: images)
    return images


def test_accuracies_are_those_of_the_files(clean_images, tmp_path):
    _, labels = write_folder(tmp_path / "c", CORRUPTIONS)
    model = tiny()
    result = measure_corruptions(model, "cifar10", corrupted_data=f"cifar10-c:{tmp_path / 'c'}", precision="fp32")
    files = open_cifar10_c(tmp_path / "c", model)
    assert [one.corruption for one in result.scores.by_corruption] == list(CORRUPTIONS) and result.files == ()
    for severity, score in enumerate(result.scores.by_corruption[0].by_severity, 1):
        images = files.load("gaussian_noise", severity, model)
        pixels = images.images_u8.permute(0, 2, 3, 1).numpy()
        predicted = [model.class_index(model.predict(image).label) for image in pixels]
        assert score.value == pytest.approx(np.mean(np.array(predicted) == labels[:COUNT])) and score.n == COUNT
    mean = np.mean([score.value for one in result.scores.by_corruption for score in one.by_severity])
    assert result.scores.mean.value == pytest.approx(mean)
    assert result.scores.mean_corruption_error == pytest.approx(1 - mean)
    assert "gaussian_noise" in str(result) and "clean" in str(result)


def test_a_stopped_measurement_covers_the_corruptions_so_far(clean_images, tmp_path):
    class Stop(Callback):
        def should_stop(self):
            return True

    write_folder(tmp_path / "c", CORRUPTIONS)
    source = f"cifar10-c:{tmp_path / 'c'}"
    result = measure_corruptions(tiny(), "cifar10", corrupted_data=source, precision="fp32", callback=Stop())
    assert [one.corruption for one in result.scores.by_corruption] == ["gaussian_noise"]


def test_generated_and_published_images_are_evaluated_alike(clean_images, tmp_path, monkeypatch):
    """Files that hold what the generator makes give the same accuracies."""
    model = tiny(size=32)
    pixels = torch.nn.functional.interpolate(clean_images.images_u8, (32, 32), mode="nearest")
    clean = ImageSet(pixels, clean_images.labels, CLASSES)
    monkeypatch.setattr("vitreous.diagnostics.evaluation_set.load_images", lambda *arguments: clean)
    monkeypatch.setattr(robustness, "CORRUPTIONS", {name: CORRUPTIONS[name] for name in ("fog", "contrast")})
    (tmp_path / "c").mkdir()
    for name in ("fog", "contrast"):
        parts = [corrupt(pixels, name, severity).permute(0, 2, 3, 1).numpy() for severity in range(1, 6)]
        np.save(tmp_path / "c" / f"{name}.npy", np.concatenate(parts))
    np.save(tmp_path / "c" / "labels.npy", np.tile(clean.labels.numpy(), 5))
    generated = measure_corruptions(model, "cifar10", precision="fp32").scores
    published = measure_corruptions(
        model, "cifar10", corrupted_data=f"cifar10-c:{tmp_path / 'c'}", precision="fp32"
    ).scores
    assert published == generated


def test_from_the_command_line(tmp_path, trained_run, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run, "run")
    write_folder(tmp_path / "c", ["fog", "snow"], 30)
    assert run(["evaluate", "run", "--corruptions", "cifar10-c:c"]) == 2
    assert "needs a model of color images" in capsys.readouterr().err
    names = ("red", "green", "blue")
    monkeypatch.setattr("vitreous.diagnostics.robustness.cifar10_c.CLASSES", names)
    np.save(tmp_path / "c" / "labels.npy", np.tile(np.arange(30) % 3, 5))
    assert run(["evaluate", "run", "--corruptions", "cifar10-c:c"]) == 0
    printed = capsys.readouterr()
    assert "of 2 of the 15 corruptions" in printed.out and "mean corruption error" in printed.out
    assert "run/cifar10-c.json and run/figures/cifar10-c.png written" in printed.err
    saved = json.loads(Path("run/cifar10-c.json").read_text())
    assert saved["corrupted_data"] == "cifar10-c:c" and not Path("run/corruptions.json").exists()
    assert saved["mean_corruption_error"] == pytest.approx(1 - saved["mean"]["value"])
    assert run(["evaluate", "run", "--corruptions", "imagenet-c:c"]) == 2
    assert "there are no corrupted images 'imagenet-c:c'" in capsys.readouterr().err
