"""Frames' answers pooled over a clip, the segments that follow from them, and a map in a few numbers."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.clips.predictions import ClipAnswers, lasting, votes
from vitreous.clips.records import Spool, center_of_mass, entropy
from vitreous.model.classifier import Prediction
from vitreous.render.plots.timeline import Segment

NAMES = ("dog", "cat", "cow")


def answers_of(logits: torch.Tensor, spread: float = 0.5) -> ClipAnswers:
    answers = ClipAnswers(NAMES)
    for frame, row in enumerate(torch.softmax(logits, -1).tolist()):
        ranking = sorted(zip(NAMES, row, strict=True), key=lambda pair: -pair[1])
        answers.add(Prediction(tuple(ranking)), spread, frame / 10, (frame + 1) / 10)
    return answers


def test_the_mean_of_the_logits_is_that_of_the_logits_themselves():
    logits = 4 * torch.randn(30, 3, generator=torch.Generator().manual_seed(1)).double()
    pooled = answers_of(logits).pooled()[0]
    wanted = torch.softmax(logits.mean(0), -1)
    assert pooled.rule == "mean of logits" and pooled.name == NAMES[int(wanted.argmax())]
    assert pooled.probability == pytest.approx(float(wanted.max()), rel=1e-9)


def test_sure_frames_and_those_with_a_concentrated_map_count_more():
    answers = ClipAnswers(NAMES)
    for name, other, share, spread in (("dog", "cat", 0.9, 1.0), ("cat", "dog", 0.55, 0.2), ("cat", "dog", 0.55, 0.2)):
        answers.add(Prediction(((name, share), (other, 1 - share))), spread, 0.0, 0.1)
    found = {one.rule: one for one in answers.pooled()}
    weights = np.array([0.9, 0.55, 0.55])
    dog = (weights * [0.9, 0.45, 0.45]).sum() / weights.sum()
    assert found["confidence-weighted"].name == "dog"
    assert found["confidence-weighted"].probability == pytest.approx(dog)
    assert found["attention-weighted"].name == "cat"
    assert found["attention-weighted"].probability == pytest.approx(0.55)


def test_maps_that_are_even_or_empty_weigh_nothing():
    logits = torch.tensor([[2.0, 0, 0]])
    assert [one.rule for one in answers_of(logits, 1.0).pooled()] == ["mean of logits", "confidence-weighted"]
    assert len(answers_of(logits, math.nan).pooled()) == 2


def test_one_odd_frame_is_no_segment():
    names = ["dog"] * 20 + ["cat"] + ["dog"] * 10 + ["cow"] * 20
    times = [i / 10 for i in range(len(names))]
    assert votes(times, names) == ["dog"] * 31 + ["cow"] * 20


def test_where_as_many_frames_have_each_of_two_classes_the_one_before_stays():
    times = [i / 10 for i in range(20)]
    assert votes(times, ["deer"] * 17 + ["cat"] * 3) == ["deer"] * 17 + ["deer"] * 3
    assert votes([0.0, 0.1, 0.2, 0.3], ["cow", "cow", "dog", "dog"]) == ["cow"] * 4


def test_a_segment_too_short_to_be_told_of_goes_to_the_one_before_or_else_the_one_after():
    def told(*segments):
        return [(one.start_seconds, one.end_seconds, one.name) for one in lasting([Segment(*one) for one in segments])]

    assert told((0, 2, "deer"), (2, 2.03, "cat")) == [(0, 2.03, "deer")]
    assert told((0, 0.05, "cat"), (0.05, 2, "deer")) == [(0, 2, "deer")]
    assert told((0, 1, "cow"), (1, 1.04, "cat"), (1.04, 2, "cow")) == [(0, 2, "cow")]
    assert told((0, 0.04, "cow"), (0.04, 0.09, "cat")) == [(0, 0.09, "cat")] and told() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.34, 1), st.floats(0.01, 2)), max_size=60))
def test_segments_cover_the_clip_without_gaps(frames):
    answers, time = ClipAnswers(NAMES), 0.0
    for name, share, step in frames:
        answers.add(Prediction(((name, share),)), 0.5, time, time + step)
        time += step
    found = answers.segments()
    assert [s.end_seconds for s in found[:-1]] == [s.start_seconds for s in found[1:]]
    assert all(a.name != b.name for a, b in pairwise(found))
    assert not frames or (found[0].start_seconds == 0 and found[-1].end_seconds == time)


def test_the_classes_shown_are_the_highest_in_the_order_of_their_appearance():
    answers = answers_of(torch.tensor([[0.0, 1, 0], [3, 0, 0], [3, 0, 0]]))
    shares = np.array([[0.2, 0.6, 0.2], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]])
    shown = answers.most_shown(shares, 2)
    assert list(shown) == ["cat", "dog"] and np.array_equal(shown["dog"], shares[:, 0])


def test_classes_of_one_name_are_one():
    answers = ClipAnswers(("crane", "dog", "crane"))
    shares = answers.add(Prediction((("crane", 0.5), ("crane", 0.3), ("dog", 0.2))), 0.5, 0.0, 0.1)
    assert answers.class_names == ("crane", "dog") and shares == pytest.approx([0.8, 0.2])


def test_entropy_and_center_of_mass():
    one = np.zeros((4, 6), np.float32)
    one[1, 4] = 3
    assert entropy(one) == 0 and entropy(np.ones((4, 6))) == pytest.approx(1)
    assert math.isnan(entropy(np.zeros((4, 6)))) and math.isnan(entropy(-np.ones((4, 6))))
    assert center_of_mass(one, (10.0, 0.0, 50.0, 120.0)) == pytest.approx((25, 90))
    assert center_of_mass(np.ones((4, 6)), (10.0, 0.0, 50.0, 120.0)) == pytest.approx((30, 60))
    assert np.isnan(center_of_mass(0 * one, (0.0, 0.0, 1.0, 1.0))).all()


def test_a_spool_gives_back_what_it_got_and_leaves_nothing(tmp_path):
    spool, rows = Spool(tmp_path, "<f4"), np.random.default_rng(0).random((300, 2, 3)).astype(np.float32)
    for row in rows:
        spool.append(row)
    assert np.array_equal(spool.read(), rows) and list(tmp_path.iterdir()) == []
    spool.close()
