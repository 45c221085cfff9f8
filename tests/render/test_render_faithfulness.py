"""The figure of a faithfulness measurement, from one method to thirteen and more."""

import numpy as np
import pytest
from PIL import Image

from vitreous.diagnostics.faithfulness.plot import Dot, Panel, Row, Words, faithfulness_figure, look

WORDS = Words("A title", "a subtitle", [("one", "higher"), ("two", "lower")], ["A note. " * 30, "Another one."])


def rows(methods: int) -> list[Row]:
    random = np.random.default_rng(0)
    names = [*(f"method-{'long-' * (i % 5)}{i}" for i in range(methods)), "random map", "centerd blob"]
    return [
        Row(name, i >= methods, [random.random(9), random.random(5)], [Dot(0.5, 0.4, 0.7, i % 2 == 0), None])
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("methods", [1, 13, 25])
def test_any_number_of_methods_is_drawn_inside_the_figure(methods, tmp_path):
    drawn, panels = (
        rows(methods),
        [Panel(f"panel {i}", "better", "%", np.linspace(0, 1, n)) for i, n in ((0, 9), (1, 5))],
    )
    faithfulness_figure(drawn, panels, np.eye(methods + 2), WORDS, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 1600 and pixels.std() > 0
    assert all((edge == 255).all() for edge in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]))


def test_each_of_21_methods_looks_like_no_other():
    looks = {tuple(map(str, look(Row(str(i), False, [], []), i).values())) for i in range(21)}
    assert len(looks) == 21
