"""Whatever is wrong with the input: one line on standard error that says so, exit code 2, nothing half written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous import cli
from vitreous.cli import VERBS, run


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to stand in, with some files that are no good."""
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("words.png").write_text("these are words")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save("black.png")
    Path("cut.png").write_bytes(Path("black.png").read_bytes()[:50])
    Path("letters").mkdir()
    Path("letters/to-mother.txt").write_text("dear")
    return tmp_path


def complaint(capsys, *arguments: object) -> str:
    """What the command line says when it refuses."""
    before = sorted(Path().rglob("*"))
    assert run([str(argument) for argument in arguments]) == 2
    assert sorted(Path().rglob("*")) == before, "something was left behind"
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("vitreous: ")]
    assert len(lines) == 1 and "Traceback" not in said
    return lines[0]


IMAGES = {
    "missing.png": "missing.png",
    "empty.png": "empty",
    "words.png": "words.png",
    "cut.png": "cut.png",
    "letters": "folder",
}


@pytest.mark.parametrize("image", IMAGES)
def test_images_that_are_none(image, here, trained_run, capsys):
    assert IMAGES[image] in complaint(capsys, "explain", trained_run, image)
    assert IMAGES[image] in complaint(capsys, "patches", image)


EXPLAIN = {
    "--method rolout": "did you mean 'rollout'? (attention, rollout,",
    "--method attention --layer 9": "no layer 9: this model has layers 0 to 1",
    "--method attention --head -3": "no head -3",
    "--method rollout --layer 1": "method 'rollout' doesn't use the option layer: leave it out, or choose attention",
    "--target rde": "did you mean 'red'? (blue, green, red)",
    "--truth gren": "did you mean 'green'",
    "--label gren": "did you mean 'green'",
    "--layout shet": "shet",
    "--layer two": "two",
    "--method occlusion --query 3,4": "doesn't use the option query",
    "--query 3;4": "is not a point on an image",
    "--query 99,4": "not on the part of the image that the model sees",
    "--target red-blue": "no class 'red-blue': for the difference of two classes, write 'red - blue'",
    "--layout methods --truth red": "doesn't show true labels: leave out --label",
    "--method attention,rollout --truth red": "doesn't show true labels: leave out --label",
    "--method attention,rolout": "did you mean 'rollout'?",
    "--method attention,rollout --layout contour": "--layout contour shows one method, not 2",
    "--method rollout,rise --layer 1": "none of rollout, rise uses the option layer",
    "--method rise,grad-cam --query 3,4": "none of rise, grad-cam uses the option query",
    "--json --csv": "give one of them",
    "-o letters/to-mother.txt": "use one of the extensions .png",
    "-o black.png": "black.png is one of the images themselves",
    "--layout sheet --method banana": "no method 'banana'",
    "--layout sheet --target red": "it accepts no other options",
    "--layout sheet --method rise": "it accepts no other options",
    "-o black.png/inside.png": "black.png is a file; choose another folder",
    "--no-such-flag": "--no-such-flag",
    "--count 3": "--count is for test images, and black.png is named",
    "--data shapes": "--data is for test images, and black.png is named",
    "--fusion max": "--fusion is now --head-fusion",
}


@pytest.mark.parametrize("flags", EXPLAIN)
def test_explanations_that_cannot_be(flags, here, trained_run, capsys):
    assert EXPLAIN[flags] in complaint(capsys, "explain", trained_run, "black.png", *flags.split())


def test_patches_do_not_overwrite_their_image(here, capsys):
    assert "is the image itself" in complaint(capsys, "patches", "black.png", "-o", "black.png")


MODELS = {
    "nowhere": "there is no model at nowhere",
    "letters": "letters/config.json is missing: the folder holds no model",
    "black.png": "black.png is not a safetensors file",
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("verb", ["evaluate", "explain", "video"])
def test_models_that_are_none(verb, model, here, capsys):
    files = {"evaluate": [], "explain": ["black.png"], "video": ["clip.mp4"]}[verb]
    assert MODELS[model] in complaint(capsys, verb, model, *files)


def test_damaged_runs(here, trained_run, capsys):
    shutil.copytree(trained_run, "run")
    weights = Path("run/model.safetensors").read_bytes()
    Path("run/model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "model.safetensors is damaged" in complaint(capsys, "evaluate", "run")
    Path("run/model.safetensors").unlink()
    assert "has no weights yet" in complaint(capsys, "evaluate", "run")
    Path("run/config.json").write_text("{")
    assert "config.json is not JSON" in complaint(capsys, "explain", "run", "black.png")
    for model in ("null", "[1]", '{"width": "wide"}'):
        Path("run/config.json").write_text('{"model": ' + model + "}")
        assert "run/config.json" in complaint(capsys, "explain", "run", "black.png")
    Path("run/config.json").write_text('{"model": {"width": 7}}')
    assert "embed_dim 7 can't be divided among 3 heads" in complaint(capsys, "explain", "run", "black.png")


TRAIN = {
    "shape": "did you mean 'shapes'",
    "shapes --set epoch=3": "did you mean 'epochs'",
    "shapes --set epochs": "NAME=VALUE",
    "shapes --set epochs=many": "epochs=many",
    "shapes --out letters": "exists and is not a run of Vitreous",
    "shapes --out black.png": "is a file",
    "shapes --out letters --resume": "holds no run to resume",
    "shapes --data letters": "'letters' is a folder: write folder:letters",
    "shapes --data nothing": "no source 'nothing'",
    "shapes --data folder:nowhere": "nowhere",
    "shapes --device toaster": "no device 'toaster'",
    "shapes --device meta": "no device 'meta'",
    "shapes --device cuda:7": "is not there: torch sees",
    "shapes --set augment.shift=64": "less than the image's sides",
    "shapes --set precision=fp8": "precision=fp8",
}


@pytest.mark.parametrize("arguments", TRAIN)
def test_runs_that_cannot_start(arguments, here, capsys):
    assert TRAIN[arguments] in complaint(capsys, "train", *arguments.split())


def test_test_images_that_are_not_the_models(here, trained_run, capsys):
    for name in ("cat", "dog"):
        (here / "others" / name).mkdir(parents=True)
        for shade in range(20):
            Image.fromarray(np.full((12, 20, 3), shade, np.uint8)).save(here / "others" / name / f"{shade}.png")
    assert "has other classes" in complaint(capsys, "evaluate", trained_run, "--data", "folder:others")
    assert "they can't be 12 x 20" in complaint(capsys, "evaluate", trained_run, "--data", "shapes")
    assert "no split 'tset'" in complaint(capsys, "evaluate", trained_run, "--split", "tset")


CLIPS = {"missing.mp4": "missing.mp4", "empty.png": "empty.png", "words.png": "words.png", "letters": "letters"}


@pytest.mark.parametrize("clip", CLIPS)
def test_clips_that_are_none(clip, here, trained_run, capsys):
    assert CLIPS[clip] in complaint(capsys, "video", trained_run, clip)


def test_the_good_part_of_a_truncated_video_is_kept(shared, here, trained_run, capsys):
    assert run(["video", str(trained_run), str(shared / "bad" / "corrupted.mp4"), "-o", "out.mp4"]) == 3
    assert "is truncated after 28 of 50 frames" in capsys.readouterr().err
    assert Path("out.mp4").stat().st_size > 0


def test_bad_files_of_the_shared_data(shared, here, trained_run, capsys):
    for name in ("empty.webm", "git_lfs_pointer.pth", "truncated_checkpoint.pt"):
        complaint(capsys, "video", trained_run, shared / "bad" / name)
        complaint(capsys, "explain", trained_run, shared / "bad" / name)
        complaint(capsys, "explain", shared / "bad" / name, "black.png")


@pytest.mark.parametrize("size", ["224x", "0", "0x5", "2x3x4", "axb", "2²x2"])
def test_sizes_that_are_none(size, here, capsys):
    assert "is not a size" in complaint(capsys, "patches", "black.png", "--input-size", size)


def test_patches_that_do_not_fit_name_the_nearest_sizes(here, capsys):
    assert "use 224 × 224, 224 × 238" in complaint(
        capsys, "patches", "black.png", "--patch-size=14", "--input-size=224x225"
    )


def test_an_unknown_verb_names_the_nearest(here, capsys):
    assert 'Did you mean "train"?' in complaint(capsys, "trian")


def test_a_surplus_argument_is_named(here, capsys):
    said = complaint(capsys, "live", "vitreous:cifar10", "dog.mp4")
    assert "live has no argument for 'dog.mp4': name it by an option, or leave it out" in said


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert run([verb, "--help"]) == 0
    assert VERBS[verb].split()[0].rstrip(":,.") in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), None], ids=repr
)
def test_too_little_memory_is_one_line_and_other_errors_stay_bugs(error, monkeypatch, capsys):
    def fail(_: list[str]) -> int:
        raise error or RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", fail)
    if error is None:
        with pytest.raises(RuntimeError, match="a bug"):
            cli.run([])
    else:
        assert cli.run([]) == cli.EXIT_BAD_INPUT
        assert capsys.readouterr().err.startswith("vitreous: there is too little memory: use smaller or fewer images")
