"""The attention of a model on one image, from one forward pass, in the form that the page computes with."""

import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.attribute import as_observable
from vitreous.explanation.streaming.attention_products import attention_matrix
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier, Prediction
from vitreous.model.trace import TokenLayout
from vitreous.transfer.tokens import has_class_token
from vitreous.web.jobs.queue import JobResult

EXACT_BYTES = 64 << 20
"""Matrices that take more than this in 16 bits are sent in 8 bits."""
MAX_EXPORT_BYTES = 192 << 20
"""The largest attention that is sent: a ViT-S/14 at 518 pixels in 8 bits takes 135 MB."""
MAX_SCORES = 1000


def export_attention(
    classifier: ImageClassifier,
    image_u8: np.ndarray,
    describe_outputs: Callable[[Tensor], dict[str, object]] | None = None,
) -> JobResult:
    """Run the model once and return all attention matrices with what is needed to draw them on the image.

    The data are the readout, float32 (tokens), then the matrices (heads, tokens, tokens) of each layer. In "float16"
    they are the weights themselves. In "uint8" a weight is its row's largest times (value / 255)², and the largest of
    each row come before the matrix as float32 (heads, tokens).

    Args:
        classifier: the model.
        image_u8: uint8 (height, width, 3).
        describe_outputs: what else to say about the model's outputs (1, classes), for JSON.

    Raises:
        InputError: the attention can't be observed, is not that of single images, or takes too much memory.
    """
    observable, trace = as_observable(classifier), LightTrace()
    pixels, geometry = classifier.preprocess(image_u8)
    with torch.inference_mode(False), torch.no_grad():
        logits = observable(pixels[None], trace)
        layout = trace.layout
        if layout is None or trace.readout is None or layout.frames != 1:
            raise InputError(
                "the explorer needs a model of single images whose head reads its tokens: this one doesn't"
            )
        encoding = _choose_encoding(
            sum(layer.query_and_key()[0].shape[1] for layer in trace.layers),
            layout,
            classifier.preprocessing.patch_size,
        )
        heads, blocks = [], [trace.readout[0].float().cpu().numpy().tobytes()]
        for layer in trace.layers:
            matrix = attention_matrix(layer)[0].float()
            heads.append(matrix.shape[0])
            blocks += _encode(matrix, encoding)
    patch_size = classifier.preprocessing.patch_size
    grid = (layout.grid_height, layout.grid_width)
    description = {
        "encoding": encoding,
        "heads": heads,
        "layout": {
            "num_prefix_tokens": layout.num_prefix_tokens,
            "has_class_token": has_class_token(classifier.model),
            "grid_height": grid[0],
            "grid_width": grid[1],
        },
        "geometry": describe_geometry(geometry, grid, patch_size),
        "has_attention_pooling": trace.has_attention_pooling,
        "rollout_obstacle": trace.rollout_obstacle,
        "prediction": describe_prediction(classifier.postprocess(logits)[0]),
    }
    more = {} if describe_outputs is None else describe_outputs(logits)
    return JobResult(description | more, b"".join(blocks))


def _choose_encoding(heads: int, layout: TokenLayout, patch_size: int) -> str:
    """Return the most exact encoding in which the matrices of all heads can be sent.

    Raises:
        InputError: there is none; it names the largest square input whose attention can be sent.
    """
    weights = heads * layout.num_tokens**2
    if 2 * weights <= EXACT_BYTES:
        return "float16"
    if weights <= MAX_EXPORT_BYTES:
        return "uint8"
    patches = math.isqrt(MAX_EXPORT_BYTES // heads) - layout.num_prefix_tokens
    side = math.isqrt(max(1, patches)) * patch_size
    raise InputError(
        f"the attention of {layout.num_tokens} tokens in {heads} heads takes {weights >> 20} MB, more than the page "
        f"holds ({MAX_EXPORT_BYTES >> 20} MB): start the server with --input-size {side} or less"
    )


def _encode(matrix: Tensor, encoding: str) -> list[bytes]:
    """Return the bytes of a matrix (heads, tokens, tokens)."""
    if encoding == "float16":
        return [matrix.half().cpu().numpy().tobytes()]
    largest = matrix.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    levels = (matrix / largest).sqrt_().mul_(255).round_().to(torch.uint8)
    return [largest.cpu().numpy().tobytes(), levels.cpu().numpy().tobytes()]


def describe_geometry(geometry: Geometry, grid: tuple[int, ...], patch_size: int) -> dict[str, object]:
    """Describe for JSON where a grid lies on the image: sizes are (height, width), boxes top, left, bottom, right."""
    spanned = geometry.of_patches(grid, patch_size)
    return asdict(spanned) | {"visible_box": spanned.visible_box}


def describe_prediction(prediction: Prediction) -> dict[str, object]:
    """Describe a prediction for JSON, with its best labels."""
    return {
        "problem_type": prediction.problem_type,
        "count": len(prediction.scores),
        "scores": [[label, score] for label, score in prediction.scores[:MAX_SCORES]],
    }
