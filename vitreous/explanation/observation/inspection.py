"""Inspect a model with one image: its grid of patches, prefix tokens, layers and readout, by evidence from autograd."""

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.heads import AxisOrder
from vitreous.explanation.observation.layer_order import (
    NO_RESIDUAL,
    AttentionCall,
    DependencyGraph,
    check_combination,
    check_residuals,
    find_layers,
)
from vitreous.explanation.observation.model_output import UnpooledOutputError, extract_logits, is_first_token
from vitreous.explanation.observation.patch_positions import find_patch_size
from vitreous.explanation.observation.patches import PatchGrid, choose_grid, find_grid, find_layout
from vitreous.explanation.observation.readout import LastTokens, check_pooling, find_last_tokens, find_readout
from vitreous.explanation.observation.structure import ModelStructure
from vitreous.explanation.observation.token_mixing import (
    Mixing,
    TokenTensor,
    classify_mixing,
    find_mixed_tokens,
    gradients_of,
)
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import AttentionRecord

MAX_STREAMS = 64
"""Number of the last tensors of tokens that are kept to find the readout."""
NO_GRADIENTS = "the model runs under its own no_grad or detaches its activations: let it give gradients"
OTHER_MIXING = "an attention without softmax or scaled_dot_product_attention, or an MLP or normalization over tokens"


class InspectionRecorder(AttentionRecorder):
    """A recorder that cuts the outputs of attentions off the graph, and keeps the grids and the last tokens."""

    def __init__(self, image_hw: tuple[int, int]) -> None:
        super().__init__(1, lambda record: None)
        self.image_hw = image_hw
        self.calls: list[AttentionCall] = []
        self.grids: list[PatchGrid] = []
        self.streams: deque[tuple[int, Tensor]] = deque(maxlen=MAX_STREAMS)
        """The last tensors of tokens, each with the number of attentions before it."""

    def _on_attention(self, record: AttentionRecord, sources: tuple[Tensor, ...]) -> Tensor:
        output = super()._on_attention(record, sources)
        if not torch.is_grad_enabled():
            raise InputError(NO_GRADIENTS)
        if torch._C._functorch.is_functorch_wrapped_tensor(output):
            raise InputError("the model runs its attention inside of torch.func (vmap), where it can't be observed")
        _check_rows(record.weights)
        leaf = output.detach().requires_grad_()
        values = AttentionRecord(record.query, record.key, record.value, leaf, record.scale, record.weights)
        self.calls.append(AttentionCall(values, sources))
        return leaf.clone()

    def check_traced(self, logits: Tensor) -> None:
        """Check that every softmax that the logits depend on was followed to its values.

        Raises:
            InputError: one wasn't.
        """
        found = [one for one in self._tags.unresolved.values() if one is not None]
        ends = [logits, *(one for call in self.calls for one in (*call.sources, call.record.value))]
        bits = DependencyGraph(found).dependencies(*ends)
        if bits:
            shape = tuple(found[bits.bit_length() - 1].shape)
            raise InputError(
                f"a softmax over {shape} was observed, but no product of it with values: the weights are changed in "
                "between (as in talking heads), several heads share values by broadcasting (repeat these for each "
                f"head), or it is not attention; choose {ATTENTION_FREE_METHODS}"
            )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Record attention, the grids before the first attention, and the tokens after the others."""
        result = super().__torch_function__(func, types, args, kwargs)
        if not self.attentions:
            grid = find_grid(func, args, result, self.image_hw)
            if grid is not None and grid.tensor.requires_grad:
                self.grids.append(grid)
        elif isinstance(result, Tensor) and result.ndim == 3 and result.requires_grad:
            rows = tuple(result.shape[:2])
            self.streams.extend([(self.attentions, result)] if rows in ((1, self.tokens), (self.tokens, 1)) else [])
        return result


def inspect_model(call: Callable[[Tensor], Any], images: Tensor) -> ModelStructure:
    """Inspect a model with one forward pass over the first of some images (batch, channels, height, width).

    `call` runs the model on images. The gradients of its parameters stay as they are.

    Raises:
        InputError: the model can't be observed; the message says why.
    """
    with torch.enable_grad():
        image = images[:1].detach().clone().requires_grad_()
        recorder = InspectionRecorder((image.shape[2], image.shape[3]))
        with recorder:
            outputs = call(image)
            logits = extract_logits(outputs)
        recorder.check_traced(logits)
        recorder.finish()
        inspection = _Inspection(recorder, logits, image)
        if is_first_token(outputs) and inspection.first == 0:
            raise UnpooledOutputError
        return inspection.structure(call)


def _check_rows(weights: Tensor | None) -> None:
    """Check that the rows of weights (batch, heads, tokens, tokens), as the model uses them, sum to 1.

    Raises:
        InputError: they don't, as where a model writes to `weights.data`.
    """
    if weights is None:
        return
    tolerance = 1e-3 if weights.dtype in (torch.float32, torch.float64) else 0.05
    if bool(((weights.detach().float().sum(-1) - 1).abs() > tolerance).any()):
        raise InputError("attention is changed after its softmax, so that its rows no longer sum to 1")


class _Inspection:
    """The evidence of one pass."""

    def __init__(self, recorder: InspectionRecorder, logits: Tensor, image: Tensor) -> None:
        self.recorder, self.logits, self.image = recorder, logits, image
        if not recorder.calls[0].record.value.requires_grad:
            raise InputError(NO_GRADIENTS)
        read = find_layers(recorder.calls, [logits], image).layers
        value = recorder.calls[read[0][0]].record.value
        if not DependencyGraph([image]).dependencies(value):
            raise InputError(NO_GRADIENTS)
        self.grid = choose_grid(recorder.grids, value.shape[2], recorder.image_hw)
        self.layout, self.trailing = find_layout(self.grid, value)
        self.pooled, self.last_tokens = self._find_ends(read[-1][-1])
        ends = [self.last_tokens[0].stream] if self.last_tokens else self.pooled
        order = find_layers(recorder.calls, ends, image)
        self.layers = order.layers
        check_residuals(recorder.calls, self.layers, ends, image)
        self.obstacle = None if order.has_residuals else NO_RESIDUAL
        self.first = self.layout.num_prefix_tokens - self.trailing
        """The number of the first patch's token."""
        self.is_stem_mixing = False
        """Whether neighboring patches are mixed before the first attention, as by overlapping convolutions."""
        self.everywhere = torch.ones(self.layout.num_tokens).double()

    def _find_ends(self, last_attention: int) -> tuple[tuple[Tensor, ...], list[LastTokens]]:
        """Find what the logits read: the inputs of an attention pooling, or the last tokens."""
        leaves = [*(call.record.output for call in self.recorder.calls), self.image]
        pooled = self.recorder.pooling_inputs
        if pooled and DependencyGraph([pooled[-1]]).dependencies(self.logits):
            check_pooling(self.logits, pooled, leaves)
            return pooled, []
        streams = [stream for count, stream in self.recorder.streams if count > last_attention]
        if not streams:
            raise InputError(
                f"after the last attention no tensor holds the {self.recorder.tokens} tokens of one image, so what the "
                "model's head reads can't be found (it repeats each image, or keeps tokens in rows and columns): "
                f"choose {ATTENTION_FREE_METHODS}"
            )
        return (), find_last_tokens(self.logits, streams, leaves)

    def structure(self, call: Callable[[Tensor], Any]) -> ModelStructure:
        """Check all that a map relies on, and return what it needs."""
        self._check_layers()
        readout = self._readout()
        patch_hw = find_patch_size(self._records(0)[0].value, self.image, self.layout, self.first)
        return ModelStructure(
            self.layout, self.trailing, readout, self.layers, self.recorder.attentions,
            *self._axis_order(call), patch_hw, self.obstacle,
        )  # fmt: skip

    def _records(self, layer: int) -> list[AttentionRecord]:
        return [self.recorder.calls[number].record for number in self.layers[layer]]

    def _values(self, layer: int) -> list[TokenTensor]:
        return [TokenTensor(record.value, 2) for record in self._records(layer)]

    def _outputs(self, layers: Sequence[int]) -> list[TokenTensor]:
        """Return the outputs of layers; of layer −1, the grid of patches."""
        grid = TokenTensor(self.grid.tensor, self.grid.axes[0], self.first, self.grid.by_cell)
        return [
            one
            for layer in layers
            for one in ([grid] if layer < 0 else [TokenTensor(record.output, 2) for record in self._records(layer)])
        ]

    def _check_layers(self) -> None:
        """Check what lies between the layers: tokens stay apart, and heads are combined evenly."""
        count = len(self.layers)
        sinks = [value for layer in range(count) for value in self._values(layer)]
        leaves = self._outputs(range(-1, count - 1))
        mixed, gradients = find_mixed_tokens(sinks, leaves, self.everywhere)
        for layer in range(count - 1):
            records = self._records(layer)
            outputs = {id(leaf.tensor): gradient for leaf, gradient in zip(leaves, gradients, strict=True)}
            check_combination(records, [outputs[id(record.output)] for record in records])
        for layer in range(count if mixed else 0):
            mixing = self._mixing(layer, layer - 1)
            self.is_stem_mixing |= layer == 0 and mixing != "none"
            if mixing == "none" and layer > self.is_stem_mixing:  # beside the attention, as in a residual connection
                mixing = self._mixing(layer, max(layer - 2, -1))
            self._judge(layer, mixing)

    def _mixing(self, layer: int, before: int) -> Mixing:
        """Return how a layer's values mix the tokens of an earlier layer's outputs: the gravest way among its heads."""
        values, outputs = self._values(layer), self._outputs([before])
        pairs = itertools.product({0, len(values) - 1}, {0, len(outputs) - 1})
        found = [classify_mixing([values[i]], [outputs[j]], self.everywhere) for i, j in pairs]
        return max(found, key=get_args(Mixing).index)

    def _judge(self, layer: int, mixing: str) -> None:
        where = (
            f"between the observed attentions {layer} and {layer + 1}"
            if layer
            else "before the first observed attention"
        )
        if mixing == "moved":
            raise InputError(
                f"the model puts its tokens in another order {where}, so its layers can't be followed; choose "
                f"{ATTENTION_FREE_METHODS}"
            )
        if mixing == "global":
            raise InputError(
                f"the model mixes its tokens {where} by something that isn't observed ({OTHER_MIXING}), so its layers "
                f"can't be followed; choose {ATTENTION_FREE_METHODS}"
            )
        if mixing == "local" and layer and self.obstacle is None:
            self.obstacle = (
                f"the model mixes neighboring tokens {where} (by a convolution), which rollout would leave out: choose "
                "attention or attention-gradient"
            )

    def _readout(self) -> Tensor | None:
        """Return the readout in the trace's order of tokens; None for attention pooling."""
        if not self.last_tokens:
            values = self.pooled[-1]
            first = self.first if values.shape[-2] < self.layout.num_tokens else 0
            self._check_head(TokenTensor(values, -2, first), self.everywhere)
            return None
        last = self.last_tokens[0]
        self._check_head(TokenTensor(last.stream, last.axis), last.rows.detach().cpu().double().any(1).double())
        readout = find_readout(self.last_tokens, self.layout.num_prefix_tokens, self.trailing)
        return readout.to(torch.promote_types(self.logits.dtype, torch.float32))

    def _check_head(self, tokens: TokenTensor, read: Tensor) -> None:
        """Check that the tokens that the head reads stay apart since the last attention, whose heads are combined."""
        records, count = self._records(-1), len(self.layers)
        gradients = gradients_of([tokens], [record.output for record in records], self.everywhere)
        check_combination(records, gradients)
        before = range(max(count - 2, 0 if self.is_stem_mixing else -1), count)
        mixed, _ = find_mixed_tokens([tokens], self._outputs(before), read)
        if mixed:
            raise InputError(
                f"after its last observed attention the model mixes its tokens by something else ({OTHER_MIXING}, or a "
                "pooling with weights that depend on the tokens): what its head reads is not a fixed weighted sum of "
                f"that attention's tokens, so no map can start from it; choose {ATTENTION_FREE_METHODS}"
            )

    def _axis_order(self, call: Callable[[Tensor], Any]) -> tuple[AxisOrder | None, bool]:
        """Return what comes first on the axes of images and heads, and whether each image has its own attention."""
        if self.recorder.has_shared_axis:
            return _find_axis_order(call, self.image, self.recorder.attentions)
        return ("heads" if self.recorder.heads_first else None), False


def _find_axis_order(call: Callable[[Tensor], Any], image: Tensor, attentions: int) -> tuple[AxisOrder, bool]:
    """Find out whether images or heads come first on a shared axis: for two equal images, equal values are images.

    Where two images have twice as many attentions as one, each image has its own.

    Raises:
        InputError: both orders are possible.
    """
    records: list[AttentionRecord] = []
    with torch.no_grad(), AttentionRecorder(2, records.append, "images") as twice:
        call(torch.cat([image, image]).detach())
    if twice.attentions == 2 * attentions:
        return "images", True
    values = records[0].value
    swapped = values.flatten(0, 1).unflatten(0, (-1, 2)).transpose(0, 1)
    matches = {
        order: torch.allclose(pair[0], pair[1], rtol=1e-3, atol=1e-5)
        for order, pair in (("images", values), ("heads", swapped))
    }
    if matches["images"] == matches["heads"]:
        raise InputError("images and heads share an axis of the attention, and it isn't clear which comes first")
    return ("images" if matches["images"] else "heads"), False
