"""Wrap any PyTorch module as an ImageClassifier that can be explained."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError
from vitreous.explanation.observation.model_output import UnpooledOutputError, extract_logits, is_feature_output
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier, as_class_names
from vitreous.model.output_scores import FunctionToApply, ProblemType, detect_function
from vitreous.model.vit import ViT
from vitreous.pretrained.wrapped_preprocessing import find_preprocessing

QUANTIZED_MODULES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "bitsandbytes.")
"""Beginnings of the names of Python modules whose layers compute in 8 or 4 bits."""


@check_arguments
@torch.inference_mode(mode=False)
def wrap(
    module: nn.Module,
    preprocessing: Preprocessing | None = None,
    class_names: Iterable[str] | None = None,
    *,
    problem_type: ProblemType | None = None,
    function_to_apply: FunctionToApply | None = None,
    callback: Callback | None = None,
) -> ImageClassifier:
    """Wrap a module that takes images (batch, channels, height, width) as an ImageClassifier.

    The module is used as it is, in evaluation mode. Every method that needs no more than `observe` finds works on it.

    Args:
        module: the model.
        preprocessing: how its images are prepared. By default it is read from the module: timm's `pretrained_cfg`,
            transformers' `config.image_size` with the usual mean of that model type, torchvision's `image_size`. For a
            ViT of Vitreous it is assumed: its `image_size`, with ImageNet's mean and std (0.5 for gray images).
        class_names: one per class, in order; an empty list for a model that returns a vector of features. By default
            those of transformers' `config.id2label`, else "class 0", "class 1" ...
        problem_type: whether classes exclude each other, as in `Prediction`. By default transformers'
            `config.problem_type`, else they do if there are several.
        function_to_apply: what turns the outputs into scores: "softmax", "sigmoid", or "none" for a model whose outputs
            are probabilities already, which is recognized by default.
        callback: `on_note` receives what was assumed, one line each; written to the log by default.

    Raises:
        InputError: the module states no preprocessing and none was given, it can't be run on such images (whatever it
            raises), its patch size differs from the preprocessing's, or its output is a row per token without a class
            token or pooling.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(module).__name__}: give the model itself")
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        module = module.module  # its replicas are for batches of training
    if any(weight.is_inference() for weight in module.parameters()):
        raise InputError(
            "the model was made in torch.inference_mode, which prevents gradients: make it outside of that"
        )
    _check_module(module)
    module.eval()
    callback = callback or LogCallback()
    preprocessing_found = preprocessing or find_preprocessing(module, callback)
    outputs = try_model(module, preprocessing_found)
    classes = extract_logits(outputs).shape[1]
    names = _class_names(module, outputs, classes) if class_names is None else as_class_names(class_names)
    if len(names) not in (0, classes):
        raise InputError(f"{len(names)} class names were given, but the model has {classes} outputs")
    model = module if isinstance(module, ViT) else WrappedModel(module)
    if names and problem_type is None and function_to_apply is None:
        problem_type, function_to_apply = _find_function(module, extract_logits(outputs), callback)
    given = preprocessing is not None
    preprocessing_found = _with_patch_size(model, preprocessing_found, None if given else callback)
    return ImageClassifier(model, preprocessing_found, names, problem_type, function_to_apply)


def _check_module(module: nn.Module) -> None:
    """Refuse modules that can be run but not explained.

    Raises:
        InputError: the module is a TorchScript program, exported, or quantized.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError("the model is a TorchScript program, which can't be observed: give the original module")
    for part in module.modules():
        graph = getattr(part, "graph", None)
        if isinstance(graph, torch.fx.Graph) and any(isinstance(n.target, torch._ops.OpOverload) for n in graph.nodes):
            raise InputError("the model was exported (torch.export), so it can't be observed: give the original module")
        if type(part).__module__.startswith(QUANTIZED_MODULES):
            raise InputError(
                f"the model is quantized (it has a {type(part).__name__} of {type(part).__module__}), which has no "
                "gradients: give the model in floating point"
            )


def _find_function(
    module: nn.Module, outputs: Tensor, callback: Callback
) -> tuple[ProblemType | None, FunctionToApply | None]:
    """Return the problem type and the function for its outputs that a module states or shows; None if it doesn't."""
    detected = detect_function(outputs)
    if detected is not None:
        problem_type, function_to_apply = detected
        kind = "softmax" if problem_type == "single_label_classification" else "sigmoid"
        callback.on_note(f"the model's outputs are probabilities already ({kind}): they are taken as scores")
        return problem_type, function_to_apply
    stated = getattr(getattr(module, "config", None), "problem_type", None)
    if stated in (None, "single_label_classification") and outputs.shape[1] == 1:
        callback.on_note(
            "the model has one output: its score is the sigmoid of it; problem_type='regression' changes that"
        )
    return stated, None


def _find_patch_size(model: WrappedModel | ViT, noise: Tensor) -> int | InputError:
    """Return the side of a patch in pixels, or the error that says why the model's patches can't be found.

    Raises:
        InputError: patches are not square, or the model's output is that of one patch.
    """
    if isinstance(model, ViT):
        return model.config.patch_size
    try:
        height, width = model.structure(noise).patch_hw
    except UnpooledOutputError:
        raise
    except InputError as error:
        return error
    if height != width:
        raise InputError(f"the model's patches are {height} x {width} pixels: only square ones can be wrapped")
    return height


def _with_patch_size(
    model: WrappedModel | ViT, preprocessing: Preprocessing, callback: Callback | None
) -> Preprocessing:
    """Return the preprocessing with the model's own patch size; without a callback the preprocessing was given."""
    patch = _find_patch_size(model, _test_image(model, preprocessing.input_size, len(preprocessing.mean)))
    if isinstance(patch, InputError):
        if callback is not None:
            callback.on_note(
                f"the model's patches aren't known, so patch_size={preprocessing.patch_size} is assumed: {patch}"
            )
        return preprocessing
    if patch == preprocessing.patch_size:
        return preprocessing
    if callback is None:
        raise InputError(
            f"the preprocessing has patch_size={preprocessing.patch_size}, but the model's patches are {patch} pixels: "
            f"give {patch}"
        )
    return replace(preprocessing, patch_size=patch)


def _test_image(model: nn.Module, size_hw: tuple[int, int], channels: int) -> Tensor:
    """Make a random image of a size, on the model's device, in which all patches differ."""
    weight = next(model.parameters(), torch.zeros(1))
    image = torch.randn((1, channels, *size_hw), generator=torch.Generator().manual_seed(0))
    return image.to(weight.device, weight.dtype)


def try_model(module: nn.Module, preprocessing: Preprocessing) -> Any:
    """Run a module on a random image of its size, and return its output with the graph of autograd.

    For the resize mode "aspect", it is run on an image of another aspect ratio too.

    Raises:
        InputError: it can't be run on such an image.
    """
    height, width = preprocessing.input_size
    sizes = [(height, width)]
    if preprocessing.resize_mode == "aspect":
        sizes.insert(0, (height, width + preprocessing.patch_size))
    for height, width in sizes:
        image = _test_image(module, (height, width), len(preprocessing.mean))
        try:
            with torch.enable_grad():
                outputs = module(image.requires_grad_(image.is_floating_point()))
        except InputError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise InputError(
                f"{type(getattr(module, 'module', module)).__name__} can't be run on an image of {height} x {width} "
                f"pixels with {len(preprocessing.mean)} channels: {describe_exception(error)}"
            ) from error
    return outputs


def describe_exception(error: BaseException) -> str:
    """Describe an exception in one line: its type and the first line of its message.

    >>> describe_exception(KeyError("size")), describe_exception(AssertionError())
    ("KeyError: 'size'", 'AssertionError')
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _class_names(module: nn.Module, outputs: Any, classes: int) -> tuple[str, ...]:
    """Return the module's class names, numbers if it has none, nothing for a vector of features."""
    no_head = isinstance(module, ViT) and not module.config.num_classes
    if no_head or is_feature_output(outputs) or getattr(module, "num_classes", None) == 0:
        return ()
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if isinstance(labels, dict) and set(labels) == set(range(classes)):
        return tuple(str(labels[index]) for index in range(classes))
    return tuple(f"class {index}" for index in range(classes))
