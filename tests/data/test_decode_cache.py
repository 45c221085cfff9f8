"""Images are decoded once: the same from the disk as from memory, and again after a change."""

import hashlib
import io
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitreous.data import decode_cache, decoding
from vitreous.data.decode_cache import decode_cached, decode_in_memory
from vitreous.data.decoding import EncodedImages
from vitreous.data.folder import open_image_folder
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError

SKIP = ReadOptions(skip_unreadable=True, on_note=lambda text: None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


def make_image(height: int, width: int) -> bytes:
    stream, random = io.BytesIO(), np.random.default_rng((height, width))
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(stream, "png")
    return stream.getvalue()


def encoded(count: int = 9, bad: tuple[int, ...] = ()) -> EncodedImages:
    """Images of all sizes, some of them damaged."""
    data = [b"words" if index in bad else make_image(4 + index, 12 - index % 3) for index in range(count)]
    return EncodedImages(
        lambda index: (f"{index}.png", data[index]), [index % 3 for index in range(count)], ("a", "b", "c")
    )


def load(source: EncodedImages, state: object = 1, options: ReadOptions = SKIP, size_hw=(5, 8)):
    return decode_cached("some", state, lambda: source, size_hw, options)


def test_from_the_disk_as_from_memory(cache):
    source, notes = encoded(), []
    once, again = load(source), decode_cached("some", 1, never, (5, 8), SKIP)
    plain = decode_in_memory(source, (5, 8), ReadOptions(on_note=notes.append), InputError("no room"))
    assert once.fingerprint() == again.fingerprint() == plain.fingerprint()
    assert torch.equal(again.images_u8, plain.images_u8) and torch.equal(again.labels, plain.labels)
    assert notes == ["decoded images are not cached: no room"]
    assert [path.suffix for path in sorted(cache.iterdir())] == [".lock", ".safetensors"]


def never() -> EncodedImages:
    raise AssertionError("decoded again")


@given(st.integers(1, 14), st.sets(st.integers(0, 13), max_size=6), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_readable_images_keep_their_labels_and_order(count, bad, per_task):
    source, notes = encoded(count, tuple(bad)), []
    good = [index for index in range(count) if index not in bad]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "MAX_TASK_IMAGES", per_task)
        options = ReadOptions(skip_unreadable=True, on_note=notes.append)
        if not good:
            with pytest.raises(InputError, match="there are no others"):
                load(source, bad, options)
            return
        images = load(source, (count, bad), options)
    assert images.labels.tolist() == [index % 3 for index in good]
    for position, index in enumerate(good):
        alone = EncodedImages(lambda _, index=index: source.read(index), [0], ("a",))
        assert torch.equal(
            images.images_u8[position], decode_in_memory(alone, (5, 8), SKIP, InputError("")).images_u8[0]
        )
    skipped = sorted(bad & set(range(count)))
    assert [line.split(".png")[0].strip() for line in notes[1:]] == [str(index) for index in skipped]


def test_unreadable_images_are_an_error_or_listed_also_from_the_cache():
    source, notes = encoded(9, (2, 5)), []
    for _ in range(2):
        with pytest.raises(InputError, match=r"^2 of 9 images can't be used: 2.png is not .*; 5.png .*--skip-unread"):
            load(source, options=ReadOptions())
    assert len(decode_cached("some", 1, never, (5, 8), ReadOptions(skip_unreadable=True, on_note=notes.append))) == 7
    assert notes[0] == "2 of 9 images can't be read and are skipped:" and notes[2].startswith("  5.png")


def test_many_unreadable_images_are_not_all_listed():
    notes = []
    load(encoded(40, tuple(range(1, 31))), options=ReadOptions(skip_unreadable=True, on_note=notes.append))
    assert len(notes) == 22 and notes[-1] == "  and 10 more"


def test_images_of_another_state_replace_the_old_ones(cache):
    assert len(load(encoded(4))) == 4 and len(load(encoded(6), state=2)) == 6
    assert len(list(cache.glob("*.safetensors"))) == 1
    shapes = {load(encoded(4), size_hw=size_hw).images_u8.shape[2:] for size_hw in ((5, 8), (8, 5))}
    assert shapes == {(5, 8), (8, 5)} and len(list(cache.glob("*.safetensors"))) == 2


def test_files_of_earlier_versions_are_deleted(cache):
    """The names are those that version 3 gave them; other images' files stay."""
    cache.mkdir(parents=True)
    keys = [(3, "some", (5, 8), "stretch"), (3, "some", (5, 8), "crop"), (3, "other", (5, 8), "stretch")]
    paths = [cache / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.safetensors" for key in keys]
    for path in paths:
        path.write_bytes(b"old")
    load(encoded())
    assert [path.exists() for path in paths] == [False, True, True]
    load(encoded(), options=ReadOptions("crop"))
    assert [path.exists() for path in paths] == [False, False, True]


@pytest.mark.parametrize("position", [0, 3, 20, 300, -400, -150, -60, -2])
@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_damage_anywhere_is_detected(cache, position, damage):
    source, notes = encoded(9, (4,)), []
    whole = load(source).fingerprint()
    (path,) = cache.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[position] ^= 5
    path.write_bytes(data if damage == "changed" else data[:position])
    again = load(source, options=ReadOptions(skip_unreadable=True, on_note=notes.append))
    assert again.fingerprint() == whole and notes[0].startswith(f"decoding again, because {path} is damaged: ")
    decode_cached("some", 1, never, (5, 8), SKIP)


def test_files_of_a_killed_process_are_removed(cache):
    load(encoded())
    (path,) = cache.glob("*.safetensors")
    left = path.with_name(f".{path.stem}.99999.part.safetensors")
    left.write_bytes(b"half")
    load(encoded(), state=2)
    assert not left.exists()


@contextmanager
def full_disk():
    """Limit all files to 3 kB, also a file that receives the tests' own output, so for as short as possible."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_a_note_or_a_one_line_error_and_leaves_no_file(cache, monkeypatch):
    source, notes = encoded(90), []
    with full_disk():
        images = load(source, options=ReadOptions(on_note=notes.append))
    assert len(images) == 90 and notes[0].startswith("decoded images are not cached: can't write")
    monkeypatch.setattr(decode_cache, "budget_bytes", lambda: 3 * 5 * 8 * 90 - 1)
    message = r"^can't write .*: the 90 images take .* set VITREOUS_CACHE to a folder"
    with full_disk(), pytest.raises(InputError, match=message):
        load(source, options=ReadOptions())
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_pixels_stay_on_the_disk():
    images_u8 = load(encoded(), size_hw=(64, 64)).images_u8
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if ".safetensors" in line]
    ranges = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in mapped]
    assert any(start <= images_u8.data_ptr() < stop for start, stop in ranges)


def test_images_are_cropped_or_squashed():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    source = EncodedImages(lambda index: ("wide.png", stream.getvalue()), [0], ("a",))
    cropped, squashed = (load(source, options=ReadOptions(mode), size_hw=(8, 8)) for mode in ("crop", "squash"))
    assert (cropped.images_u8 == 255).all() and squashed.images_u8.float().mean() < 128


def test_images_that_are_resized_otherwise_are_cached_apart(cache, tmp_path):
    for number, name in enumerate(["cat", "dog"]):
        (tmp_path / "photos" / "train" / name).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "train" / name / "1.png")
    folder, found = open_image_folder(tmp_path / "photos"), set()
    for options in (ReadOptions(), ReadOptions(crop_pct=0.5), ReadOptions(interpolation="bilinear")):
        images = folder.load("train", (16, 16), options)
        assert images.fingerprint() == folder.load("train", (16, 16), options).fingerprint()
        found.add(images.fingerprint())
    assert len(found) == 3
