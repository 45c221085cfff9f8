"""Fingerprints as version 0.1.0 wrote them into NAME.json, so that `--resume` still knows its videos.

That version hashed the text of its records, so the texts are put together here again from today's values, under the
names of that time.
"""

import hashlib
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from vitreous.clips.request import VideoRequest
from vitreous.explanation.regions import PixelRegion
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.migration import (
    CONFIG_KEYS,
    CONFIG_VALUES,
    PREPROCESSING_KEYS,
    PREPROCESSING_VALUES,
    TENSOR_NAMES,
)
from vitreous.model.vit import ViT

CONFIG_FIELDS = (
    "image_size_hw", "patch_size", "channels", "classes", "width", "depth", "heads", "mlp_ratio", "stem",
    "stem_convolutions", "embedding_norm", "pooling", "norm_after_pooling", "positions", "positions_antialias",
    "registers", "norm", "norm_epsilon", "mlp", "layer_scale", "qk_norm", "stochastic_depth", "patch_dropout",
)  # fmt: skip
"""Fields of a model's configuration in the order of version 0.1.0; PREPROCESSING_FIELDS are those of Preprocessing."""
PREPROCESSING_FIELDS = ("size_hw", "resize", "mean", "std", "multiple", "central", "interpolation")
TENSOR_ORDER = (
    r"prefix$", r"stem\.blocks", r"stem\.linear", r"positions", r"embedding_norm", r"blocks", r"norm",
    r"pooling\.query$", r"pooling\.score", r"pooling\.query_map", r"pooling\.key_value_map", r"pooling\.projection",
    r"pooling\.norm", r"pooling\.mlp\.expand", r"pooling\.mlp\.contract", r"head",
)  # fmt: skip
"""The order of the weights of a model of version 0.1.0; BLOCK_ORDER is the order within a block."""
BLOCK_ORDER = (
    "attention_norm", "attention.qkv", "attention.projection", "attention.query_norm", "attention.key_norm",
    "attention_branch", "mlp_norm", "mlp.expand", "mlp.gate_and_value", "mlp.contract", "mlp_branch",
)  # fmt: skip


def legacy_model_fingerprint(classifier: ImageClassifier) -> str:
    """Return the hash that version 0.1.0 computed of a model."""
    model = classifier.model
    config = describe_config(model.config) if isinstance(model, ViT) else None
    preprocessing = describe_preprocessing(classifier.preprocessing)
    text = f"({classifier.origin!r}, {config}, {preprocessing}, {classifier.class_names!r})"
    digest = hashlib.sha256(text.encode())
    weights = earlier_weights(model) if isinstance(model, ViT) else iter(model.state_dict().items())
    for name, weight in weights:
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def legacy_fingerprint(size_bytes: int, mtime_ns: int, model: str, request: VideoRequest, output_name: str) -> str:
    """Return the fingerprint that version 0.1.0 computed of a video.

    Args:
        size_bytes: size of the video file.
        mtime_ns: its modification time in nanoseconds.
        model: what `legacy_model_fingerprint` returns.
        request: how the video is explained.
        output_name: the name of the written file.
    """
    text = f"({size_bytes}, {mtime_ns}, {model!r}, {describe_request(request)}, {output_name!r})"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe_request(request: VideoRequest) -> str:
    """Return a request as version 0.1.0 printed it."""
    one, draw, speed, output, target = request.options, request.draw, request.speed, request.output, request.target
    if isinstance(target, PixelRegion):
        target = f"region:{target.left:g},{target.top:g},{target.right:g},{target.bottom:g}"
    settings = (
        f"Settings(layer={one.layer!r}, head={one.head!r}, fusion={one.head_fusion!r}, discard={one.discard_ratio!r}, "
        f"query=None, steps={one.n_steps!r}, samples={one.n_samples!r}, noise={one.noise_level!r}, "
        f"window={one.patch_window!r}, view={one.view!r}, seed={one.seed!r})"
    )
    look = f"Look(strength={draw.opacity!r}, edges={draw.edge_aware!r}, legend={draw.legend!r})"
    options = (
        f"VideoOptions(start={request.frames.start!r}, end={request.frames.end!r}, every={request.frames.every!r}, "
        f"size={output.height!r}, quality={output.quality!r}, format={output.format!r})"
    )
    return (
        f"VideoRequest(methods={request.methods!r}, settings={settings}, explained={target!r}, "
        f"query={request.query!r}, track={request.track!r}, layout={request.layout!r}, look={look}, options={options}, "
        f"smooth={draw.smooth!r}, strip={draw.class_strip!r}, timeline={output.timeline!r}, "
        f"data_out={output.save_maps!r}, batch_size={speed.batch_size!r}, precision={speed.precision!r})"
    )


def describe_config(config: ViTConfig) -> str:
    """Return a model's configuration as version 0.1.0 printed it."""
    values = []
    for name in CONFIG_FIELDS:
        key = CONFIG_KEYS.get(name, name)
        values.append(f"{name}={_earlier_value(getattr(config, key), CONFIG_VALUES.get(key, {}))!r}")
    return f"ViTConfig({', '.join(values)})"


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """Return a preprocessing as version 0.1.0 printed it."""
    values = []
    for name in PREPROCESSING_FIELDS:
        key = PREPROCESSING_KEYS.get(name, name)
        values.append(f"{name}={_earlier_value(getattr(preprocessing, key), PREPROCESSING_VALUES.get(key, {}))!r}")
    return f"Preprocessing({', '.join(values)})"


def earlier_weights(vit: ViT) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under the names, in the shapes and in the order of version 0.1.0."""
    found, config, prefix = {}, vit.config, []
    for name, weight in vit.state_dict().items():
        if name in ("cls_token", "reg_token"):
            prefix.append((name, weight[0]))
            continue
        earlier = _earlier_name(name, config)
        if earlier == "stem.linear.weight":
            weight = weight.flatten(1)
        elif earlier == "positions.table":
            weight = weight.reshape(*config.grid_size, -1)
        elif earlier == "pooling.query":
            weight = weight.flatten()
        found[earlier] = weight
    if prefix:
        found["prefix"] = torch.cat([weight for _, weight in sorted(prefix)])
    for name in sorted(found, key=_order_key):
        yield name, found[name]


def _earlier_value(value: object, today: dict[str, str]) -> object:
    """Return the earlier form of a value, from a table of earlier values and those of today."""
    return {new: old for old, new in today.items()}.get(value, value) if isinstance(value, str) else value


def _earlier_name(name: str, config: ViTConfig) -> str:
    """Return the earlier name of a tensor, by reading the table of names backward."""
    if name.startswith("fc_norm.") and config.fc_norm:
        return name.removeprefix("fc_")
    expand = "gate_and_value" if config.mlp_layer == "swiglu" else "expand"
    for old, new in TENSOR_NAMES.items():
        pattern = new.replace(".", r"\.").replace(r"\1", r"(blocks\.\d+)")
        template = old.replace(r"(blocks\.\d+)", r"\1").replace("(?:expand|gate_and_value)", expand).rstrip("$")
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", template.replace(r"\.", "."), name)
    return name


def _order_key(name: str) -> tuple[int, int, int]:
    """Return a key that sorts names as a model of version 0.1.0 had them; weights stay before biases."""
    place = next((i for i, pattern in enumerate(TENSOR_ORDER) if re.match(pattern, name)), len(TENSOR_ORDER))
    block = re.match(r"blocks\.(\d+)\.(.+)", name)
    if block is None:
        return place, 0, 0
    return place, int(block[1]), next((i for i, part in enumerate(BLOCK_ORDER) if block[2].startswith(part + ".")), 99)
