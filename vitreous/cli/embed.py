"""vitreous embed"""

from typing import Annotated, Literal

from cyclopts import Parameter

from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import Flag, ModelName, OutputFile
from vitreous.cli.options import InputOptions
from vitreous.errors import InputError

PrecisionName = Annotated[
    Literal["fp32", "bf16", "auto"], Parameter(help="fp32, bf16, or auto for bf16 where the hardware has it.")
]


def embed(
    model: ModelName,
    data: str | None = None,
    /,
    *,
    output: OutputFile = None,
    features: str = "pooled",
    layers: str | None = None,
    split: str = "all",
    batch_size: int = 32,
    inputs: InputOptions = InputOptions(),
    precision: PrecisionName = "fp32",
    skip_unreadable: Flag = False,
) -> int:
    """Compute a feature vector of every image, into a Parquet file.

    A row an image: path, label, split, vector. The images are read one after another, also those in Parquet files, so
    memory doesn't grow with their number. The same command goes on after a kill, at the last 512 images.

    Args:
        data: Source of images, such as cifar10 or folder:photos; or a folder of images without labels.
        output: File to write, such as features.parquet. If it is there, it must hold the same features.
        features: pooled: the vector that the head reads; or class-token, patch-mean, or both with a comma.
        layers: Layers of class-token and patch-mean, counted from 0, with commas; negative ones count from the end. The
            last one by default. The features of several layers are one vector. Wrapped models have them if they have
            timm's forward_intermediates or transformers' output_hidden_states.
        split: train, validation, test or all.
        batch_size: Images per forward pass.
        skip_unreadable: Leave out images that can't be read and list them, instead of refusing the data.
    """
    from dataclasses import replace

    from vitreous.runtime import choose_precision
    from vitreous.transfer.embed import open_job, write_features
    from vitreous.transfer.feature_set import check_features_file, check_replaceable

    if data is None:
        raise InputError("no images are named: give a source after the model, such as folder:photos")
    if output is None:
        raise InputError("no file to write is named: give one, such as --output features.parquet")
    check_features_file(output)
    names = [name.strip() for name in features.split(",")]
    numbers = None if layers is None else parse_numbers(layers, "layers", "11,9")
    classifier = inputs.load(model)
    precision_found = choose_precision(precision, classifier.device)
    with progress("embedding") as callback:
        job = open_job(classifier, data, names, numbers, split, precision_found, batch_size, callback)
        check_replaceable(output, job.info)
        rows = write_features(replace(job, skip_unreadable=skip_unreadable), output)
    print_line(f"{output}: {rows:,} images, vectors of {job.info.width} numbers")
    return 0


def parse_numbers(text: str, what: str, example: str) -> list[int]:
    """Parse whole numbers with commas between them.

    >>> parse_numbers("11, -2", "layers", "11,9")
    [11, -2]

    Raises:
        InputError: a part is no whole number.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"'{text}' is no list of {what}: give whole numbers with commas, such as {example}") from None
