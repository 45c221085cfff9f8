"""Training checkpoints of every usual form give the model's weights, the averaged ones where there are any."""

import argparse
import io
import json
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.factory import load_weights
from vitreous.pretrained.formats.checkpoint_keys import KNOWN
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.load import load
from vitreous.pretrained.weight_files import read_tensors

CONFIG = ViTConfig((16, 16), 4, num_classes=3, embed_dim=64, depth=2, num_heads=1)


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    tensors = FORMATS["timm"].to_external(ViT(CONFIG).state_dict(), CONFIG)
    return {name: tensor + torch.randn_like(tensor) / 10 for name, tensor in tensors.items()}


GOOD, RAW = weights(0), weights(1)


def behind(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in GOOD.items()}


def optimizer_state() -> dict[str, object]:
    return {"state": {0: {"exp_avg": torch.zeros(1000, 1000)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}


ARGS = argparse.Namespace(lr=1e-3, output_dir=Path("runs"))
CHECKPOINTS = {
    "timm": {"state_dict": RAW, "state_dict_ema": GOOD, "args": ARGS, "optimizer": optimizer_state(), "metric": 90.1},
    "timm without average": {"arch": "vit", "state_dict": GOOD, "optimizer": optimizer_state()},
    "torchvision": {"model": RAW, "model_ema": {"n_averaged": torch.tensor(7), **behind("module.")}, "args": ARGS},
    "AveragedModel": {"n_averaged": torch.tensor(7), **behind("module.")},
    "numpy metrics": {"model": GOOD, "best": np.float64(0.9), "rng": np.arange(5), "seen": {1, 2}},
    "DeiT": {"model": RAW, "model_ema": GOOD, "scaler": {"scale": torch.ones(1)}, "epoch": 3, "args": ARGS},
    "DINO": {"student": RAW, "teacher": {f"module.backbone.{k}": v for k, v in GOOD.items()}, "args": ARGS},
    "Lightning": {"state_dict": {**behind("model."), "criterion.weight": torch.ones(10)}, "hyper_parameters": {"a": 1}},
    "Lightning with metrics": {
        "state_dict": {**behind("model."), "val_acc.correct": torch.ones(10), "loss.w": torch.ones(2)}
    },
    "ema_pytorch": {"initted": torch.tensor(True), "step": torch.tensor(5), **behind("ema_model."),
                    **{f"online_model.{k}": v for k, v in RAW.items()}},
    "compiled DDP": {"model": behind("_orig_mod.module.")},
    "FSDP": behind("_fsdp_wrapped_module."),
    "ema without weights": {"ema": {"decay": torch.tensor(0.99)}, "model": GOOD},
    "an average inside": {"model": {"ema": GOOD, "raw": RAW}},
    **{name: {name: GOOD, "epoch": 3, "optimizer": optimizer_state()}
       for name in (*KNOWN, "net", "weights", "params", "vit", "vit_large", "large", "margin", "x")},
    **{f"{name} beside another": {"encoder": RAW, name: GOOD}
       for name in (*KNOWN, "ema", "swa_model", "shadow_params")},
    **{f"not {name}": {"net": GOOD, name: {"a": {"w": torch.zeros(1000, 1000)}}, "epoch": 3}
       for name in ("optimizer_state_dict", "optimizers", "gradScaler", "lr_schedulers", "loss_fn", "rng_state", "args",
                    "teacher_center", "swa_scheduler", "hyper_parameters", "callbacks", "optim-0", "config")},
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_form_of_a_checkpoint(name, tmp_path, notes):
    path = tmp_path / "last.pth.tar"
    torch.save(CHECKPOINTS[name], path)
    found = load(path, "cpu", callback=notes).model.state_dict()
    assert torch.equal(found["head.weight"], GOOD["head.weight"])
    assert torch.equal(found["blocks.1.attn.qkv.weight"], GOOD["blocks.1.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm", "the weights in 'state_dict_ema' are used, not those in state_dict"),
        ("torchvision", "the weights in 'model_ema' are used, not those in model"),
        ("DINO", "the weights in 'teacher' are used, not those in student"),
        ("net", "the weights in 'net' are used"),
    ],
)
def test_which_weights_are_used_is_noted(name, words, tmp_path, notes):
    torch.save(CHECKPOINTS[name], tmp_path / "last.pth")
    read_tensors(tmp_path / "last.pth", notes)
    assert [line for line in notes.lines if line.endswith(words)] and len(notes.lines) == 1
    torch.save(GOOD, tmp_path / "plain.pth")
    read_tensors(tmp_path / "plain.pth", notes)
    assert len(notes.lines) == 1


@pytest.mark.parametrize("kind", ["averaged", "compiled", "wrapped twice", "lightning", "part"])
def test_the_weights_of_a_module_of_the_users_own(kind):
    module, other = (nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.Linear(3, 1))) for _ in range(2))
    tensors = module.state_dict()
    if kind == "averaged":
        tensors = AveragedModel(module).state_dict()
    prefix = {"compiled": "_orig_mod.", "wrapped twice": "net.encoder.", "lightning": "model."}.get(kind, "")
    tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    if kind == "lightning":
        tensors["criterion.weight"] = torch.ones(3)
    if kind == "part":
        tensors = {name.replace("b.", "b._orig_mod."): tensor for name, tensor in tensors.items()}
    load_weights(other, tensors, "x.pt")
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))


HELPERS = {
    "mask": torch.ones(3, 3, dtype=torch.uint8),
    "expanded": torch.arange(5).expand(2, 5),
    "lying": torch.arange(1).expand(10**6, 10**6),
    "lying float": torch.ones(1, dtype=torch.float16).expand(10**6, 10**6),
}


@pytest.mark.parametrize("name", HELPERS)
def test_a_helper_beside_the_weights_may_be_anything(name, tmp_path):
    config = ViTConfig((16, 16), 4, num_classes=8, embed_dim=64, depth=2, num_heads=1, pre_norm=True)
    tensors = FORMATS["open-clip"].to_external(ViT(config).state_dict(), config)
    torch.save({**tensors, "attn_mask": HELPERS[name]}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(FORMATS["open-clip"].external_config(config, ())))
    found = load(tmp_path, "cpu").model.state_dict()
    assert torch.equal(found["norm.weight"], tensors["visual.ln_post.weight"])


def test_a_helper_of_a_module_of_the_users_own(tmp_path):
    module = nn.Linear(2, 3)
    for name in ("mask", "expanded"):
        module.register_buffer(name, HELPERS[name].clone())
    torch.save({**module.state_dict(), "expanded": HELPERS["expanded"]}, tmp_path / "own.pt")
    load_weights(module, read_tensors(tmp_path / "own.pt"), "own.pt")
    torch.save({**module.state_dict(), "weight": torch.ones(3, 2, dtype=torch.int8)}, tmp_path / "int8.pt")
    with pytest.raises(InputError, match=r"int8\.pt: the weight weight is quantized"):
        load_weights(module, read_tensors(tmp_path / "int8.pt"), "int8.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.to(torch.int8), "is quantized"),
        (lambda one: one.flatten()[:1].expand(10**6, 10**6), "claims 1000000000000 numbers, more than are stored"),
        (lambda one: one.to_sparse(), "is sparse"),
    ],
)
@pytest.mark.parametrize("name", ["blocks.1.mlp.fc1.weight", "patch_embed.proj.weight", "head.weight"])
def test_a_weight_that_is_read_must_be_stored_in_floating_point(change, message, name, tmp_path):
    torch.save({**GOOD, name: change(GOOD[name])}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=f"bad.pt.*the weight {name} {message}"):
        load(tmp_path / "bad.pt", "cpu")


def npy(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (11 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def test_hostile_files_give_one_line(tmp_path):
    for name, shape in (("lying.npz", "(1000000, 1000000)"), ("syntax.npz", "(1,"), ("negative.npz", "(-1,)")):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("embedding/kernel.npy", npy(shape))
    torch.save({1: torch.zeros(2)}, tmp_path / "numbers.pt")
    endless: dict[str, object] = {"a": torch.zeros(1)}
    endless["model"] = endless
    torch.save(endless, tmp_path / "itself.pt")
    header = json.dumps({"b": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "f4.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**60) + header)
    legacy = io.BytesIO()
    torch.save({"weight": torch.ones(300)}, legacy, _use_new_zipfile_serialization=False)
    for place in range(0, len(legacy.getvalue()) - 1200, 7):
        content = bytearray(legacy.getvalue())
        content[place] ^= 0x15
        (tmp_path / f"damaged{place}.pth").write_bytes(content)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError) as caught:
            load(path, "cpu")
        assert "\n" not in str(caught.value)
