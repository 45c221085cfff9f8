"""transformers' models, saved by transformers, compute what ours do, and ours what theirs do once written back.

All weights are random, none is an initial value, so that every one of them counts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitreous.errors import InputError
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

transformers = pytest.importorskip("transformers")

SQUARE, WIDE, TALL, LARGE = (32, 32), (32, 48), (64, 24), (56, 56)
SIZE = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
    "num_labels": 7, "layer_norm_eps": 1e-6,
}  # fmt: skip
PLAIN = {**SIZE, "intermediate_size": 96}
DINO3 = {**PLAIN, "num_register_tokens": 3}


@dataclass(frozen=True)
class Case:
    """A model of transformers, and the format of its saved weights."""

    kind: str
    fmt: str
    settings: dict
    call: dict = field(default_factory=lambda: {"interpolate_pos_encoding": True})
    image_sizes: Sequence[tuple[int, int]] = (SQUARE, WIDE, TALL, LARGE)
    unused_keys: tuple[str, ...] = ()
    """Prefixes of keys that are ignored in reading."""

    def __str__(self) -> str:
        extra = self.settings.keys() - PLAIN.keys() - {"num_register_tokens"}
        return "-".join([self.kind, *sorted(extra)])


CASES = [
    Case("ViTForImageClassification", "hf-vit", PLAIN),
    Case("ViTForImageClassification", "hf-vit", PLAIN | {"qkv_bias": False}),
    Case("ViTForImageClassification", "hf-vit", PLAIN | {"hidden_act": "gelu_pytorch_tanh"}),
    Case("ViTModel", "hf-vit", PLAIN | {"hidden_act": "quick_gelu", "image_size": [32, 48]}, {}, [WIDE], ("pooler.",)),
    Case("ViTModel", "hf-vit", PLAIN, unused_keys=("pooler.",)),
    Case("ViTMAEModel", "hf-vit", PLAIN | {"mask_ratio": 0.0}),
    Case("DeiTModel", "hf-deit", PLAIN, unused_keys=("pooler.",)),
    Case("DeiTForImageClassification", "hf-deit", PLAIN),
    Case("DeiTForImageClassificationWithTeacher", "hf-deit", PLAIN),
    Case("Dinov2Model", "hf-dinov2", SIZE, {}),
    Case("Dinov2Model", "hf-dinov2", SIZE | {"use_swiglu_ffn": True}, {}),
    Case("Dinov2ForImageClassification", "hf-dinov2", SIZE, {}),
    Case("Dinov2WithRegistersModel", "hf-dinov2-registers", SIZE | {"num_register_tokens": 3}, {}),
    Case("Dinov2WithRegistersForImageClassification", "hf-dinov2-registers", SIZE, {}),
    Case("DINOv3ViTModel", "hf-dinov3", DINO3, {}),
    Case("DINOv3ViTModel", "hf-dinov3", DINO3 | {"query_bias": False, "value_bias": False}, {}),
    Case("DINOv3ViTModel", "hf-dinov3", DINO3 | {"use_gated_mlp": True, "hidden_act": "silu"}, {}),
]  # fmt: skip


def reference(case: Case):
    """Build the model with random weights."""
    kind = getattr(transformers, case.kind)
    torch.manual_seed(0)
    model = kind(kind.config_class(**case.settings, attn_implementation="eager")).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    return model


def saved(model, folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and the config.json that transformers writes."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def convert_weights(tensors, external) -> ViT:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = fmt.read_config(tensors, external)
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    return vit


@torch.no_grad()
def outputs(case: Case, model, images: torch.Tensor) -> list[torch.Tensor]:
    """The logits, or without a head the class token and all last tokens; and the attention in each layer."""
    call = {**case.call, "output_attentions": True}
    if case.kind == "ViTMAEModel":  # it shuffles the patches by this noise: ascending keeps their order
        count = images.shape[2] // 8 * (images.shape[3] // 8)
        call["noise"] = torch.arange(count).expand(len(images), -1)
    output = model(images, **call)
    if "ForImage" in case.kind:
        return [output.logits, *output.attentions]
    return [output.last_hidden_state[:, 0], output.last_hidden_state, *output.attentions]


@torch.no_grad()
def our_outputs(case: Case, model: ViT, images: torch.Tensor) -> list[torch.Tensor]:
    trace = Trace()
    output = model(images, trace)
    attention = [reference_attention(record) for record in trace.records]
    return [output, *attention] if "ForImage" in case.kind else [output, model.norm(trace.tokens[-1]), *attention]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for vit, external in zip(found, expected, strict=True):
        assert vit.shape == external.shape
        assert (vit - external).abs().max() < 1e-5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conversion_both_ways(case, tmp_path):
    external = reference(case)
    tensors, config = saved(external, tmp_path / "external")
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    assert fmt is FORMATS[case.fmt]
    vit = convert_weights(tensors, config)
    written = fmt.to_external(vit.state_dict(), vit.config)
    loaded = written_back(case, fmt, vit, written, tmp_path / "vit")
    for image_size in case.image_sizes:
        images = torch.randn(2, 3, *image_size)
        expected = outputs(case, external, images)
        assert_same(our_outputs(case, vit, images), expected)
        assert_same(outputs(case, loaded, images), expected)
    assert not fmt.caveats(vit.config)
    assert_same_weights(case, tensors, written)
    again = fmt.from_external(written, vit.config)
    assert all(torch.equal(again[name], tensor) for name, tensor in vit.state_dict().items())


def written_back(case: Case, fmt, vit: ViT, written, folder: Path):
    """Load what we write with transformers; every one of its weights must come from the file."""
    folder.mkdir()
    names = [f"class {index}" for index in range(vit.config.num_classes)]
    config = fmt.external_config(vit.config, names)
    if case.kind == "ViTMAEModel":
        config |= {"model_type": "vit_mae", "mask_ratio": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(written, folder / "model.safetensors", {"format": "pt"})
    more = {"attn_implementation": "eager"} | ({"add_pooling_layer": False} if case.unused_keys else {})
    model, loading = getattr(transformers, case.kind).from_pretrained(folder, output_loading_info=True, **more)
    assert not any(loading.values()), loading
    assert [model.config.id2label[index] for index in range(vit.config.num_classes)] == names
    return model.eval()


def assert_same_weights(case: Case, tensors, written) -> None:
    """To the bit; but a prefix token's position is added to the token, and a mask token is zeros."""
    differing = {name for name in written if name not in tensors or not torch.equal(tensors[name], written[name])}
    folded = ("cls_token", "distillation_token", "position_embeddings", "mask_token")
    averaged = ("cls_classifier.bias", "distillation_classifier.bias")
    lacks = {"qkv_bias", "query_bias"} & case.settings.keys()
    absent = tuple(f"{part}.bias" for part in ("query", "key", "value", "q_proj", "v_proj")) if lacks else ()
    assert all(name.endswith(folded + averaged + absent) for name in differing), differing
    assert all(name.startswith(case.unused_keys or "\0") for name in tensors.keys() - written.keys())


def test_the_decoder_of_a_masked_autoencoder_is_left_out(tmp_path):
    kind = transformers.ViTMAEForPreTraining
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    torch.manual_seed(0)
    model = kind(kind.config_class(**PLAIN, **decoder, decoder_intermediate_size=16))
    whole = convert_weights(*saved(model, tmp_path / "whole")).state_dict()
    encoder = convert_weights(*saved(model.vit, tmp_path / "encoder")).state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in encoder.items())


def test_the_whole_size_in_config_json_is_believed_only_if_it_fits(tmp_path):
    case = CASES[0]
    tensors, config = saved(reference(case), tmp_path)
    with pytest.raises(InputError, match="16 learned positions don't fit image_size 64"):
        FORMATS["hf-vit"].read_config(tensors, config | {"image_size": 64})
    with pytest.raises(InputError, match=r"width 48 .* config\.json"):
        FORMATS["hf-vit"].read_config(tensors, {})
