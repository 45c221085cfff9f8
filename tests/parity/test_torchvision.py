"""torchvision's format against its architecture, written down here from its names with torch's own modules.

`benchmarks/library_parity.py` holds the same against the real torchvision, where it can be imported.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

WIDTH, HEADS, PATCH = 128, 2, 8
LAYERS = ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")


def random_tensors(*, head: bool = True) -> dict[str, Tensor]:
    """Weights for images of 32 × 32 under torchvision's names."""
    shapes = {
        "class_token": (1, 1, WIDTH), "encoder.pos_embedding": (1, 17, WIDTH),
        "conv_proj.weight": (WIDTH, 3, PATCH, PATCH), "conv_proj.bias": (WIDTH,),
        "encoder.ln.weight": (WIDTH,), "encoder.ln.bias": (WIDTH,),
    }  # fmt: skip
    for layer in LAYERS:
        shapes |= {f"{layer}.ln_{index}.{kind}": (WIDTH,) for index in (1, 2) for kind in ("weight", "bias")}
        shapes[f"{layer}.self_attention.in_proj_weight"] = (3 * WIDTH, WIDTH)
        shapes[f"{layer}.self_attention.in_proj_bias"] = (3 * WIDTH,)
        for name, inputs, outputs in (("self_attention.out_proj", 128, 128), ("mlp.0", 128, 200), ("mlp.3", 200, 128)):
            shapes |= {f"{layer}.{name}.weight": (outputs, inputs), f"{layer}.{name}.bias": (outputs,)}
    if head:
        shapes |= {"heads.head.weight": (7, WIDTH), "heads.head.bias": (7,)}
    torch.manual_seed(0)
    return {
        name: torch.randn(shape) * shape[-1] ** -0.5 + (".ln" in name and name.endswith("weight"))
        for name, shape in shapes.items()
    }


@torch.no_grad()
def plain(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """torchvision's VisionTransformer, in the words of its keys."""

    def norm(name: str, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def linear(name: str, tokens: Tensor) -> Tensor:
        return functional.linear(tokens, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    patches = functional.conv2d(images, tensors["conv_proj.weight"], tensors["conv_proj.bias"], stride=PATCH)
    first = tensors["class_token"].expand(len(images), -1, -1)
    tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + tensors["encoder.pos_embedding"]
    for layer in LAYERS:
        attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        begin = f"{layer}.self_attention."
        attention.load_state_dict({k.removeprefix(begin): t for k, t in tensors.items() if k.startswith(begin)})
        normed = norm(f"{layer}.ln_1", tokens)
        tokens = tokens + attention(normed, normed, normed, need_weights=False)[0]
        hidden = functional.gelu(linear(f"{layer}.mlp.0", norm(f"{layer}.ln_2", tokens)))
        tokens = tokens + linear(f"{layer}.mlp.3", hidden)
    pooled = norm("encoder.ln", tokens)[:, 0]
    return linear("heads.head", pooled) if "heads.head.weight" in tensors else pooled


def convert_weights(tensors: dict[str, Tensor], external: dict | None = None) -> ViT:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    assert fmt is FORMATS["torchvision"]
    config = fmt.read_config(tensors, external or {})
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    return vit


def assert_same(vit: ViT, tensors: dict[str, Tensor], image_size=(32, 32)) -> None:
    images = torch.randn(2, 3, *image_size)
    with torch.no_grad():
        found = vit(images)
    expected = plain(tensors, images)
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("head", [True, False])
def test_same_outputs_both_ways(head):
    tensors = random_tensors(head=head)
    vit = convert_weights(tensors)
    assert_same(vit, tensors)
    written = FORMATS["torchvision"].to_external(vit.state_dict(), vit.config)
    assert {name: tensor.shape for name, tensor in written.items()} == {n: t.shape for n, t in tensors.items()}
    assert_same(vit, written)


def test_files_from_before_the_mlps_parts_had_numbers():
    older = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in random_tensors().items()
    }
    assert_same(convert_weights(older), random_tensors())


def test_a_size_that_is_not_square_must_be_stated():
    tensors = random_tensors()
    tensors["encoder.pos_embedding"] = torch.randn(1, 25, WIDTH)
    with pytest.raises(InputError, match="24 learned positions"):
        convert_weights(tensors)
    assert_same(convert_weights(tensors, {"image_size": [32, 48]}), tensors, (32, 48))


def test_what_torchvisions_model_lacks_is_refused():
    with pytest.raises(InputError, match=r"tanh layer before the head \(heads\.pre_logits\)"):
        convert_weights(random_tensors() | {"heads.pre_logits.weight": torch.ones(128, 128)})
    mean = ViTConfig((32, 32), 8, embed_dim=128, depth=2, num_heads=2, global_pool="avg")
    with pytest.raises(InputError, match="torchvision can't hold a model with global_pool=avg"):
        FORMATS["torchvision"].to_external(ViT(mean).state_dict(), mean)
