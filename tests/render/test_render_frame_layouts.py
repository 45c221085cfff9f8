"""Every layout of the table draws any frame: at one even size, with words, and without touching what it was given."""

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import InputError
from vitreous.render.color import Scale
from vitreous.render.contours import contour_lines, draw_contours
from vitreous.render.frame_layouts import (
    LAYOUTS,
    MULTI_MAP_LAYOUTS,
    SINGLE_IMAGE_LAYOUTS,
    draw_frame,
    panel_grid_for,
)
from vitreous.render.frame_view import DrawStyle, FrameView, HeatmapLayer
from vitreous.render.legend import bar_caption, draw_legend, fit_caption, legend_box
from vitreous.render.overlay import overlay_levels
from vitreous.render.panels import MAX_SIZE_HW, panel_corner, panel_grid
from vitreous.render.spotlight import spotlight
from vitreous.render.text import load_font

SIZES = [(256, 340), (340, 256), (64, 900), (900, 64), (31, 33), (6, 5), (1, 1)]
RNG = np.random.default_rng(0)


def frame_size(image_hw, layout, maps, style=None):
    """The (height, width) of a drawn frame: the image's own size, or that of all panels."""
    if layout in SINGLE_IMAGE_LAYOUTS:
        return image_hw
    return panel_grid_for(image_hw, layout, maps, style or DrawStyle()).size_hw


def view(size_hw, maps=1, *, signed=False, seed=0, box=None, colors=None):
    rng = np.random.default_rng(seed)
    grids = [rng.normal(size=(7, 9)).astype(np.float32) for _ in range(maps)]
    grids = grids if signed else [np.abs(grid) for grid in grids]
    shown = (
        HeatmapLayer(grid, Scale.for_map(grid, signed=signed), f"head {i}", box, signed) for i, grid in enumerate(grids)
    )
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return FrameView(
        image, tuple(replace(one, colors=colors) for one in shown), "golden retriever 87 %", "rollout · all layers"
    )


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("signed", [False, True])
def test_every_layout_draws_frames_of_any_size_and_leaves_its_inputs_unchanged(layout, size_hw, signed):
    count = 5 if layout in MULTI_MAP_LAYOUTS else 1
    for style in (DrawStyle(), DrawStyle(0.5, edge_aware=True, legend=False)):
        sizes = set()
        for seed in range(2):
            given = view(size_hw, count, signed=signed, seed=seed)
            before = given.image_u8.copy(), [one.heatmap.copy() for one in given.heatmaps]
            drawn = draw_frame(given, layout, style)
            assert drawn.dtype == np.uint8 and drawn.flags.c_contiguous
            assert not np.shares_memory(drawn, given.image_u8)
            assert np.array_equal(given.image_u8, before[0])
            assert all(
                np.array_equal(one.heatmap, heatmap) for one, heatmap in zip(given.heatmaps, before[1], strict=True)
            )
            assert np.array_equal(drawn, draw_frame(given, layout, style))
            sizes.add(drawn.shape)
        assert sizes == {(*frame_size(size_hw, layout, count, style), 3)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size_hw", [(720, 1280), (1281, 721), (2160, 3840), (255, 341)])
def test_panels_have_even_sizes_within_bounds_and_single_images_keep_theirs(layout, size_hw):
    for count in (1, 2, 3, 5, 6, 12, 16):
        height, width = frame_size(size_hw, layout, count)
        if layout in SINGLE_IMAGE_LAYOUTS:
            assert (height, width) == size_hw
        else:
            assert height % 2 == width % 2 == 0 and width <= MAX_SIZE_HW[1]


@pytest.mark.parametrize(
    ("size_hw", "count", "expected"),
    [((720, 1280), 6, (3, 2)), ((720, 1280), 12, (4, 3)), ((1280, 720), 6, (3, 2)), ((256, 340), 4, (2, 2)),
     ((256, 340), 3, (2, 2)), ((720, 1280), 16, (4, 4))],
)  # fmt: skip
def test_a_panel_grid_has_about_the_aspect_ratio_of_the_video(size_hw, count, expected):
    grid = panel_grid(size_hw, count)
    assert (grid.columns, grid.rows) == expected
    assert abs(grid.panel_hw[1] / grid.panel_hw[0] - size_hw[1] / size_hw[0]) < 0.02


def test_panels_show_their_own_maps():
    given = view((200, 300), 4)
    grid, drawn = panel_grid((200, 300), 4), draw_frame(given, "heads")
    top = grid.header_height + grid.title_height
    first = drawn[top : top + 200, :300]
    second = drawn[top : top + 200, 300 + grid.gap : 600 + grid.gap]
    for panel, one in ((first, given.heatmaps[0]), (second, given.heatmaps[1])):
        alone = draw_frame(FrameView(given.image_u8, (one,)), "overlay", DrawStyle(legend=False))
        assert np.array_equal(panel, alone)


def test_side_by_side_shows_the_unchanged_image_on_the_left():
    given = view((100, 150))
    drawn = draw_frame(given, "side-by-side")
    top = drawn.shape[0] - 100 - (drawn.shape[0] - 100 - panel_grid((100, 150), 2, 2, titles=False).header_height)
    assert np.array_equal(drawn[top : top + 100, :150], given.image_u8)


def test_beyond_the_box_nothing_glows():
    given = view((120, 200), box=(0, 50, 120, 150))
    drawn = draw_frame(replace(given, prediction="", caption=""), "overlay", DrawStyle(legend=False))
    blank = overlay_levels(given.image_u8, np.zeros((120, 200), np.uint8))
    below = replace(given.heatmaps[0], scale=Scale(0, given.heatmaps[0].scale.high))
    drawn = draw_frame(FrameView(given.image_u8, (below,)), "overlay", DrawStyle(legend=False))
    assert np.array_equal(drawn[:, :50], blank[:, :50]) and np.array_equal(drawn[:, 150:], blank[:, 150:])
    assert not np.array_equal(drawn[:, 50:150], blank[:, 50:150])


def test_a_map_with_its_own_colors_is_colorized_without_a_color_bar():
    colors = RNG.random((7, 9, 3)).astype(np.float32)
    given = view((120, 200), colors=colors)
    drawn = draw_frame(given)
    assert drawn.shape == (120, 200, 3) and not np.array_equal(drawn, draw_frame(view((120, 200))))
    assert draw_frame(view((120, 200), 4, colors=colors), "methods").shape[2] == 3


def test_zero_opacity_leaves_the_image_and_a_spotlight_only_dims():
    given = view((90, 160))
    for layout in ("overlay", "spotlight"):
        plain = draw_frame(FrameView(given.image_u8, given.heatmaps), layout, DrawStyle(0.0, legend=False))
        assert np.array_equal(plain, given.image_u8)
    lit = spotlight(given.image_u8, RNG.integers(0, 256, (90, 160), dtype=np.uint8))
    assert (lit <= given.image_u8).all()
    assert np.array_equal(spotlight(given.image_u8, np.full((90, 160), 255, np.uint8)), given.image_u8)


def test_contours_surround_the_peak_and_leave_the_rest_unchanged():
    y, x = np.mgrid[:16, :16]
    heatmap = np.exp(-((y - 4) ** 2 + (x - 11) ** 2) / 6).astype(np.float32)
    (line,) = contour_lines(heatmap, 0.5)
    radii = np.hypot(line[:, 0] * 16 - 11.5, line[:, 1] * 16 - 4.5)
    assert np.allclose(radii, np.sqrt(6 * np.log(2)), atol=0.15) and np.array_equal(line[0], line[-1])
    gray = np.full((160, 320, 3), 128, np.uint8)
    changed = (draw_contours(gray, heatmap, Scale.robust(heatmap)) != gray).any(axis=2)
    assert 0.005 < changed.mean() < 0.1 and not changed[:, :120].any() and not changed[100:].any()
    assert np.array_equal(draw_contours(gray, np.ones((4, 4)), Scale(1, 1)), gray)


def test_a_legend_grows_with_the_image_and_disappears_without_room():
    large, small = np.full((720, 1280, 3), 90, np.uint8), np.full((20, 24, 3), 90, np.uint8)
    changed = (draw_legend(large, "rollout", "overlay") != large).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() > 600 and columns.max() < 640
    assert np.array_equal(draw_legend(small, "rollout", "overlay"), small)
    assert np.array_equal(draw_legend(large, "", "own"), large)


@pytest.mark.parametrize("kind", ["overlay", "signed", "contour", "own"])
@pytest.mark.parametrize("size_hw", [(256, 340), (240, 426), (120, 160), (480, 270)])
def test_a_legend_covers_about_the_same_fraction_of_small_and_large_images(size_hw, kind):
    words = "attention · layer 11 · mean over heads"
    shares = []
    for times in (1, 6):
        box = legend_box(words, kind, (times * size_hw[0], times * size_hw[1]))
        assert box is not None
        shares.append(box[1].shape[1] / (times * size_hw[1]))
    assert shares[0] <= max(1.25 * shares[1], 130 / size_hw[1])  # the method's name and the bar need so much


def test_a_legend_without_room_keeps_the_method_name():
    face, words = load_font(9), "attention · layer 11 · mean over heads"
    texts = [fit_caption(words, "against / for", face, width) for width in (400, 220, 140, 60, 5)]
    assert texts[0] == f"{words} · against / for" and texts[-2:] == ["attention", "attention"]
    assert texts[1] == "attention · layer 11 · against / for" and texts[2] == "attention · against / for"


def test_the_legend_states_the_meaning_of_a_signed_maps_ends():
    gray = np.full((720, 1280, 3), 128, np.uint8)
    assert (
        bar_caption("signed", "unlike / alike") == "unlike / alike" == bar_caption("signed contour", "unlike / alike")
    )
    assert bar_caption("overlay", "unlike / alike") == bar_caption("own", "unlike / alike") == ""
    texts, plain = (draw_legend(gray, "features", "signed", end_labels=ends) for ends in ("unlike / alike", ""))
    assert (texts != gray).any(axis=(0, 2)).sum() > 1.3 * (plain != gray).any(axis=(0, 2)).sum()
    given = view((720, 1280), signed=True)
    described = replace(given, heatmaps=(replace(given.heatmaps[0], end_labels="short / long"),))
    for layout in ("overlay", "contour", "side-by-side", "methods"):
        assert not np.array_equal(draw_frame(given, layout), draw_frame(described, layout))


def test_panels_with_different_colors_have_a_bar_each():
    alike = replace(view((240, 320), 3), prediction="", caption="")
    own = replace(alike.heatmaps[2], colors=np.full((7, 9, 3), 0.5, np.float32))
    mixed = replace(alike, heatmaps=(*alike.heatmaps[:2], own))
    grid = panel_grid_for((240, 320), "methods", 3, DrawStyle())
    heads = [draw_frame(one, "methods")[: grid.header_height] for one in (alike, mixed)]
    assert len(np.unique(heads[0].reshape(-1, 3), axis=0)) > 20 and (heads[1] == heads[1][0, 0]).all()
    bare = draw_frame(mixed, "methods", DrawStyle(legend=False))
    drawn = draw_frame(mixed, "methods")[grid.header_height :][: len(bare)]
    changed = []
    for i in range(3):
        top, left = panel_corner(grid, i)
        rows = slice(top - grid.header_height, top - grid.header_height + grid.panel_hw[0])
        columns = slice(left, left + grid.panel_hw[1])
        changed.append(bool((drawn[rows, columns] != bare[rows, columns]).any()))
    assert changed == [True, True, False]


def test_invalid_views_and_layouts_are_refused():
    with pytest.raises(InputError, match="did you mean 'overlay'"):
        draw_frame(view((9, 9)), "overlya")
    with pytest.raises(InputError, match="draws one map, not 3"):
        draw_frame(view((9, 9), 3), "contour")
    with pytest.raises(InputError, match="at least one"):
        FrameView(np.zeros((4, 4, 3), np.uint8), ())
    with pytest.raises(InputError, match="opacity"):
        DrawStyle(1.5)
