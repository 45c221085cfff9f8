"""What is noted of every frame of a clip while it is drawn: answers, numbers about the maps, and the maps if wanted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from vitreous.tasks.classification import Prediction
from vitreous.video.info import Frame
from vitreous.workflows.places import middle
from vitreous.workflows.video_answers import ClipAnswers
from vitreous.workflows.video_data import DataOut, Spool
from vitreous.workflows.video_maps import Seen
from vitreous.workflows.video_numbers import center_of_mass, entropy
from vitreous.workflows.video_request import VideoRequest

TOP = 3
"""Classes of each frame that the table names."""


class ClipTable:
    """Takes in what was seen in each frame; holds a few numbers of it, and the rest on the disk.

    Leaving the `with` block without `save` writes nothing and leaves nothing.
    """

    def __init__(self, class_names: Sequence[str], request: VideoRequest, source_hw: tuple[int, int]) -> None:
        self.answers = ClipAnswers(class_names)
        self.entropies: list[float] = []
        self._source_hw = source_hw
        self._probabilities = None if request.timeline is None else Spool(request.timeline.parent, "<f2")
        self._data = None if request.data_out is None else DataOut(request.data_out)

    def __enter__(self) -> "ClipTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in (self._probabilities, self._data):
            if spool is not None:
                spool.close()

    def add(self, frame: Frame, seen: Seen) -> None:
        """Take in the next frame."""
        spread = [entropy(one.heat) for one in seen.maps]
        self.entropies.append(spread[0])
        if seen.prediction.ranking:
            start = float(frame.time_seconds)
            end = start + float(frame.duration_seconds or self._step(start))
            shares = self.answers.add(seen.prediction, spread[0], start, end)
            if self._probabilities is not None:
                self._probabilities.append(shares)
        if self._data is not None:
            factors = [a / b for a, b in zip(self._source_hw, frame.image_u8.shape[:2], strict=True)] * 2
            box = [side * factor for side, factor in zip(seen.box, factors, strict=True)]
            self._data.titles, self._data.box = [one.title for one in seen.maps], box
            row = {
                "time_seconds": float(frame.time_seconds),
                **ranked(seen.prediction),
                **statistics(seen, spread, box),
            }
            if seen.place is not None:
                y, x = middle(seen.place)
                row |= {
                    "query_x": round(x * factors[1], 2),
                    "query_y": round(y * factors[0], 2),
                }
            self._data.add(float(frame.time_seconds), np.stack([one.heat for one in seen.maps]), row)

    def most_shown(self) -> Mapping[str, np.ndarray]:
        """The probabilities over time of the classes that are highest on average."""
        assert self._probabilities is not None
        return self.answers.most_shown(self._probabilities.read())

    def save(self) -> list[Path]:
        """Write the files of `data_out`, if wanted; return their paths."""
        return [] if self._data is None else self._data.save()

    def _step(self, start: float) -> float:
        """The time from the last frame to this one."""
        return start - self.answers.times[-1] if self.answers.times else 0.04


def ranked(prediction: Prediction) -> dict[str, object]:
    """The columns of the most probable classes."""
    columns: dict[str, object] = {}
    for place, (name, share) in enumerate(prediction.ranking[:TOP], 1):
        columns |= {f"class_{place}": name, f"probability_{place}": round(share, 6)}
    return columns


def statistics(seen: Seen, spread: Sequence[float], box: Sequence[float]) -> dict[str, object]:
    """The columns about each map; their names end in the map's title where there are several."""
    columns: dict[str, object] = {}
    for one, value in zip(seen.maps, spread, strict=True):
        end = f"_{one.title.replace(' ', '_')}" if len(seen.maps) > 1 else ""
        y, x = center_of_mass(one.heat, (box[0], box[1], box[2], box[3]))
        columns |= {f"entropy{end}": round(value, 6), f"center_x{end}": round(x, 2), f"center_y{end}": round(y, 2)}
    return columns
