"""Images with masks: the layout of DAVIS, drawn shapes, and everything that can be wrong with a folder."""

import numpy as np
import pytest
from PIL import Image

from vitreous.data.masks import load_masked, read_mask
from vitreous.errors import InputError

SIZE_HW = (12, 20)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def clip(folder, name="dog", frames=3, masks=3, size_hw=SIZE_HW):
    for i in range(frames):
        write(folder / name / "frames" / f"{i:05}.jpg", np.full((*SIZE_HW, 3), 40 * i, np.uint8))
    for i in range(masks):
        mask = np.zeros(size_hw, np.uint8)
        mask[2:5, 3 + i : 9] = 255
        write(folder / name / "masks" / f"{i:05}.png", mask)
    return folder


def test_folders_of_clips_and_a_clip_itself(tmp_path):
    clip(clip(tmp_path), "swan", frames=4, masks=2)
    found = load_masked(f"masks:{tmp_path}", SIZE_HW)
    assert [one.name for one in found.images][:3] == ["dog/00000.jpg", "dog/00001.jpg", "dog/00002.jpg"]
    assert len(found.images) == 5 and found.frames_without_mask == 2
    image, mask = found.images[1].read()
    assert image.shape == (*SIZE_HW, 3) and mask.dtype == bool and mask.sum() == 3 * 5 and mask[2, 4] and not mask[2, 3]
    assert len(load_masked(f"masks:{tmp_path / 'dog'}", SIZE_HW).images) == 3
    assert len(load_masked(f"masks:{tmp_path}", SIZE_HW, 2).images) == 2


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "1", "I;16"])
def test_all_that_is_not_0_is_the_object_in_every_kind_of_mask(tmp_path, mode):
    values = np.zeros(SIZE_HW, np.uint8)
    values[1, 2], values[3, 4] = 1, 2
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 300)
    elif mode == "P":
        image = Image.fromarray(values)
        image.putpalette([200, 200, 200] * 256)
    else:
        image = Image.fromarray(values * 100).convert(mode)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), values > 0) or mode == "1"
    assert read_mask(tmp_path / "mask.png").shape == SIZE_HW


def test_shapes_are_the_test_images_with_their_masks():
    found = load_masked("shapes", (32, 32), 5).images
    more = load_masked("shapes", (32, 32), 7).images
    image, mask = found[4].read()
    assert len(found) == 5 and image.shape == (32, 32, 3) and 0 < mask.mean() < 0.5
    assert np.array_equal(more[4].read()[0], image)


def wrong_size(folder):
    clip(folder, size_hw=(12, 24))


def mask_without_frame(folder):
    clip(folder, frames=2)


def damaged_mask(folder):
    clip(folder)
    (folder / "dog" / "masks" / "00001.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (wrong_size, r"masks/00000.png has 12 × 24 pixels .* 12 × 20"),
        (mask_without_frame, r"masks/00002.png has no frame of its name"),
        (damaged_mask, r"00001.png is not an image"),
        (lambda folder: (folder / "dog").mkdir(), "holds no frames beside masks"),
        (lambda folder: clip(folder, masks=0) and (folder / "dog" / "masks").mkdir(), "holds no images"),
    ],
)
def test_a_spoilt_folder_is_named(tmp_path, spoil, words):
    spoil(tmp_path)
    with pytest.raises(InputError, match=words):
        for one in load_masked(f"masks:{tmp_path}", SIZE_HW).images:
            one.read()


@pytest.mark.parametrize(
    ("source", "count", "words"),
    [
        ("cifar10", None, "source with masks"),
        ("masks", None, "write masks:DIR"),
        ("masks:/nowhere", None, "no folder /nowhere"),
        ("shapes", 0, "--count 0"),
        ("shapes", 3000, "more than the 2000"),
    ],
)
def test_what_cannot_be_loaded_is_said(source, count, words):
    with pytest.raises(InputError, match=words):
        load_masked(source, SIZE_HW, count)
