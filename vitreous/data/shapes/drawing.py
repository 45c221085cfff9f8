"""Scenes to pixels: background, clutter, object, light and grain, painted back to front on many images at once."""

import numpy as np

from vitreous.data.shapes.canvas import Canvas, column, smooth
from vitreous.data.shapes.clutter import CLUTTER
from vitreous.data.shapes.outlines import OUTLINES
from vitreous.data.shapes.scene import LAYERS, STRENGTHS, Scene


def draw(scene: Scene, size_hw: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint the scenes: uint8 (count, 3, height, width), and bool (count, height, width), true on the object."""
    canvas = Canvas(len(scene.labels), size_hw)
    canvas.pixels[:] = _ground(scene, size_hw)
    for layer, kind in enumerate(LAYERS):
        cover = CLUTTER[kind](canvas, scene)
        cover *= column(scene.opacity[:, layer])
        canvas.paint(cover, scene.colors[:, layer])
    mask = _object(canvas, scene)
    return _finished(canvas, scene, random), mask


def _ground(scene: Scene, size_hw: tuple[int, int]) -> np.ndarray:
    """Soft clouds in three colors, from coarse to fine."""
    base, *others = np.moveaxis(scene.ground, 1, 0)
    towards = np.stack([other - base for other in others], axis=1)  # (count, 2, 3)
    clouds = (base + towards.sum(axis=1) / 2)[:, :, None, None].astype(np.float32)
    for phases, strength in zip(scene.phases[:-1], STRENGTHS, strict=True):
        waves = strength * np.sin(2 * np.pi * phases)
        colored = np.einsum("nfc,nfyx->ncyx", towards, waves).astype(np.float32)
        clouds = clouds + smooth(colored, size_hw)
    return clouds


def _object(canvas: Canvas, scene: Scene) -> np.ndarray:
    """Paint the objects on top of all else and give their masks: bool (count, height, width)."""
    room = canvas.extent - 2 * scene.radius[:, None]
    outside = _outside(canvas, scene, scene.radius[:, None] + room * scene.place)
    mask = outside < 0
    nearness = np.clip(1 + outside / column(scene.radius / 3), 0, 1)  # to the rim: 1 on it, 0 a third of the way in
    shade = 1 + nearness * column(scene.rim)
    cover = canvas.cover(outside)
    ink = contrasting(scene.ink, _mean_behind(canvas.pixels, cover), scene.contrast)
    canvas.paint(cover, ink[:, :, None, None].astype(np.float32) * shade[:, None])
    return mask


def _outside(canvas: Canvas, scene: Scene, center: np.ndarray) -> np.ndarray:
    """Each pixel's signed distance from its image's object: (count, height, width)."""
    outside = np.empty((len(scene.labels), *canvas.size_hw), np.float32)
    for label, outline in enumerate(OUTLINES.values()):
        chosen = np.flatnonzero(scene.labels == label)
        if len(chosen):
            radius = column(scene.radius[chosen])
            place, angle = center[chosen], scene.angle[chosen]
            u, v = canvas.across(place, angle) / radius, canvas.across(place, angle + np.pi / 2) / radius
            outside[chosen] = outline(u, v) * radius
    return outside


def _mean_behind(pixels: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The mean color of what the object will hide: (count, 3)."""
    weights = cover.reshape(len(cover), -1, 1)
    return (pixels.reshape(*pixels.shape[:2], -1) @ weights)[..., 0] / weights.sum(axis=1)


def contrasting(ink: np.ndarray, behind: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """The inks (count, 3), each moved straight away from the color behind if nearer to it than `contrast` (count,)."""
    away = ink - behind
    gap = np.linalg.norm(away, axis=1, keepdims=True)
    away *= np.maximum(gap, contrast[:, None]) / np.maximum(gap, 1e-6)
    either = np.clip(np.stack([behind + away, behind - away]), 0, 1)
    gaps = np.linalg.norm(either - behind, axis=2)
    blocked = gaps[0] < np.minimum(gaps[1], 0.9 * contrast)  # by black or white: go the other way
    return np.where(blocked[:, None], either[1], either[0])


def _finished(canvas: Canvas, scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Light from one side and grain, then whole numbers: uint8 (count, 3, height, width)."""
    light = 255 * (1 + canvas.plane(scene.light[:, 0], scene.light[:, 1], scene.light @ canvas.extent / 2))
    grain = random.integers(-128, 128, canvas.pixels.shape, np.int8) * column(2 * scene.grain)[:, None]
    canvas.pixels *= light[:, None]
    canvas.pixels += grain
    canvas.pixels += np.float32(0.5)
    return np.clip(canvas.pixels, 0, 255, out=canvas.pixels).astype(np.uint8)
