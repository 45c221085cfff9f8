"""Each image's size, format and error, and which images are duplicates."""

import io

import numpy as np
import torch
from PIL import Image

from vitreous.callbacks import Callback, Progress
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.image_set import ImageSet
from vitreous.data.inspection import find_duplicates, inspect_encoded, inspect_images


class Recorder(Callback):
    def __init__(self):
        self.reports = []

    def on_progress(self, progress):
        self.reports.append(progress)


def test_duplicates_have_the_same_pixels_in_any_format(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "b.bmp")
    Image.fromarray(image.reshape(9, 6, 3)).save(tmp_path / "c.png")
    rotated, exif = Image.fromarray(np.rot90(image)), Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    rotated.save(tmp_path / "d.png", exif=exif)
    Image.fromarray(image[..., 0]).save(tmp_path / "e.png")
    (tmp_path / "f.jpg").write_text("words")
    files = sorted(tmp_path.iterdir())
    progress = Recorder()
    encoded = EncodedImages(lambda index: read_file(files[index]), [1] * 6, ("a", "b"))
    found = inspect_encoded(encoded, "test", progress)
    assert [one.format for one in found] == ["PNG RGB", "BMP RGB", "PNG RGB", "PNG RGB", "PNG L", ""]
    assert [one.size_hw for one in found] == [(6, 9), (6, 9), (9, 6), (6, 9), (6, 9), None]
    assert (
        found[5].error is not None
        and "f.jpg is not an image" in found[5].error
        and progress.reports == [Progress(6, 6, "test")]
    )
    assert [[one.name[-5:] for one in group] for group in find_duplicates(found)] == [["a.png", "b.bmp", "d.png"]]


def test_decoded_images_are_inspected():
    images_u8 = torch.arange(4 * 6, dtype=torch.uint8).reshape(4, 1, 2, 3)
    images_u8[3] = images_u8[1]
    found = inspect_images(ImageSet(images_u8, torch.tensor([0, 1, 1, 0]), ("a", "b")), "train")
    assert found[0].size_hw == (2, 3) and found[0].format == "decoded L"
    assert [[one.name for one in group] for group in find_duplicates(found)] == [["image 1", "image 3"]]


def test_deep_images_that_use_little_of_their_range_are_dark():
    def png(values: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "PNG")
        return stream.getvalue()

    ramp = np.arange(256).reshape(16, 16)
    data = [png((ramp * 16).astype(np.uint16)), png((ramp * 257).astype(np.uint16)), png((ramp // 16).astype(np.uint8))]
    found = inspect_encoded(EncodedImages(lambda index: (str(index), data[index]), [0, 0, 0], ("a",)), "train")
    assert [image.is_dark for image in found] == [True, False, False] and found[0].format == "PNG I;16"
