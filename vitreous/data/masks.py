"""Images with a mask of the object: drawn shapes, or folders of frames and masks laid out as DAVIS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.data.folder import IMAGE_EXTENSIONS, class_folders
from vitreous.data.shapes import draw_shapes
from vitreous.data.sources import SHAPES_COUNTS_AND_SEEDS, SHAPES_SIZE
from vitreous.errors import InputError, unknown
from vitreous.files import os_error_reason
from vitreous.imaging.reading import open_image, open_mask, read_mask_values

DEFAULT_SHAPES = 500
"""Of the 2,000 drawn test images, unless the user asks for another number."""
MASKED_SOURCES = ("shapes", "masks:DIR")


@dataclass(frozen=True)
class MaskedImage:
    """An image whose object has a known mask, read when it is needed.

    Attributes:
        name: for reports.
        read: returns the image, uint8 (height, width, 3), and its mask, bool (height, width), true on the object.
        mask_values: returns the different values of the mask's pixels as they are stored, at most ten of them.
    """

    name: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    mask_values: Callable[[], list[int]] = lambda: [0, 1]


@dataclass(frozen=True)
class MaskedImageSet:
    """The images of a source that have masks, and the number of frames without one."""

    images: tuple[MaskedImage, ...]
    frames_without_mask: int = 0


def load_masked(source: str, size_hw: tuple[int, int], count: int | None = None) -> MaskedImageSet:
    """Find the images of "shapes" (the drawn test images) or of "masks:DIR".

    DIR has DIR/NAME/frames/*.jpg and DIR/NAME/masks/*.png for each NAME, or is one such folder itself. A mask belongs
    to the frame of the same name. Its pixels that aren't 0 are the object, however many objects they are; in a JPEG,
    whose compression blurs values, those above 127.

    Args:
        source: one of `MASKED_SOURCES`.
        size_hw: the (height, width) of the model's input; shapes are drawn at that size if it is square.
        count: the first so many shapes, or so many frames, evenly spaced; by default 500 shapes, or all frames.

    Raises:
        InputError: there is no such source or folder, or a mask has no frame.
    """
    if count is not None and count < 1:
        raise InputError(f"a count of {count} leaves no images: give 1 or more")
    if source == "shapes":
        return MaskedImageSet(_shapes(size_hw, DEFAULT_SHAPES if count is None else count))
    name, colon, folder = source.partition(":")
    if name != "masks":
        raise unknown("source with masks", source, MASKED_SOURCES)
    if not colon or not folder:
        raise InputError(f"the source '{source}' names no folder: write masks:DIR with the folder's path")
    return _folders(Path(folder).expanduser(), count)


def _shapes(size_hw: tuple[int, int], count: int) -> tuple[MaskedImage, ...]:
    most, seed = SHAPES_COUNTS_AND_SEEDS["test"]
    if count > most:
        raise InputError(f"--count {count} is more than the {most} drawn test images: give at most that")
    drawn = draw_shapes(count, seed, size_hw[0] if size_hw[0] == size_hw[1] else SHAPES_SIZE)
    assert drawn.masks is not None
    images, masks = drawn.images_u8.permute(0, 2, 3, 1).numpy(), drawn.masks.numpy()
    return tuple(
        MaskedImage(f"shape {i}, {drawn.class_names[label]}", lambda i=i: (images[i], masks[i]))
        for i, label in enumerate(drawn.labels.tolist())
    )


def _folders(folder: Path, count: int | None) -> MaskedImageSet:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one with NAME/frames and NAME/masks in it")
    videos = [one for one in [folder, *class_folders(folder)] if _is_video_folder(one)]
    if not videos:
        raise InputError(f"{folder} has no frames beside masks: lay them out as NAME/frames/*.jpg, NAME/masks/*.png")
    images, without_mask = [], 0
    for video in videos:
        pairs, others = _pair_masks(video)
        images += [
            MaskedImage(
                f"{video.name}/{frame.name}",
                lambda pair=(frame, mask): _read_pair(*pair),
                lambda mask=mask: read_mask_values(mask),
            )
            for frame, mask in pairs
        ]
        without_mask += others
    indexes = np.unique(np.linspace(0, len(images) - 1, min(count or len(images), len(images))).round().astype(int))
    return MaskedImageSet(tuple(images[i] for i in indexes), without_mask)


def _is_video_folder(folder: Path) -> bool:
    """Whether a folder has frames and their masks."""
    return (folder / "frames").is_dir() and (folder / "masks").is_dir()


def _pair_masks(video: Path) -> tuple[list[tuple[Path, Path]], int]:
    """Return each mask with its frame, and the number of frames without a mask."""
    frames, masks = ({path.stem: path for path in _image_files(video / part)} for part in ("frames", "masks"))
    if not masks:
        raise InputError(f"{video / 'masks'} has no images: add masks named like the frames")
    for stem, mask in masks.items():
        if stem not in frames:
            raise InputError(f"{mask} has no frame of its name in {video / 'frames'}: add it or remove the mask")
    return [(frames[stem], mask) for stem, mask in masks.items()], len(frames) - len(masks)


def _image_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file())
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {os_error_reason(error)}") from error


def _read_pair(frame: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a frame and its mask, which must have the same size."""
    image_u8, on_object = open_image(frame), open_mask(mask)
    if on_object.shape != image_u8.shape[:2]:
        sizes = [f"{height} × {width}" for height, width in (on_object.shape, image_u8.shape[:2])]
        raise InputError(
            f"{mask} has {sizes[0]} pixels (height × width), its image {frame} has {sizes[1]}: "
            f"make the mask at the image's own size"
        )
    return image_u8, on_object
