"""Several videos from Python: a folder or a list of them, with the outcome of each."""

import inspect
from fractions import Fraction
from pathlib import Path

import pytest
from video_clips import moving_square

from vitreous.callbacks import Callback
from vitreous.clips.explain import explain_video
from vitreous.clips.folder import explain_videos
from vitreous.clips.request import VideoKeywords
from vitreous.errors import InputError
from vitreous.explanation.options import MethodKeywords
from vitreous.video.encode import write_video


def test_a_folder_gives_the_outcome_of_each_video(small_classifier, clips, tmp_path, notes):
    (clips / "inner").mkdir()
    write_video(clips / "inner" / "d.mp4", moving_square(2), Fraction(10))
    found = explain_videos(small_classifier, str(clips), tmp_path / "out", method="rollout", every=2, callback=notes)
    assert [(one.job.source.name, one.state) for one in found] == [
        ("a.mp4", "written"),
        ("b.mp4", "failed"),
        ("c.mp4", "written"),
    ]
    assert found[0].result.video.frames == 2 and found[0].result.output == tmp_path / "out" / "a.mp4"
    assert found[1].result is None and "b.mp4" in found[1].message
    assert str(found[1]).startswith("b.mp4: failed ") and "2 frames" in str(found[0])
    assert any("inner are skipped" in line for line in notes.lines)


def test_a_list_is_explained_in_its_order_and_resumes(small_classifier, clips, tmp_path):
    listed = [clips / "c.mp4", str(clips / "a.mp4")]
    first = explain_videos(small_classifier, listed, tmp_path / "out", save_maps=tmp_path / "maps")
    assert [one.job.source.name for one in first] == ["c.mp4", "a.mp4"]
    assert (tmp_path / "maps" / "a.npz").is_file()
    second = explain_videos(small_classifier, listed, tmp_path / "out", save_maps=tmp_path / "maps", resume=True)
    assert [one.state for one in second] == ["skipped"] * 2
    other = explain_videos(small_classifier, listed, tmp_path / "out", opacity=0.5, resume=True)
    assert [one.state for one in other] == ["written"] * 2


def test_a_callback_stops_the_work_and_keeps_the_frames_so_far(small_classifier, clips, tmp_path):
    write_video(clips / "a.mp4", moving_square(40), Fraction(10))

    class StopSoon(Callback):
        started = False

        def on_progress(self, progress):
            assert progress.message == "a.mp4"
            self.started = True

        def should_stop(self):
            return self.started

    (found,) = explain_videos(
        small_classifier, [clips / "a.mp4", clips / "c.mp4"], tmp_path / "out", callback=StopSoon()
    )
    assert found.state == "interrupted" and found.result.video.frames < 40
    assert f"interrupted after {found.result.video.frames} frames: these were written" in str(found)


@pytest.mark.parametrize(
    ("videos", "keywords", "message"),
    [
        ([], {}, "the list of videos is empty"),
        (["no.mp4"], {}, "there is no video no.mp4"),
        ("no folder", {}, "no folder is not a folder: give a folder or a list of videos"),
        ("clips", {"end": "1s"}, "end='1s' has the wrong type: explain_videos takes a number or None"),
        ("clips", {"method": []}, "method is an empty list"),
        ("clips", {"target": [0, 1]}, "one target for all of its frames"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_anything_is_written(
    videos, keywords, message, small_classifier, clips, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        explain_videos(small_classifier, videos, "out", **keywords)
    assert not Path("out").exists()


def test_an_unknown_keyword_is_a_type_error(small_classifier, clips, tmp_path):
    with pytest.raises(TypeError, match="did you mean 'head'"):
        explain_videos(small_classifier, clips, tmp_path / "out", haed=1)


def test_the_keywords_are_those_of_one_video():
    one = {
        name: parameter.annotation
        for name, parameter in inspect.signature(explain_video).parameters.items()
        if name not in ("model", "video", "output", "input_size", "resize_mode", "callback", "keywords")
    }
    own = VideoKeywords.__annotations__.keys() - MethodKeywords.__annotations__.keys()
    assert one == {name: VideoKeywords.__annotations__[name] for name in own}
