"""What is wrong whatever the model is said before the model is looked for."""

import pytest

from vitreous.cli import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "MODEL", "--method", "rolout"], "did you mean 'rollout'"),
        (["explain", "MODEL", "cat.png", "--method", "nonsense"], "there is no method 'nonsense'"),
        (
            ["explain", "MODEL", "cat.png", "--method", "rollout", "--layer", "2"],
            "'rollout' doesn't use the option layer",
        ),
        (["explain", "MODEL", "cat.png", "--method", "grad-cam", "--query", "3,4"], "doesn't use the option query"),
        (["explain", "MODEL", "cat.png", "--target", "region:1,2"], "'region:1,2' is not a region"),
        (["explain", "MODEL", "--layout", "nonsense"], "nonsense"),
        (["explain", "MODEL", "--count", "0"], "--count is 0"),
        (["video", "MODEL", "clip.mp4", "--method", "nonsense"], "there is no method 'nonsense'"),
        (["video", "MODEL", "clip.mp4", "--target", "region:4,4,1,1"], "is empty: x1 must be above x0"),
        (["video", "MODEL", "clip.mp4", "--query", "3;4"], "is not a point on an image"),
        (["video", "MODEL", "clip.mp4", "--opacity", "2"], "outside [0, 1]"),
        (["live", "MODEL", "--camera", "9", "--method", "nonsense"], "there is no method 'nonsense'"),
        (["localization", "MODEL", "--methods", "nonsense"], "there is no method 'nonsense'"),
        (["faithfulness", "MODEL", "--methods", "nonsense"], "there is no method 'nonsense'"),
        (["faithfulness", "MODEL", "-o", "FILE"], "FILE is a file"),
        (["localization", "MODEL", "-o", "FILE"], "FILE is a file"),
        (["doctor", "MODEL", "-o", "FILE"], "FILE is a file"),
        (["doctor", "MODEL", "-o", "/proc/new"], "can't make the folder /proc/new"),
        (["convert", "MODEL", "--to", "hf", "-o", "/proc/new"], "can't write into /proc:"),
        (["compare", "MODEL", "MODEL", "-o", "/proc/a.png"], "can't write into /proc:"),
        (["explain", "MODEL", "cat.png", "-o", "a.pdf"], "can't write an image as 'a.pdf'"),
        (["explain", "MODEL", "cat.png", "-o", "/proc/a.png"], "can't write into /proc:"),
        (["explain", "MODEL", "cat.png", "-o", "FILE/a.png"], "FILE is a file; choose another folder"),
        (["patches", "cat.png", "--model", "MODEL", "-o", "a.pdf"], "can't write an image as 'a.pdf'"),
    ],
)
def test_names_are_checked_before_the_model_is_loaded(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "MODEL" not in said and said.count("\n") == 1
