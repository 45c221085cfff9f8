"""vitreous patches"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.console import say
from vitreous.errors import InputError


def patches(
    image: Path,
    /,
    *,
    model: str | None = None,
    patch_size: int = 16,
    size: str = "224x224",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Show how an image is cut into patches.

    Args:
        image: Image file.
        model: Cut as this model does; then --patch-size and --size don't count.
        patch_size: Side of a patch in pixels.
        size: Height and width in pixels that the image is brought to first, as 224x224.
        output: File to write; the image's name with "-patches.png" by default.
    """
    from vitreous.imaging.writing import save_image
    from vitreous.workflows.patches import parse_size, patches_image

    path = output or Path(f"{image.stem}-patches.png")
    if path.resolve() == image.resolve():
        raise InputError(f"{path} is the image itself: choose another --output")
    drawing = patches_image(image, model, patch_size=patch_size, size_hw=parse_size(size))
    save_image(drawing, path)
    say(f"{path}: written")
    return 0
