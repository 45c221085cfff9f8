"""Explanations as tensors: maps and attention weights of prepared images, for any model that can be observed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor, nn

from vitreous.arguments import check_arguments, show
from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps, Method
from vitreous.explanation.options import MethodKeywords, MethodOptions, PatchQuery, merge_options, resolve_index
from vitreous.explanation.regions import PixelRegion, Region, locate_query, validate_region
from vitreous.explanation.registry import find_method
from vitreous.explanation.streaming.attention_products import attention_matrix
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget, parse_class_target
from vitreous.tasks.registry import find_task
from vitreous.tasks.targets import FeatureNormTarget, Target, is_target


@check_arguments
def attribute(
    model: nn.Module | ImageClassifier,
    images: Tensor,
    *,
    method: str = "attention",
    target: int | str | Sequence[int | str] | Tensor | Target | None = None,
    query: Region | PixelRegion | None = None,
    options: MethodOptions | None = None,
    **keywords: Unpack[MethodKeywords],
) -> Tensor:
    """Compute maps of a batch of images: tensors in, tensors out.

    Args:
        model: a `ViT`, an `ImageClassifier`, or any module that maps images to logits; it must be in evaluation mode.
        images: (batch, channels, height, width), normalized as the model expects, on the model's device.
        method: a name in `vitreous.methods()`.
        target: what the maps explain: the index of a class, or its name for an ImageClassifier; a list of them, one per
            image; or a Target. The predicted class by default. Methods that don't depend on it ignore it, and the log
            says so.
        query: a point (x, y) or box (x0, y0, x1, y1) in pixels of `images`, whose patches are followed instead of the
            model's readout.
        options: options of the method as one record.
        **keywords: single options of the method, which take precedence: layer, head, head_fusion, discard_ratio,
            n_steps, n_samples, noise_level, patch_window, view, seed; see `MethodKeywords`.

    Returns:
        float tensor (batch, rows, columns), one value per patch, or per pixel for the methods on pixels.
        `Method.scale_kind` says what the values mean.

    Raises:
        InputError: there is no such method, layer, head, class or patch; the method doesn't use an option; or it can't
            explain this model.

    Example:
        >>> from vitreous.model.config import ViTConfig
        >>> vit = ViT(ViTConfig(image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)).eval()
        >>> attribute(vit, torch.zeros(5, 3, 32, 32), method="rollout", head_fusion="max").shape
        torch.Size([5, 4, 4])
    """
    merged, observable = merge_options(options, keywords), as_observable(model)
    _check_images(images)
    if query is not None:
        merged = replace(merged, query=_locate_in_input(observable, images, query))
    found = find_method(method, merged)
    note_unused_target([method], target, None)
    return run_method(observable, images, found, _as_target(model, target), merged).values


@check_arguments
def attention_weights(
    model: nn.Module | ImageClassifier, images: Tensor, *, layers: int | Sequence[int] | None = None
) -> list[Tensor]:
    """Compute the attention matrices of a model.

    Args:
        model: a `ViT`, an `ImageClassifier`, or any module whose attention can be observed, in evaluation mode.
        images: (batch, channels, height, width), normalized, on the model's device.
        layers: one or more indices of layers, negative ones from the end; all layers by default.

    Returns:
        One tensor (batch, heads, tokens, tokens) per layer, in the order of `layers`: rows are queries and sum to 1;
        prefix tokens come first. At least float32.

    Raises:
        InputError: there is no such layer, or the attention can't be observed.

    Example:
        >>> from vitreous.model.config import ViTConfig
        >>> vit = ViT(ViTConfig(image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)).eval()
        >>> [weights.shape for weights in attention_weights(vit, torch.zeros(1, 3, 32, 32), layers=[-1])]
        [torch.Size([1, 2, 17, 17])]
    """
    observable, trace = as_observable(model), LightTrace()
    layers = [layers] if isinstance(layers, int) else layers
    _check_images(images)
    _check_evaluation_mode(observable)
    with torch.inference_mode(False), torch.no_grad():
        observable(_off_inference_mode(images), trace)
        chosen = range(trace.depth) if layers is None else [resolve_index("layer", one, trace.depth) for one in layers]
        return [attention_matrix(trace.layers[index]) for index in chosen]


def as_observable(model: nn.Module | ImageClassifier) -> nn.Module:
    """Return the module that fills traces: our own ViT as it is, any other module in a `WrappedModel`.

    Raises:
        InputError: it is not a module.
    """
    module = model.model if isinstance(model, ImageClassifier) else model
    if not isinstance(module, nn.Module):
        raise InputError(f"{show(model)} is not a model: give a torch.nn.Module, or what vitreous.load returns")
    if isinstance(module, ViT):
        return module
    from vitreous.explanation.observation.wrapped_model import WrappedModel  # our own models need no observation

    return module if isinstance(module, WrappedModel) else WrappedModel(module)


def run_method(model: ExplainableModel, images: Tensor, method: Method, target: Target, options: MethodOptions) -> Maps:
    """Run a method on prepared images (batch, channels, height, width), outside autograd and inference mode.

    Raises:
        InputError: the model is in training mode, or the method can't explain it.
    """
    _check_evaluation_mode(model)
    with torch.inference_mode(False), torch.no_grad():
        return method.attribute(model, _off_inference_mode(images), target, options)


def _check_images(images: object) -> None:
    """Refuse what is not a batch of prepared images, before a model fails on it in its own words."""
    if isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
        return
    given = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else show(images)
    raise InputError(
        f"images is {given}: give a float tensor (batch, channels, height, width), normalized as the model expects, "
        "such as classifier.preprocess(image)[0][None]"
    )


def _off_inference_mode(images: Tensor) -> Tensor:
    """Copy images that were made in inference mode, because they can't be part of an autograd graph."""
    return images.clone() if images.is_inference() else images


def _check_evaluation_mode(model: ExplainableModel) -> None:
    if isinstance(model, nn.Module) and any(part.training for part in model.modules()):
        raise InputError("the model is in training mode, in which its output is random: call model.eval() first")


def _as_target(
    model: nn.Module | ImageClassifier, target: int | str | Sequence[int | str] | Tensor | Target | None
) -> Target:
    if isinstance(model, ImageClassifier):
        task = find_task(model.task)
        return task.default_target(model) if target is None else task.find_target(model, target)
    if isinstance(target, str):
        raise InputError(f"a bare module has no class '{target}': give the index of the class, or a Target")
    if target is None:
        has_classes = not isinstance(model, ViT) or model.config.num_classes > 0
        return PredictedClassTarget() if has_classes else FeatureNormTarget()
    found = parse_class_target(target) or target
    if not is_target(found):
        raise InputError(f"{show(target)} is not a target: give the index of a class, one index per image, or a Target")
    return found


def _locate_in_input(model: nn.Module, images: Tensor, query: Region | PixelRegion) -> PatchQuery:
    """Find the patches of a query in pixels of the model's input."""
    height, width = images.shape[2:]
    if isinstance(model, ViT):
        patch_size = model.config.patch_size
    else:
        from vitreous.explanation.observation.wrapped_model import WrappedModel

        assert isinstance(model, WrappedModel)
        patch_size = model.structure(images).patch_hw[0]
    geometry = Geometry((height, width), (height, width), (0.0, 0.0, float(height), float(width)))
    return locate_query(validate_region(query), geometry, patch_size)
