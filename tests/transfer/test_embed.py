"""Features of all images of a source: equal to the classifier's own, resumed to the same file, refused where wrong."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from parquet_files import write_parquet
from PIL import Image
from torch import nn

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.wrap import wrap
from vitreous.transfer import embed as embed_module
from vitreous.transfer.embed import embed
from vitreous.transfer.feature_set import FeatureSet


class StopAfter(Callback):
    """Stops at the first question, and keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def should_stop(self) -> bool:
        return True


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Unlabeled images of different sizes, in a folder with a subfolder."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "more").mkdir()
    for index in range(7):
        name = f"more/{index}.png" if index % 2 else f"{index}.png"
        Image.fromarray(random.integers(0, 256, (30 + index, 50 - index, 3), np.uint8)).save(folder / name)
    return folder


def test_default_features_are_those_of_the_classifier(small_classifier, photos):
    features = embed(small_classifier, str(photos))
    assert len(features) == 7 and features.info.features == ("pooled",)
    assert features.label_names == [None] * 7
    np.testing.assert_allclose(features.vectors, small_classifier.embed(list(features.paths)).numpy(), atol=1e-5)


def test_images_of_several_shapes_are_embedded_as_one_by_one(small_classifier, photos):
    preprocessing = Preprocessing((24, 32), "aspect", (0.5,) * 3, (0.5,) * 3, 8)
    classifier = small_classifier.replace(preprocessing=preprocessing)
    features = embed(classifier, str(photos), batch_size=4)
    for path, vector in zip(features.paths, features.vectors, strict=True):
        np.testing.assert_allclose(vector, classifier.embed(path).numpy(), atol=1e-5)


def test_class_token_and_patch_mean_are_the_tokens_of_the_layers(small_classifier, photos):
    features = embed(small_classifier, str(photos), features=["class-token", "patch-mean"], layers=[-1, 0])
    inputs = torch.stack([small_classifier.preprocess(path)[0] for path in features.paths])
    with torch.no_grad():
        (first, last) = small_classifier.vit.get_intermediate_layers(inputs, [0, 2], return_prefix_tokens=True)
    expected = torch.cat([last[1][:, 0], last[0].mean(1), first[1][:, 0], first[0].mean(1)], 1)
    assert features.info.layers == (2, 0) and features.info.width == 4 * 16
    np.testing.assert_allclose(features.vectors, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("pool", "feature"), [("token", "class-token"), ("avg", "patch-mean")])
def test_the_pooled_vector_is_the_feature_of_the_last_layer(pool, feature, photos):
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=3, global_pool=pool))
    classifier = ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("a", "b", "c"))
    pooled, other = (embed(classifier, str(photos), features=name).vectors for name in ("pooled", feature))
    np.testing.assert_allclose(pooled, other, atol=1e-5)


def test_rows_hold_path_label_and_split(small_classifier, colored_folder, tmp_path):
    output = tmp_path / "features.parquet"
    features = embed(small_classifier, f"folder:{colored_folder}", output)
    table = pq.read_table(output)  # what pandas, polars and DuckDB read
    assert table.column_names == ["path", "label", "split", "vector"]
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[16]"
    assert table["split"].to_pylist() == ["train"] * 120 + ["test"] * 30
    for path, label, split in zip(*(table[name].to_pylist() for name in ("path", "label", "split")), strict=True):
        assert path.startswith(f"{colored_folder}/{split}/{label}/")
    np.testing.assert_array_equal(features.vectors, np.stack(table["vector"].to_pylist()).astype(np.float32))
    assert features.info.class_names == ("blue", "green", "red") and len(features.split("test")) == 30
    assert len(embed(small_classifier, f"folder:{colored_folder}", split="test")) == 30


def test_a_saved_record_is_read_back(small_classifier, colored_folder, tmp_path):
    features = embed(small_classifier, f"folder:{colored_folder}", split="test")
    features.save(tmp_path / "a.parquet")
    read = FeatureSet.load(tmp_path / "a.parquet", small_classifier)
    assert (read.paths, read.splits, read.info) == (features.paths, features.splits, features.info)
    np.testing.assert_array_equal(read.vectors, features.vectors)
    np.testing.assert_array_equal(read.labels, features.labels)


def test_a_resumed_file_equals_an_uninterrupted_one(small_classifier, colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    whole, resumed, source = tmp_path / "whole.parquet", tmp_path / "resumed.parquet", f"folder:{colored_folder}"
    embed(small_classifier, source, whole, batch_size=16)
    with pytest.raises(InputError, match="stopped after 32 of 150 images: call again to go on"):
        embed(small_classifier, source, resumed, batch_size=16, callback=StopAfter())
    assert not resumed.exists()
    callback, computed = StopAfter(), []
    callback.should_stop = lambda: False
    original = embed_module._load
    monkeypatch.setattr(embed_module, "_load", lambda job, index: computed.append(index) or original(job, index))
    embed(small_classifier, source, resumed, batch_size=16, callback=callback)
    assert sorted(computed) == list(range(32, 150)), "the finished part is not computed again"
    assert any("32 of 150 images are done already" in note for note in callback.notes)
    assert resumed.read_bytes() == whole.read_bytes()
    assert pq.read_metadata(resumed).num_row_groups == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed.parquet", "whole.parquet"]


def test_parts_of_another_model_are_refused(small_classifier, colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    output, source = tmp_path / "features.parquet", f"folder:{colored_folder}"
    with pytest.raises(InputError, match="stopped"):
        embed(small_classifier, source, output, callback=StopAfter())
    with pytest.raises(InputError, match=r"unfinished work with other settings \(fingerprint"):
        embed(another(small_classifier), source, output)


def another(classifier: ImageClassifier) -> ImageClassifier:
    """A model with other weights."""
    torch.manual_seed(1)
    return classifier.replace(model=ViT(classifier.vit.config))


def test_features_of_another_model_are_refused(small_classifier, photos, tmp_path):
    features = embed(small_classifier, str(photos), tmp_path / "a.parquet")
    others = embed(another(small_classifier), str(photos))
    with pytest.raises(InputError, match="these are features of another model"):
        FeatureSet.load(tmp_path / "a.parquet", another(small_classifier))
    with pytest.raises(InputError, match="features of different models or layers"):
        features.concatenate(others)
    assert len(features.concatenate(features)) == 14


def test_unreadable_images_are_refused_or_left_out(small_classifier, photos, tmp_path, notes):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, path in enumerate(sorted(photos.glob("*.png"))):
        (folder / f"{index}.png").write_bytes(path.read_bytes())
    (folder / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png.*skip such images with --skip-unreadable"):
        embed(small_classifier, str(folder))
    features = embed(small_classifier, str(folder), tmp_path / "f.parquet", skip_unreadable=True, callback=notes)
    assert [path[-5:] for path in features.paths] == ["0.png", "2.png", "3.png"]
    listed = notes.lines.index("1 of 4 images can't be read and are skipped:")
    assert str(folder / "1.png") in notes.lines[listed + 1], "each with its reason, as `train` lists them"


def test_wrapped_models_give_the_tokens_that_they_show(photos):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    module = transformers.ViTForImageClassification(config).eval()
    classifier = wrap(module, Preprocessing((32, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8))
    features = embed(classifier, str(photos), features=["class-token", "patch-mean"])
    inputs = torch.stack([classifier.preprocess(path)[0] for path in features.paths])
    with torch.no_grad():
        tokens = module.vit(inputs).last_hidden_state
    np.testing.assert_allclose(features.vectors, torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), atol=1e-5)
    first = embed(classifier, str(photos), features="class-token", layers=[0, -1])
    np.testing.assert_allclose(first.vectors[:, 16:], tokens[:, 0], atol=1e-5)
    with pytest.raises(InputError, match="has no forward_features and forward_head"):
        embed(classifier, str(photos))


def test_a_module_without_tokens_is_refused(photos):
    classifier = wrap(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5)), Preprocessing((8, 8), "squash", (0.5,) * 3, (0.5,) * 3, 8),
        class_names=[],
    )  # fmt: skip
    assert embed(classifier, str(photos)).vectors.shape == (7, 5)
    with pytest.raises(InputError, match="Sequential shows no tokens"):
        embed(classifier, str(photos), features="patch-mean")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "cls"}, "there is no feature 'cls'"),
        ({"features": ["pooled", "class-token"]}, "'pooled' is the vector that the head reads"),
        ({"features": "class-token", "layers": 3}, "there are no layers \\[3\\]: the model has 3"),
        ({"features": "class-token", "layers": [0, -3]}, "name one twice"),
        ({"split": "test"}, "is a folder without splits"),
        ({"batch_size": 0}, "a batch of 0 images"),
    ],
)
def test_bad_input_is_one_line(small_classifier, photos, options, message):
    with pytest.raises(InputError, match=message):
        embed(small_classifier, str(photos), **options)


def test_the_command_line(trained_run, colored_folder, tmp_path, capsys):
    output = tmp_path / "features.parquet"
    arguments = ["embed", str(trained_run), f"folder:{colored_folder}", "-o", str(output)]
    assert run([*arguments, "--features", "patch-mean", "--layers", "1,0", "--split", "test"]) == 0
    assert "30 images, vectors of 32 numbers" in capsys.readouterr().out
    assert FeatureSet.load(output, trained_run).info.layers == (1, 0)
    assert run(arguments[:3]) == 2 and run(arguments[:2]) == 2
    errors = capsys.readouterr().err
    assert "no file to write is named" in errors and "no images are named" in errors
    assert run([*arguments, "--features", "patch-mean", "--layers", "last"]) == 2
    assert "'last' is no list of layers" in capsys.readouterr().err


def test_images_in_parquet_files_are_embedded_and_resumed(small_classifier, colored_folder, tmp_path, monkeypatch):
    """The vectors are those of the image files, the kill loses a part, and the file has the same bytes."""
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    folder = tmp_path / "hub"
    folder.mkdir()
    write_parquet(folder, colored_folder, 50)
    for kind in ("parquet", "hf"):
        source, whole, resumed = f"{kind}:{folder}", tmp_path / f"{kind}-whole.parquet", tmp_path / f"{kind}.parquet"
        features = embed(small_classifier, source, whole, batch_size=16)
        files = embed(small_classifier, f"folder:{colored_folder}", batch_size=16)
        splits = list(dict.fromkeys(features.splits))
        order = sorted(range(len(files)), key=lambda index: (splits.index(files.splits[index]), files.paths[index]))
        np.testing.assert_allclose(features.vectors, files.vectors[order], atol=1e-6)
        assert features.label_names == [files.label_names[index] for index in order]
        assert features.paths[features.splits.index("test") + 1] == f"{folder}/test-00000-of-00001.parquet: row 1"
        with pytest.raises(InputError, match="stopped after 32 of 150"):
            embed(small_classifier, source, resumed, batch_size=16, callback=StopAfter())
        embed(small_classifier, source, resumed, batch_size=16)
        assert resumed.read_bytes() == whole.read_bytes()


READERS = {  # the lines of docs/transfer.md, and how many rows and labels each gives
    "pandas": lambda result: (len(result), result["label"].nunique(), len(result["vector"][0])),
    "polars": lambda result: (result.height, result["label"].n_unique(), len(result["vector"][0])),
    "duckdb": lambda result: (sum(count for _, count in result.fetchall()), 3, 16),
}


@pytest.mark.parametrize("library", READERS)
def test_the_lines_of_the_docs_read_the_file(library, small_classifier, colored_folder, tmp_path, monkeypatch):
    module = pytest.importorskip(library)
    docs = Path(__file__).parents[2] / "docs" / "transfer.md"
    (line,) = [one for one in docs.read_text(encoding="utf-8").splitlines() if one.startswith(f"{library}.")]
    monkeypatch.chdir(tmp_path)
    features = embed(small_classifier, f"folder:{colored_folder}", "features.parquet")
    result = eval(line, {library: module})
    assert READERS[library](result) == (150, 3, 16)
    if library != "duckdb":
        np.testing.assert_array_equal(np.stack(list(result["vector"])), features.vectors)


def with_a_broken_image(source: Path, folder: Path) -> str:
    """Copy a folder with splits; its first training image, of the alphabet's first class, can't be read."""
    shutil.copytree(source, folder)
    min(folder.glob("train/*/*")).write_bytes(b"no image")
    return f"folder:{folder}"


def test_what_the_error_of_an_unreadable_image_advises_goes_on(small_classifier, colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    source, output = with_a_broken_image(colored_folder, tmp_path / "data"), tmp_path / "f.parquet"
    with pytest.raises(InputError, match="skip such images with --skip-unreadable"):
        embed(small_classifier, source, output, batch_size=16)
    assert not list(tmp_path.glob("*.parts")), "without a finished part, nothing is left"
    (last := max((tmp_path / "data").glob("train/*/*"))).write_bytes(b"no image")
    min((tmp_path / "data").glob("train/*/*")).write_bytes(max(colored_folder.glob("test/*/*")).read_bytes())
    with pytest.raises(InputError, match=rf"{last.name}.*skip such images"):
        embed(small_classifier, source, output, batch_size=16)
    assert list(tmp_path.glob("*.parts")), "finished parts are kept"
    features = embed(small_classifier, source, output, batch_size=16, skip_unreadable=True)
    assert len(features) == 149 and str(last) not in features.paths
    with pytest.raises(InputError, match="stopped"):
        embed(small_classifier, source, output, batch_size=16, skip_unreadable=True, callback=StopAfter())
    with pytest.raises(InputError, match=r"other settings \(skip_unreadable: True, now False"):
        embed(small_classifier, source, output, batch_size=16)


def test_a_folder_without_classes_is_refused_with_the_path_that_works(small_classifier, colored_folder):
    folder = colored_folder / "test" / "red"
    with pytest.raises(InputError, match=rf"embed and similar take the plain path {folder}, without labels"):
        embed(small_classifier, f"folder:{folder}")
    assert len(embed(small_classifier, str(folder))) == 10


def test_a_source_without_any_readable_image_is_refused(small_classifier, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"no image")
    for output in (None, tmp_path / "f.parquet"):
        with pytest.raises(InputError, match=r"none of the 1 images of .* can be read"):
            embed(small_classifier, str(tmp_path / "photos"), output, skip_unreadable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_parts_without_settings_are_not_taken_for_ones_of_this_model(
    small_classifier, colored_folder, tmp_path, monkeypatch
):
    """A kill while the folder of parts is removed may leave some of them."""
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    output, source = tmp_path / "features.parquet", f"folder:{colored_folder}"
    with pytest.raises(InputError, match="stopped"):
        embed(small_classifier, source, output, callback=StopAfter())
    (tmp_path / "features.parquet.parts" / "settings.json").unlink()
    other = another(small_classifier)
    np.testing.assert_array_equal(embed(other, source, output).vectors, embed(other, source).vectors)


def test_two_calls_write_one_file(small_classifier, colored_folder, tmp_path, monkeypatch):
    """They took each other's parts away."""
    monkeypatch.setattr(embed_module, "PART_IMAGES", 40)
    output, source = tmp_path / "features.parquet", f"folder:{colored_folder}"
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(embed, small_classifier, source, output, callback=Callback()) for _ in range(2)]
        first, second = (one.result() for one in found)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_a_model_that_computes_otherwise_with_the_same_weights_is_another_one(small_classifier, photos, tmp_path):
    config = replace(small_classifier.vit.config, norm_eps=0.1)
    vit = ViT(config)
    vit.load_state_dict(small_classifier.vit.state_dict())
    other = small_classifier.replace(model=vit)
    features = embed(small_classifier, str(photos), tmp_path / "a.parquet")
    assert not np.allclose(features.vectors, embed(other, str(photos)).vectors)
    with pytest.raises(InputError, match="features of another model"):
        features.check_model(other)


def test_the_file_is_called_parquet(small_classifier, photos, tmp_path):
    for path in ("features.csv", "features"):
        with pytest.raises(InputError, match=r"written as Parquet, not as .*: name it features\.parquet"):
            embed(small_classifier, str(photos), tmp_path / path)
    with pytest.raises(InputError, match="written as Parquet"):
        embed(small_classifier, str(photos)).save(tmp_path / "features.npz")


def test_only_a_file_of_the_same_features_is_replaced(small_classifier, photos, tmp_path, capsys):
    path = tmp_path / "f.parquet"
    (more := tmp_path / "more").mkdir()
    (more / "1.png").write_bytes(min(photos.glob("*.png")).read_bytes())
    embed(small_classifier, str(photos), path)
    content = path.read_bytes()
    embed(small_classifier, str(photos), path)
    cases = [
        (another(small_classifier), str(photos), {}, "holds features of another model"),
        (small_classifier, str(more), {}, "holds features of other images"),
        (small_classifier, str(photos), {"features": "patch-mean"}, "holds other features"),
    ]
    for model, data, options, message in cases:
        with pytest.raises(InputError, match=rf"f\.parquet {message}.*: name another --output, or delete it"):
            embed(model, data, path, **options)
    assert path.read_bytes() == content
    path.write_bytes(b"a table of others")
    with pytest.raises(InputError, match=r"f\.parquet is there already and no features of Vitreous"):
        embed(small_classifier, str(photos), path)
    small_classifier.save(tmp_path / "model")
    assert run(["embed", str(tmp_path / "model"), str(photos), "-o", str(path)]) == 2
    assert "is there already and no features of Vitreous" in capsys.readouterr().err


def test_changed_files_are_refused(small_classifier, colored_folder, tmp_path):
    path = tmp_path / "f.parquet"
    features = embed(small_classifier, f"folder:{colored_folder}", path, split="test")
    table = pq.read_table(path)
    changes = {
        "without a vector of 16 numbers": ("vector", [[1.0] * 15] * 30),
        "rows without a vector": ("vector", [None, *([[1.0] * 16] * 29)]),
        "the label 'pink', which is none of its classes": ("label", ["pink"] * 30),
        "the label '1', which": ("label", [1] * 30),
    }
    for message, (column, values) in changes.items():
        index = table.column_names.index(column)
        pq.write_table(table.set_column(index, column, pa.array(values)), path)
        with pytest.raises(InputError, match=message):
            FeatureSet.load(path)
    lists = pa.array(features.vectors.tolist())  # doubles in lists of any length, as other libraries write them
    pq.write_table(table.set_column(3, "vector", lists), path)
    np.testing.assert_array_equal(FeatureSet.load(path).vectors, features.vectors)
    with pytest.raises(InputError, match="there is no split 'val'"):
        features.split("val")
