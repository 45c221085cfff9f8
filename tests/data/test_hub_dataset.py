"""Datasets of a fake hub on this machine, and of folders of the same layout."""

import io
import json
import shutil
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_hub import COMMIT, HubHandler, serve_hub
from PIL import Image

from vitreous.data import hub_dataset
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import absolute_source, load_images, open_dataset
from vitreous.errors import InputError

RANDOM = np.random.default_rng(4)
IMAGES = RANDOM.integers(0, 256, (12, 6, 9, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 0, 2]
NAMES = ["ant", "bee", "cow"]


def png(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(IMAGES[index]).save(stream, "png")
    return stream.getvalue()


def parquet(rows: range, *, names=NAMES, image="image", label="label", more=None, labels=LABELS) -> bytes:
    """A Parquet file of some of the images, as `datasets` writes it."""
    columns = {image: [{"bytes": png(row), "path": f"{row}.png"} for row in rows], **(more or {})}
    features: dict = {image: {"_type": "Image"}}
    if label:
        columns[label] = [labels[row] for row in rows]
        features[label] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), stream)
    return stream.getvalue()


SHARDS = {
    "data/train-00000-of-00002.parquet": parquet(range(4)),
    "data/train-00001-of-00002.parquet": parquet(range(4, 8)),
    "data/test-00000-of-00001.parquet": parquet(range(8, 12)),
    "README.md": b"---\nlicense: mit\n---\n# Words\n",
    ".gitattributes": b"",
}
SPLIT_ROWS = [("train", 0), ("train", 1), ("train", 2), ("train", 4), ("val", 3), ("val", 5), ("test", 8), ("test", 9)]
FOLDERS = {f"{split}/{NAMES[LABELS[row]]}/{row}.png": png(row) for split, row in SPLIT_ROWS}


class Handler(HubHandler):
    """Serve `server.files`, {"owner/name": {file: content}}, as the hub does, or answer with the error `refuse`."""

    def respond(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        kind, _, rest = path.removeprefix("/api").removeprefix("/datasets/").partition("/")
        name, _, rest = rest.partition("/")
        verb, _, rest = rest.partition("/")
        files = self.server.files.get(f"{kind}/{name}")
        revision = next((one for one in ("refs/convert/parquet", "v1", COMMIT) if rest.startswith(one)), "main")
        file = rest.removeprefix(revision).strip("/")
        content, problem = b"", ""
        if files is None:
            problem = "401 RepoNotFound"
        elif "v7" in rest:
            problem = "404 RevisionNotFound"
        elif verb in ("", "revision"):
            content = json.dumps({"id": f"{kind}/{name}", "sha": COMMIT, "siblings": []}).encode()
        elif verb == "tree":
            listed = [{"type": "file", "path": one, "size": len(data), "oid": one} for one, data in files.items()]
            content = json.dumps(listed).encode()
        elif file in files:
            content = files[file]
        else:
            problem = "404 EntryNotFound"
        if self.server.refuse and (verb == "resolve" or self.server.refuse.startswith("5")):
            problem = self.server.refuse
        self.reply(problem, content, str(abs(hash(file))), body=body)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "vitreous-cache"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with me/shards and me/pics, whose client keeps its cache in the test's own folder."""
    with serve_hub(Handler, tmp_path / "hub-cache", monkeypatch) as server:
        server.files = {"me/shards": dict(SHARDS), "me/pics": dict(FOLDERS)}
        yield server


def write_files(files: dict[str, bytes], folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def rows_of(images) -> list[int]:
    """Return which of the images these are, to the pixel."""
    found = [np.flatnonzero((image.transpose(1, 2, 0) == IMAGES).all((1, 2, 3))) for image in images.images_u8.numpy()]
    assert all(len(rows) == 1 for rows in found)
    return [int(rows[0]) for rows in found]


def downloaded(server) -> list[str]:
    return sorted(
        line.split("/resolve/")[1].partition("/")[2] for line in server.requests if line.startswith("GET /datas")
    )


def error_of(source: str, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        load_images(source, split, None, 0.0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shards_are_read_in_order_and_only_those_of_the_split_are_downloaded(hub, capfd):
    test = load_images("hf:me/shards", "test")
    assert rows_of(test) == [8, 9, 10, 11] and test.labels.tolist() == LABELS[8:] and test.class_names == tuple(NAMES)
    assert downloaded(hub) == ["README.md", "data/test-00000-of-00001.parquet"]
    train = load_images("hf:me/shards", "train", None, 0.0)
    assert rows_of(train) == list(range(8)) and train.labels.tolist() == LABELS[:8]
    assert len(downloaded(hub)) == 4, "each file once"
    assert capfd.readouterr() == ("", ""), "no progress bars where there is no terminal"


def test_validation_images_are_held_out_if_the_data_set_has_none(hub):
    train, validation = (load_images("hf:me/shards", split, None, 0.25) for split in ("train", "validation"))
    assert len(train) == 5 and sorted(validation.labels.tolist()) == [0, 1, 2]
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(8))


def test_folders_of_images_bring_their_own_validation(hub):
    images = {split: load_images("hf:me/pics", split) for split in ("train", "validation", "test")}
    assert {split: sorted(rows_of(part)) for split, part in images.items()} == {
        "train": [0, 1, 2, 4], "validation": [3, 5], "test": [8, 9],
    }  # fmt: skip
    for part in images.values():
        assert part.labels.tolist() == [LABELS[row] for row in rows_of(part)] and part.class_names == tuple(NAMES)


@pytest.mark.parametrize("files", [SHARDS, FOLDERS], ids=["shards", "folders"])
def test_a_local_folder_of_the_same_layout_gives_the_same(hub, tmp_path, files, monkeypatch):
    folder = write_files(files, tmp_path / "copy")
    name = "me/shards" if files is SHARDS else "me/pics"
    for split in ("train", "validation", "test"):
        here, there = (load_images(source, split, None, 0.25) for source in (f"hf:{folder}", f"hf:{name}"))
        assert here.fingerprint() == there.fingerprint()
    monkeypatch.chdir(tmp_path)
    assert load_images("hf:./copy", "test").fingerprint() == load_images(f"hf:{name}", "test").fingerprint()
    assert absolute_source("hf:./copy") == f"hf:{folder}" and absolute_source(f"hf:{name}") == f"hf:{name}"


def test_downloaded_files_need_no_network(hub):
    first = load_images("hf:me/pics", "train")
    hub.refuse = "503 "
    assert load_images("hf:me/pics", "train").fingerprint() == first.fingerprint()
    line = error_of("hf:me/pics", "test")
    assert "for me/pics, and its test/" in line and "was not downloaded before" in line


def test_offline_is_a_one_line_error(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = error_of("hf:me/shards")
    assert line.startswith("can't reach the Hugging Face hub for me/shards, and it was not downloaded before: connect")


def test_a_revision_and_the_hubs_own_conversion(hub):
    hub.files["me/shards"] = {"big/train/0000.parquet": SHARDS["data/train-00000-of-00002.parquet"]}
    assert len(load_images("hf:me/shards@refs/convert/parquet", "train", None, 0.0)) == 4
    assert any("revision/refs/convert/parquet" in line for line in hub.requests)
    assert len(load_images("hf:me/shards@v1:big", "train", None, 0.0)) == 4
    assert "me/shards has no revision 'v7'" in error_of("hf:me/shards@v7")


def test_changed_files_are_read_again(tmp_path):
    folder = write_files(SHARDS, tmp_path / "copy")
    assert rows_of(load_images(f"hf:{folder}", "test")) == [8, 9, 10, 11]
    (folder / "data/test-00000-of-00001.parquet").write_bytes(parquet(range(3)))
    assert rows_of(load_images(f"hf:{folder}", "test")) == [0, 1, 2]


CARD = """---
configs:
- config_name: small
  data_files:
  - split: train
    path: data/train-00000*
  - split: eval
    path: [data/test-*]
- config_name: large{default}
  data_files:
  - {{split: train, path: "data/train-*"}}
- config_name: words
  data_files: "*.csv"
dataset_info:
- config_name: small
  features:
  - {{name: image, dtype: image}}
  - name: label
    dtype: {{class_label: {{names: {{'0': ape, '1': bat, '10': k, '2': cat}}}}}}
---
"""


def test_configs_of_the_readme(tmp_path):
    unnamed = {name: parquet(range(2 * at, 2 * at + 2), names=None) for at, name in enumerate(list(SHARDS)[:3])}
    folder = write_files({**unnamed, "README.md": CARD.format(default="").encode()}, tmp_path / "copy")
    assert error_of(f"hf:{folder}").endswith(f"write hf:{folder}:NAME with one of small, large")
    assert "there is no config of" in error_of(f"hf:{folder}:smal") and "did you mean 'small'" in error_of(
        f"hf:{folder}:smal"
    )
    small = load_images(f"hf:{folder}:small", "train", None, 0.0)
    assert rows_of(small) == [0, 1] and small.class_names == ("ape", "bat", "cat", "k")
    assert rows_of(load_images(f"hf:{folder}:small", "test")) == [4, 5]
    write_files({"README.md": CARD.format(default="\n  default: true").encode()}, folder)
    assert rows_of(load_images(f"hf:{folder}", "train", None, 0.0)) == [0, 1, 2, 3]
    assert load_images(f"hf:{folder}:large", "train", None, 0.0).class_names == ("0", "1", "2")


def test_configs_by_folders(tmp_path):
    files = {"one/train-0.parquet": parquet(range(3)), "two/train/0000.parquet": parquet(range(3, 6))}
    folder = write_files(files, tmp_path / "copy")
    assert "has several configs" in error_of(f"hf:{folder}") and "one, two" in error_of(f"hf:{folder}")
    assert rows_of(load_images(f"hf:{folder}:two", "train", None, 0.0)) == [3, 4, 5]
    assert "copy:two has no test images, only train" in error_of(f"hf:{folder}:two", "test")


def test_unnamed_classes_are_numbered_over_all_splits(tmp_path):
    files = {
        "train-0.parquet": parquet(range(3), names=None),
        "test-0.parquet": parquet(range(3), names=None, labels=[5, 1, 0]),
    }
    folder = write_files(files, tmp_path / "copy")
    for split in ("train", "test"):
        assert load_images(f"hf:{folder}", split, None, 0.0).class_names == tuple("012345")


UNUSABLE = {
    "no images": ({"train.parquet": "words"}, "has no column of images, only text (string), label (int64)"),
    "no labels": ({"train.parquet": parquet(range(3), label="")}, "has no column of labels, as integers, only"),
    "several images": (
        {"train.parquet": parquet(range(3), image="left", more={"right": [{"bytes": b"", "path": ""}] * 3})},
        None,
    ),
    "two of a kind": ({"train.parquet": "stereo"}, "has several columns of images (left, right) and none is called"),
    "nothing": ({"README.md": b"# Words", "words.csv": b"a,b"}, "has no Parquet files, and no images in folders"),
    "no classes": ({"train/1.png": png(1), "train/2.png": png(2)}, "in no class folder, such as train/1.png"),
    "metadata": ({**SHARDS, "README.md": b"---\na: [\n---\n"}, "the metadata of its README.md can't be read"),
    "no Parquet": ({"train.parquet": b"nonsense"}, "can't read"),
}


def text_table() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), stream)
    return stream.getvalue()


def stereo_table() -> bytes:
    stream = io.BytesIO()
    column = [{"bytes": png(0), "path": ""}]
    pq.write_table(pa.table({"left": column, "right": column, "label": [1]}), stream)
    return stream.getvalue()


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_data_set_is_a_one_line_error(hub, tmp_path, case):
    files, message = UNUSABLE[case]
    files = {name: {"words": text_table, "stereo": stereo_table}[data]() if data in ("words", "stereo") else data
             for name, data in files.items()}  # fmt: skip
    if message is None:  # the metadata declare which column is the image
        write_files(files, tmp_path / "copy")
        assert rows_of(load_images(f"hf:{tmp_path / 'copy'}", "train", None, 0.0)) == [0, 1, 2]
        return
    hub.files["me/bad"] = files
    write_files(files, tmp_path / "copy")
    for source, name in (("hf:me/bad", "me/bad"), (f"hf:{tmp_path / 'copy'}", str(tmp_path / "copy"))):
        line = error_of(source)
        assert message in line and (name in line or case == "no Parquet")
    assert ("try hf:me/bad@refs/convert/parquet" in error_of("hf:me/bad")) == (case == "nothing")


def test_a_class_that_only_the_test_split_has_is_an_error(tmp_path):
    folder = write_files({**FOLDERS, "test/dog/1.png": png(1)}, tmp_path / "copy")
    assert "its test split has class(es) that train lacks: dog" in error_of(f"hf:{folder}", "test")
    with pytest.raises(InputError, match="its test split has class\\(es\\) that train lacks: dog"):
        open_dataset(f"hf:{folder}").check_splits()


def test_parquet_splits_with_different_classes_are_refused_before_training(tmp_path):
    same = write_files(SHARDS, tmp_path / "same")
    open_dataset(f"hf:{same}").check_splits()
    test = {"data/test-00000-of-00001.parquet": parquet(range(8, 12), names=["ant", "bee", "owl"])}
    other = write_files({**SHARDS, **test}, tmp_path / "other")
    with pytest.raises(InputError, match="its splits train and test have different classes: make them equal"):
        open_dataset(f"hf:{other}").check_splits()


INVALID_NAMES = {
    "hf:": "the source 'hf:' names no dataset: write hf:OWNER/NAME",
    "hf:shards": "'hf:shards' is not the name of a dataset: write hf:OWNER/NAME",
    "hf:me/a/b": "is not the name of a dataset",
    "hf:-me/x--y": "is not a valid repository name",
    "hf:me/other": "me/other is not on the Hugging Face hub, or is private: check the name",
    "hf:./nowhere": "there is no folder",
}


@pytest.mark.parametrize("source", INVALID_NAMES)
def test_an_invalid_name_is_a_one_line_error(source, hub):
    assert INVALID_NAMES[source] in error_of(source)


def test_the_error_of_a_gated_repository_says_what_to_do(hub):
    hub.refuse = "403 GatedRepo"
    assert "me/shards is gated: accept its terms on its page" in error_of("hf:me/shards")


def test_a_file_that_the_hub_lists_but_lacks_is_an_error(hub, monkeypatch):
    monkeypatch.setattr(hub_dataset.HubRepository, "_download", lambda self, name, bar: None)
    assert "me/pics lacks train/" in error_of("hf:me/pics")


def test_cifar10_from_a_hub_is_cifar10(hub, shared, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    (shard,) = (shared / "cifar10").glob("test-*.parquet")
    hub.files["me/cifar"] = {f"plain_text/{shard.name}": shard.read_bytes()}
    own = load_images("cifar10", "test")
    assert len(own) == 10_000 and own.class_names[:2] == ("airplane", "automobile")
    for source in ("hf:me/cifar", f"hf:{shared / 'cifar10'}"):
        assert load_images(source, "test").fingerprint() == own.fingerprint()


def test_the_error_of_an_unreadable_image_has_its_name_in_the_repository(hub, tmp_path):
    folder = write_files(FOLDERS, tmp_path / "copy")
    (folder / "train/ant/0.png").write_bytes(b"nothing")
    assert f"{folder}: train/ant/0.png is not an image" in error_of(f"hf:{folder}")
    shutil.rmtree(folder)
    assert "there is no folder" in error_of(f"hf:{folder}")


def test_unreadable_images_are_skipped_on_request(tmp_path):
    lines: list[str] = []
    folder = write_files({**FOLDERS, "train/ant/0.png": b"nothing"}, tmp_path / "copy")
    readable = load_images(f"hf:{folder}", "train", None, 0.0, ReadOptions(skip_unreadable=True, on_note=lines.append))
    assert sorted(rows_of(readable)) == [1, 2, 4] and "train/ant/0.png" in "".join(lines)
