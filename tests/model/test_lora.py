"""LoRA: the definition, what is trained, exact merging, and matrices of another model."""

import pytest
import torch

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear
from vitreous.model.lora import LoRALinear, LoRASettings, add_lora, load_lora, lora_state_dict, merge_lora
from vitreous.model.vit import ViT

ALL = ("q", "k", "v", "proj", "fc1", "fc2")
TARGETS = [("q", "v"), ("k",), ("proj",), ("fc1", "fc2"), ALL]


def small_vit(mlp_layer="gelu", qk_norm=False):
    torch.manual_seed(0)
    config = ViTConfig(
        (16, 24), 4, embed_dim=16, depth=2, num_heads=2, num_classes=3, mlp_layer=mlp_layer, qk_norm=qk_norm
    )
    model = ViT(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


def with_random_lora(model, settings):
    add_lora(model, settings)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight)
    return model


IMAGES = torch.randn(5, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("parts", [[0], [0, 2], [0, 1, 2]])
def test_the_map_is_that_of_the_paper(parts):
    torch.manual_seed(0)
    base = Linear(8, 12)
    layer = LoRALinear(base, parts, 3, LoRASettings(rank=2, alpha=6.0))
    torch.nn.init.normal_(layer.lora_B)
    tokens = torch.randn(4, 9, 8)
    weight = base.weight.clone()
    for index, part in enumerate(parts):  # W + α / r · B A for the rows of each adapted part
        weight[4 * part : 4 * part + 4] += 3.0 * layer.lora_B[index] @ layer.lora_A[index]
    expected = tokens @ weight.T + base.bias
    assert torch.allclose(layer(tokens), expected, atol=1e-5)
    assert torch.allclose(layer.first(tokens, 7), expected[..., :7], atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
@pytest.mark.parametrize("mlp_layer", ["gelu", "swiglu"])
def test_an_adapted_model_starts_as_the_model_and_trains_only_the_matrices_and_the_head(targets, mlp_layer):
    model = small_vit(mlp_layer)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    logits = model(IMAGES)
    add_lora(model, LoRASettings(rank=2, targets=targets))
    assert torch.equal(model(IMAGES), logits)
    assert before.keys() <= model.state_dict().keys()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == set(lora_state_dict(model)) | {"head.weight", "head.bias"}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):  # A has a gradient once B isn't zero
        torch.nn.functional.cross_entropy(model(IMAGES), torch.tensor([0, 1, 2, 0, 1])).backward()
        optimizer.step()
    moved = {
        name for name, weight in model.state_dict().items() if not torch.equal(weight, before.get(name, 0 * weight))
    }
    assert moved >= trained
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if not name.startswith("head."))


@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
@pytest.mark.parametrize("mlp_layer", ["gelu", "swiglu"])
def test_merging_changes_no_output(targets, mlp_layer):
    names = set(small_vit(mlp_layer).state_dict())
    model = with_random_lora(small_vit(mlp_layer, qk_norm=True), LoRASettings(rank=3, targets=targets)).double()
    logits = model(IMAGES.double())
    assert not torch.allclose(logits, small_vit(mlp_layer, qk_norm=True).double()(IMAGES.double()), atol=1e-6)
    merge_lora(model)
    assert torch.allclose(model(IMAGES.double()), logits, atol=1e-12)
    assert names <= set(model.state_dict()) and not lora_state_dict(model)


def test_merging_in_float32_is_exact_to_a_millionth():
    model = with_random_lora(small_vit(), LoRASettings(rank=3, targets=ALL))
    logits = model(IMAGES).detach()
    merge_lora(model)
    assert torch.allclose(model(IMAGES), logits, rtol=1e-6, atol=1e-6 * float(logits.abs().max()))


def test_merging_leaves_the_base_as_it_was():
    base = Linear(8, 12).double()
    before = base.weight.clone()
    layer = LoRALinear(base, [1], 3, LoRASettings(rank=2))
    torch.nn.init.normal_(layer.lora_B)
    assert not torch.equal(layer.merged().weight, before) and torch.equal(base.weight, before)


def test_matrices_alone_make_the_same_model():
    settings = LoRASettings(rank=2, targets=("q", "v", "fc2"))
    one = with_random_lora(small_vit(), settings)
    other = small_vit()
    add_lora(other, settings)
    load_lora(other, lora_state_dict(one))
    assert torch.equal(one(IMAGES), other(IMAGES))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LoRASettings(rank=2, targets=("q",)), r"lora_A is \[1, 2, 16\] instead of \[2, 2, 16\]: the file"),
        (LoRASettings(rank=4), r"is \[2, 4, 16\] instead of \[2, 2, 16\]"),
        (LoRASettings(rank=2, targets=("q", "v", "proj")), "a matrix blocks.0.attn.proj.lora_A, which this model hasn"),
        (LoRASettings(rank=2, targets=("fc1",)), "has no matrix blocks.0.attn.qkv.lora_A, which this model needs"),
    ],
)  # fmt: skip
def test_matrices_of_another_model_are_refused(other, message):
    model, theirs = small_vit(), small_vit()
    add_lora(model, LoRASettings(rank=2))
    add_lora(theirs, other)
    with pytest.raises(InputError, match=message):
        load_lora(model, lora_state_dict(theirs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "lora.rank is 0: it must be at least 1"),
        ({"alpha": 0.0}, "lora.alpha is 0.0: it must be above 0"),
        ({"alpha": float("nan")}, "lora.alpha is nan"),
        ({"alpha": float("inf")}, "lora.alpha is inf"),
        ({"targets": ()}, "choose one or more of q, k, v, proj, fc1, fc2"),
        ({"targets": ("q", "query")}, "choose one or more"),
        ({"targets": ("q", "q")}, "choose one or more"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LoRASettings(**changes)
