"""Texts as targets: the text tower and tokenizer that belong to an image-text model, by transformers' own code."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.targets import TextTarget
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT


def text_target(classifier: ImageClassifier, text: str, place: str | Path | None = None) -> TextTarget:
    """How well an image fits a text, for a model that answers with image-text embeddings (CLIP, SigLIP).

    Args:
        classifier: the image tower, as an image-text model.
        text: such as "a photo of a cat".
        place: where the text tower and its tokenizer lie: a folder, a file in it, or "hf:OWNER/NAME" (of a certain
            revision with "@REVISION"); by default where the model came from.

    Raises:
        InputError: the text is empty, the model doesn't answer with such an embedding, or its text tower can't be had.
    """
    if not text.strip():
        raise InputError("the text to look for is empty: give one, such as 'text:a photo of a cat'")
    place = classifier.origin if place is None else place
    if place is None:
        raise InputError(
            "this model doesn't say where its text tower lies: load it from a CLIP or SigLIP folder or as hf:OWNER/NAME"
        )
    vit = classifier.model
    if classifier.class_names or (
        isinstance(vit, ViT) and vit.config.global_pool == "class" and not vit.config.num_classes
    ):
        raise InputError(
            "this model doesn't answer with an embedding that a text could be compared with: take an image-text model "
            "with its projection, such as transformers' CLIPModel or SiglipModel"
        )
    return TextTarget(embed_text(str(place), text), f"text '{text}'")


@lru_cache(maxsize=256)
def embed_text(place: str, text: str) -> Tensor:
    """The vector (width) of a text, float32, on the processor; remembered."""
    tower, tokenizer = _tower(place)
    settings = tower.config.text_config
    longest = settings.max_position_embeddings
    # SigLIP was trained on texts padded to their full length, CLIP on any.
    padding: Any = "max_length" if tower.config.model_type.startswith("siglip") else False
    tokens = tokenizer(text, return_tensors="pt", padding=padding, truncation=True, max_length=longest)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
    if padding:
        inputs.pop("attention_mask", None)  # as SigLIP was trained: it reads its padding too
    with torch.no_grad():
        found = tower.get_text_features(**inputs)
    vectors = found if isinstance(found, Tensor) else found.pooler_output
    return vectors[0].float()


@lru_cache(maxsize=1)
def _tower(place: str) -> tuple[Any, Any]:
    """The whole image-text model and its tokenizer, as transformers reads them."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise InputError("a text as target needs transformers: pip install transformers") from error
    name, _, revision = place.removeprefix("hf:").partition("@") if place.startswith("hf:") else (place, "", "")
    if not place.startswith("hf:") and Path(place).is_file():
        name = str(Path(place).parent)
    more = {"revision": revision} if revision else {}
    try:
        tower = AutoModel.from_pretrained(name, **more).eval()
        tokenizer = AutoTokenizer.from_pretrained(name, **more)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no text tower with a tokenizer can be read from {place}: {reason}") from error
    if not hasattr(tower, "get_text_features"):
        raise InputError(
            f"the model in {place} ({type(tower).__name__}) has no text tower: take the whole CLIPModel or SiglipModel"
        )
    return tower, tokenizer
