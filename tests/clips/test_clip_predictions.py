"""Predictions for frames pooled over a video, the segments that follow from them, and statistics of a map."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.clips.predictions import PredictionPool, majority_vote, min_duration_segments
from vitreous.clips.records import DiskArray, center_of_mass, map_entropy
from vitreous.model.prediction import Prediction
from vitreous.render.plots.timeline import Segment

NAMES = ("dog", "cat", "cow")


def pool_of(logits: torch.Tensor, spread: float = 0.5) -> PredictionPool:
    pool = PredictionPool(NAMES)
    for frame, row in enumerate(torch.softmax(logits, -1).tolist()):
        ranking = sorted(zip(NAMES, row, strict=True), key=lambda pair: -pair[1])
        pool.add(Prediction(tuple(ranking)), spread, frame / 10, (frame + 1) / 10)
    return pool


def test_the_mean_of_log_probabilities_gives_the_mean_of_the_logits():
    logits = 4 * torch.randn(30, 3, generator=torch.Generator().manual_seed(1)).double()
    pooled = pool_of(logits).predictions()[0]
    wanted = torch.softmax(logits.mean(0), -1)
    assert pooled.rule == "mean of logits" and pooled.label == NAMES[int(wanted.argmax())]
    assert pooled.score == pytest.approx(float(wanted.max()), rel=1e-9)


def test_confident_frames_and_concentrated_maps_count_more():
    pool = PredictionPool(NAMES)
    for name, other, share, spread in (("dog", "cat", 0.9, 1.0), ("cat", "dog", 0.55, 0.2), ("cat", "dog", 0.55, 0.2)):
        pool.add(Prediction(((name, share), (other, 1 - share))), spread, 0.0, 0.1)
    found = {one.rule: one for one in pool.predictions()}
    weights = np.array([0.9, 0.55, 0.55])
    dog = (weights * [0.9, 0.45, 0.45]).sum() / weights.sum()
    assert found["confidence-weighted"].label == "dog"
    assert found["confidence-weighted"].score == pytest.approx(dog)
    assert found["attention-weighted"].label == "cat"
    assert found["attention-weighted"].score == pytest.approx(0.55)


def test_even_and_empty_maps_have_no_weight():
    logits = torch.tensor([[2.0, 0, 0]])
    assert [one.rule for one in pool_of(logits, 1.0).predictions()] == ["mean of logits", "confidence-weighted"]
    assert len(pool_of(logits, math.nan).predictions()) == 2


def test_one_outlier_frame_makes_no_segment():
    names = ["dog"] * 20 + ["cat"] + ["dog"] * 10 + ["cow"] * 20
    times = [i / 10 for i in range(len(names))]
    assert majority_vote(times, names, 5.1) == ["dog"] * 31 + ["cow"] * 20


def test_a_tie_keeps_the_label_before():
    times = [i / 10 for i in range(20)]
    assert majority_vote(times, ["deer"] * 17 + ["cat"] * 3, 2.0) == ["deer"] * 17 + ["deer"] * 3
    assert majority_vote([0.0, 0.1, 0.2, 0.3], ["cow", "cow", "dog", "dog"], 0.4) == ["cow"] * 4


def test_a_frame_votes_by_how_long_it_is_shown():
    # 27 frames of one class at 25 frames a second, then three that are shown for longer.
    times = [*(i / 25 for i in range(27)), 1.24, 1.52, 1.76]
    labels = ["airplane"] * 27 + ["frog"] * 3
    assert majority_vote(times, labels, 1.96) == labels
    # A frame that is shown for long counts no more than the half second of it that is near.
    assert majority_vote([*(i / 10 for i in range(6)), 0.6], ["dog"] * 6 + ["cat"], 10.6)[:6] == ["dog"] * 5 + ["dog"]


def test_a_short_segment_is_merged_into_the_one_before_or_else_after():
    def merged(*segments):
        return [
            (one.start_seconds, one.end_seconds, one.label)
            for one in min_duration_segments([Segment(*one) for one in segments])
        ]

    assert merged((0, 2, "deer"), (2, 2.03, "cat")) == [(0, 2.03, "deer")]
    assert merged((0, 0.05, "cat"), (0.05, 2, "deer")) == [(0, 2, "deer")]
    assert merged((0, 1, "cow"), (1, 1.04, "cat"), (1.04, 2, "cow")) == [(0, 2, "cow")]
    assert merged((0, 0.04, "cow"), (0.04, 0.09, "cat")) == [(0, 0.09, "cat")] and merged() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.34, 1), st.floats(0.01, 2)), max_size=60))
def test_segments_cover_the_clip_without_gaps(frames):
    pool, time = PredictionPool(NAMES), 0.0
    for name, share, step in frames:
        pool.add(Prediction(((name, share),)), 0.5, time, time + step)
        time += step
    found = pool.segments()
    assert [s.end_seconds for s in found[:-1]] == [s.start_seconds for s in found[1:]]
    assert all(a.label != b.label for a, b in pairwise(found))
    assert not frames or (found[0].start_seconds == 0 and found[-1].end_seconds == time)


def test_top_classes_come_in_the_order_of_their_appearance():
    pool = pool_of(torch.tensor([[0.0, 1, 0], [3, 0, 0], [3, 0, 0]]))
    shares = np.array([[0.2, 0.6, 0.2], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]])
    shown = pool.top_classes(shares, 2)
    assert list(shown) == ["cat", "dog"] and np.array_equal(shown["dog"], shares[:, 0])


def test_classes_of_one_name_are_merged():
    pool = PredictionPool(("crane", "dog", "crane"))
    shares = pool.add(Prediction((("crane", 0.5), ("crane", 0.3), ("dog", 0.2))), 0.5, 0.0, 0.1)
    assert pool.class_names == ("crane", "dog") and shares == pytest.approx([0.8, 0.2])


def test_entropy_and_center_of_mass():
    one = np.zeros((4, 6), np.float32)
    one[1, 4] = 3
    assert map_entropy(one) == 0 and map_entropy(np.ones((4, 6))) == pytest.approx(1)
    assert math.isnan(map_entropy(np.zeros((4, 6)))) and math.isnan(map_entropy(-np.ones((4, 6))))
    assert center_of_mass(one, (10.0, 0.0, 50.0, 120.0)) == pytest.approx((90, 25))
    assert center_of_mass(np.ones((4, 6)), (10.0, 0.0, 50.0, 120.0)) == pytest.approx((60, 30))
    assert np.isnan(center_of_mass(0 * one, (0.0, 0.0, 1.0, 1.0))).all()


def test_a_disk_array_returns_its_rows_and_leaves_no_file(tmp_path):
    array, rows = DiskArray(tmp_path, "<f4"), np.random.default_rng(0).random((300, 2, 3)).astype(np.float32)
    for row in rows:
        array.append(row)
    assert np.array_equal(array.read(), rows) and list(tmp_path.iterdir()) == []
    array.close()
