"""The doctor checks the attention of wrapped models, and says what it can't measure on them."""

import numpy as np
import torch

from vitreous.diagnostics.doctor.run import CHECKS, doctor
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.wrap import WrappedModel

PREPROCESSING = Preprocessing(32, "squash", (0.5,) * 3, (0.5,) * 3, 8)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8) for seed in range(3)]


def test_a_wrapped_model_has_the_attention_of_the_same_model_of_ours(tmp_path):
    torch.manual_seed(0)
    vit = ViT(ViTConfig(32, 8, num_classes=3, embed_dim=32, depth=2, num_heads=2)).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.add_(torch.randn_like(weight) / 5)
    ours = doctor(ImageClassifier(vit, PREPROCESSING, ["a", "b", "c"]), IMAGES)
    found = doctor(ImageClassifier(WrappedModel(vit), PREPROCESSING, ["a", "b", "c"]), IMAGES)
    for name in ("entropy", "distance", "prefix_attention", "query_dependence", "head_similarity"):
        assert np.allclose(getattr(found.statistics, name), getattr(ours.statistics, name), atol=1e-5)
    for one, two in zip(found.statistics.images, ours.statistics.images, strict=True):
        assert np.allclose(one.attention, two.attention, atol=1e-5) and np.allclose(one.rollout, two.rollout, atol=1e-5)
    unknown = {one.topic for one in found.findings if one.level == "unknown"}
    assert unknown == {"outlier tokens", "token collapse", "idle blocks", "LayerScale", "dead heads"}
    same = {str(one) for one in ours.findings if one.topic not in unknown}
    assert same == {str(one) for one in found.findings if one.topic not in unknown} and len(found.findings) == len(
        CHECKS
    )
    _, page = found.save(tmp_path)
    assert "attention, last layer" in page.read_text() and "token norms" not in page.read_text()
