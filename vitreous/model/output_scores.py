"""What a model's outputs mean, and how they become scores: probabilities of classes, of labels, or plain values."""

from typing import Literal, get_args

import torch
from torch import Tensor

from vitreous.errors import InputError, unknown

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""transformers' `problem_type`: classes that exclude each other, labels that don't, or numbers."""
FunctionToApply = Literal["softmax", "sigmoid", "none"]
"""transformers' `function_to_apply`: what turns outputs into scores."""
FUNCTIONS: dict[ProblemType, FunctionToApply] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}
"""The function for the outputs of each problem, unless they are probabilities already."""
SUM_TOLERANCE = 1e-3
"""Probabilities in float16 sum to 1 within this."""
PASSED_THROUGH = ("View", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy", "Clone", "Alias", "Detach")
"""Operations of autograd that leave values as they are."""


def check_problem(
    problem_type: ProblemType | None, function_to_apply: FunctionToApply | None, outputs: int
) -> tuple[ProblemType, FunctionToApply]:
    """Return the problem and the function of a model with so many outputs; None means the usual one.

    A single output is a label with a probability of its own, as in transformers, where `problem_type` may call it a
    class: softmax would always make it 1.

    Raises:
        InputError: there is no such problem or function, or it is softmax for labels or values.

    >>> check_problem(None, None, 10), check_problem(None, None, 1)
    (('single_label_classification', 'softmax'), ('multi_label_classification', 'sigmoid'))
    """
    usual: ProblemType = "multi_label_classification" if outputs == 1 else "single_label_classification"
    problem = usual if problem_type is None else problem_type
    if not isinstance(problem, str) or problem not in FUNCTIONS:
        raise unknown("problem_type", problem, FUNCTIONS)
    if outputs == 1 and problem == "single_label_classification":
        problem = usual
    function = FUNCTIONS[problem] if function_to_apply is None else function_to_apply
    if function not in get_args(FunctionToApply):
        raise unknown("function_to_apply", function, get_args(FunctionToApply))
    if function not in (FUNCTIONS[problem], "none"):
        raise InputError(
            f"function_to_apply='{function}' doesn't fit problem_type '{problem}' with {outputs} "
            f"output{'s' * (outputs != 1)}: give '{FUNCTIONS[problem]}', or 'none' for outputs that are scores already"
        )
    return problem, function


def apply_function(outputs: Tensor, function: str) -> Tensor:
    """Turn outputs (batch, classes) into scores of the same shape."""
    if function == "softmax":
        return torch.softmax(outputs, -1)
    return torch.sigmoid(outputs) if function == "sigmoid" else outputs


def to_logits(outputs: Tensor, problem_type: str, function: str) -> Tensor:
    """Return logits (batch, classes) whose softmax is the probability of each class.

    Raises:
        InputError: the outputs are no probabilities of classes that exclude each other.
    """
    if problem_type != "single_label_classification":
        raise InputError(
            f"this measures models whose classes exclude each other; this one's problem_type is '{problem_type}': "
            "if that is wrong, wrap it with problem_type='single_label_classification'"
        )
    if function == "softmax":
        return outputs
    return outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()


def detect_function(outputs: Tensor) -> tuple[ProblemType, FunctionToApply] | None:
    """Recognize outputs (batch, classes) that are probabilities already; None if they are not.

    Rows that sum to 1 are the result of a softmax. The result of a sigmoid is recognized by the graph of autograd, as
    any small numbers could be logits.
    """
    values = outputs.detach().double()
    if not values.numel() or not bool(((values >= 0) & (values <= 1 + SUM_TOLERANCE)).all()):
        return None
    if outputs.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < SUM_TOLERANCE).all()):
        return "single_label_classification", "none"
    return ("multi_label_classification", "none") if _last_operation(outputs) == "Sigmoid" else None


def _last_operation(outputs: Tensor) -> str:
    """Return the name of the last operation of autograd that changes values, such as "Sigmoid"; "" if unknown."""
    node = outputs.grad_fn
    while node is not None:
        name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
        if not name.endswith(PASSED_THROUGH):
            return name
        node = node.next_functions[0][0] if node.next_functions else None
    return ""
