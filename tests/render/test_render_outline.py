"""Outlines of an object."""

import numpy as np
import pytest

from vitreous.errors import InputError
from vitreous.render.outline import dilate, draw_outline


def test_the_outline_is_light_inside_and_dark_outside():
    image, mask = np.full((40, 60, 3), 128, np.uint8), np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    drawn = draw_outline(image, mask)
    assert (drawn[10, 30:50] == 255).all() and (drawn[9, 30:50] < 60).all()
    assert (drawn[14:16, 35:45] == 128).all() and (drawn[:5] == 128).all() and (image == 128).all()


def test_dilation_grows_by_its_steps_and_stops_at_the_border():
    mask = np.zeros((9, 7), bool)
    mask[0, 3] = True
    assert [int(dilate(mask, steps).sum()) for steps in (0, 1, 2)] == [1, 4, 13]


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(InputError, match="doesn't fit"):
        draw_outline(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), bool))
