"""The film and the filmstrip of a run: what they show, in which files, and what is refused."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tiny_run import RecordingCallback, make_folder, tiny_recipe

import vitreous
from vitreous.callbacks import Callback, Progress
from vitreous.cli import run as run_cli
from vitreous.errors import InputError
from vitreous.model.prediction import Prediction
from vitreous.render.theme import CORRECT, WRONG
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.task import TaskMetric
from vitreous.training_film.film import film_frames, position_at
from vitreous.training_film.filmstrip import draw_filmstrip
from vitreous.training_film.frames import FilmFrames, chart_specs, opening_lines
from vitreous.training_film.history import MapHistory, read_map_history
from vitreous.training_film.kept_maps import FixedImages
from vitreous.video.info import read_info

RED, GREEN = ((0xC2, 0x36, 0x2B), (0x15, 0x80, 0x3D))
assert (WRONG, CORRECT) == ("#c2362b", "#15803d")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was stopped."""
    path = tmp_path_factory.mktemp("film") / "run"
    data = make_folder(path.parent / "images", 24)
    recipe = tiny_recipe(data, epochs=2.0, checkpoint_seconds=1000.0, keep_maps=8)
    vitreous.train(recipe, path, callback=RecordingCallback(stop_after=5))
    return path


def history(steps=4, images=3, truths=("cat", "dog", "cat")) -> MapHistory:
    """A history whose map moves from the left column of patches to the right one, and whose dogs become correct."""
    maps = np.zeros((steps, images, 2, 4), np.float32)
    for step in range(steps):
        maps[step, :, :, 0], maps[step, :, :, -1] = 4 - 4 * step / (steps - 1), 4 * step / (steps - 1)
    shares = np.linspace(0.9, 0.2, steps)

    def prediction(share: float) -> Prediction:
        scores = sorted([("cat", share), ("dog", 1 - share)], key=lambda pair: -pair[1])
        return Prediction(tuple(scores))

    images_u8 = np.full((images, 16, 32, 3), 130, np.uint8)
    metrics = [
        {"step": i, "epoch": i / 2, "split": "validation", "top1": i / 8, "loss": 2 - i / 4} for i in range(1, 7)
    ]
    return MapHistory(
        "mine", "folder:x", 1000, "attention", FixedImages(images_u8, tuple(range(images)), truths, "validation"),
        tuple(range(0, 2 * steps, 2)), tuple(float(i) for i in range(steps)), maps,
        tuple((prediction(share),) * images for share in shares), TaskMetric("top1", "top-1", "accuracy"), metrics,
    )  # fmt: skip


def count_color(frame_u8, rgb) -> int:
    return int((np.abs(frame_u8.astype(int) - rgb).max(-1) < 12).sum())


def test_a_frame_shows_the_map_where_it_is_and_whether_the_prediction_is_correct():
    frames = FilmFrames(history(), "overlay", 540)
    (left, top), (height, width) = frames.cells.corners_xy[1], frames.cells.size_hw
    first, last = (frames.frame(position)[top : top + height, left : left + width] for position in (0.0, 3.0))
    assert height * 2 == pytest.approx(width, abs=2)
    brightness = [frame.mean((0, 2)) for frame in (first, last)]
    assert brightness[0][0] > brightness[0][-1] + 15 and brightness[1][-1] > brightness[1][0] + 15
    middle = frames.frame(1.5)[top : top + height, left : left + width].mean((0, 2))
    assert middle[0] == pytest.approx(middle[-1], abs=4)  # half of each: the two are cross-faded
    caption = slice(top + height, top + height + frames._px(80))
    for position, rgb in ((0.0, RED), (3.0, GREEN)):  # the dog is a cat at first
        area = frames.frame(position)[caption, left : left + width]
        other = GREEN if rgb == RED else RED
        assert count_color(area, rgb) > 40 and count_color(area, other) == 0
    bars = [
        count_color(frames.frame(at)[top + height : top + height + 12, left : left + width], rgb)
        for at, rgb in ((0, RED), (3, GREEN))
    ]
    assert bars[1] / bars[0] == pytest.approx(0.8 / 0.1, rel=0.25)


def test_without_labels_there_is_neither_mark_nor_bar():
    frame = FilmFrames(history(truths=None), "side-by-side", 540).frame(0.0)
    assert count_color(frame, RED) == 0 and count_color(frame, GREEN) == 0


def test_one_scale_holds_for_all_images_and_steps():
    many = history()
    assert many.scale.low == 0 and many.scale.high == pytest.approx(4, abs=0.1)
    assert many.select([2, 0]).images.indexes == (2, 0)
    for wrong in ([3], [], [-1]):
        with pytest.raises(InputError, match=r"the run kept 3; name some of 0 to 2"):
            many.select(wrong)


def test_the_charts_hold_the_metric_in_per_cent_and_the_loss():
    score, loss = chart_specs(history())
    assert score.title == "accuracy in %" and score.curves[0].values.tolist() == [12.5 * i for i in range(1, 7)]
    assert score.curves[0].newest(0.4) is None and score.curves[0].newest(1.6) == 37.5
    assert loss.curves[0].values[0] == 1.75 and loss.ticks == (0.0, 1.0, 2.0, 3.0) and loss.end == 3.0


def test_the_positions_of_a_film_reach_each_kept_step():
    positions = [position_at(i / 99, 5, 99 / 30) for i in range(100)]
    assert positions[0] == 0 and positions[-1] == 4 and positions == sorted(positions)
    assert {1.0, 2.0, 3.0} <= {round(one, 6) for one in [position_at(k / 4, 5, 20.0) for k in range(5)]}
    assert position_at(0.1, 5, 20.0) == 0.0  # a long distance is not one long cross-fade
    assert position_at(0.7, 1, 3.0) == 0.0


def test_the_opening_is_followed_by_step_0_and_the_end_by_a_still():
    frames = list(film_frames(FilmFrames(history(), "overlay", 240), 4, 24, 8.0))
    assert len(frames) == 24 and (frames[0] == frames[1]).all() and (frames[-1] == frames[-2]).all()
    assert (frames[5] == FilmFrames(history(), "overlay", 240).frame(0.0)).all()
    assert {one.shape for one in frames} == {(240, 426, 3)}


def test_the_opening_says_where_the_run_starts_and_which_weights_it_saves():
    lines = " ".join(opening_lines(history(), 1))
    assert "From step 0, before training, to step 6, epoch 3:" in lines and "untrained" not in lines
    assert "best validation" not in lines
    assert "saves the weights of its best validation" in " ".join(opening_lines(replace(history(), saves_best=True), 1))


def test_an_unfinished_run_gives_the_film_of_what_there_is(run, tmp_path):
    found, listener = read_map_history(run, "rollout"), Counter()
    result = vitreous.film(
        run, tmp_path / "a.mp4", method="rollout", images=[0, 1], fps=10, seconds=2, height=240, callback=listener
    )
    info = read_info(tmp_path / "a.mp4")
    assert (info.frame_count, info.fps, info.size_hw) == (20, Fraction(10), (240, 426)) and result.frames == 20
    assert result.kept_steps == len(found.steps) and result.last_step == found.steps[-1] == 5 and result.images == 2
    assert listener.last is not None and listener.last.is_complete and listener.last.total == 20
    strip = np.asarray(draw_filmstrip(found))
    assert strip.shape[1] > 800 and strip.shape[0] > 500


class Counter(Callback):
    """Keeps the last progress."""

    last: Progress | None = None

    def on_progress(self, progress: Progress) -> None:
        """Keep it."""
        self.last = progress


def test_the_command_writes_films_and_strips(run, tmp_path, capsys):
    gif = tmp_path / "b.gif"
    small = ["--seconds", "1", "--fps", "5", "--height", "240", "--images", "0,2"]
    assert run_cli(["film", str(run), "-o", str(gif), *small, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 5 and told["size_hw"] == [240, 426] and read_info(gif).video_codec == "gif"
    assert run_cli(["film", str(run), "--strip"]) == 0
    assert "filmstrip.png: attention during training" in capsys.readouterr().out
    assert RunFolder(run).filmstrip.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x.txt"], "'.txt' is not a video format; end the name in .mp4"),
        (["--method", "rolout"], "there is no kept method 'rolout': did you mean 'rollout'?"),
        (["--layout", "grid"], "there is no layout 'grid'"),
        (["--images", "a"], "write numbers from 0 with commas, such as 0,3"),
        (["--images", "9"], "images 9: the run kept"),
        (["--fps", "0"], "fps is 0: give 1 to 120"),
        (["--seconds", "9999"], "seconds is 9999: give 1 to 600"),
        (["--height", "333"], "height is 333: give an even number"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(options, words, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_cli(["film", str(run), *options]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_without_kept_maps_says_why(run, tmp_path, capsys):
    with pytest.raises(InputError, match="it is a folder or a pipe; add a file name"):
        vitreous.film(run, "-")
    (tmp_path / "recipe.json").write_text((run / "recipe.json").read_text())
    assert run_cli(["film", str(tmp_path)]) == 2
    assert "has no kept maps: a run keeps them while it trains" in capsys.readouterr().err
    assert run_cli(["film", str(tmp_path / "nothing")]) == 2
    assert "is not a run of Vitreous" in capsys.readouterr().err
