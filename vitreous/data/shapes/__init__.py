"""Drawn data: images of one shape on a cluttered background, with the object's box and mask exactly known."""

from vitreous.data.shapes.dataset import CHUNK, SHAPE_NAMES, draw_shapes, draw_video

__all__ = ["CHUNK", "SHAPE_NAMES", "draw_shapes", "draw_video"]
