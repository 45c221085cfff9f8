"""Linear maps by the fastest matrix product that PyTorch has for this CPU.

PyTorch multiplies float32 matrices on a CPU by MKL, which stays with AVX2 on CPUs of other makers than Intel. Its other
library, oneDNN, uses AVX-512 on all that have it: on an AMD Zen 5, 430 against 195 GFLOP/s
(`benchmarks/matmul_rates.py`). PyTorch reaches it in float32 only through the operator below, which its own compiler
uses too.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

MIN_ROWS = 8
"""Below so many rows the usual call is faster."""


class Linear(nn.Linear):
    """nn.Linear, with the same parameters and the same result up to rounding, but faster."""

    def forward(self, tokens: Tensor) -> Tensor:  # ty: ignore[lost-keyword-for-regular-parameter]
        """(..., in) to (..., out)."""
        return linear(tokens, self.weight, self.bias)

    def first(self, tokens: Tensor, count: int) -> Tensor:
        """Compute the first `count` outputs only: (..., in) to (..., count)."""
        return linear(tokens, self.weight[:count], None if self.bias is None else self.bias[:count])


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute tokens weightᵀ + bias: (..., in), (out, in) and (out,) to (..., out), differentiable any number of
    times."""
    if not is_supported(tokens, weight) or tokens.numel() < MIN_ROWS * tokens.shape[-1]:
        return functional.linear(tokens, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(tokens, weight, bias)
    return onednn_linear(tokens, weight, bias)


def is_supported(left: Tensor, right: Tensor) -> bool:
    """Whether `onednn_linear` takes these tensors, and is the faster way."""
    plain = left.dtype == right.dtype == torch.float32 and left.device.type == right.device.type == "cpu"
    if not plain or needs_standard_ops() or not _has_wide_products() or torch.is_autocast_enabled("cpu"):
        return False
    # Another kind of tensor (sharded, fake) has products of its own.
    return all(type(tensor) in (Tensor, nn.Parameter) for tensor in (left, right))


def onednn_linear(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute left rightᵀ + bias without a graph: (..., n), (m, n) and (m,) to (..., m), if `is_supported` says so."""
    # Rows that aren't adjacent in memory (a view of stacked queries, keys and values) would cost a hundredfold.
    left, right = (
        side if side.dim() == 2 and side.t().is_contiguous() else side.contiguous() for side in (left, right)
    )
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def needs_standard_ops() -> bool:
    """Whether the pass is compiled, traced, counted, vectorized or differentiated forward: these know PyTorch's own
    ops."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_in_torch_dispatch_mode()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


@cache
def _has_wide_products() -> bool:
    """Whether this CPU has AVX-512 and this PyTorch the operator."""
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return wide and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Linear(torch.autograd.Function):
    """`onednn_linear` on the graph."""

    @staticmethod
    def forward(context: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(tokens, weight)
        return onednn_linear(tokens, weight, bias)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # ty: ignore[incompatible-method-override]
        tokens, weight = context.saved_tensors
        needs, rows = context.needs_input_grad, gradient.reshape(-1, gradient.shape[-1])
        return (
            linear(gradient, weight.t(), None) if needs[0] else None,
            linear(rows.t(), tokens.reshape(-1, tokens.shape[-1]).t(), None) if needs[1] else None,
            rows.sum(0) if needs[2] else None,
        )
