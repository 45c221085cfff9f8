"""The charts and the page of the doctor: every number is shown, and texts are escaped."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from vitreous.diagnostics.doctor.charts import plot_heads, plot_layers
from vitreous.diagnostics.doctor.findings import Finding
from vitreous.diagnostics.doctor.page import contribution_table, doctor_page
from vitreous.diagnostics.doctor.run import Diagnosis, doctor
from vitreous.render.theme import COOL, WRONG


@pytest.fixture(scope="module")
def diagnosis(trained_run) -> Diagnosis:
    return doctor(trained_run, count=2)


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]


def test_texts_are_escaped_and_charts_are_not(diagnosis):
    finding = Finding("<x>", "fault", "1 < 2", "&")
    text = doctor_page(replace(diagnosis, model="runs/a < b", findings=(finding,)))
    assert "a &lt; b" in text and "1 &lt; 2" in text and "<p>&amp;</p>" in text and "&lt;x&gt;" in text
    assert text.count("<x>") == 0 and 'class="card fault"' in text and "<svg" in text


def test_every_head_is_a_dot_and_highlighted_ones_are_on_top():
    svg = plot_heads("layer 3", np.array([0.0, 2.0, 9.0]), np.array([0.0, 0.5, 1.2]), [0], 4.0)
    points = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    assert len(points) == 3 and all(0 <= x <= 160 and 0 <= y <= 168 for x, y in points)
    assert svg.rindex(WRONG) > svg.rindex(COOL) and {"layer 3", "0", "1", "2"} == set(texts(svg))
    assert "<title>head 2: distance 9.00 patches, entropy 120%</title>" in svg


def test_a_table_shows_every_number_with_heads_down_and_layers_across(diagnosis):
    contribution = np.array([[0.01, 0.225], [0.0, 0.03], [0.04, 0.05]])
    table = contribution_table(replace(diagnosis.statistics, contribution=contribution, entropy=np.zeros((3, 2))))
    assert table is not None and table.columns == ("layer 0", "1", "2")
    rows = [(row.name, [cell.text for cell in row.cells]) for row in table.rows]
    assert rows == [("head 0", ["1", "0", "4"]), ("head 1", ["22.5", "3", "5"])]
    zeros = contribution_table(replace(diagnosis.statistics, contribution=np.zeros((1, 1)), entropy=np.zeros((1, 1))))
    assert zeros is not None and zeros.rows[0].cells[0].text == "0"
    assert contribution_table(replace(diagnosis.statistics, contribution=None)) is None


def test_lines_start_before_the_first_layer_if_asked():
    lines = {"largest": np.array([1.0, 2.0, 3.0]), "small & low": np.array([0.0, 0.0, 0.0])}
    svg = plot_layers("norms", lines, 0, 3, first_layer=-1)
    assert "in" in texts(svg) and "1" in texts(svg) and "small & low" in texts(svg)
    constant = plot_layers("one", {"a": lines["largest"]}, 2, 2)
    assert len(re.findall("<use ", constant)) == 3


def test_charts_have_no_ids_that_could_collide_in_a_page():
    svg = plot_layers("norms", {"a": np.array([1.0, 2.0])}, 0, 3)
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids and all(re.fullmatch(r"m[0-9a-f]+", one) for one in ids), (
        "only markers, which are named by their content"
    )
    assert svg == plot_layers("norms", {"a": np.array([1.0, 2.0])}, 0, 3)
