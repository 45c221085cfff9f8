"""A folder of videos that version 0.1.0 explained: its records are read, and its videos need not be processed again."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from vitreous.cli import run
from vitreous.clips.workers import count_states
from vitreous.model.config import ViTConfig
from vitreous.model.legacy_format import earlier_config, earlier_weights
from vitreous.model.migration import migrate_config, migrate_tensors
from vitreous.model.vit import ViT
from vitreous.runs.migration import migrate_clip_record

LEGACY = Path(__file__).parents[1] / "legacy"
COMMAND = [
    "video",
    "vitreous:cifar10",
    "clips",
    "-o",
    "out",
    "--save-maps",
    "data",
    "--method",
    "rollout",
    "--no-legend",
]


@pytest.fixture
def legacy_folder(tmp_path, monkeypatch):
    """A copy of the folder, as the working directory, with the video's modification time of that time."""
    folder = shutil.copytree(LEGACY / "video", tmp_path / "video")
    mtime_ns = json.loads((LEGACY / "expected.json").read_text())["video"]["mtime_ns"]
    os.utime(folder / "clips" / "square.mkv", ns=(mtime_ns, mtime_ns))
    monkeypatch.chdir(folder)
    return folder


def test_resume_skips_what_version_0_1_0_wrote(legacy_folder, capsys):
    assert run([*COMMAND, "--resume"]) == 0
    assert "1 skipped" in capsys.readouterr().out
    assert "request" in json.loads((legacy_folder / "out" / "square.json").read_text()), "the record is not rewritten"


@pytest.mark.parametrize("change", [["--smooth", "0.3"], ["--discard-ratio", "0.1"], ["--opacity", "0.5"]], ids=str)
def test_another_request_is_processed_again(change, legacy_folder, capsys):
    assert run([*COMMAND, "--resume", *change]) == 0
    assert "1 written" in capsys.readouterr().out
    assert "fingerprint" in json.loads((legacy_folder / "out" / "square.json").read_text())


def test_workers_skip_what_version_0_1_0_wrote(legacy_folder, capsys):
    assert count_states(legacy_folder / "out") == {"written": 1}
    (legacy_folder / "out" / ".square.1.claim").write_text('{"token": "abc"}')
    assert run([*COMMAND, "--shared"]) == 0
    assert "1 skipped" in capsys.readouterr().out and count_states(legacy_folder / "out") == {"written": 1}
    assert not list((legacy_folder / "out").glob(".square*")), "claims of version 0.1.0 are removed too"


def test_records_have_the_names_of_today():
    record = migrate_clip_record(json.loads((LEGACY / "video" / "out" / "square.json").read_text()))
    assert record["state"] == "written" and record["predictions"]["mean of logits"][0] == "airplane"
    assert migrate_clip_record({"state": "broke off"}) == {"state": "truncated"}


CONFIGS = sorted(path.parent.name for path in (LEGACY / "configs").glob("*/config.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_have_the_names_shapes_and_order_of_version_0_1_0(name):
    tensors = json.loads((LEGACY / "tensors.json").read_text())
    stored = tensors.get(name, tensors["base"])
    values = migrate_config(json.loads((LEGACY / "configs" / name / "config.json").read_text())["model"])
    config = ViTConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    vit = ViT(config)
    found = dict(earlier_weights(vit))
    assert [(key, list(weight.shape)) for key, weight in found.items()] == list(stored.items())
    assert all(torch.equal(weight, vit.state_dict()[key]) for key, weight in migrate_tensors(found, config).items())
    assert "image_size_hw=" in earlier_config(config)
