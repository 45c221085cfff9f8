"""Images with a mask of the object: drawn shapes, or folders of frames and masks in the layout of DAVIS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.folder import SUFFIXES, class_folders
from vitreous.data.shapes.dataset import draw_shapes
from vitreous.data.sources import SHAPES_COUNTS_AND_SEEDS, SHAPES_SIZE
from vitreous.errors import InputError, unknown
from vitreous.files import reason
from vitreous.imaging.reading import open_image

SHAPES_SHOWN = 500
"""Of the 2,000 drawn test images, unless the user asks for another number."""
MASKED_SOURCES = ("shapes", "masks:DIR")


@dataclass(frozen=True)
class MaskedImage:
    """One image whose object's place is known, read when it is asked for."""

    name: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    """Gives the image, uint8 (height, width, 3), and its mask, bool (height, width), true on the object."""


@dataclass(frozen=True)
class MaskedImageSet:
    """All images of a source, and how many more frames there are that nobody has drawn a mask for."""

    images: tuple[MaskedImage, ...]
    frames_without_mask: int = 0


def load_masked(source: str, size_hw: tuple[int, int], count: int | None = None) -> MaskedImageSet:
    """The images of "shapes" (the test ones, drawn) or of "masks:DIR".

    DIR/NAME/frames/*.jpg with DIR/NAME/masks/*.png for each NAME, or one such folder itself; a mask belongs to the
    frame of the same name, and its pixels that aren't 0 are the object, however many objects they are.

    Args:
        source: one of `MASKED_SOURCES`.
        size_hw: what the model takes; shapes are drawn that large where it is square.
        count: the first so many of the shapes, or so many evenly over all frames; the 500 first shapes, or all
            frames, by default.

    Raises:
        InputError: there is no such source or folder, or a mask without its frame.
    """
    if count is not None and count < 1:
        raise InputError(f"--count {count} measures nothing: give 1 or more")
    if source == "shapes":
        return MaskedImageSet(_shapes(size_hw, SHAPES_SHOWN if count is None else count))
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
        raise InputError(f"there is no folder {folder}: give one that holds NAME/frames and NAME/masks")
    clips = [place for place in [folder, *class_folders(folder)] if is_clip(place)]
    if not clips:
        raise InputError(f"{folder} holds no frames beside masks: lay them out as NAME/frames/*.jpg, NAME/masks/*.png")
    images, unmarked = [], 0
    for clip in clips:
        pairs, more = _pairs(clip)
        images += [
            MaskedImage(f"{clip.name}/{frame.name}", lambda pair=(frame, mask): _read(*pair)) for frame, mask in pairs
        ]
        unmarked += more
    places = np.unique(np.linspace(0, len(images) - 1, min(count or len(images), len(images))).round().astype(int))
    return MaskedImageSet(tuple(images[i] for i in places), unmarked)


def is_clip(folder: Path) -> bool:
    """Whether a folder holds frames and their masks."""
    return (folder / "frames").is_dir() and (folder / "masks").is_dir()


def _pairs(clip: Path) -> tuple[list[tuple[Path, Path]], int]:
    """Each mask with its frame, and how many frames have none."""
    frames, masks = ({path.stem: path for path in _images(clip / part)} for part in ("frames", "masks"))
    if not masks:
        raise InputError(f"{clip / 'masks'} holds no images: add masks named like the frames")
    for stem, mask in masks.items():
        if stem not in frames:
            raise InputError(f"{mask} has no frame of its name in {clip / 'frames'}: add it or remove the mask")
    return [(frames[stem], mask) for stem, mask in masks.items()], len(frames) - len(masks)


def _images(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {reason(error)}") from error


def _read(frame: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its mask.

    Raises:
        InputError: one can't be read, or they differ in size.
    """
    image_u8, marked = open_image(frame), read_mask(mask)
    if marked.shape != image_u8.shape[:2]:
        sizes = [f"{height} × {width}" for height, width in (marked.shape, image_u8.shape[:2])]
        raise InputError(
            f"{mask} has {sizes[0]} pixels (height × width), its image {frame} has {sizes[1]}: "
            f"make the mask for the image's own size"
        )
    return image_u8, marked


def read_mask(path: Path) -> np.ndarray:
    """A mask file as bool (height, width): true where a pixel's color, or its number in a palette, isn't 0.

    Raises:
        InputError: it can't be read as an image.
    """
    open_image(path)  # says in words what is wrong with a file
    with Image.open(path) as image:
        values = np.asarray(image)
        colors = len(image.getbands()) - ("A" in image.getbands())
    return values != 0 if values.ndim == 2 else (values[..., :colors] != 0).any(-1)
