"""Fingerprints as version 0.1.0 wrote them into NAME.json, so that `--resume` still knows its videos.

That version hashed the text of its records, so the texts are put together here again from today's values, under the
names of that time.
"""

import hashlib

import torch

from vitreous.clips.request import VideoRequest
from vitreous.explanation.regions import PixelRegion
from vitreous.model.classifier import ImageClassifier
from vitreous.model.legacy_format import earlier_config, earlier_preprocessing, earlier_weights
from vitreous.model.vit import ViT


def legacy_model_fingerprint(classifier: ImageClassifier) -> str:
    """Return the hash that version 0.1.0 computed of a model."""
    model = classifier.model
    config = earlier_config(model.config) if isinstance(model, ViT) else None
    preprocessing = earlier_preprocessing(classifier.preprocessing)
    text = f"({classifier.origin!r}, {config}, {preprocessing}, {classifier.class_names!r})"
    digest = hashlib.sha256(text.encode())
    for name, weight in earlier_weights(model):
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
