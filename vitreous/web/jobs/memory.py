"""Estimate the memory that a request takes before it starts, from the model, the method and the size of its input."""

import math
from dataclasses import dataclass

from vitreous.errors import InputError
from vitreous.explanation.explain import MAX_BATCH_PIXELS
from vitreous.explanation.methods.occlusion import DEFAULT_WINDOW
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import MAX_PIXELS_PER_PASS
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.gradients import GRADIENT_CHUNK_ELEMENTS
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT

DEFAULT_PASSES = {"integrated-gradients": 50, "smoothgrad": 32, "rise": 1000}
"""Images that go through the model unless the request says otherwise."""
HEAD_WIDTH = 64
"""Of a model that doesn't say how many heads it has: the width that nearly all have."""
FEATURES_PER_WIDTH = 16
"""Inputs and outputs of the linear layers of a transformer block, in widths of its tokens: 4 of query, key and value, 2
of the projection, 10 of the MLP."""


@dataclass(frozen=True)
class PassSize:
    """What determines the memory and the time of a forward pass over one image.

    Attributes:
        tokens: of the largest input.
        features: inputs and outputs of all linear layers, for one token.
        weights: of all linear layers.
        layers: transformer blocks.
        heads: of all layers together.
        pixels: values of one input image.
    """

    tokens: int
    features: int
    weights: int
    layers: int
    heads: int
    pixels: int


def size_of_model(classifier: ImageClassifier) -> PassSize:
    """Return the size of a model; of one that isn't our ViT, by the shapes of its weights."""
    height, width = classifier.preprocessing.input_size
    patches = math.ceil(height * width / classifier.preprocessing.patch_size**2)
    model = classifier.model
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    features, weights = sum(sum(one.shape) for one in matrices), sum(one.numel() for one in matrices)
    pixels = len(classifier.preprocessing.mean) * height * width
    if isinstance(model, ViT):
        config = model.config
        prefix = config.num_prefix_tokens
        return PassSize(patches + prefix, features, weights, config.depth, config.depth * config.num_heads, pixels)
    widths = max(1, features // FEATURES_PER_WIDTH)  # of all layers together
    widest = max((min(one.shape) for one in matrices), default=1)
    return PassSize(patches + 1, features, weights, max(1, widths // widest), math.ceil(widths / HEAD_WIDTH), pixels)


def estimate_attention_bytes(size: PassSize, export_bytes: int) -> int:
    """Return about how much the attention of all layers takes, whose matrices are sent in `export_bytes`.

    A third of the features of a pass are kept, queries and keys among them; one layer's matrices are there six times
    in float32 (scores, softmax and encoding), and the result is there twice.
    """
    one_layer = 6 * 4 * size.heads // size.layers * size.tokens**2
    return _pass_bytes(size) // 3 + one_layer + 2 * export_bytes


def estimate_map_bytes(size: PassSize, method: str, options: MethodOptions) -> int:
    """Return about how much a map takes."""
    passes = options.n_samples or options.n_steps or DEFAULT_PASSES.get(method, 1)
    copies = 1
    if method in ("occlusion", "rise"):
        per_pass = max(1, MAX_PIXELS_PER_PASS["cpu"] * 3 // size.pixels)
        copies = min(per_pass, _windows(size, options) if method == "occlusion" else passes)
    elif passes > 1:
        copies = min(passes, max(1, GRADIENT_CHUNK_ELEMENTS // size.pixels))
    images = 4 * 4 * size.pixels * copies
    nodes = 3 * 8 * passes**2 if method == "integrated-gradients" else 0  # numpy's leggauss solves for eigenvalues
    if METHODS[method].uses_gradients:
        # What the graph keeps, and as much again while it is walked back; matrices where the kernel keeps them.
        matrices = 4 * size.heads * size.tokens**2
        return copies * (2 * _pass_bytes(size) + 2 * matrices) + images + nodes
    one_layer = 2 * _pass_bytes(size) // size.layers + 3 * 4 * size.heads // size.layers * size.tokens**2
    kept = _pass_bytes(size) // 2 if copies == 1 else 0
    return copies * one_layer + kept + images


def estimate_video_bytes(size: PassSize, method: str, options: MethodOptions, batch_size: int) -> int:
    """Return about how much the maps of a video's frames take, of which some go through the model at a time.

    Methods that change an image many times, or average many gradients, have a limit of copies in a pass whatever the
    number of images.
    """
    needed = estimate_map_bytes(size, method, options)
    has_copies = (
        method in ("occlusion", "rise") or (options.n_samples or options.n_steps or DEFAULT_PASSES.get(method, 1)) > 1
    )
    return needed if has_copies else needed * min(batch_size, max(1, MAX_BATCH_PIXELS * 3 // size.pixels))


def _windows(size: PassSize, options: MethodOptions) -> int:
    """Return how many windows `occlusion` hides."""
    side, grid_side = options.patch_window or DEFAULT_WINDOW, math.isqrt(size.tokens)
    return (math.ceil(max(0, grid_side - side) / max(1, side // 2)) + 1) ** 2


def _pass_bytes(size: PassSize) -> int:
    """Return what the inputs and outputs of all linear layers take for one image, in float32."""
    return 4 * size.features * size.tokens


def check_memory(needed_bytes: int, limit_bytes: int, what: str) -> None:
    """Refuse a request that takes more memory than one may.

    Raises:
        InputError: it does.
    """
    if needed_bytes > limit_bytes:
        raise InputError(
            f"{what} takes about {needed_bytes >> 20:,} MB with this model, the limit is {limit_bytes >> 20:,} MB: "
            "choose another method or fewer samples, or start the server with a smaller --input-size or a larger "
            "--max-memory-mb"
        )
