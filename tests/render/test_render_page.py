"""A page that says what it is given, and charts that show every number."""

import re
from xml.etree import ElementTree

import numpy as np

from vitreous.render.html import Card, Section, page
from vitreous.render.plots.svg_charts import Line, dots, lines, table


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_words_are_escaped_and_html_of_sections_is_not():
    text = page("a < b", "c & d", [Card("<x>", "1 < 2", "&", "fault")], [Section("<s>", "w", "<b>bold</b>")])
    assert "a &lt; b" in text and "c &amp; d" in text and "&lt;x&gt;" in text and "<b>bold</b>" in text
    assert text.count("<x>") == 0 and 'class="card fault"' in text


def test_every_head_is_a_dot_and_the_marked_ones_lie_on_top():
    svg = dots("layer 3", np.array([0.0, 2.0, 9.0]), np.array([0.0, 0.5, 1.2]), [0], 4.0)
    places = [(float(x), float(y)) for x, y in re.findall(r'circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert len(places) == 3 and all(0 <= x <= 160 and 0 <= y <= 168 for x, y in places)
    assert svg.rindex("#c2362b") > svg.rindex("#2c5fb8") and "layer 3" in texts(svg)


def test_a_table_shows_every_number_with_rows_down_and_columns_across():
    svg = table(np.array([[1.0, 22.5, 0.0], [3.0, 4.0, 5.0]]), ["a", "b"], ["x", "y", "z"], "{:.3g}", "numbers")
    assert texts(svg) == ["x", "y", "z", "a", "1", "22.5", "0", "b", "3", "4", "5"]
    assert ElementTree.fromstring(table(np.zeros((1, 1)), ["a"], ["x"], "{:g}", "none")) is not None


def test_lines_start_before_the_first_layer_if_asked():
    two = [Line("longest", np.array([1.0, 2.0, 3.0])), Line("short & low", np.array([0.0, 0.0, 0.0]))]
    said = texts(lines("lengths", two, 0, 3, first=-1))
    assert "in" in said and "1" in said and "short & low" in said
    assert len(re.findall("<circle", lines("one", two[:1], 2, 2))) == 3
