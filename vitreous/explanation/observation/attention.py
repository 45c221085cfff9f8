"""Seeing a foreign model's attention while it runs: a mode that every torch function of this thread passes through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitreous.errors import InputError
from vitreous.explanation.observation.einsum import EinsumSpec, parse_product
from vitreous.explanation.observation.heads import Fold, HeadAxes, find_heads
from vitreous.explanation.observation.sdpa import kernel_weights, parse_kernel_call
from vitreous.explanation.observation.tensor_tags import SoftmaxOutput, TensorTags, propagate_tags
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import AttentionRecord

FUSED_LAYERS = frozenset({"_transformer_encoder_layer_fwd", "_native_multi_head_attention"})
"""Whole layers in one call. PyTorch does not take these paths while a mode is active; were one taken, it is refused."""
ENTERED = "multi_head_attention_forward"
"""The one Python function of torch that holds attention inside: it is entered, so that what it calls is seen."""


class AttentionRecorder(TorchFunctionMode):
    """Reports each self-attention layer of what runs inside the context, and changes no bit of it.

    It sees `scaled_dot_product_attention`, `nn.MultiheadAttention`, and a softmax that is followed by a product with
    values. Attention of a single query over all tokens (a pooling) is kept in `pooling`. The mode belongs to the thread
    that entered it, and is undone when the context ends.
    """

    def __init__(
        self, batch: int, report: Callable[[AttentionRecord], None], fold: Fold | None = None, last: int = 0
    ) -> None:
        super().__init__()
        self.batch, self.report, self.fold, self.last = batch, report, fold, last
        self.active = True
        self.tokens: int | None = None
        self.layers = 0
        self.heads_first = False
        """Whether heads were seen to have an axis before the images'."""
        self.folded = False
        """Whether images and heads shared one axis in a way that one image doesn't tell."""
        self.pooling: Tensor | None = None
        """(batch, keys): the weights of the pooling attention, its heads' mean, in the model's own order of tokens."""
        self._notes = TensorTags()
        self._waiting: AttentionRecord | None = None
        self._entered = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Pass every torch function on, and look at those that attention is made of."""
        kwargs = kwargs or {}
        if not self.active:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in FUSED_LAYERS:
            raise InputError(f"the model runs a whole layer in one call ({name}), in which no attention can be seen")
        if name == ENTERED and not self._entered:
            return self._enter(func, args, kwargs)
        if "attention" in name:
            return self._kernel(func, name, args, kwargs)
        multiplied = parse_product(name, args, kwargs)
        if multiplied is not None:
            return self._multiplied(func, args, kwargs, multiplied)
        if name == "linear":
            self._joined(args)
        result = func(*args, **kwargs)
        propagate_tags(self._notes, name, args, kwargs, result)
        return result

    def finish(self) -> None:
        """Called when the model has answered.

        Raises:
            InputError: no attention was seen, or some of it couldn't be followed.
        """
        self._report()
        if self._notes.open:
            shape = next(iter(self._notes.open.values()))
            raise InputError(
                f"a softmax over {shape} was seen, but no product of it with values: the weights are changed on the "
                f"way (as in talking heads), or it is no attention; choose {ATTENTION_FREE_METHODS}"
            )
        if not self.layers:
            raise InputError(
                "no attention was seen in this model: it has none, or runs it where torch functions can't be seen "
                "(compiled, scripted, a kernel of its own); give the plain module, with scaled_dot_product_attention "
                f"or softmax written out, or choose {ATTENTION_FREE_METHODS}"
            )

    def _enter(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        fold, self.fold, self._entered = self.fold, "images", True
        try:
            with self:
                return _unasked(func)(*args, **kwargs)
        finally:
            self.fold, self._entered = fold, False

    def _kernel(self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        call = parse_kernel_call(name, args, kwargs)
        if call.query.shape[-2] != call.key.shape[-2]:
            result = func(*args, **kwargs)
            self._pooled(kernel_weights(call))
            return result
        heads = self._heads(tuple(call.key.shape[:-2]))
        query, key, value = (heads.open(tensor) for tensor in (call.query, call.key, call.value))
        result = func(heads.close(query), heads.close(key), heads.close(value), *call.others, **call.named)
        output = heads.open(result[0] if isinstance(result, tuple) else result)
        if call.is_plain:
            self._attended(AttentionRecord(query, key, value, output, call.scale))
        else:
            self._attended(record_of_weights(heads.open(kernel_weights(call), (2, 3)), value, output))
        closed = heads.close(output)
        return (closed, *result[1:]) if isinstance(result, tuple) else closed

    def _multiplied(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], made: EinsumSpec
    ) -> Any:
        for weighted in (made, made.turned):
            note = self._notes.of(weighted.left)
            if isinstance(note, SoftmaxOutput) and weighted.gathers(note.axis):
                return self._gathered(func, args, kwargs, weighted, note)
        result = func(*args, **kwargs)
        self._notes.product(made, result)
        return result

    def _gathered(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        made: EinsumSpec,
        note: SoftmaxOutput,
    ) -> Any:
        """Weights times values: the operands are led through the record's own tensors, and so is the result."""
        self._notes.resolve(note)
        order, value_order, result_order = made.orders
        weights, value = made.left.permute(order), made.right.permute(value_order)
        if weights.shape[-2] != weights.shape[-1]:
            result = func(*args, **kwargs)
            self._pooled(weights)
            return result
        heads = self._heads(tuple(weights.shape[:-2]))
        weights, value = heads.open(weights, (2, 3)), heads.open(value)
        led = {
            id(made.left): heads.close(weights, (2, 3)).permute(_inverse(order)),
            id(made.right): heads.close(value).permute(_inverse(value_order)),
        }
        result = func(*_replaced(args, led), **{key: led.get(id(one), one) for key, one in kwargs.items()})
        output = heads.open(result.permute(result_order))
        scores = note.scores if order == sorted(order) else None
        if scores is None:
            self._attended(record_of_weights(weights, value, output))
        else:
            query, key = heads.open(scores.query), heads.open(scores.key)
            self._attended(AttentionRecord(query, key, value, output, scores.scale, weights))
        return heads.close(output).permute(_inverse(result_order))

    def _heads(self, lead: tuple[int, ...]) -> HeadAxes:
        heads = find_heads(lead, self.batch, self.fold, self.last)
        self.heads_first |= heads.heads_first
        self.folded |= len(lead) == 1 and self.fold is None and lead[0] != self.batch
        return heads

    def _attended(self, record: AttentionRecord) -> None:
        tokens = record.value.shape[2]
        if self.tokens is not None and self.tokens != tokens:
            raise InputError(
                f"the layers attend over {self.tokens} and over {tokens} tokens: models of windows, of several scales "
                "or of several towers (as Swin or CLIP as a whole) can't be explained here; give one plain tower, or "
                f"choose {ATTENTION_FREE_METHODS}"
            )
        if self.pooling is not None:
            raise InputError("self-attention follows the attention of a single query: such models aren't supported")
        self._report()
        self.tokens, self.layers, self._waiting = tokens, self.layers + 1, record

    def _report(self, projection: Tensor | None = None) -> None:
        """Report the last layer, which waited for the projection of its heads."""
        record, self._waiting = self._waiting, None
        if record is not None:
            self.report(replace(record, projection=projection))

    def _joined(self, args: Sequence[Any]) -> None:
        """Look whether the first linear map after an attention reads its heads side by side, number for number."""
        if self._waiting is None or len(args) < 2:
            return
        given, weight = args[0].detach(), args[1]
        heads = self._waiting.output.detach().roll(-self.last, 2).transpose(1, 2).flatten(2)
        fits = given.numel() == heads.numel() and given.shape[-1] == heads.shape[-1] and given.dtype == heads.dtype
        orders = (heads, heads.transpose(0, 1)) if fits else ()
        found = any(torch.equal(one.reshape(given.shape), given) for one in orders)
        self._report(weight if found else None)

    def _pooled(self, weights: Tensor) -> None:
        """Keep attention of other queries than keys, (..., queries, keys), if it pools the tokens."""
        queries, keys = weights.shape[-2:]
        if queries != 1 or not self.layers or self.pooling is not None:
            raise InputError(
                f"attention of {queries} queries over {keys} keys was seen: cross-attention can't be explained here, "
                f"but for one pooling of all tokens at the end; choose {ATTENTION_FREE_METHODS}"
            )
        heads = find_heads(tuple(weights.shape[:-2]), self.batch, self.fold, 0)
        self.pooling = heads.open(weights, ()).detach().mean(1).squeeze(1)


def record_of_weights(weights: Tensor, value: Tensor, output: Tensor) -> AttentionRecord:
    """A record where only A = `weights` (batch, heads, tokens, tokens) is known: log A and the identity stand for
    query and key, for which softmax(query keyᵀ) is A as well."""
    known = weights.detach()
    known = known if known.dtype in (torch.float32, torch.float64) else known.float()
    query = known.log().clamp(min=MIN_LOG)
    key = torch.eye(query.shape[-1], dtype=query.dtype, device=query.device).expand_as(query)
    return AttentionRecord(query, key, value, output, 1.0, weights)


MIN_LOG = -1e4
"""Stands for the logarithm of 0: its power is 0 in every precision."""


def _unasked(func: Callable[..., Any]) -> Callable[..., Any]:
    """The same Python function, but it doesn't ask whether a mode wants to see it: it has answered that already."""
    assert isinstance(func, FunctionType) and "has_torch_function" in func.__code__.co_names, func
    names = {**func.__globals__, "has_torch_function": lambda tensors: False}
    copy = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=lambda axis: order[axis])


def _replaced(args: Sequence[Any], led: Mapping[int, Tensor]) -> list[Any]:
    """The arguments of a product, with other tensors for some; einsum may hold them in a list."""
    return [_replaced(one, led) if isinstance(one, (list, tuple)) else led.get(id(one), one) for one in args]
