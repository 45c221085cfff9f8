"""What is in a drawn image, as numbers: the object, its cluttered background, light and noise; nothing is drawn here.

Lengths are in units of the image's shorter side, places are (down, right), angles are in radians, and the first axis
of every array is the image.
"""

from dataclasses import dataclass, replace

import numpy as np

RADIUS = (0.21, 0.29)  # of the circle around the object, which so spans a quarter to a half of the side
GRIDS = (6, 9, 16)  # cells a side of the background's clouds, coarse to fine, the outermost outside the image
# With smaller objects, less contrast or stronger clouds and clutter a small ViT needs many passes to learn at all.
STRENGTHS = (1.0, 0.4, 0.2)
BLOB_GRID = 8
CONTRAST = 0.65
ITEMS = {"wedge": 2, "stroke": 3, "arc": 3, "corner": 2, "bar": 5}
LAYERS = ("wedge", "blob", "stroke", "arc", "corner", "bar")  # back to front


@dataclass(frozen=True)
class Item:
    """Pieces of clutter of one kind: place (count, n, 2), and angle, length and thickness (count, n)."""

    place: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    thickness: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything that was drawn by lot for some images.

    Attributes:
        labels: int64 (count,), which outline the object has.
        place: (count, 2), the object's center as a fraction of the room it has.
        radius, angle: (count,), the object's.
        phases: for each of `GRIDS` (count, 2, cells, cells), for the blobs (count, 1, cells, cells); in turns.
        ground: (count, 3, 3), three colors (red, green, blue, 0 to 1) the background blends.
        colors: (count, layers, 3), one for each of `LAYERS`.
        opacity: (count, layers).
        ink: (count, 3), the object's color before it is held against what lies behind it.
        contrast: (count,), the least distance the two are given, in RGB units of 0 to 1.
        rim: (count,), how much brighter the object's rim is than its middle.
        light: (count, 2), how much brighter it gets per unit down and right.
        grain: (count,), the noise's amplitude.
        items: the clutter, by kind.
    """

    labels: np.ndarray
    place: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    phases: tuple[np.ndarray, ...]
    ground: np.ndarray
    colors: np.ndarray
    opacity: np.ndarray
    ink: np.ndarray
    contrast: np.ndarray
    rim: np.ndarray
    light: np.ndarray
    grain: np.ndarray
    items: dict[str, Item]


def random_scene(random: np.random.Generator, count: int, classes: int) -> Scene:
    """Draw `count` scenes by lot; among every `classes` of them each class is the object once."""
    labels = random.permutation(np.arange(count, dtype=np.int64) % classes)
    hue = random.random((count, 1))
    ground_hue = hue + random.uniform(-0.14, 0.14, (count, 3))
    clutter_hue = hue + random.normal(0, 0.2, (count, len(LAYERS)))
    light_angle = _turns(random, (count,))
    return Scene(
        labels=labels,
        place=random.random((count, 2)),
        radius=random.uniform(*RADIUS, count),
        angle=_turns(random, (count,)),
        phases=tuple(
            random.random((count, fields, cells, cells))
            for fields, cells in [*((2, cells) for cells in GRIDS), (1, BLOB_GRID)]
        ),
        ground=_rgb(ground_hue, random.uniform(0.2, 0.9, (count, 3)), random.uniform(0.25, 0.95, (count, 3))),
        colors=_rgb(
            clutter_hue, random.uniform(0.2, 0.85, clutter_hue.shape), random.uniform(0.15, 1, clutter_hue.shape)
        ),
        opacity=random.uniform(0.2, 0.5, (count, len(LAYERS))),
        ink=_rgb(random.random(count), random.uniform(0.2, 0.9, count), random.uniform(0.25, 1, count)),
        contrast=np.full(count, CONTRAST),
        rim=random.uniform(-0.35, 0.35, count),
        light=random.uniform(0, 0.5, (count, 1)) * np.stack([np.sin(light_angle), np.cos(light_angle)], axis=1),
        grain=random.uniform(0.005, 0.03, count),
        items={kind: _random_item(random, (count, number)) for kind, number in ITEMS.items()},
    )


def _random_item(random: np.random.Generator, shape: tuple[int, int]) -> Item:
    return Item(
        place=random.uniform(-0.05, 1.05, (*shape, 2)),
        angle=_turns(random, shape),
        length=random.uniform(0, 1, shape),
        thickness=random.uniform(0, 1, shape),
    )


def _turns(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.uniform(0, 2 * np.pi, shape)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Colors from hue (turns), saturation and value (0 to 1), by three cosines a third of a turn apart: (..., 3)."""
    waves = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[..., None] - np.arange(3) / 3))
    return value[..., None] * (1 - saturation[..., None] * (1 - waves))


def scene_at(scene: Scene, time_seconds: float) -> Scene:
    """The same scene a while later: the object wanders and turns slowly, the background sways and breathes."""
    time = time_seconds
    wander = np.array([0.043, 0.061]) * time + scene.place / 2  # in turns there and back: 23 and 16 seconds
    sway = {kind: _swayed(item, time) for kind, item in scene.items.items()}
    return replace(
        scene,
        place=0.5 - 0.5 * np.cos(2 * np.pi * wander),
        angle=scene.angle + 0.5 * time,
        phases=tuple(phases * (1 + 0.05 * time) for phases in scene.phases),
        items=sway,
    )


def _swayed(item: Item, time: float) -> Item:
    drift = 0.05 * np.sin(0.6 * time + item.angle)
    return replace(item, place=item.place + drift[..., None], angle=item.angle + 0.15 * np.sin(0.4 * time + item.angle))
