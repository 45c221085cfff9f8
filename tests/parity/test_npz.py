"""Google's .npz files against their architecture, written down here in numpy's float64 from their names."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.npz import read_npz
from vitreous.pretrained.formats.registry import FORMATS, detect_format

WIDTH, HEADS, EACH, PATCH, GRID = 48, 4, 12, 8, (4, 6)
SAID = {"image_size": [32, 48]}
PARTS = {
    "npz": ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"),
    "big-vision": ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"),
}
POSITIONS = {"npz": "Transformer/posembed_input/pos_embedding", "big-vision": "pos_embedding"}
CASES = [("npz", "class"), ("npz", "mean"), ("big-vision", "class"), ("big-vision", "mean"), ("big-vision", "map")]


def random_arrays(fmt: str, pooling: str, *, head: bool = True) -> dict[str, np.ndarray]:
    """Weights under Google's names, without "params/"."""
    rows = int(fmt == "npz" and pooling == "token")
    shapes = {"embedding/kernel": (PATCH, PATCH, 3, WIDTH), "embedding/bias": (WIDTH,)}
    shapes |= {POSITIONS[fmt]: (1, GRID[0] * GRID[1] + rows, WIDTH)} | norm_shapes("Transformer/encoder_norm")
    shapes |= {"cls": (1, 1, WIDTH)} if pooling == "token" else {}
    shapes |= {"head/kernel": (WIDTH, 7), "head/bias": (7,)} if head else {}
    for block in ("Transformer/encoderblock_0", "Transformer/encoderblock_1"):
        first, attention, second, mlp = PARTS[fmt]
        shapes |= norm_shapes(f"{block}/{first}") | norm_shapes(f"{block}/{second}")
        shapes |= attention_shapes(f"{block}/{attention}") | mlp_shapes(f"{block}/{mlp}")
    if pooling == "map":
        shapes |= {"MAPHead_0/probe": (1, 1, WIDTH)} | norm_shapes("MAPHead_0/LayerNorm_0")
        shapes |= attention_shapes("MAPHead_0/MultiHeadDotProductAttention_0") | mlp_shapes("MAPHead_0/MlpBlock_0")
    random = np.random.default_rng(0)
    return {
        name: (random.normal(size=shape) * (0.2 if len(shape) < 3 else 0.1) + name.endswith("scale")).astype("float32")
        for name, shape in shapes.items()
    }


def norm_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (WIDTH,), f"{name}/bias": (WIDTH,)}


def attention_shapes(name: str) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}/out/kernel": (HEADS, EACH, WIDTH), f"{name}/out/bias": (WIDTH,)}
    for part in ("query", "key", "value"):
        shapes |= {f"{name}/{part}/kernel": (WIDTH, HEADS, EACH), f"{name}/{part}/bias": (HEADS, EACH)}
    return shapes


def mlp_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}/Dense_0/kernel": (WIDTH, 100), f"{name}/Dense_0/bias": (100,),
        f"{name}/Dense_1/kernel": (100, WIDTH), f"{name}/Dense_1/bias": (WIDTH,),
    }  # fmt: skip


class Reference:
    """The flax model, in numpy: dense layers as flax's DenseGeneral defines them, GELU in its tanh form."""

    def __init__(self, arrays: dict[str, np.ndarray], fmt: str) -> None:
        self.arrays = {name: array.astype("float64") for name, array in arrays.items()}
        self.fmt = fmt

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centerd = x - x.mean(-1, keepdims=True)
        scaled = centerd / np.sqrt((centerd**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * self.arrays[f"{name}/scale"] + self.arrays[f"{name}/bias"]

    def dense(self, name: str, x: np.ndarray, axes: str) -> np.ndarray:
        return np.einsum(axes, x, self.arrays[f"{name}/kernel"]) + self.arrays[f"{name}/bias"]

    def mlp(self, name: str, x: np.ndarray) -> np.ndarray:
        x = self.dense(f"{name}/Dense_0", x, "bnc,cd->bnd")
        x = x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        return self.dense(f"{name}/Dense_1", x, "bnc,cd->bnd")

    def attention(self, name: str, to: np.ndarray, x: np.ndarray) -> np.ndarray:
        query = self.dense(f"{name}/query", to, "bnc,chd->bnhd")
        key, value = (self.dense(f"{name}/{part}", x, "bnc,chd->bnhd") for part in ("key", "value"))
        scores = np.exp(np.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(EACH))
        weights = scores / scores.sum(-1, keepdims=True)
        return self.dense(f"{name}/out", np.einsum("bhqk,bkhd->bqhd", weights, value), "bqhd,hdc->bqc")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images (batch, height, width, channels), as in JAX."""
        batch = len(images)
        cut = images.reshape(batch, GRID[0], PATCH, GRID[1], PATCH, 3)
        kernel, bias = self.arrays["embedding/kernel"], self.arrays["embedding/bias"]
        x = np.einsum("brychw,yhwd->brcd", cut, kernel).reshape(batch, -1, WIDTH) + bias
        first = [np.broadcast_to(self.arrays["cls"], (batch, 1, WIDTH))] if "cls" in self.arrays else []
        table = self.arrays[POSITIONS[self.fmt]]
        if table.shape[1] > x.shape[1]:
            x = np.concatenate([*first, x], 1) + table
        else:
            x = np.concatenate([*first, x + table], 1)
        for block in ("Transformer/encoderblock_0", "Transformer/encoderblock_1"):
            before, attention, after, mlp = PARTS[self.fmt]
            normed = self.norm(f"{block}/{before}", x)
            x = x + self.attention(f"{block}/{attention}", normed, normed)
            x = x + self.mlp(f"{block}/{mlp}", self.norm(f"{block}/{after}", x))
        pooled = self.pooled(self.norm("Transformer/encoder_norm", x))
        return self.dense("head", pooled, "bc,cd->bd") if "head/kernel" in self.arrays else pooled

    def pooled(self, x: np.ndarray) -> np.ndarray:
        if "cls" in self.arrays:
            return x[:, 0]
        if "MAPHead_0/probe" not in self.arrays:
            return x.mean(1)
        probe = np.broadcast_to(self.arrays["MAPHead_0/probe"], (len(x), 1, WIDTH))
        x = self.attention("MAPHead_0/MultiHeadDotProductAttention_0", probe, x)
        return (x + self.mlp("MAPHead_0/MlpBlock_0", self.norm("MAPHead_0/LayerNorm_0", x)))[:, 0]


def convert_weights(tensors: dict[str, torch.Tensor]) -> tuple[ViT, str]:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = fmt.read_config(tensors, SAID)
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    return vit, fmt.name


def assert_same(vit: ViT, external: Reference) -> None:
    images = torch.randn(2, 3, 32, 48)
    expected = external(images.permute(0, 2, 3, 1).double().numpy())
    with torch.no_grad():
        found = vit(images).numpy()
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(("name", "pooling"), CASES)
@pytest.mark.parametrize("head", [True, False])
def test_files_are_read_and_written_the_same(name, pooling, head, tmp_path):
    arrays, start = random_arrays(name, pooling, head=head), "params/" * (name == "big-vision")
    np.savez(tmp_path / "external.npz", **{start + key: array for key, array in arrays.items()})
    vit, found = convert_weights(read_npz(tmp_path / "external.npz"))
    assert found == name
    assert_same(vit, Reference(arrays, name))
    back = FORMATS[name].to_external(vit.state_dict(), vit.config)
    written = {key.removeprefix(start): tensor.numpy() for key, tensor in back.items()}
    assert {key: array.shape for key, array in written.items()} == {key: array.shape for key, array in arrays.items()}
    assert_same(vit, Reference(written, name))


@pytest.mark.parametrize(
    ("name", "pooling", "start", "extra_arrays"),
    [
        ("npz", "token", "opt/target/", {}),
        (
            "big-vision",
            "map",
            "params/img/",
            {"params/txt/Embed_0/embedding": np.ones((50, 8)), "params/t": np.ones(1)},
        ),
    ],
)
def test_optimizers_and_text_towers_around_the_weights(name, pooling, start, extra_arrays, tmp_path):
    arrays = random_arrays(name, pooling)
    np.savez(tmp_path / "external.npz", **{start + key: array for key, array in arrays.items()}, **extra_arrays)
    assert_same(convert_weights(read_npz(tmp_path / "external.npz"))[0], Reference(arrays, name))


def test_bfloat16_is_two_bytes_without_a_name(tmp_path):
    values = torch.randn(5, 3).bfloat16()
    np.savez(tmp_path / "half.npz", values=values.view(torch.int16).numpy().view("V2"))
    assert torch.equal(read_npz(tmp_path / "half.npz")["values"], values.float())


def test_what_cannot_be_read_is_refused(tmp_path):
    np.savez(tmp_path / "pickle.npz", weights=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("no weights")
    np.savez(tmp_path / "whole.npz", weights=np.random.default_rng(0).normal(size=9999), name="a text")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("pickle.npz", "text.npz", "whole.npz", "cut.npz", "array.npy"):
        with pytest.raises(InputError, match="is damaged or holds more than plain arrays"):
            read_npz(tmp_path / name)
    arrays = random_arrays("npz", "token") | {"pre_logits/kernel": np.ones((WIDTH, WIDTH))}
    with pytest.raises(InputError, match=r"tanh layer before the head \(pre_logits\)"):
        convert_weights({name: torch.from_numpy(array) for name, array in arrays.items()})


def test_the_same_weights_agree_with_transformers_vit(tmp_path):
    """What the files hold is transformers' ViT with the tanh form of GELU: by way of our model."""
    transformers = pytest.importorskip("transformers")
    arrays = random_arrays("npz", "token")
    vit, _ = convert_weights({name: torch.from_numpy(array) for name, array in arrays.items()})
    fmt = FORMATS["hf-vit"]
    (tmp_path / "config.json").write_text(json.dumps(fmt.external_config(vit.config, list("abcdefg"))))
    written = fmt.to_external(vit.state_dict(), vit.config)
    save_file(written, tmp_path / "model.safetensors", {"format": "pt"})
    external = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected = external(images).logits
    found = Reference(arrays, "npz")(images.permute(0, 2, 3, 1).double().numpy())
    assert np.abs(found - expected.numpy()).max() < 1e-5
