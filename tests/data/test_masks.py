"""Images with masks: folders laid out as DAVIS, drawn shapes, and all that can be wrong with a folder."""

import numpy as np
import pytest
from PIL import Image

from vitreous.data.masks import load_masked
from vitreous.errors import InputError
from vitreous.imaging.reading import open_mask

SIZE_HW = (12, 20)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def make_video(folder, name="dog", frames=3, masks=3, size_hw=SIZE_HW):
    for i in range(frames):
        write(folder / name / "frames" / f"{i:05}.jpg", np.full((*SIZE_HW, 3), 40 * i, np.uint8))
    for i in range(masks):
        mask = np.zeros(size_hw, np.uint8)
        mask[2:5, 3 + i : 9] = 255
        write(folder / name / "masks" / f"{i:05}.png", mask)
    return folder


def test_a_folder_of_videos_and_a_video_folder_itself(tmp_path):
    make_video(make_video(tmp_path), "swan", frames=4, masks=2)
    found = load_masked(f"masks:{tmp_path}", SIZE_HW)
    assert [one.name for one in found.images][:3] == ["dog/00000.jpg", "dog/00001.jpg", "dog/00002.jpg"]
    assert len(found.images) == 5 and found.frames_without_mask == 2
    image, mask = found.images[1].read()
    assert image.shape == (*SIZE_HW, 3) and mask.dtype == bool and mask.sum() == 3 * 5 and mask[2, 4] and not mask[2, 3]
    assert len(load_masked(f"masks:{tmp_path / 'dog'}", SIZE_HW).images) == 3
    assert len(load_masked(f"masks:{tmp_path}", SIZE_HW, 2).images) == 2


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "1", "I;16"])
def test_all_values_but_0_are_the_object_in_every_mode(tmp_path, mode):
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
    assert np.array_equal(open_mask(tmp_path / "mask.png"), values > 0) or mode == "1"
    assert open_mask(tmp_path / "mask.png").shape == SIZE_HW


def test_a_mask_that_is_a_jpeg_is_the_object_above_127(tmp_path):
    values = np.zeros((40, 40), np.uint8)
    values[10:25, 5:30] = 255
    Image.fromarray(values).save(tmp_path / "mask.jpg", quality=50)
    stored = np.asarray(Image.open(tmp_path / "mask.jpg"))
    assert ((stored > 0) != (values > 0)).any() and np.array_equal(open_mask(tmp_path / "mask.jpg"), values > 0)


def test_shapes_are_the_test_images_with_their_masks():
    found = load_masked("shapes", (32, 32), 5).images
    more = load_masked("shapes", (32, 32), 7).images
    image, mask = found[4].read()
    assert len(found) == 5 and image.shape == (32, 32, 3) and 0 < mask.mean() < 0.5
    assert np.array_equal(more[4].read()[0], image)


def wrong_size(folder):
    make_video(folder, size_hw=(12, 24))


def mask_without_frame(folder):
    make_video(folder, frames=2)


def damaged_mask(folder):
    make_video(folder)
    (folder / "dog" / "masks" / "00001.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (wrong_size, r"masks/00000.png has 12 × 24 pixels .* 12 × 20"),
        (mask_without_frame, r"masks/00002.png has no frame of its name"),
        (damaged_mask, r"00001.png is not an image"),
        (lambda folder: (folder / "dog").mkdir(), "has no frames beside masks"),
        (lambda folder: make_video(folder, masks=0) and (folder / "dog" / "masks").mkdir(), "has no images"),
    ],
)
def test_a_corrupt_folder_is_named(tmp_path, corrupt, message):
    corrupt(tmp_path)
    with pytest.raises(InputError, match=message):
        for one in load_masked(f"masks:{tmp_path}", SIZE_HW).images:
            one.read()


@pytest.mark.parametrize(
    ("source", "count", "message"),
    [
        ("cifar10", None, "source with masks"),
        ("masks", None, "write masks:DIR"),
        ("masks:/nowhere", None, "no folder /nowhere"),
        ("shapes", 0, "a count of 0"),
        ("shapes", 3000, "more than the 2000"),
    ],
)
def test_an_invalid_source_or_count_is_an_error(source, count, message):
    with pytest.raises(InputError, match=message):
        load_masked(source, SIZE_HW, count)
