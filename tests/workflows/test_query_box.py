"""A query that is a box: the patches inside are followed together, on images and clips."""

import csv
from fractions import Fraction

import numpy as np
import pytest
import torch
from video_clips import moving_square
from video_requests import make_request, map_request
from vitreous.explanation.coordinates import center_of_region, parse_region_yx, swapped

from vitreous.clips.draw_stage import draw_query_marker
from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.explanation.figures import query_mask
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.workflows.explain import explain

HW = (72, 96)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=3, num_heads=2, num_classes=3, stem="linear"))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("dog", "cat", "cow"))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*HW, 3), dtype=np.uint8)


def test_a_place_or_a_box_is_read_as_it_is_written():
    assert parse_region_yx("320,180") == (180, 320) and parse_region_yx(None) is None
    assert parse_region_yx("600,300,700,500") == (300, 600, 500, 700)
    assert swapped((300, 600, 500, 700)) == (600, 300, 700, 500) and center_of_region((300, 600, 500, 700)) == (
        400,
        650,
    )
    for wrong in ("3", "1,2,3", "1,2,3,x", "1,2,3,4,5"):
        with pytest.raises(InputError, match="no place on an image"):
            parse_region_yx(wrong)
    with pytest.raises(InputError, match="holds nothing"):
        parse_region_yx("700,300,600,500")


def test_attention_from_a_box_is_the_mean_of_that_from_its_patches(model, image):
    box = explain(model, image, "attention", query=(24, 0, 72, 48))  # a patch is 24 x 24 of the image
    each = [explain(model, image, "attention", query=(x, y)) for y in (12, 36) for x in (36, 60)]
    assert box.options.query == (0, 1, 2, 3) and "rows 0 to 1, columns 1 to 2" in box.caption()
    assert np.allclose(box.patch_map, np.mean([one.patch_map for one in each], axis=0), atol=1e-6)
    outlined = query_mask(box)
    assert outlined is not None and outlined[:48, 24:72].all() and outlined.sum() == 48 * 48


def test_a_box_of_one_patch_is_that_patch_for_every_method_that_takes_one(model, image):
    for method, given in (("attention", {}), ("rollout", {}), ("features", {"view": "similarity"})):
        box = explain(model, image, method, query=(26, 25, 46, 47), **given)
        one = explain(model, image, method, query=(36, 36), **given)
        assert np.allclose(box.patch_map, one.patch_map, atol=1e-6)


def test_a_box_beyond_the_image_or_one_to_track_is_refused(model, image):
    with pytest.raises(InputError, match="is not on the part of the image"):
        explain(model, image, "attention", query=(200, 0, 300, 40))
    with pytest.raises(InputError, match="not a box"):
        make_request(query=(0.0, 0.0, 9.0, 9.0), track=True)


@pytest.mark.parametrize("layout", ["overlay", "heads"])
def test_a_clip_follows_the_box_in_pixels_of_the_clip(model, image, layout):
    request = make_request(layout=layout)
    (found,) = map_request(model, [image], request, [(24.0, 0.0, 72.0, 48.0)])
    mean = np.mean([one.patch_heatmap for one in found.maps], axis=0)
    assert np.allclose(mean, explain(model, image, "attention", query=(24, 0, 72, 48)).patch_heatmap, atol=1e-5)


def test_a_written_clip_shows_the_box_and_names_its_middle(model, tmp_path):
    write_video(tmp_path / "c.mp4", moving_square(4, HW), Fraction(10))
    given = {"query": (24.0, 0.0, 72.0, 48.0), "height": 36, "legend": False, "save_maps": tmp_path / "n.npz"}
    explain_video(model, tmp_path / "c.mp4", tmp_path / "o.mkv", **given)
    assert len(list(read_frames(tmp_path / "o.mkv"))) == 4
    with (tmp_path / "n.csv").open(newline="") as file:
        assert [(float(row["query_x"]), float(row["query_y"])) for row in csv.DictReader(file)] == [(48, 24)] * 4


def test_the_box_is_outlined():
    gray = np.full((120, 160, 3), 128, np.uint8)
    changed = (draw_query_marker(gray, (40.0, 30.0, 120.0, 90.0)) != gray).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 24 <= rows.min() <= 30 and 90 <= rows.max() <= 96 and 34 <= columns.min() <= 40
    assert not changed[40:80, 50:110].any()
