"""Scenes as numbers: the object, its cluttered background, light and grain; nothing is drawn here.

Lengths are in units of the image's shorter side, positions are (down, right), angles are in radians, and the first
axis of every array is the image.
"""

from dataclasses import dataclass, replace

import numpy as np

RADIUS = (0.21, 0.29)
"""Of the circle around the object, which therefore spans a quarter to a half of the image's side."""
GRIDS = (6, 9, 16)
"""Cells a side of the background noise, coarse to fine; the outermost cells are outside the image."""
# With smaller objects, less contrast or stronger noise and clutter a small ViT needs many epochs to learn anything.
NOISE_AMPLITUDES = (1.0, 0.4, 0.2)
BLOB_GRID = 8
CONTRAST = 0.65
ITEMS = {"wedge": 2, "stroke": 3, "arc": 3, "corner": 2, "bar": 5}
LAYERS = ("wedge", "blob", "stroke", "arc", "corner", "bar")  # back to front


@dataclass(frozen=True)
class Item:
    """Pieces of clutter of one kind: position (count, n, 2), and angle, length and thickness (count, n)."""

    position: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    thickness: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything that is random in some images.

    Attributes:
        labels: int64 (count,), which outline the object has.
        position: (count, 2), the object's center as a fraction of the space that it can move in.
        radius, angle: (count,), the object's.
        phases: for each of `GRIDS` (count, 2, cells, cells), for the blobs (count, 1, cells, cells); a turn is 1.
        background: (count, 3, 3), the three colors (red, green, blue, 0 to 1) that the background blends.
        colors: (count, layers, 3), one for each of `LAYERS`.
        opacity: (count, layers).
        ink: (count, 3), the object's color before its contrast with the background is ensured.
        contrast: (count,), the smallest distance between the two colors, in RGB units of 0 to 1.
        rim: (count,), how much brighter the object's rim is than its center.
        light: (count, 2), how much the brightness grows per unit down and right.
        grain: (count,), the amplitude of the pixel noise.
        items: the clutter, by kind.
    """

    labels: np.ndarray
    position: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    phases: tuple[np.ndarray, ...]
    background: np.ndarray
    colors: np.ndarray
    opacity: np.ndarray
    ink: np.ndarray
    contrast: np.ndarray
    rim: np.ndarray
    light: np.ndarray
    grain: np.ndarray
    items: dict[str, Item]


def random_scene(random: np.random.Generator, count: int, classes: int) -> Scene:
    """Draw `count` random scenes; the classes are balanced and in random order."""
    labels = random.permutation(np.arange(count, dtype=np.int64) % classes)
    hue = random.random((count, 1))
    background_hue = hue + random.uniform(-0.14, 0.14, (count, 3))
    clutter_hue = hue + random.normal(0, 0.2, (count, len(LAYERS)))
    light_angle = _random_angles(random, (count,))
    return Scene(
        labels=labels,
        position=random.random((count, 2)),
        radius=random.uniform(*RADIUS, count),
        angle=_random_angles(random, (count,)),
        phases=tuple(
            random.random((count, fields, cells, cells))
            for fields, cells in [*((2, cells) for cells in GRIDS), (1, BLOB_GRID)]
        ),
        background=_rgb(background_hue, random.uniform(0.2, 0.9, (count, 3)), random.uniform(0.25, 0.95, (count, 3))),
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
        position=random.uniform(-0.05, 1.05, (*shape, 2)),
        angle=_random_angles(random, shape),
        length=random.uniform(0, 1, shape),
        thickness=random.uniform(0, 1, shape),
    )


def _random_angles(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.uniform(0, 2 * np.pi, shape)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return colors of hue (turns), saturation and value (0 to 1): three cosines a third of a turn apart, (..., 3)."""
    waves = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[..., None] - np.arange(3) / 3))
    return value[..., None] * (1 - saturation[..., None] * (1 - waves))


def scene_at(scene: Scene, time_seconds: float) -> Scene:
    """Return the same scene at another time: the object moves and rotates slowly, the background sways."""
    time = time_seconds
    wander = np.array([0.043, 0.061]) * time + scene.position / 2  # in turns there and back: 23 and 16 seconds
    items = {kind: _sway(item, time) for kind, item in scene.items.items()}
    return replace(
        scene,
        position=0.5 - 0.5 * np.cos(2 * np.pi * wander),
        angle=scene.angle + 0.5 * time,
        phases=tuple(phases * (1 + 0.05 * time) for phases in scene.phases),
        items=items,
    )


def _sway(item: Item, time: float) -> Item:
    drift = 0.05 * np.sin(0.6 * time + item.angle)
    return replace(
        item, position=item.position + drift[..., None], angle=item.angle + 0.15 * np.sin(0.4 * time + item.angle)
    )
