"""The memory that a request takes: estimated before it starts, held against what it takes, and limited."""

import ctypes
import gc
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.web.explorer import attention_export
from vitreous.web.explorer.attention_export import export_attention
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.jobs.memory import estimate_attention_bytes, estimate_map_bytes, size_of_model
from vitreous.web.sessions import Limits


def classifier_of(model, side, patch_size):
    preprocessing = Preprocessing((side, side), "squash", (0.5,) * 3, (0.5,) * 3, patch_size)
    return ImageClassifier(model.eval(), preprocessing, ["a", "b", "c"])


@pytest.fixture(scope="module")
def classifier():
    """A model of 785 tokens, in which activations and attention matrices take some 10 MB a layer."""
    torch.manual_seed(0)
    config = ViTConfig((224, 224), 8, embed_dim=128, depth=3, num_heads=4, num_classes=3)
    return classifier_of(ViT(config), 224, 8)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def peak_bytes(work):
    """Return by how much the process's memory grew at most while `work` ran; run it once before."""
    work()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = memory_of("VmRSS")
    work()
    return memory_of("VmHWM") - before


def memory_of(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attention of all layers", {}), ("rollout", {}), ("gradient-rollout", {}), ("smoothgrad", {"n_samples": 5}),
        ("occlusion", {"patch_window": 20}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_estimate_is_above_what_a_request_takes_and_not_far_above(method, options, classifier, image):
    size = size_of_model(classifier)
    if method == "attention of all layers":
        taken = peak_bytes(lambda: export_attention(classifier, image))
        estimate = estimate_attention_bytes(size, len(export_attention(classifier, image).data))
    else:
        chosen = MethodOptions(**options)
        taken = peak_bytes(lambda: explain_batch(classifier, [image], method, chosen))
        estimate = estimate_map_bytes(size, method, chosen)
    assert taken < 1.1 * estimate and estimate < 8 * taken + (8 << 20), (
        f"{taken >> 20} MB, estimate {estimate >> 20} MB"
    )


def test_a_model_of_another_library_is_measured_by_its_weights(classifier):
    size = size_of_model(classifier)

    class Disguised(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

    found = size_of_model(classifier_of(Disguised(classifier.model), 224, 8))
    assert found.features == size.features and found.tokens == size.tokens and found.pixels == size.pixels
    assert 0.5 * size.layers <= found.layers <= 1.5 * size.layers
    assert found.heads == pytest.approx(3 * 128 / 64, rel=0.3), "heads of 64, as nearly all have"


def test_a_request_that_takes_too_much_is_refused_before_it_starts(classifier, image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    limit = estimate_map_bytes(size_of_model(classifier), "gradient-rollout", MethodOptions()) + 1
    explorer = Explorer({"small": classifier}, None, Limits(memory_bytes=limit))
    ran = []
    hook = classifier.model.register_forward_pre_hook(lambda *_: ran.append(1))
    with TestClient(create_explorer_app(explorer), "http://127.0.0.1:8765") as client:
        key = client.post("/api/images", content=stream.getvalue()).json()["image"]

        def start(method, **options):
            body = {"kind": "map", "image": key, "method": method, "options": options}
            return client.post("/api/jobs", json=body)

        assert start("gradient-rollout").status_code == 202 and start("rollout").status_code == 202
        refused = start("rise", n_samples=1000)
        assert refused.status_code == 400
        assert "rise takes about" in refused.json()["error"] and "--max-memory-mb" in refused.json()["error"]
        explorer.limits = Limits(memory_bytes=1 << 20)
        refused = client.post("/api/jobs", json={"image": key})
        assert refused.status_code == 400 and "the attention of all layers takes about" in refused.json()["error"]
    hook.remove()
    assert not ran and len(explorer.queue) == 2


def test_attention_that_the_page_can_not_hold_names_the_largest_input_that_fits(classifier, image, monkeypatch):
    monkeypatch.setattr(attention_export, "EXACT_BYTES", 12 * 200**2)
    monkeypatch.setattr(attention_export, "MAX_EXPORT_BYTES", 12 * 200**2)  # 12 heads, of 785 tokens
    with pytest.raises(InputError, match=r"785 tokens in 12 heads takes 7 MB.*--input-size 112 or less"):
        export_attention(classifier, image)
    torch.manual_seed(0)
    config = ViTConfig((112, 112), 8, embed_dim=128, depth=3, num_heads=4, num_classes=3)
    assert export_attention(classifier_of(ViT(config), 112, 8), image).description["encoding"] == "uint8"
