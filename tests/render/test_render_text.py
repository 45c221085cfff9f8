"""Text stays inside its place, whatever is written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import InputError
from vitreous.render.text import (
    CORNERS,
    TextLine,
    draw_label,
    load_font,
    text_block,
    to_drawable,
    truncate_text,
    wrap_text,
)

GRAY = np.full((240, 400, 3), 128, np.uint8)


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(0, 400))
def test_truncated_text_is_never_wider_than_its_limit(text, width):
    face = load_font(14)
    short = truncate_text(text, face, width)
    assert face.getlength(short) <= width
    assert short == to_drawable(text) or short == "" or short.endswith("…")


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=30), max_size=20), st.integers(30, 300), st.integers(1, 4))
def test_wrapped_text_keeps_width_and_number_of_lines(words, width, max_lines):
    lines = wrap_text(" ".join(words), load_font(12), width, max_lines)
    assert len(lines) <= max_lines and all(load_font(12).getlength(line) <= width for line in lines)
    if not any("…" in line for line in lines):
        assert " ".join(lines) == " ".join(words)


def test_missing_glyphs_become_boxes():
    assert to_drawable("žluťoučký кот γάτα ✓ × ·") == "žluťoučký кот γάτα ✓ × ·"
    assert to_drawable("cat 猫\x00\n\t!") == "cat □□ !"
    assert len(to_drawable("x" * 10**6)) <= 1000


@pytest.mark.parametrize("corner", CORNERS)
def test_a_label_is_drawn_only_in_its_corner(corner):
    drawn = draw_label(GRAY, ["dog 87 %", "rollout"], corner)
    rows, columns = np.nonzero((drawn != GRAY).any(axis=2))
    assert (rows.max() < 120) == ("top" in corner) and (rows.min() >= 120) == ("bottom" in corner)
    assert (columns.max() < 200) == ("left" in corner) and (columns.min() >= 200) == ("right" in corner)
    assert drawn.max() > 230 and drawn.min() < 60, "white letters on a dark box"
    assert (GRAY == 128).all()


def test_the_image_shows_through_the_box():
    stripes = GRAY.copy()
    stripes[:, ::2] = 255
    drawn = draw_label(stripes, ["dog"])
    assert (drawn[15, 13:16] != drawn[15, 14:17]).any(axis=1).all()


def test_the_label_grows_with_the_image():
    small, large = (draw_label(np.full((h, 2 * h, 3), 128, np.uint8), ["dog"]) != 128 for h in (400, 1200))
    assert large.sum() > 6 * small.sum()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (32, 32), (30, 2000), (2000, 40)])
def test_a_label_keeps_the_size_of_any_image(size_hw):
    image = np.zeros((*size_hw, 3), np.uint8)
    drawn = draw_label(image, ["cat " * 50, "猫", ""], "bottom right")
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and not np.shares_memory(drawn, image)


def test_no_lines_or_no_room_leave_the_image_unchanged():
    assert np.array_equal(draw_label(GRAY, []), GRAY)
    assert np.array_equal(draw_label(GRAY, [""]), GRAY)
    assert np.array_equal(draw_label(GRAY[:9, :9], ["dog"]), GRAY[:9, :9])


def test_an_unknown_corner_is_refused():
    with pytest.raises(InputError, match="did you mean 'top left'"):
        draw_label(GRAY, ["dog"], "topleft")


def test_a_block_is_as_wide_as_given_or_as_needed():
    assert text_block([TextLine("dog")], 300).width == 300
    assert text_block([TextLine("dog")], 300, shrink=True).width < 60
    assert text_block([TextLine("dog " * 99, max_lines=3)], 300, shrink=True).width <= 300
