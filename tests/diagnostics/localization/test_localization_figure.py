"""The bars of a localization measurement."""

import numpy as np
import pytest
from PIL import Image

from vitreous.diagnostics.localization.figure import Bar, BarPanel, draw_bars


@pytest.mark.parametrize("count", [1, 4])
def test_bars_with_zero_values_and_long_names(tmp_path, count):
    bars = (Bar("a method with a very long name indeed", 0.5, 0.4, 0.6), Bar("random map", 0, 0, 0, is_baseline=True))
    draw_bars([BarPanel(f"metric {i}", bars, "{:.0%}") for i in range(count)], "title", tmp_path / "bars.png")
    with Image.open(tmp_path / "bars.png") as image:
        assert image.width == 1600 and np.asarray(image.convert("L")).std() > 5
