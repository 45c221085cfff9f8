"""vitreous film"""

import json
from pathlib import Path

from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import Flag, JsonFlag, OutputFile
from vitreous.errors import InputError


def film(
    run: Path,
    /,
    *,
    output: OutputFile = None,
    method: str = "attention",
    layout: str = "side-by-side",
    images: str | None = None,
    fps: float = 30.0,
    seconds: float = 15.0,
    height: int | None = None,
    strip: Flag = False,
    json_: JsonFlag = False,
) -> int:
    """Make a film of a training run: its maps, predictions and scores, from the first step to the last.

    A run keeps the maps of a few fixed images while it trains (--set keep_maps=8). All images and steps share one color
    scale. A run that isn't finished gives the film of what there is.

    Args:
        run: Run folder.
        output: File to write: .mp4, .webm, .gif, .mkv or .mov; by default learning.mp4 in the run folder.
        method: attention (of the last layer) or rollout.
        layout: side-by-side for each image beside its map, or overlay for the map on the image alone.
        images: Which of the images, by their numbers from 0 with commas, such as 0,3; all by default.
        fps: Frames per second.
        seconds: Length of the film.
        height: Height in pixels; the width is 16 / 9 of it. By default 1080, and 720 for a GIF.
        strip: Draw the filmstrip instead: figures/filmstrip.png in the run folder, or --output FILE.png.
        json_: Print what was written as one JSON object.
    """
    from vitreous.training_film.film import film as make_film

    if strip:
        return _draw_strip(run, output, method, as_json=json_)
    with progress("film") as callback:
        result = make_film(
            run, output, method=method, layout=layout, images=None if images is None else parse_image_numbers(images),  # ty: ignore[invalid-argument-type]
            fps=fps, seconds=seconds, height=height, callback=callback,
        )  # fmt: skip
    if json_:
        print_line(json.dumps(result.to_json()))
        return 0
    height_pixels, width = result.size_hw
    print_line(
        f"{result.path}: {result.seconds:.1f} s of {result.kept_steps} kept steps, {width} x {height_pixels}, "
        f"{result.path.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def _draw_strip(run: Path, output: Path | None, method: str, *, as_json: bool) -> int:
    from vitreous.imaging.writing import check_image_output
    from vitreous.training_film.filmstrip import write_filmstrip

    if output is not None:
        check_image_output(output)
    path = write_filmstrip(run, method, output)
    print_line(json.dumps({"path": str(path), "method": method}) if as_json else f"{path}: {method} during training")
    return 0


def parse_image_numbers(text: str) -> list[int]:
    """Parse "0,3" as a list of numbers.

    Raises:
        InputError: the text has another form.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--images {text}: write numbers from 0 with commas, such as 0,3")
    return [int(part) for part in parts]
