"""vitreous patches"""

from pathlib import Path

from vitreous.cli.console import print_line
from vitreous.cli.flags import OutputFile, parse_input_size
from vitreous.errors import InputError


def patches(
    image: Path,
    /,
    *,
    model: str | None = None,
    patch_size: int = 16,
    input_size: str = "224",
    output: OutputFile = None,
) -> int:
    """Show how an image is cut into patches.

    Args:
        image: Image file.
        model: Draw the patches of this model; then --patch-size and --input-size are ignored.
        patch_size: Side of a patch in pixels.
        input_size: Side in pixels to which the image is resized first, or height x width, such as 224x320.
        output: File to write; the image's name with "-patches.png" by default.
    """
    from vitreous.imaging.writing import check_image_output, save_image
    from vitreous.workflows.patches import patches as draw

    path = output or Path(f"{image.stem}-patches.png")
    if path.resolve() == image.resolve():
        raise InputError(f"{path} is the image itself: choose another --output")
    check_image_output(path)
    save_image(draw(image, model, patch_size=patch_size, input_size=parse_input_size(input_size)), path)
    print_line(f"{path}: written")
    return 0
