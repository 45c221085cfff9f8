"""`vitreous plan`: a table for people, JSON for programs, one line for bad input."""

import json

from vitreous.cli import run

ARGUMENTS = ["plan", "--images", "1e9", "--model", "vit-l", "--decode-rate", "200"]


def output_of(capsys, *arguments, code=0):
    assert run([*ARGUMENTS, *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_table_says_that_it_is_an_estimate_and_shows_its_inputs(capsys):
    text = output_of(capsys, "--devices", "64xh200", "--price", "3")
    assert text.startswith("Estimate: embed, 1,000,000,000 images, L/16, 64 × h200, bf16\n")
    assert "1.5 hours" in text and "110 TB" in text and "0.296" in text and "of 141 GB" in text
    assert "limited by compute; not included: start-up" in text
    for name in ("utilization", "decode_rate", "peak_flops", "price"):
        assert name in text
    small = output_of(capsys, "--devices", "l4", "--work", "train", "--batch-size", "4096")
    assert "the memory of a device is too small" in small and "cost" not in small


def test_json_has_every_figure_with_its_formula(capsys):
    found = json.loads(output_of(capsys, "--rate", "500", "--devices", "8", "--cores", "10", "--json"))
    assert found["kind"] == "estimate" and found["limit"] == "decoding" and found["fits"] is None
    assert found["figures"]["seconds"] == {"value": 5e5, "unit": "s", "formula": "images * epochs / rate"}
    assert found["inputs"]["cores"] == {"value": 10, "unit": "CPU cores", "source": "given"}


def test_bad_input_is_one_line(capsys):
    assert "did you mean 'h200'" in output_of(capsys, "--devices", "8xh20", code=2)
    error = output_of(capsys, "--devices", "8xh200", "--rate", "3", code=2)
    assert error.startswith("vitreous: ") and error.count("\n") == 1
    assert "'wide' is not a size" in output_of(capsys, "--input-size", "wide", code=2)
