"""The metrics log of a run: always metrics.jsonl, and TensorBoard if the recipe asks for it."""

import math
from typing import TYPE_CHECKING

from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder, append_metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Writes the metrics on rank 0; on the other ranks it is disabled."""

    def __init__(self, folder: RunFolder, *, step: int = 0, tensorboard: bool = False, disabled: bool = False) -> None:
        self.folder, self.disabled = folder, disabled
        self.writer: SummaryWriter | None = None
        if tensorboard and not disabled:
            self.writer = summary_writer()(str(folder.tensorboard), purge_step=step + 1)

    def write(self, *, step: int, epoch: float, split: str, **values: float | None) -> None:
        """Append a line to metrics.jsonl, and a point to each of TensorBoard's curves, such as "train/loss"."""
        if self.disabled:
            return
        append_metrics(self.folder, step=step, epoch=epoch, split=split, **values)
        if self.writer is None:
            return
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self.writer.add_scalar(f"{split}/{name}", value, step)
        self.writer.flush()

    def close(self) -> None:
        """Finish what is written."""
        if self.writer is not None:
            self.writer.close()


def summary_writer() -> type["SummaryWriter"]:
    """Import TensorBoard's writer from the optional package.

    Raises:
        InputError: it isn't installed, or broken.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception as error:  # noqa: BLE001 a broken installation raises anything
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"tensorboard=true needs the package tensorboard ({detail}): pip install tensorboard, or leave it out; "
            "metrics.jsonl is always written"
        ) from None
    return SummaryWriter
