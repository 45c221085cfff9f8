"""Join the attentions that a model computes one by one (a head each, or side by side) into records of its layers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.model.trace import AttentionRecord


def record_of_weights(weights: Tensor, value: Tensor, output: Tensor) -> AttentionRecord:
    """Make a record of A = `weights` (batch, heads, tokens, tokens) alone.

    Query is log A and key the identity, for which softmax(query keyᵀ) is also A.
    """
    known = weights.detach()
    known = known if known.dtype in (torch.float32, torch.float64) else known.float()
    query = known.log().clamp(min=MIN_LOG)
    key = torch.eye(query.shape[-1], dtype=query.dtype, device=query.device).expand_as(query)
    return AttentionRecord(query, key, value, output, 1.0, weights)


MIN_LOG = -1e4
"""In place of the logarithm of 0: exp of it is 0 in every precision."""


class LayerAssembly:
    """Takes the records of a pass in their order, and reports one record for each layer.

    Args:
        report: called with the record of each layer, the first layer first.
        layers: for each layer, the numbers of its attentions in the order of the pass. Attentions that are in no layer
            are left out. By default each attention is a layer.
        trailing: number of prefix tokens that come behind the patches in the model.
    """

    def __init__(
        self, report: Callable[[AttentionRecord], None], layers: Sequence[Sequence[int]] | None, trailing: int
    ) -> None:
        self._report, self._trailing = report, trailing
        self._sizes = None if layers is None else {number: len(layer) for layer in layers for number in layer}
        self._count = 0
        self._waiting: list[AttentionRecord] = []
        self._projections: list[Tensor | None] = []

    def add(self, record: AttentionRecord) -> None:
        """Take the record of the next attention."""
        number, self._count = self._count, self._count + 1
        size = 1 if self._sizes is None else self._sizes.get(number, 0)
        if size == 0:
            return
        if self._waiting and len(self._waiting) == self._size:
            self.finish()
        self._size = size
        self._waiting.append(record)

    def match_projection(self, args: Sequence[Any]) -> None:
        """Check whether the first linear layer after an attention reads its concatenated heads, value for value."""
        if not self._waiting or len(args) < 2:
            return
        is_complete = len(self._waiting) == self._size
        if is_complete and self._reads(args[0], self._waiting):
            self._finish(args[1])
            return
        if len(self._projections) < len(self._waiting):
            missing = len(self._waiting) - len(self._projections)
            own = len(self._waiting) > 1 and self._reads(args[0], self._waiting[-1:])
            found = args[1] if own else None
            self._projections += [None] * (missing - 1) + [found]
        if is_complete:
            self.finish()

    def finish(self) -> None:
        """Report the layer that waits for its output projection."""
        known = [one for one in self._projections if one is not None]
        is_whole = bool(known) and len(known) == len(self._waiting)
        self._finish(torch.cat(known, 1) if is_whole and len(known) > 1 else known[0] if is_whole else None)

    def _finish(self, projection: Tensor | None) -> None:
        waiting, self._waiting, self._projections = self._waiting, [], []
        if waiting:
            self._report(replace(_join(waiting), projection=projection))

    def _reads(self, given: Tensor, records: Sequence[AttentionRecord]) -> bool:
        """Return whether a tensor holds the heads of these records side by side."""
        given = given.detach()
        outputs = [record.output.detach() for record in records]
        size = sum(one.numel() for one in outputs)
        if given.numel() != size or given.dtype != outputs[0].dtype:
            return False
        heads = torch.cat([one.roll(-self._trailing, 2).transpose(1, 2).flatten(2) for one in outputs], 2)
        if given.shape[-1] != heads.shape[-1]:
            return False
        return any(torch.equal(one.reshape(given.shape), given) for one in (heads, heads.transpose(0, 1)))


def _join(records: Sequence[AttentionRecord]) -> AttentionRecord:
    """Join the heads of records into one record.

    Raises:
        InputError: their heads differ in width.
    """
    if len(records) == 1:
        return records[0]
    widths = {record.value.shape[-1] for record in records}
    if len(widths) > 1:
        raise InputError(f"the heads of one layer have widths {sorted(widths)}: heads of one width are needed")
    parts = tuple(record.output for record in records)
    value, output = torch.cat([record.value for record in records], 1), torch.cat(parts, 1)
    if len({record.query.shape[-1] for record in records}) > 1:
        weights = torch.cat([reference_attention(record) for record in records], 1)
        return replace(record_of_weights(weights, value, output), output_parts=parts)
    known, scale = [record.weights for record in records if record.weights is not None], records[0].scale
    return AttentionRecord(
        query=torch.cat([record.query * (record.scale / scale) for record in records], 1),
        key=torch.cat([record.key for record in records], 1),
        value=value, output=output, scale=scale,
        weights=torch.cat(known, 1) if len(known) == len(records) else None, output_parts=parts,
    )  # fmt: skip
