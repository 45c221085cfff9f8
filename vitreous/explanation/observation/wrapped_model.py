"""Anyone's model as methods see a model: images in, logits out, and a trace filled where one is asked for."""

from torch import Tensor, nn

from vitreous.explanation.observation.model_output import extract_logits
from vitreous.explanation.observation.structure import ModelStructure, inspect_model, require_observable
from vitreous.model.trace import Trace


class WrappedModel(nn.Module):
    """Any module that takes images (batch, channels, height, width), used as it is.

    Methods that need no more than a trace's records, layout and readout work on it. It has no `read`, and its traces
    hold no tokens between blocks: methods that need these refuse by name.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._known: dict[object, ModelStructure] = {}

    def forward(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Images (batch, channels, height, width), normalized, to logits (batch, classes).

        The first trace of images of a size costs one more pass, over one image.

        Raises:
            InputError: the answer is no row of numbers an image, or (with a trace) attention can't be seen.
        """
        if trace is None:
            return extract_logits(self.module(images))
        require_observable(self.module)
        structure = self.structure(images)
        trace.layout = structure.layout
        watch = structure.watch(len(images), trace.on_attention)
        with watch:
            outputs = self.module(images)
        structure.fill(trace, watch)
        return extract_logits(outputs)

    def structure(self, images: Tensor) -> ModelStructure:
        """How the module takes images of this size apart; remembered.

        Raises:
            InputError: its attention can't be seen or laid on the image.
        """
        size = (tuple(images.shape[1:]), images.dtype, images.device)
        if size not in self._known:
            self._known[size] = inspect_model(self.module, images)
        return self._known[size]
