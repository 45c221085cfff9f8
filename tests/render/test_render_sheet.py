"""Sheets hold what they should, at a bounded size, for every size of image and length of name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.image import as_image, resize_to_fit
from vitreous.render.layout import arrange_grid, side_by_side, stack
from vitreous.render.patch_sheet import patches_sheet
from vitreous.render.sheet import (
    GalleryItem,
    MapLegend,
    Tile,
    color_bar,
    draw_tiles,
    explanation_sheet,
    fit_and_outline,
    gallery_sheet,
    head_grid_sheet,
)
from vitreous.render.theme import CORRECT, PAPER, WRONG

LONG = "x" * 200
SIZES = [(1, 1), (32, 32), (28, 28), (1, 900), (900, 1), (480, 854), (1200, 300)]


def make_image(size_hw: tuple[int, int], color: tuple[int, int, int] = (200, 60, 30)) -> np.ndarray:
    return np.full((*size_hw, 3), color, np.uint8)


def count(image: Image.Image, color: str | tuple[int, int, int]) -> int:
    return int((np.asarray(image) == np.asarray(Image.new("RGB", (1, 1), color))[0, 0]).all(axis=2).sum())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.integers(1, 300))
def test_a_resized_image_fills_its_box_and_keeps_its_aspect_ratio(height, width, box_height, box_width):
    shown = resize_to_fit(make_image((height, width)), (box_height, box_width))
    assert shown.height <= box_height and shown.width <= box_width
    assert shown.height == box_height or shown.width == box_width
    factor = min(box_height / height, box_width / width)
    assert abs(shown.height - max(1, factor * height)) <= 0.5 and abs(shown.width - max(1, factor * width)) <= 0.5
    assert count(shown, (200, 60, 30)) == shown.width * shown.height


def test_a_small_image_keeps_its_pixels_as_squares():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(resize_to_fit(image, (40, 60))), image.repeat(10, axis=0).repeat(10, axis=1))


def test_blocks_do_not_overlap_and_holes_stay_paper():
    red, blue = Image.new("RGB", (10, 4), "red"), Image.new("RGB", (6, 8), "blue")
    assert stack([red, blue], gap=3).size == (10, 15) and side_by_side([red, blue], gap=3).size == (19, 8)
    table = arrange_grid([[red, None], [None, blue], [red]], (2, 2))
    assert table.size == (18, 4 + 2 + 8 + 2 + 4)
    assert count(table, "red") == 80 and count(table, "blue") == 48


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("right", [True, False, None])
def test_an_explanation_image_of_any_size(size_hw, right):
    drawn = explanation_sheet(
        (make_image(size_hw), make_image(size_hw, (9, 8, 7))), f"猫 {LONG}", [LONG, "ž"], correct=right
    )
    assert drawn.mode == "RGB" and 600 < drawn.width <= 1600 and drawn.height < 1400
    assert count(drawn, (200, 60, 30)) == count(drawn, (9, 8, 7)) > 0, "both images, equally large"
    assert (count(drawn, CORRECT) > 0) == (right is True) and (count(drawn, WRONG) > 0) == (right is False)


def test_an_explanation_without_lines_and_of_a_32_pixel_image_is_comfortable():
    drawn = explanation_sheet((make_image((32, 32)), make_image((32, 32), (9, 8, 7))), "cat", [])
    assert count(drawn, (200, 60, 30)) >= 500 * 500


def test_nothing_touches_the_edge_of_a_sheet():
    item = GalleryItem(make_image((32, 32)), make_image((32, 32)), LONG, LONG, True)
    sheets = [
        gallery_sheet([item] * 5),
        head_grid_sheet([[make_image((8, 9))] * 12] * 3),
        draw_tiles([Tile(make_image((9, 9)))], 1),
    ]
    sheets += [explanation_sheet((make_image((9, 300)), make_image((9, 300))), LONG, [LONG])]
    for sheet in sheets:
        pixels = np.asarray(sheet)
        edges = [pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]]
        assert all((edge == 255).all() for edge in edges) and PAPER == "#ffffff"


def test_the_color_bar_goes_from_dim_to_glowing():
    row = np.asarray(color_bar(400, MapLegend("map", ("low", "high")))).astype(int)
    bar = row[row.shape[0] // 2]
    dark = np.flatnonzero(bar.max(axis=1) < 60)
    glowing = np.flatnonzero((bar[:, 0] - bar[:, 2] > 80) & (bar[:, 0] > 120))
    assert dark.size and glowing.size and dark.mean() < glowing.mean()


def test_values_stand_under_the_ends_of_the_color_bar():
    plain = color_bar(400, MapLegend())
    valued = color_bar(400, MapLegend(end_values=("0.1", "12 × uniform")))
    assert valued.height > plain.height and valued.width == plain.width
    below = np.argwhere((np.asarray(valued)[plain.height :] < 200).any(axis=(0, 2)))
    assert below.min() > 20 and below.max() < valued.width - 20, "under the bar, not under its words"


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (128, 128, 128)])
@pytest.mark.parametrize("part", [(slice(1, 2), slice(2, 3)), (slice(0, 4), slice(0, 3))])
def test_the_outline_is_visible_on_any_background_and_hides_little(ground, part):
    mask = np.zeros((4, 6), bool)
    mask[part] = True
    images = make_image((4, 6), ground), make_image((4, 6), ground)
    plain, drawn = (np.asarray(explanation_sheet(images, "cat", [], outlined=one)) for one in (None, mask))
    assert plain.shape == drawn.shape
    changed = (plain != drawn).any(axis=2)
    assert 500 < changed.sum() < 0.05 * changed.size
    line = drawn[changed].astype(int).mean(axis=1)
    assert np.abs(line - ground[0]).max() > 120, "seen on this ground"


def test_an_outline_at_the_border_is_closed():
    mask, image = np.zeros((40, 60), bool), make_image((40, 60), (90, 90, 90))
    mask[:20] = True
    shown = np.asarray(fit_and_outline(image, (400, 600), mask))
    assert (shown[0] == 255).all() and (shown[:190, 0] == 255).all() and (shown[:190, -1] == 255).all()
    assert (shown[-1] == 90).all()


def test_sheets_have_legends():
    item = GalleryItem(make_image((32, 48)), make_image((32, 48)), None, "cat 50 %", None)
    legends = [MapLegend(), MapLegend("map", ("against", "for"), signed=True), MapLegend("features: alike", None)]
    for draw in (
        lambda shown: gallery_sheet([item], legends=shown),
        lambda shown: draw_tiles([Tile(item.image_u8)], 1, legends=shown),
    ):
        heights = [draw(legends[:count]).height for count in range(4)]
        assert heights[0] < heights[1] < heights[2] == heights[3], "narrow sheets put bars under each other"


def test_layers_are_rows_and_heads_are_columns():
    colors = [[(10 + 40 * layer, 20 + 60 * head, 5) for head in range(3)] for layer in range(2)]
    sheet = head_grid_sheet([[make_image((20, 40), color) for color in row] for row in colors])
    middles = [[np.argwhere((np.asarray(sheet) == color).all(axis=2)).mean(axis=0) for color in row] for row in colors]
    assert all(np.isclose(row[0][0], place[0]) for row in middles for place in row)
    assert all(np.isclose(middles[0][head][1], middles[1][head][1]) for head in range(3))
    assert middles[0][0][0] < middles[1][0][0] and middles[0][0][1] < middles[0][1][1] < middles[0][2][1]


@pytest.mark.parametrize("heads", [1, 3, 12, 16, 24])
def test_layers_by_heads_stays_about_1600_pixels_wide(heads):
    assert head_grid_sheet([[make_image((224, 224))] * heads] * 2).width <= 1620


@pytest.mark.parametrize("overlays", [[], [[]], [[make_image((2, 2))], []]])
def test_ragged_or_empty_tables_are_refused(overlays):
    with pytest.raises(InputError, match="heads"):
        head_grid_sheet(overlays)


def test_titles_and_captions_are_drawn_and_long_ones_do_not_widen_the_sheet():
    tiles = [Tile(make_image((30, 50)), ("name", LONG)), Tile(make_image((50, 30)), (LONG,), WRONG)]
    plain, named = draw_tiles(tiles, 2), draw_tiles(tiles, 2, [LONG], [LONG, LONG], LONG)
    assert count(plain, WRONG) > 0 and named.height > plain.height and named.width <= 1600


def test_captions_of_a_row_start_on_one_line_under_images_of_any_height():
    sheet = np.asarray(
        draw_tiles([Tile(make_image(size), ("H",), WRONG) for size in [(20, 60), (60, 60), (90, 60)]], 3)
    )
    written = (sheet == np.asarray(Image.new("RGB", (1, 1), WRONG))[0, 0]).all(axis=2)
    tops = [np.flatnonzero(written[:, left : left + 280].any(axis=1)).min() for left in (40, 340, 640)]
    assert len(set(tops)) == 1


def test_no_tiles_are_no_sheet():
    for tiles, columns in [([], 3), ([Tile(make_image((2, 2)))], 0)]:
        with pytest.raises(InputError, match="sheet"):
            draw_tiles(tiles, columns)


def test_a_gallery_draws_correct_green_wrong_red_and_unknown_plain():
    def item(truth):
        return GalleryItem(
            make_image((32, 48)),
            make_image((32, 48), (9, 8, 7)),
            truth,
            "cat 88 %",
            None if truth is None else truth == "cat",
        )

    right, wrong, unknown = (gallery_sheet([item(truth)]) for truth in ("cat", "dog", None))
    assert count(right, CORRECT) > 50 and not count(right, WRONG)
    assert count(wrong, WRONG) > 50 and not count(wrong, CORRECT)
    assert not count(unknown, CORRECT) and not count(unknown, WRONG)


def test_a_gallery_mixes_sizes_and_is_refused_when_empty():
    items = [GalleryItem(make_image(size), make_image(size), None, "🐈 кот 50 %", None) for size in SIZES]
    assert gallery_sheet(items).width <= 1600
    with pytest.raises(InputError, match="gallery"):
        gallery_sheet([])


@pytest.mark.parametrize(
    ("size_hw", "patch_size_hw", "grid_hw"),
    [
        ((32, 32), (4, 4), (8, 8)),
        ((480, 640), (40.0, 40.0), (12, 16)),
        ((225, 225), (16, 16), (14, 14)),
        ((100, 333), (33.3, 37), (3, 9)),
        ((1, 1), (1, 1), (1, 1)),
        ((7, 900), (7, 9), (1, 100)),
        ((518, 518), (2, 2), (259, 259)),
    ],
)
def test_exploding_the_patches_loses_no_pixel(size_hw, patch_size_hw, grid_hw):
    color = (200, 60, 30)
    sheet = patches_sheet(make_image(size_hw, color), patch_size_hw, grid_hw)
    pixels = (np.asarray(sheet) == color).all(axis=2)
    shown = resize_to_fit(make_image(size_hw), (820, 640))
    area = shown.width * shown.height * min(1, np.prod(patch_size_hw) * np.prod(grid_hw) / np.prod(size_hw))
    right = pixels[:, 40 + shown.width + 20 :].sum()
    assert right <= area * 1.05 + 2 * (shown.width + shown.height)
    if shown.height / grid_hw[0] < 54:
        assert right >= area * 0.95 - 2 * (shown.width + shown.height)


def test_there_is_a_gap_between_any_two_patches():
    sheet = np.asarray(patches_sheet(make_image((40, 60)), (20, 20), (2, 3)))
    right = sheet[:, 40 + 640 + 30 : -41]
    row = (right[300] == (200, 60, 30)).all(axis=1).astype(int)
    assert (np.diff(row) == 1).sum() + row[0] == 3


@pytest.mark.parametrize(
    ("patch_size_hw", "grid_hw"), [((16, 16), (3, 2)), ((0, 4), (1, 1)), ((4, 4), (0, 3)), ((-4, -4), (-2, -2))]
)
def test_patches_that_do_not_fit_are_refused(patch_size_hw, grid_hw):
    with pytest.raises(InputError, match="do not fit"):
        patches_sheet(make_image((32, 32)), patch_size_hw, grid_hw)


def test_every_sheet_refuses_invalid_images():
    for bad in [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]:
        for draw in [as_image, lambda u8: draw_tiles([Tile(u8)], 1), lambda u8: explanation_sheet((u8, u8), "", [])]:
            with pytest.raises(InputError, match="uint8"):
                draw(bad)
