"""Who is checked: a tool on a model of known weights, opened as its own documentation says, looking at images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from conformance_suite.known_models import KnownModel


class NotApplicable(Exception):  # noqa: N818  (no error: a reason)
    """The check has no meaning for this subject; the message says why."""


class NoMap(Exception):  # noqa: N818
    """The tool came back without a map; the message says what came back instead."""


class OtherModelError(Exception):
    """The library's model doesn't answer as the known one does: ours to mend, no failure of the subject."""


@dataclass(frozen=True)
class ToolOutput:
    """The maps that a tool returns for a batch of images."""

    rows: Mapping[str, Tensor]
    """By kind of map ("attention": of the last layer; "rollout"): weights over all tokens (batch, tokens)."""
    grids: Mapping[str, Tensor] = field(default_factory=dict)
    """By kind: the map laid out by the tool (batch, grid height, grid width), or (batch, height, width) in pixels."""
    layers: Sequence[Tensor] = ()
    """Attention of each layer, the first layer first: (batch, tokens)."""


@dataclass(frozen=True)
class Tool:
    """A tool held open on a model."""

    explain: Callable[[Tensor], ToolOutput]
    """Images (batch, 3, height, width) to what is seen; called several times."""
    close: Callable[[], object] = lambda: None
    """What its documentation has to say about being done with it; nothing, mostly."""


@dataclass(frozen=True)
class Subject:
    """One row of the table."""

    name: str
    called: str
    """What was called, in a line of Markdown."""
    build: Callable[[KnownModel], nn.Module]
    """The library's own model with the known weights, in evaluation mode.

    Raises NotApplicable where the library has no such model.
    """
    open: Callable[[nn.Module, KnownModel], Tool]
    no_grid: str = (
        "returns weights over all tokens; removing the prefix tokens and arranging the grid is left to the user"
    )
    """Why `ToolOutput.grids` is empty, where it is."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """By check: what a reader must know to judge a failure."""
