"""Texts as targets, encoded by the text tower that belongs to an image-text model, with transformers."""

import json
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.tasks.targets import TextTarget


def text_target(classifier: ImageClassifier, text: str, source: str | Path | None = None) -> TextTarget:
    """Return the similarity to a text as target, for a model whose output is an image-text embedding (CLIP, SigLIP).

    Args:
        classifier: the image tower.
        text: such as "a photo of a cat".
        source: where the text tower and its tokenizer are: a folder, a file in it, or "hf:OWNER/NAME" (with "@REVISION"
            for a certain revision); by default where the model was loaded from.

    Raises:
        InputError: the text is empty, the model's output is not such an embedding, or its text tower can't be loaded.
    """
    if not text.strip():
        raise InputError("the text is empty: give one, such as 'text:a photo of a cat'")
    if not _gives_embedding(classifier):
        raise InputError(
            "this model's output is not an embedding that a text could be compared with: use an image-text model with "
            "its projection, such as transformers' CLIPModel or SiglipModel"
        )
    source = classifier.origin if source is None else source
    if source is None:
        raise InputError(
            "it is unknown where the text tower of this model is: load the model from a CLIP or SigLIP folder or as "
            "hf:OWNER/NAME"
        )
    return TextTarget(embed_text(str(source), text), f"text '{text}'")


def takes_text(classifier: ImageClassifier) -> bool:
    """Return whether a text can be a target for a model, as far as its output and the files beside its weights say."""
    origin = classifier.origin
    if origin is None or not _gives_embedding(classifier):
        return False
    if origin.startswith("hf:"):
        return True  # whether there is a text tower is known once it is loaded
    path = Path(origin)
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        return "text_config" in json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _gives_embedding(classifier: ImageClassifier) -> bool:
    """Return whether a model's output may be an image-text embedding."""
    model = classifier.model
    pools_token = isinstance(model, ViT) and model.config.global_pool == "token" and not model.config.num_classes
    return not classifier.class_names and not pools_token


@lru_cache(maxsize=256)
def embed_text(source: str, text: str) -> Tensor:
    """Encode a text: float32 (width) on the CPU; the results are cached."""
    with _loading:
        tower, tokenizer = _load_text_tower(source)
    longest = tower.config.text_config.max_position_embeddings
    # SigLIP was trained on texts padded to their full length, CLIP on texts of any length.
    padding: Any = "max_length" if tower.config.model_type.startswith("siglip") else False
    tokens = tokenizer(text, return_tensors="pt", padding=padding, truncation=True, max_length=longest)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
    if padding:
        inputs.pop("attention_mask", None)  # as SigLIP was trained: it reads its padding, too
    with torch.no_grad():
        found = tower.get_text_features(**inputs)
    vectors = found if isinstance(found, Tensor) else found.pooler_output
    return vectors[0].float()


_loading = Lock()


@lru_cache(maxsize=2)
def _load_text_tower(source: str) -> tuple[Any, Any]:
    """Load the whole image-text model and its tokenizer with transformers."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise InputError("a text as target needs transformers: pip install transformers") from error
    name, _, revision = source.removeprefix("hf:").partition("@") if source.startswith("hf:") else (source, "", "")
    if not source.startswith("hf:") and Path(source).is_file():
        name = str(Path(source).parent)
    more = {"revision": revision} if revision else {}
    try:
        tower = AutoModel.from_pretrained(name, **more).eval()
        tokenizer = AutoTokenizer.from_pretrained(name, **more)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no text tower with a tokenizer can be loaded from {source}: {reason}") from error
    if not hasattr(tower, "get_text_features"):
        raise InputError(
            f"the model in {source} ({type(tower).__name__}) has no text tower: use the whole CLIPModel or SiglipModel"
        )
    return tower, tokenizer
