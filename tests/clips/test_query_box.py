"""A query that is a box in a video: the patches inside are followed together."""

import csv
from fractions import Fraction

import numpy as np
import pytest
from video_clips import moving_square
from video_requests import make_request, map_request

from vitreous.clips.draw_stage import draw_query_marker
from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.workflows.explain import explain

HW = (72, 96)


def test_tracking_a_box_raises():
    with pytest.raises(InputError, match="not a box"):
        make_request("attention", query=(0.0, 0.0, 9.0, 9.0), track=True)


@pytest.mark.parametrize("layout", ["overlay", "heads"])
def test_a_video_follows_the_box_in_pixels_of_the_frame(small_classifier, noise_image, layout):
    (found,) = map_request(
        small_classifier, [noise_image], make_request("attention", layout=layout), [(24.0, 0.0, 72.0, 48.0)]
    )
    mean = np.mean([one.patch_heatmap for one in found.maps], axis=0)
    assert np.allclose(mean, explain(small_classifier, noise_image, query=(24, 0, 72, 48)).patch_heatmap, atol=1e-5)


def test_the_records_name_the_center_of_the_box(small_classifier, tmp_path):
    write_video(tmp_path / "c.mp4", moving_square(4, HW), Fraction(10))
    explain_video(
        small_classifier, tmp_path / "c.mp4", tmp_path / "o.mkv", query=(24.0, 0.0, 72.0, 48.0), height=36,
        legend=False, save_maps=tmp_path / "n.npz",
    )  # fmt: skip
    assert len(list(read_frames(tmp_path / "o.mkv"))) == 4
    with (tmp_path / "n.csv").open(newline="") as file:
        assert [(float(row["query_x"]), float(row["query_y"])) for row in csv.DictReader(file)] == [(48, 24)] * 4


def test_the_box_is_outlined():
    gray = np.full((120, 160, 3), 128, np.uint8)
    changed = (draw_query_marker(gray, (40.0, 30.0, 120.0, 90.0)) != gray).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 24 <= rows.min() <= 30 and 90 <= rows.max() <= 96 and 34 <= columns.min() <= 40
    assert not changed[40:80, 50:110].any()
