"""Image towers of CLIP and SigLIP, saved by transformers: the same outputs, converted both ways.

All weights are random, none is an initial value, so that every one of them counts.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS, detect_format

transformers = pytest.importorskip("transformers")

SIZES = ((32, 32), (32, 48), (64, 24), (56, 56))
TOWER = {
    "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model of transformers: its class, its configuration, the class that reads what we write, the output's name."""

    kind: str
    config: str
    reader: str
    output: str
    settings: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.kind, *map(str, self.settings.values())])


CLIP_TOWER, SIGLIP_TOWER = "CLIPVisionModelWithProjection", "SiglipVisionModel"
CASES = [
    Case(CLIP_TOWER, "CLIPVisionConfig", CLIP_TOWER, "image_embeds", {"projection_dim": 20}),
    Case(CLIP_TOWER, "CLIPVisionConfig", CLIP_TOWER, "image_embeds", {"hidden_act": "gelu"}),
    Case("CLIPVisionModel", "CLIPVisionConfig", "CLIPVisionModel", "pooler_output", {"layer_norm_eps": 1e-6}),
    Case("CLIPModel", "CLIPConfig", CLIP_TOWER, "image_embeds", {"projection_dim": 20}),
    Case("SiglipVisionModel", "SiglipVisionConfig", SIGLIP_TOWER, "pooler_output"),
    Case("SiglipModel", "SiglipConfig", SIGLIP_TOWER, "pooler_output"),
    Case("SiglipForImageClassification", "SiglipConfig", "SiglipForImageClassification", "logits", {"num_labels": 7}),
]


@torch.no_grad()
def reference(case: Case):
    """Build the model with random weights, whose outputs are about 1."""
    torch.manual_seed(0)
    whole = not case.config.endswith("VisionConfig")
    settings = {"vision_config": TOWER, "text_config": TEXT} if whole else TOWER
    model = getattr(transformers, case.kind)(getattr(transformers, case.config)(**settings, **case.settings)).eval()
    for name, weight in model.named_parameters():
        weight.normal_(std=weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.2)
        if "norm" in name and name.endswith("weight"):
            weight.add_(1)
    return model


def saved(model, folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def written(vit: ViT, fmt, folder: Path, reader: str):
    """Load what we write with transformers; every one of its weights must come from the file."""
    folder.mkdir()
    config = fmt.external_config(vit.config, [f"class {index}" for index in range(vit.config.num_classes)])
    (folder / "config.json").write_text(json.dumps(config))
    save_file(fmt.to_external(vit.state_dict(), vit.config), folder / "model.safetensors", {"format": "pt"})
    model, loading = getattr(transformers, reader).from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    return model.eval()


@torch.no_grad()
def output(model, case: Case, images: torch.Tensor) -> torch.Tensor:
    if case.kind == "CLIPModel" and isinstance(model, transformers.CLIPModel):
        pooled = model.vision_model(images, interpolate_pos_encoding=True).pooler_output
        return model.visual_projection(pooled)
    model = model.vision_model if isinstance(model, transformers.SiglipModel) else model
    return getattr(model(images, interpolate_pos_encoding=True), case.output)


def convert_weights(tensors, external) -> tuple[ViT, object]:
    fmt = detect_format({name: tensor.shape for name, tensor in tensors.items()})
    config = fmt.read_config(tensors, external)
    vit = ViT(config).eval()
    vit.load_state_dict(fmt.from_external(tensors, config))
    return vit, fmt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_outputs_both_ways(case, tmp_path):
    external = reference(case)
    vit, fmt = convert_weights(*saved(external, tmp_path / "external"))
    assert fmt is FORMATS["clip" if "CLIP" in case.kind else "siglip"]
    assert not fmt.caveats(vit.config)
    again = written(vit, fmt, tmp_path / "vit", case.reader)
    for image_size in SIZES:
        images = torch.randn(2, 3, *image_size)
        with torch.no_grad():
            found = vit(images)
        expected = output(external, case, images)
        assert found.shape == expected.shape
        assert expected.std() > 0.1
        assert (found - expected).abs().max() < 1e-5
        assert (output(again, case, images) - expected).abs().max() < 1e-5


def test_a_bias_of_our_patch_embedding_goes_into_their_positions(tmp_path):
    case = CASES[0]
    vit, fmt = convert_weights(*saved(reference(case), tmp_path / "external"))
    with torch.no_grad():
        vit.patch_embed.proj.bias.normal_()
    external = written(vit, fmt, tmp_path / "vit", case.reader)
    for image_size in SIZES:
        images = torch.randn(2, 3, *image_size)
        with torch.no_grad():
            assert (vit(images) - output(external, case, images)).abs().max() < 1e-5


def test_the_pooling_heads_weights_are_the_readout(tmp_path):
    """SigLIP's pooling head is torch's attention: its weights are our readout."""
    external = reference(CASES[4])
    vit, _ = convert_weights(*saved(external, tmp_path))
    images, trace = torch.randn(2, 3, 32, 32), Trace()
    with torch.no_grad():
        vit(images, trace)
        tokens = external(images).last_hidden_state
        _, weights = external.head.attention(external.head.probe.expand(2, -1, -1), tokens, tokens)
    assert (trace.readout - weights[:, 0]).abs().max() < 1e-6


def open_clip_tensors(*, quick: bool) -> dict[str, torch.Tensor]:
    """An image tower and the beginnings of a text tower under open_clip's names."""
    torch.manual_seed(0)
    shapes = {
        "positional_embedding": (77, 32), "text_projection": (32, 20), "token_embedding.weight": (50, 32),
        "transformer.resblocks.0.ln_1.weight": (32,), "ln_final.weight": (32,),
        "visual.class_embedding": (128,), "visual.positional_embedding": (17, 128),
        "visual.conv1.weight": (128, 3, 8, 8), "visual.proj": (128, 20),
    }  # fmt: skip
    for norm in ("visual.ln_pre", "visual.ln_post"):
        shapes |= {f"{norm}.weight": (128,), f"{norm}.bias": (128,)}
    for block in ("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"):
        shapes |= {f"{block}.ln_{i}.{kind}": (128,) for i in (1, 2) for kind in ("weight", "bias")}
        shapes |= {f"{block}.attn.in_proj_weight": (384, 128), f"{block}.attn.in_proj_bias": (384,)}
        for name, inputs, outputs in (("attn.out_proj", 128, 128), ("mlp.c_fc", 128, 200), ("mlp.c_proj", 200, 128)):
            shapes |= {f"{block}.{name}.weight": (outputs, inputs), f"{block}.{name}.bias": (outputs,)}
    tensors = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    return tensors | ({"input_resolution": torch.tensor(32), "logit_scale": torch.tensor(1.0)} if quick else {})


def reference_open_clip(tensors: dict[str, torch.Tensor], images: torch.Tensor, *, quick: bool) -> torch.Tensor:
    """CLIP's image tower, written down from open_clip's names; two heads of 64."""

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(values, (128,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    patches = functional.conv2d(images, tensors["visual.conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    first = tensors["visual.class_embedding"].expand(len(images), 1, -1)
    tokens = norm("visual.ln_pre", torch.cat([first, patches], 1) + tensors["visual.positional_embedding"])
    for block in ("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"):
        rows = torch.einsum("bnc,dc->bnd", norm(f"{block}.ln_1", tokens), tensors[f"{block}.attn.in_proj_weight"])
        query, key, value = (rows + tensors[f"{block}.attn.in_proj_bias"]).unflatten(-1, (3, 2, 64)).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 8
        gathered = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).flatten(2)
        tokens = tokens + linear(f"{block}.attn.out_proj", gathered)
        hidden = linear(f"{block}.mlp.c_fc", norm(f"{block}.ln_2", tokens))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else functional.gelu(hidden)
        tokens = tokens + linear(f"{block}.mlp.c_proj", hidden)
    return norm("visual.ln_post", tokens[:, 0]) @ tensors["visual.proj"]


@pytest.mark.parametrize(
    ("quick", "external"),
    [(True, {}), (False, {"model_cfg": {"vision_cfg": {"image_size": 32, "head_width": 64}}})],
)
def test_open_clip_names_follow_the_formulas_and_come_back(quick, external):
    tensors = open_clip_tensors(quick=quick)
    vit, fmt = convert_weights(tensors, external)
    assert fmt is FORMATS["open-clip"]
    back = fmt.to_external(vit.state_dict(), vit.config)
    images = torch.randn(2, 3, 32, 32)
    expected = reference_open_clip(tensors, images, quick=quick)
    with torch.no_grad():
        assert (vit(images) - expected).abs().max() < 1e-5
    assert (reference_open_clip(back, images, quick=quick) - expected).abs().max() < 1e-5
    assert fmt.external_config(vit.config, [])["model_cfg"]["quick_gelu"] is quick


@pytest.mark.parametrize("name", ["clip", "open-clip"])
def test_an_unknown_gelu_is_asked_for(name, tmp_path):
    tensors = open_clip_tensors(quick=False) if name == "open-clip" else saved(reference(CASES[0]), tmp_path)[0]
    with pytest.raises(InputError, match=r"don't say which GELU they use: .*config\.json"):
        FORMATS[name].read_config(tensors, {})


def test_what_their_models_cannot_be_is_refused(tmp_path):
    wide = ViTConfig((32, 48), 8, embed_dim=48, depth=1, num_heads=4, global_pool="map", num_classes=0)
    with pytest.raises(InputError, match="made for square images, not for 32 × 48"):
        FORMATS["siglip"].external_config(wide, [])
    with pytest.raises(InputError, match="only True"):
        FORMATS["clip"].to_external(ViT(wide).state_dict(), wide)
    with pytest.raises(InputError, match="needs a head"):
        FORMATS["siglip"].external_config(ViTConfig(global_pool="avg", num_classes=0), [])
    tensors, external = saved(reference(CASES[4]), tmp_path)
    headless = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    with pytest.raises(InputError, match="without pooling head and classifier"):
        FORMATS["siglip"].read_config(headless, external)
