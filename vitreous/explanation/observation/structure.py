"""What is known of a model before it is observed: its grid of patches, prefix tokens, layers and readout."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.heads import AxisOrder
from vitreous.explanation.observation.readout import pooling_readout
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace


@dataclass(frozen=True)
class ModelStructure:
    """The grid, prefix tokens, layers and readout of a model for images of one size."""

    layout: TokenLayout
    trailing: int
    """Number of prefix tokens that come behind the patches in the model; in traces they come first."""
    readout: Tensor | None
    """(tokens): the weight with which the head reads each token; None for attention pooling, which differs by image."""
    layers: tuple[tuple[int, ...], ...]
    """For each layer, the numbers of its attentions in the order of the pass."""
    attentions: int
    """The number of attentions of a pass, those included on which the output doesn't depend."""
    axis_order: AxisOrder | None
    """What comes first where the sizes of the images' and heads' axes don't show it; None if images do."""
    images_one_by_one: bool
    """Whether the model runs the attention of each image on its own."""
    patch_hw: tuple[int, int]
    """The height and width of a patch in pixels; the last patches may reach beyond the image."""
    rollout_obstacle: str | None = None
    """Why attention can't be multiplied through the layers; None if it can."""

    def recorder(
        self,
        batch: int,
        report: Callable[[AttentionRecord], None],
        ablated: AbstractSet[tuple[int, int]] = frozenset(),
    ) -> AttentionRecorder:
        """Return the recorder for a pass over a batch of images, in which heads (layer, head) are `ablated`.

        Raises:
            InputError: the model runs the attention of each image on its own, and there are several.
        """
        if self.images_one_by_one and batch > 1:
            raise InputError(
                f"the model runs the attention of each image on its own: give one image at a time, not {batch}"
            )
        return AttentionRecorder(batch, report, self.axis_order, self.trailing, self.layers, ablated)

    def fill(self, trace: Trace, recorder: AttentionRecorder) -> None:
        """Complete a trace whose records the recorder has reported.

        Raises:
            InputError: the pass differs from the one over a single image.
        """
        recorder.finish()
        if (recorder.attentions, recorder.tokens) != (self.attentions, self.layout.num_tokens):
            raise InputError(
                f"this pass had {recorder.attentions} layers of attention over {recorder.tokens} tokens, that of a "
                f"single image {self.attentions} over {self.layout.num_tokens}: the model must process all images alike"
            )
        trace.layout, tokens = self.layout, self.layout.num_tokens
        trace.rollout_obstacle = self.rollout_obstacle
        if recorder.pooling is not None and self.readout is None:
            trace.has_attention_pooling = True
            trace.readout = pooling_readout(recorder.pooling, tokens, self.layout.num_prefix_tokens, recorder.trailing)
        elif self.readout is not None:
            trace.readout = self.readout.expand(recorder.batch, -1).clone()


def is_compiled(part: nn.Module) -> bool:
    """Return whether a module is compiled by torch.compile or scripted by torch.jit."""
    in_place = getattr(part, "_compiled_call_impl", None) is not None  # nn.Module.compile()
    return in_place or isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod")


def require_observable(model: nn.Module) -> None:
    """Check that a model can be observed.

    Raises:
        InputError: it is compiled, scripted or in training mode, or inference mode is on.
    """
    if any(is_compiled(part) for part in model.modules()):
        raise InputError(
            "the model is compiled or scripted, so its torch functions can't be observed: give the plain module"
        )
    if model.training:
        raise InputError("the model is in training mode, in which its output is random: call model.eval() first")
    if torch.is_inference_mode_enabled():
        raise InputError("in inference mode nothing can be observed: use torch.no_grad() instead")
