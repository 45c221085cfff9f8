"""Where a run's metrics go: metrics.jsonl always, TensorBoard if the recipe says so."""

import math
from typing import Any

from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder, append_metrics


class MetricsLog:
    """What the first process writes of the metrics, and the others don't."""

    def __init__(self, folder: RunFolder, *, step: int = 0, tensorboard: bool = False, silent: bool = False) -> None:
        self.folder, self.silent = folder, silent
        self.writer = None
        if tensorboard and not silent:
            self.writer = summary_writer()(str(folder.tensorboard), purge_step=step + 1)

    def write(self, *, step: int, epoch: float, split: str, **values: float | None) -> None:
        """Add a line to metrics.jsonl, and a point to each of TensorBoard's curves, "train/loss" for example."""
        if self.silent:
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


def summary_writer() -> Any:
    """TensorBoard's writer, from the optional package.

    Raises:
        InputError: it isn't installed, or broken.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception as error:  # noqa: BLE001 a broken installation raises anything
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"tensorboard=true needs the package tensorboard ({detail}): pip install tensorboard, or leave it out; "
            "metrics.jsonl is written always"
        ) from None
    return SummaryWriter
