"""Models that version 0.1 wrote are read under today's names, and compute what they did (see tests/legacy)."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.migration import (
    CONFIG_KEYS,
    is_earlier,
    migrate_config,
    migrate_preprocessing,
    migrate_tensors,
    stored_tensors,
)
from vitreous.model.serialization import WEIGHTS, load_classifier, save_config, write_weights
from vitreous.model.vit import ViT
from vitreous.records import from_dict

LEGACY = Path(__file__).parents[1] / "legacy"
EXPECTED = json.loads((LEGACY / "expected.json").read_text())
SHAPES = json.loads((LEGACY / "tensors.json").read_text())
CONFIGS = sorted(folder.name for folder in (LEGACY / "configs").iterdir())
CPU = torch.device("cpu")


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight that belongs to an old name, as tests/legacy/README.md defines it."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    even = (raw >> np.uint64(11)) / 2**53 - 0.5
    values = even + (1.0 if name.endswith("weight") else 0.0) if len(shape) < 2 else even * 4 / shape[-1] ** 0.5
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_of_an_old_model_is_read_and_computes_the_same(name, tmp_path):
    (tmp_path / "config.json").write_text((LEGACY / "configs" / name / "config.json").read_text())
    shapes = SHAPES.get(name, SHAPES["base"])
    tensors = {old: weight(old, tuple(shape)) for old, shape in shapes.items()}
    assert is_earlier(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    classifier = load_classifier(tmp_path, CPU)
    inputs, _ = classifier.preprocess(LEGACY / "picture.png")
    with torch.no_grad():
        logits = classifier.model(inputs[None])
    expected = torch.tensor(EXPECTED["configs"][name]["logits"])
    assert torch.allclose(logits.flatten(), expected.flatten(), atol=2e-6)
    save_config(classifier, tmp_path / "again")
    write_weights(classifier.vit.state_dict(), tmp_path / "again" / WEIGHTS)
    again = load_classifier(tmp_path / "again", CPU)
    assert again.vit.config == classifier.vit.config and again.preprocessing == classifier.preprocessing
    with torch.no_grad():
        assert torch.equal(again.model(inputs[None]), logits)


@pytest.mark.parametrize("name", ["finished", "stopped", "changed-data"])
def test_the_weights_of_an_old_run_are_the_same_numbers(name):
    old, classifier = load_file(LEGACY / name / "model.safetensors"), load_classifier(LEGACY / name, CPU)
    found = stored_tensors({key: tensor.shape for key, tensor in old.items()}, classifier.vit.config)
    state = classifier.vit.state_dict()
    assert found.keys() == state.keys() and {stored.name for stored in found.values()} == old.keys()
    for key, stored in found.items():
        assert torch.equal(state[key].flatten(), old[stored.name][stored.rows].flatten())
    expected = EXPECTED["models"][name]
    assert list(classifier.class_names) == expected["class_names"]


def test_the_names_in_an_old_checkpoint_are_found():
    checkpoint = LEGACY / "stopped" / "checkpoint" / "state.safetensors"
    old = load_file(checkpoint)
    config = load_classifier(LEGACY / "stopped", CPU).vit.config
    assert is_earlier(old)
    found = stored_tensors({key: tensor.shape for key, tensor in old.items()}, config)
    assert {stored.name for stored in found.values()} == old.keys()
    shapes = {key: tensor.shape for key, tensor in ViT(config).state_dict().items()}
    for key, stored in found.items():
        folder, _, rest = key.partition("/")
        taken = stored.take(old[stored.name])
        if folder in ("model", "average"):
            assert taken.shape == shapes[rest]
        elif folder == "optimizer" and not rest.startswith("teacher"):
            _, parameter, memory = rest.split("/")
            assert taken.shape == (torch.Size() if memory == "step" else shapes[parameter])
        else:
            assert key == stored.name and torch.equal(taken, old[key])


def test_class_token_and_registers_are_rows_of_the_old_prefix():
    config = ViTConfig((8, 8), 4, embed_dim=8, depth=1, num_heads=1, reg_tokens=2)
    shapes = {"prefix": torch.Size((3, 8)), "optimizer/adamw/prefix/step": torch.Size(())}
    found = stored_tensors(shapes, config)
    prefix = torch.arange(24.0).view(3, 8)
    assert torch.equal(found["cls_token"].take(prefix), prefix[None, :1])
    assert torch.equal(found["reg_token"].take(prefix), prefix[None, 1:])
    step = torch.tensor(5.0)
    assert found["optimizer/adamw/cls_token/step"].take(step) == found["optimizer/adamw/reg_token/step"].take(step) == 5


def test_old_positions_of_another_grid_are_resampled_from_their_own_grid():
    config = ViTConfig((8, 24), 4, embed_dim=8, depth=1, num_heads=1)
    model = ViT(config)
    state = {"stem.linear.weight": torch.randn(8, 48), "positions.table": torch.randn(6, 4, 8)}
    table = migrate_tensors(state, config)["pos_embed"]
    assert table.shape == model.pos_embed.shape == (1, 12, 8)
    planes = state["positions.table"].permute(2, 0, 1)[None]
    resampled = torch.nn.functional.interpolate(planes, (2, 6), mode="bicubic")
    assert torch.allclose(table[0].T.view(8, 2, 6), resampled[0], atol=1e-6)


def test_words_of_today_and_other_values_stay():
    today = {"image_size": [8, 8], "stem": "conv", "global_pool": "map", "depth": 3}
    assert migrate_config(today) == today and migrate_config(None) is None and migrate_config([1]) == [1]
    assert migrate_preprocessing({"mean": [0.5], "resize": "crop"}) == {"mean": [0.5], "resize_mode": "crop"}
    names = set(ViTConfig.__dataclass_fields__)
    assert set(CONFIG_KEYS.values()) <= names and not set(CONFIG_KEYS) & names
    tensors = ViT(ViTConfig((8, 8), 4, embed_dim=8, depth=1, num_heads=1)).state_dict()
    assert not is_earlier(tensors) and migrate_tensors(tensors, ViTConfig()) == tensors


def test_unknown_fields_are_refused():
    with pytest.raises(InputError, match=r"^run/config.json: ViTConfig has no field 'image_sise': did you mean"):
        migrate_config({"image_sise": 8}, "run/config.json")
    with pytest.raises(InputError, match="global_pool: input should be 'token', 'avg'"):
        from_dict(ViTConfig, migrate_config({"pooling": "meen"}))
