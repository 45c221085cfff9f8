"""Similar images: the nearest by cosine similarity, and maps that explain this similarity in both images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parquet_files import write_parquet
from PIL import Image

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.wrap import wrap
from vitreous.tasks.targets import SimilarityTarget
from vitreous.transfer.embed import embed
from vitreous.transfer.feature_set import FeatureSet
from vitreous.transfer.similar import similar, without_head


@pytest.fixture(scope="module")
def model():
    """A model whose attention and pooled vector depend on the image, with classes."""
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=3, global_pool="avg"))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    preprocessing = Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)
    return ImageClassifier(vit.eval(), preprocessing, ("dog", "cat", "cow"))


def test_the_nearest_images_are_those_of_the_vectors(model, colored_folder):
    query = colored_folder / "test" / "red" / "3.png"
    found = similar(model, query, f"folder:{colored_folder}", count=5)
    features = embed(model, f"folder:{colored_folder}")
    unit = features.vectors / np.linalg.norm(features.vectors, axis=1, keepdims=True)
    own = features.paths.index(str(query))
    similarities = unit @ unit[own]
    similarities[own] = -2  # the image itself is left out
    order = np.argsort(-similarities)[:5]
    assert [one.path for one in found.images] == [features.paths[index] for index in order]
    np.testing.assert_allclose([one.similarity for one in found.images], similarities[order], atol=1e-5)
    assert found.count == 150 and found.images[0].label in ("blue", "green", "red")


def test_the_maps_explain_the_similarity(model, colored_folder):
    """Both maps have the cosine similarity as their target's score, and differ from those of a class."""
    found = similar(model, colored_folder / "test" / "red" / "3.png", f"folder:{colored_folder}", count=2)
    for one in found.images:
        assert one.explanation.score == pytest.approx(one.similarity, abs=1e-4)
        assert one.query_explanation.score == pytest.approx(one.similarity, abs=1e-4)
        assert one.explanation.target == "similarity to 3.png"
        assert one.query_explanation.target == f"similarity to {one.label}"


def test_the_gradient_of_the_similarity_is_that_of_its_definition():
    vectors = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    other = torch.randn(5, dtype=torch.float64)
    target = SimilarityTarget(other, "another image")
    expected = (vectors @ other) / (vectors.norm(dim=1) * other.norm())
    torch.testing.assert_close(target(vectors), expected)
    found, wanted = (torch.autograd.grad(one.sum(), vectors)[0] for one in (target(vectors), expected))
    torch.testing.assert_close(found, wanted)
    with pytest.raises(InputError, match="is a vector of 5 numbers, and this model's output has 4"):
        target(torch.zeros(1, 4))


def test_the_head_is_removed_from_a_copy(model):
    images = torch.rand(2, 3, 24, 32)
    with torch.no_grad():
        pooled = model.vit.forward_head(model.vit.forward_features(images), pre_logits=True)
        assert torch.equal(without_head(model).model(images), pooled)
    assert model.vit.num_classes == 3


def test_features_from_a_file_and_images_without_labels(model, tmp_path):
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for index in range(4):
        Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{index}.png")
    features = tmp_path / "features.parquet"
    embed(model, str(folder), features)
    query = random.integers(0, 256, (24, 32, 3), np.uint8)
    found, same = similar(model, query, str(features), count=10), similar(model, query, str(folder), count=10)
    assert len(found.images) == 4 and found.query == "the image"
    for one, other in zip(found.images, same.images, strict=True):
        assert one.path.endswith(".png") and one.label is None
        assert one.similarity == pytest.approx(other.similarity, abs=1e-5)
    found.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 600
    embed(model, str(folder), tmp_path / "tokens.parquet", features="patch-mean")
    with pytest.raises(InputError, match=r"compared by pooled vectors, and .*tokens\.parquet holds patch-mean"):
        similar(model, query, str(tmp_path / "tokens.parquet"))
    (folder / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png is not in .* any more"):
        similar(model, query, str(features), count=10)


def test_images_after_one_that_was_left_out_are_found(model, colored_folder, tmp_path):
    """Rows of Parquet files are read again by their paths, whatever their numbers among the features."""
    shutil.copytree(colored_folder, tmp_path / "data")
    min((tmp_path / "data").glob("train/*/*")).write_bytes(b"no image")
    (tmp_path / "hub").mkdir()
    write_parquet(tmp_path / "hub", tmp_path / "data", 50)
    query = max(colored_folder.glob("test/*/*"))
    found = similar(model, query, f"parquet:{tmp_path / 'hub'}", count=6, skip_unreadable=True)
    assert found.count == 149
    own = model.embed(query).numpy()
    for one in found.images:
        vector = model.embed(one.explanation.image_u8).numpy()
        cosine = vector @ own / np.linalg.norm(vector) / np.linalg.norm(own)
        assert one.similarity == pytest.approx(cosine.item(), abs=1e-5)


def in_another_folder(model, colored_folder, tmp_path, monkeypatch, source: str) -> None:
    """Write features of relative paths, then go to another folder."""
    shutil.copytree(colored_folder, tmp_path / "data")
    (tmp_path / "hub").mkdir()
    write_parquet(tmp_path / "hub", colored_folder, 50)
    monkeypatch.chdir(tmp_path)
    embed(model, source, "features.parquet")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.parametrize("source", ["folder:data", "data/test", "parquet:hub"])
def test_images_of_relative_paths_are_found_from_any_folder(source, model, colored_folder, tmp_path, monkeypatch):
    in_another_folder(model, colored_folder, tmp_path, monkeypatch, source)
    query = tmp_path / "data" / "test" / "red" / "3.png"
    found = similar(model, query, "../features.parquet", count=3)
    own = model.embed(query).numpy()
    for one in found.images:
        vector = model.embed(one.explanation.image_u8).numpy()
        cosine = vector @ own / np.linalg.norm(vector) / np.linalg.norm(own)
        assert one.path.startswith(str(tmp_path)) and one.similarity == pytest.approx(cosine.item(), abs=1e-5)
    assert str(query) not in {one.path for one in found.images}, "the query itself is left out"


def test_an_image_of_a_file_without_its_folder_is_named(model, colored_folder, tmp_path, monkeypatch):
    """Files of the first versions don't say from which folder their paths start."""
    in_another_folder(model, colored_folder, tmp_path, monkeypatch, "folder:data")
    features = FeatureSet.load("../features.parquet")
    paths = tuple(str(Path(path).relative_to(tmp_path)) for path in features.paths)
    replace(features, paths=paths, info=replace(features.info, data="folder:data")).save("old.parquet")
    with pytest.raises(InputError, match=r"the image data/.*png of folder:data isn't found from this folder"):
        similar(model, max(colored_folder.glob("test/*/*")), "old.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "attention"}, "the maps of attention don't depend on the other image: choose one of"),
        ({"count": 0}, "can't find 0 similar images"),
        ({"data": "folder:nowhere"}, "there is no folder .*nowhere"),
    ],
)
def test_bad_input_is_one_line(model, colored_folder, options, message):
    query, data = colored_folder / "test" / "red" / "3.png", f"folder:{colored_folder}"
    with pytest.raises(InputError, match=message):
        similar(model, query, **{"data": data, **options})


def test_a_wrapped_module_with_a_head_is_refused(colored_folder):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    classifier = wrap(module, Preprocessing((8, 8), "squash", (0.5,) * 3, (0.5,) * 3, 8))
    with pytest.raises(InputError, match="its vector of features can't be explained"):
        similar(classifier, colored_folder / "test" / "red" / "3.png", f"folder:{colored_folder}")


def test_the_command_line(trained_run, colored_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    query = colored_folder / "test" / "green" / "1.png"
    arguments = ["similar", str(trained_run), str(query), "--data", f"folder:{colored_folder}", "--count", "3"]
    assert run(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4 and out[-1] == "1-similar.png: 3 similar images" and (tmp_path / "1-similar.png").is_file()
    assert run([*arguments, "--json", "-o", "other.png"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["query"] == str(query), "as the similar images, with its folder"
    assert [one["label"] for one in content["images"]] == ["green"] * 3 and (tmp_path / "other.png").is_file()
