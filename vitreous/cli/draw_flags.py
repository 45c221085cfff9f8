"""The options of how a video is drawn, as flags of `vitreous video` and `vitreous live`."""

from dataclasses import dataclass

from cyclopts import Parameter

from vitreous.cli.flags import Flag
from vitreous.cli.options import DRAW_GROUP
from vitreous.clips.options import DrawOptions


@Parameter(name="*", group=DRAW_GROUP)
@dataclass(frozen=True)
class DrawFlags(DrawOptions):
    """The fields of DrawOptions as flags; those that are off by default have no --no- form."""

    edge_aware: Flag = False
    class_strip: Flag = False

    def draw_options(self) -> DrawOptions:
        """Return the record that a request takes."""
        return DrawOptions(**vars(self))
