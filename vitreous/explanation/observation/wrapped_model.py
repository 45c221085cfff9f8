"""Anyone's model as methods see a model: images in, logits out, and a trace filled where one is asked for."""

from torch import Tensor, nn

from vitreous.explanation.observation.model_output import answer_of
from vitreous.explanation.observation.structure import Structure, refuse_unseen, study
from vitreous.model.trace import Trace


class ForeignModel(nn.Module):
    """Any module that takes images (batch, channels, height, width), used as it is.

    Methods that need no more than a trace's records, layout and readout work on it. It has no `read`, and its traces
    hold no tokens between blocks: methods that need these refuse by name.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._known: dict[object, Structure] = {}

    def forward(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Images (batch, channels, height, width), normalized, to logits (batch, classes).

        The first trace of images of a size costs one more pass, over one image.

        Raises:
            InputError: the answer is no row of numbers an image, or (with a trace) attention can't be seen.
        """
        if trace is None:
            return answer_of(self.module(images))
        refuse_unseen(self.module)
        structure = self.structure(images)
        trace.layout = structure.layout
        watch = structure.watch(len(images), trace.attended)
        with watch:
            outputs = self.module(images)
        structure.fill(trace, watch)
        return answer_of(outputs)

    def structure(self, images: Tensor) -> Structure:
        """How the module takes images of this size apart; remembered.

        Raises:
            InputError: its attention can't be seen or laid on the image.
        """
        size = (tuple(images.shape[1:]), images.dtype, images.device)
        if size not in self._known:
            self._known[size] = study(self.module, images)
        return self._known[size]
