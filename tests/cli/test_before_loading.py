"""What is wrong whatever the model is said before the model is looked for."""

import pytest

from vitreous.cli import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "MODEL", "--method", "rolout"], "did you mean 'rollout'"),
        (["explain", "MODEL", "cat.png", "--method", "nonsense"], "there is no method 'nonsense'"),
        (["explain", "MODEL", "cat.png", "--layer", "2"], "'rollout' has no use for the setting layer"),
        (["explain", "MODEL", "cat.png", "--method", "grad-cam", "--query", "3,4"], "no use for the setting query"),
        (["explain", "MODEL", "cat.png", "--target", "region:1,2"], "'region:1,2' is no region"),
        (["explain", "MODEL", "--layout", "nonsense"], "nonsense"),
        (["explain", "MODEL", "--count", "0"], "--count 0 shows nothing"),
        (["video", "MODEL", "clip.mp4", "--method", "nonsense"], "there is no method 'nonsense'"),
        (["video", "MODEL", "clip.mp4", "--target", "region:4,4,1,1"], "holds nothing"),
        (["localization", "MODEL", "--methods", "nonsense"], "there is no method 'nonsense'"),
        (["faithfulness", "MODEL", "--methods", "nonsense"], "there is no method 'nonsense'"),
    ],
)
def test_names_are_checked_before_the_model_is_loaded(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "MODEL" not in said and said.count("\n") == 1
