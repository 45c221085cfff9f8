"""The tokens of each layer of wrapped transformers models: equal to those of their own layers and normalization."""

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.pretrained.wrap import wrap
from vitreous.transfer.extractor import build_extractor
from vitreous.transfer.tokens import has_class_token

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
PREPROCESSING = Preprocessing((32, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)
FORMS = {  # the model, its layers, its final normalization, prefix tokens, tokens behind the patches
    "ViT": ("vit.layers", "vit.layernorm", 1, 0),
    "Dinov2WithRegisters": ("dinov2_with_registers.encoder.layer", "dinov2_with_registers.layernorm", 3, 0),
    "DINOv3ViT": ("model.layer", "norm", 3, 0),
    "Beit": ("layers", "layernorm", 1, 0),
    "SiglipVision": ("encoder.layers", "post_layernorm", 0, 0),
    "CLIPVision": ("encoder.layers", "", 1, 0),
    "Yolos": ("encoder.layer", "layernorm", 1, 2),
}


def build(name: str) -> nn.Module:
    """A model with random weights, also in its normalizations; with a head where its layers are those of a part."""
    torch.manual_seed(0)
    size = [32, 32] if name == "Yolos" else 32
    more = {"Yolos": {"num_detection_tokens": 2}, "Dinov2WithRegisters": {"num_register_tokens": 2}}
    more |= {"DINOv3ViT": {"num_register_tokens": 2}, "Beit": {"use_mean_pooling": False}}
    config = getattr(transformers, f"{name}Config")(**SIZES, image_size=size, **more.get(name, {}))
    has_head = FORMS[name][0].startswith(("vit.", "dinov2"))
    module = getattr(transformers, name + ("ForImageClassification" if has_head else "Model"))(config).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return module


@pytest.mark.parametrize("name", FORMS)
def test_tokens_are_those_of_the_layers(name):
    module, (layers_at, norm_at, before, behind) = build(name), FORMS[name]
    outputs, images = [], torch.rand(2, 3, 32, 32)
    try:
        layers = module.get_submodule(layers_at)
    except AttributeError:
        layers = next(one for one in module.modules() if isinstance(one, nn.ModuleList) and len(one) == 3)
    handles = [one.register_forward_hook(lambda *call: outputs.append(call[-1])) for one in layers]
    with torch.no_grad():
        module(images, output_hidden_states=True)  # with hooks of transformers, which stay
    for handle in handles:
        handle.remove()
    hooks = count_hooks(module)
    norm = module.get_submodule(norm_at)
    tokens = [one[0] if isinstance(one, tuple) else one for one in outputs]
    with torch.no_grad():
        tokens = [norm(one) if norm_at else one for one in tokens]
    classifier = wrap(module, PREPROCESSING, **({} if hasattr(module, "classifier") else {"class_names": []}))
    names = ["class-token", "patch-mean"] if has_class_token(classifier.model) else ["patch-mean"]
    found = build_extractor(classifier, names, [2, 0, 1], "fp32")(images)
    expected = []
    for layer in (2, 0, 1):
        patches = tokens[layer][:, before : tokens[layer].shape[1] - behind]
        expected += [tokens[layer][:, 0]] * (len(names) - 1) + [patches.mean(1)]
        assert patches.shape[1] == 16
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-5)
    assert count_hooks(module) == hooks, "ours are removed"


def count_hooks(module: nn.Module) -> int:
    return sum(len(one._forward_hooks) for one in module.modules())


def test_models_that_show_the_last_layer_only_are_refused():
    """With the last layer they work; of others the message names the models that show every layer."""

    class LastOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = build("ViT").vit
            self.config = self.trunk.config
            self.cls_token = self.trunk.embeddings.cls_token

        def forward(self, images):
            return self.trunk(images)

    classifier = wrap(LastOnly(), PREPROCESSING, class_names=[])
    images = torch.rand(1, 3, 32, 32)
    expected = classifier.model.module(images).last_hidden_state[:, 0].detach()
    torch.testing.assert_close(build_extractor(classifier, ["class-token"], None, "fp32")(images), expected)
    message = r"LastOnly shows the tokens of its last layer only: .*\(ViT, DeiT, DINOv2, DINOv3, BEiT and SigLIP"
    with pytest.raises(InputError, match=message) as caught:
        build_extractor(classifier, ["class-token"], [0], "fp32")(images)
    assert "\n" not in str(caught.value)
