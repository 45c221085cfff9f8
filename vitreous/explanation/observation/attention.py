"""Record the attention of any model while it runs, by a mode that intercepts this thread's torch functions."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import FunctionType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitreous.errors import InputError
from vitreous.explanation.ablation import HeadAblation
from vitreous.explanation.observation.einsum import EinsumSpec, parse_product
from vitreous.explanation.observation.heads import AxisOrder, HeadAxes, find_heads
from vitreous.explanation.observation.layer_records import LayerAssembly, record_of_weights
from vitreous.explanation.observation.sdpa import KernelCall, kernel_weights, parse_kernel_call
from vitreous.explanation.observation.tensor_tags import SoftmaxOutput, TensorTags, propagate_tags
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import AttentionRecord

FUSED_LAYERS = frozenset({"_transformer_encoder_layer_fwd", "_native_multi_head_attention"})
"""Whole layers in one call. PyTorch doesn't take these paths while a mode is active; if it did, they are refused."""
ENTERED_FUNCTION = "multi_head_attention_forward"
"""The one Python function of torch with attention inside: it is run step by step, so that its calls are intercepted."""


class AttentionRecorder(TorchFunctionMode):
    """Reports each self-attention layer that runs inside the context; the results stay the same to the bit.

    It recognizes `scaled_dot_product_attention`, `nn.MultiheadAttention`, and a softmax that is followed by a product
    with values. Attention of a single query over all tokens (attention pooling) is kept in `pooling`. The mode applies
    to the thread that entered it, and ends with the context.

    Args:
        batch: number of images.
        report: called with the record of each layer, the first layer first.
        axis_order: what comes first where images and heads share an axis; None if that is unknown.
        trailing: number of prefix tokens that come behind the patches in the model.
        layers: for each layer, the numbers of its attentions in the order of the pass; by default, each is a layer.
        ablated: (layer, head) of the heads whose outputs become zero for the model; records hold what they were.
    """

    def __init__(
        self,
        batch: int,
        report: Callable[[AttentionRecord], None],
        axis_order: AxisOrder | None = None,
        trailing: int = 0,
        layers: Sequence[Sequence[int]] | None = None,
        ablated: AbstractSet[tuple[int, int]] = frozenset(),
    ) -> None:
        super().__init__()
        self.batch, self.axis_order, self.trailing = batch, axis_order, trailing
        self.active = True
        self.tokens: int | None = None
        self.attentions = 0
        """The number of self-attentions so far; a layer may consist of several."""
        self.heads_first = False
        """Whether the heads' axis came before the images'."""
        self.has_shared_axis = False
        """Whether images and heads shared an axis, in an order that one image doesn't show."""
        self.pooling: Tensor | None = None
        """(batch, keys): the weights of the attention pooling, averaged over heads, in the model's order of tokens."""
        self.pooling_inputs: tuple[Tensor, ...] = ()
        """What the pooling computes its weights from, and last its values (..., keys, width)."""
        self._tags = TensorTags()
        self._ablation = HeadAblation(ablated, layers or ())
        self._assembly = LayerAssembly(report, layers, trailing)
        self._entered = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call every torch function, and record those that attention consists of."""
        kwargs = kwargs or {}
        if not self.active:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in FUSED_LAYERS:
            raise InputError(f"the model runs a whole layer in one call ({name}), whose attention can't be observed")
        if name == ENTERED_FUNCTION and not self._entered:
            return self._enter(func, args, kwargs)
        if "attention" in name:
            return self._handle_kernel(func, name, args, kwargs)
        product = parse_product(name, args, kwargs)
        if product is not None:
            return self._handle_product(func, args, kwargs, product)
        if name == "linear":
            self._assembly.match_projection(args)
        result = func(*args, **kwargs)
        propagate_tags(self._tags, name, args, kwargs, result)
        return result

    def finish(self) -> None:
        """Finish after the forward pass.

        Raises:
            InputError: no attention was observed, or an ablated head was not.
        """
        self._assembly.finish()
        self._ablation.finish()
        if not self.attentions:
            raise InputError(
                "no attention was observed in this model: it has none, or runs it outside of torch functions "
                "(compiled, scripted, or in its own kernel); give the plain module, with scaled_dot_product_attention "
                f"or an explicit softmax, or choose {ATTENTION_FREE_METHODS}"
            )

    def _enter(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        axis_order, self.axis_order, self._entered = self.axis_order, "images", True
        try:
            with self:
                return _without_dispatch(func)(*args, **kwargs)
        finally:
            self.axis_order, self._entered = axis_order, False

    def _handle_kernel(
        self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        call = parse_kernel_call(name, args, kwargs)
        if call.query.shape[-2] != call.key.shape[-2]:
            return self._handle_pooling_kernel(func, call)
        heads = self._heads(tuple(call.key.shape[:-2]))
        query, key, value = (heads.unpack(tensor) for tensor in (call.query, call.key, call.value))
        result = func(heads.pack(query), heads.pack(key), heads.pack(value), *call.others, **call.named)
        output = heads.unpack(result[0] if isinstance(result, tuple) else result)
        if call.is_plain:
            record = AttentionRecord(query, key, value, output, call.scale)
        else:
            record = record_of_weights(heads.unpack(kernel_weights(call), (2, 3)), value, output)
        closed = heads.pack(self._on_attention(record, (query, key)))
        return (closed, *result[1:]) if isinstance(result, tuple) else closed

    def _handle_product(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], product: EinsumSpec
    ) -> Any:
        for weighted in (product, product.swapped):
            tag = self._tags.get(weighted.left)
            if isinstance(tag, SoftmaxOutput) and weighted.contracts(tag.axis):
                return self._apply_weights(func, args, kwargs, weighted, tag)
        result = func(*args, **kwargs)
        self._tags.tag_product(product, result)
        return result

    def _apply_weights(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        product: EinsumSpec,
        tag: SoftmaxOutput,
    ) -> Any:
        """Multiply weights and values through the tensors of the record, so that gradients reach them."""
        self._tags.resolve(tag)
        order, value_order, result_order = product.orders
        weights, value = product.left.permute(order), product.right.permute(value_order)
        if weights.shape[-2] != weights.shape[-1]:
            self._record_pooling(weights, (weights,), value)
            replacements = {
                id(product.left): weights.permute(_inverse(order)),
                id(product.right): value.permute(_inverse(value_order)),
            }
            return _call_with(func, args, kwargs, replacements)
        heads = self._heads(tuple(weights.shape[:-2]))
        weights, value = heads.unpack(weights, (2, 3)), heads.unpack(value)
        replacements = {
            id(product.left): heads.pack(weights, (2, 3)).permute(_inverse(order)),
            id(product.right): heads.pack(value).permute(_inverse(value_order)),
        }
        result = _call_with(func, args, kwargs, replacements)
        output = heads.unpack(result.permute(result_order))
        scores = tag.scores if order == sorted(order) else None
        if scores is None:
            record = record_of_weights(weights, value, output)
        else:
            query, key = heads.unpack(scores.query), heads.unpack(scores.key)
            record = AttentionRecord(query, key, value, output, scores.scale, weights)
        return heads.pack(self._on_attention(record, (weights,))).permute(_inverse(result_order))

    def _heads(self, lead: tuple[int, ...]) -> HeadAxes:
        heads = find_heads(lead, self.batch, self.axis_order, self.trailing)
        self.heads_first |= heads.heads_first
        self.has_shared_axis |= len(lead) == 1 and self.axis_order is None and lead[0] != self.batch
        return heads

    def _on_attention(self, record: AttentionRecord, sources: tuple[Tensor, ...]) -> Tensor:
        """Take an attention, whose weights are computed from `sources`, and return the output for the model."""
        tokens = record.value.shape[2]
        if self.tokens is not None and self.tokens != tokens:
            raise InputError(
                f"the layers attend over {self.tokens} and over {tokens} tokens: models of windows, of several scales "
                "or of several towers (as Swin or CLIP as a whole) can't be explained; give one plain tower, or "
                f"choose {ATTENTION_FREE_METHODS}"
            )
        if self.pooling is not None:
            raise InputError("self-attention follows attention pooling: such models aren't supported")
        self.tokens, self.attentions = tokens, self.attentions + 1
        self._assembly.add(record)
        return self._ablation.apply(self.attentions - 1, record.output)

    def _handle_pooling_kernel(self, func: Callable[..., Any], call: KernelCall) -> Any:
        """Pool by attention through tensors of its own, of which autograd can tell what they do."""
        query, key, value = (one.view_as(one) for one in (call.query, call.key, call.value))
        self._record_pooling(kernel_weights(call), (query, key), value)
        return func(query, key, value, *call.others, **call.named)

    def _record_pooling(self, weights: Tensor, sources: tuple[Tensor, ...], value: Tensor) -> None:
        """Keep attention whose queries aren't its keys, (..., queries, keys), if it pools the tokens."""
        queries, keys = weights.shape[-2:]
        if queries != 1 or not self.attentions or self.pooling is not None:
            raise InputError(
                f"attention of {queries} queries over {keys} keys was observed: cross-attention can't be explained, "
                f"except for one attention pooling of all tokens at the end; choose {ATTENTION_FREE_METHODS}"
            )
        heads = find_heads(tuple(weights.shape[:-2]), self.batch, self.axis_order, 0)
        self.pooling = heads.unpack(weights, ()).detach().mean(1).squeeze(1)
        self.pooling_inputs = (*sources, value)


def _without_dispatch(func: Callable[..., Any]) -> Callable[..., Any]:
    """Copy a Python function of torch, without its own dispatch to the mode, which has intercepted it already."""
    assert isinstance(func, FunctionType) and "has_torch_function" in func.__code__.co_names, func
    names = {**func.__globals__, "has_torch_function": lambda tensors: False}
    copy = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=lambda axis: order[axis])


def _call_with(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], replacements: Mapping[int, Tensor]
) -> Any:
    """Call a product with other tensors, by the id of those that they replace."""
    return func(
        *_replace_tensors(args, replacements), **{key: replacements.get(id(one), one) for key, one in kwargs.items()}
    )


def _replace_tensors(args: Sequence[Any], replacements: Mapping[int, Tensor]) -> list[Any]:
    """Replace tensors among the arguments of a product by their id; einsum may hold them in a list."""
    return [
        _replace_tensors(one, replacements) if isinstance(one, (list, tuple)) else replacements.get(id(one), one)
        for one in args
    ]
