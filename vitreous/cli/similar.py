"""vitreous similar"""

import json
from pathlib import Path

from vitreous.cli.console import print_line, progress
from vitreous.cli.embed import PrecisionName
from vitreous.cli.flags import Flag, JsonFlag, ModelName, OutputFile
from vitreous.cli.options import InputOptions
from vitreous.errors import InputError


def similar(
    model: ModelName,
    image: Path | None = None,
    /,
    *,
    data: str | None = None,
    count: int = 8,
    method: str = "gradient-rollout",
    output: OutputFile = None,
    json_: JsonFlag = False,
    inputs: InputOptions = InputOptions(),
    precision: PrecisionName = "fp32",
    skip_unreadable: Flag = False,
) -> int:
    """Find the images that are most similar to one, with maps of what makes them alike.

    The features of the data are computed once and kept in the cache folder. Images are compared by cosine similarity.

    Args:
        image: Image file.
        data: Source of images, such as folder:photos; a folder of images; or a file that `vitreous embed` wrote with
            this model.
        count: Number of similar images.
        method: Explanation method of the maps; `vitreous methods` lists them.
        output: Sheet to write, such as sheet.png; by default IMAGE-similar.png in the current folder.
        json_: Print paths, labels and similarities as one JSON object; the sheet is written if --output is given.
        skip_unreadable: Leave out images of the data that can't be read and list them, instead of refusing the data.
    """
    from vitreous.imaging.writing import check_image_output
    from vitreous.transfer.similar import similar as run

    if image is None or data is None:
        missing = "give it after the model" if image is None else "give a source, such as --data folder:photos"
        raise InputError(f"no {'image is' if image is None else 'images to search are'} named: {missing}")
    sheet = output or (None if json_ else Path(f"{image.stem}-similar.png"))
    if sheet is not None:
        check_image_output(sheet)
    classifier = inputs.load(model)
    with progress("similar") as callback:
        found = run(
            classifier, image, data, count=count, method=method, precision=precision, skip_unreadable=skip_unreadable,
            callback=callback,
        )  # fmt: skip
    if sheet is not None:
        found.save(sheet)
    if json_:
        print_line(json.dumps(found.to_json()))
        return 0
    for one in found.images:
        print_line(f"{one.similarity:.3f}  {one.label or ''}  {one.path}")
    print_line(f"{sheet}: {len(found.images)} similar images")
    return 0
