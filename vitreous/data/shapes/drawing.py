"""Render scenes to pixels: background, clutter, object, light and grain, back to front, many images at once."""

import numpy as np

from vitreous.data.shapes.canvas import Canvas, column, smooth
from vitreous.data.shapes.clutter import CLUTTER
from vitreous.data.shapes.outlines import OUTLINES
from vitreous.data.shapes.scene import LAYERS, NOISE_AMPLITUDES, Scene


def draw(scene: Scene, size_hw: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Render scenes: uint8 (count, 3, height, width), and masks, bool (count, height, width), true on the object."""
    canvas = Canvas(len(scene.labels), size_hw)
    canvas.pixels[:] = _background(scene, size_hw)
    for layer, kind in enumerate(LAYERS):
        coverage = CLUTTER[kind](canvas, scene)
        coverage *= column(scene.opacity[:, layer])
        canvas.paint(coverage, scene.colors[:, layer])
    mask = _object(canvas, scene)
    return _finish(canvas, scene, random), mask


def _background(scene: Scene, size_hw: tuple[int, int]) -> np.ndarray:
    """Return smooth noise in three colors, the sum of several scales: (count, 3, height, width)."""
    base, *others = np.moveaxis(scene.background, 1, 0)
    towards = np.stack([other - base for other in others], axis=1)  # (count, 2, 3)
    noise = (base + towards.sum(axis=1) / 2)[:, :, None, None].astype(np.float32)
    for phases, amplitude in zip(scene.phases[:-1], NOISE_AMPLITUDES, strict=True):
        waves = amplitude * np.sin(2 * np.pi * phases)
        noise_rgb = np.einsum("nfc,nfyx->ncyx", towards, waves).astype(np.float32)
        noise = noise + smooth(noise_rgb, size_hw)
    return noise


def _object(canvas: Canvas, scene: Scene) -> np.ndarray:
    """Paint the objects over everything else and return their masks: bool (count, height, width)."""
    room = canvas.extent - 2 * scene.radius[:, None]
    outside = _outside(canvas, scene, scene.radius[:, None] + room * scene.position)
    mask = outside < 0
    rim_weight = np.clip(1 + outside / column(scene.radius / 3), 0, 1)  # 1 at the rim, 0 a third of the radius inside
    shade = 1 + rim_weight * column(scene.rim)
    coverage = canvas.coverage(outside)
    ink = ensure_contrast(scene.ink, _mean_covered(canvas.pixels, coverage), scene.contrast)
    canvas.paint(coverage, ink[:, :, None, None].astype(np.float32) * shade[:, None])
    return mask


def _outside(canvas: Canvas, scene: Scene, center: np.ndarray) -> np.ndarray:
    """Return each pixel's signed distance from its image's object: (count, height, width)."""
    outside = np.empty((len(scene.labels), *canvas.size_hw), np.float32)
    for label, outline in enumerate(OUTLINES.values()):
        selected = np.flatnonzero(scene.labels == label)
        if len(selected):
            radius = column(scene.radius[selected])
            position, angle = center[selected], scene.angle[selected]
            u, v = canvas.across(position, angle) / radius, canvas.across(position, angle + np.pi / 2) / radius
            outside[selected] = outline(u, v) * radius
    return outside


def _mean_covered(pixels: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Return the mean color of what the object will cover: (count, 3)."""
    weights = coverage.reshape(len(coverage), -1, 1)
    return (pixels.reshape(*pixels.shape[:2], -1) @ weights)[..., 0] / weights.sum(axis=1)


def ensure_contrast(ink: np.ndarray, behind: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Move each color of `ink` (count, 3) to a distance of at least `contrast` (count,) from the color behind it."""
    away = ink - behind
    gap = np.linalg.norm(away, axis=1, keepdims=True)
    away *= np.maximum(gap, contrast[:, None]) / np.maximum(gap, 1e-6)
    candidates = np.clip(np.stack([behind + away, behind - away]), 0, 1)
    gaps = np.linalg.norm(candidates - behind, axis=2)
    blocked = gaps[0] < np.minimum(gaps[1], 0.9 * contrast)  # by black or white: move in the opposite direction
    return np.where(blocked[:, None], candidates[1], candidates[0])


def _finish(canvas: Canvas, scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Add light from one side and grain, then round to uint8 (count, 3, height, width)."""
    light = 255 * (1 + canvas.plane(scene.light[:, 0], scene.light[:, 1], scene.light @ canvas.extent / 2))
    grain = random.integers(-128, 128, canvas.pixels.shape, np.int8) * column(2 * scene.grain)[:, None]
    canvas.pixels *= light[:, None]
    canvas.pixels += grain
    canvas.pixels += np.float32(0.5)
    return np.clip(canvas.pixels, 0, 255, out=canvas.pixels).astype(np.uint8)
