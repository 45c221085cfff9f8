"""The figure of a faithfulness measurement, for one method to 25."""

import numpy as np
import pytest
from PIL import Image

from vitreous.diagnostics.faithfulness.figure import (
    CurvePanel,
    FigureRow,
    FigureText,
    ScoreDot,
    faithfulness_figure,
    row_style,
)

TEXT = FigureText("A title", "a subtitle", [("one", "higher"), ("two", "lower")], ["A note. " * 30, "Another one."])


def rows(methods: int) -> list[FigureRow]:
    random = np.random.default_rng(0)
    names = [*(f"method-{'long-' * (i % 5)}{i}" for i in range(methods)), "random map", "center bias"]
    return [
        FigureRow(name, i >= methods, [random.random(9), random.random(5)], [ScoreDot(0.5, 0.4, 0.7, i % 2 == 0), None])
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("methods", [1, 13, 25])
def test_any_number_of_methods_is_drawn_inside_the_figure(methods, tmp_path):
    drawn, panels = (
        rows(methods),
        [CurvePanel(f"panel {i}", "better", "%", np.linspace(0, 1, n)) for i, n in ((0, 9), (1, 5))],
    )
    faithfulness_figure(drawn, panels, np.eye(methods + 2), TEXT, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 1600 and pixels.std() > 0
    assert all((edge == 255).all() for edge in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]))


def test_each_of_21_methods_has_its_own_style():
    styles = {tuple(map(str, row_style(FigureRow(str(i), False, [], []), i).values())) for i in range(21)}
    assert len(styles) == 21
