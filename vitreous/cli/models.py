"""vitreous models"""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, progress

NARROWEST = 110
"""Columns that the table takes where there is no terminal."""

if TYPE_CHECKING:
    from vitreous.workflows.models import ModelSize


def models(
    *names: str,
    measure: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    device: str = "auto",
    precision: str = "auto",
) -> int:
    """List the sizes of models: parameters, arithmetic for an image, and how many images a second here.

    Args:
        names: Sizes such as Ti/16; all by default.
        measure: Measure images a second, half a second each; large sizes only when they are named.
        json_: Print the list as JSON.
        device: auto, cpu or cuda; for measuring.
        precision: auto, bf16 or fp32; for measuring.
    """
    from vitreous.workflows.models import model_sizes

    if measure:
        with progress("measuring") as display:
            sizes = model_sizes(names, measure=True, device=device, precision=precision, on_progress=display)
    else:
        sizes = model_sizes(names, device=device, precision=precision)
    if json_:
        print_line(json.dumps([asdict(one) for one in sizes]))
    else:
        print_sizes(sizes, measured=measure)
    return 0


def print_sizes(sizes: "list[ModelSize]", *, measured: bool) -> None:
    """The sizes as a table on standard output."""
    from rich.console import Console
    from rich.table import Column, Table

    more = ("images/s", "batch") if measured else ()
    names = ("image", "tokens", "width", "depth", "heads", "parameters", "GMAC", *more)
    table = Table(Column("size", no_wrap=True), *(Column(name, justify="right", no_wrap=True) for name in names))
    for one in sizes:
        config, grid_hw = one.config, one.config.grid_size
        speed = (f"{one.speed.images_per_second:,.0f}", str(one.speed.batch)) if one.speed else ("", "")
        table.add_row(
            one.name, " × ".join(map(str, config.image_size)), f"{config.num_prefix_tokens + grid_hw[0] * grid_hw[1]:,}",
            str(config.embed_dim), str(config.depth), str(config.num_heads), f"{one.parameters / 1e6:.2f} M",
            f"{one.multiply_adds / 1e9:#.3g}".rstrip("."), *(speed if measured else ()),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else NARROWEST).print(table)
    print_line("GMAC: thousand million multiply-adds for one image of this size")
    speed = next((one.speed for one in sizes if one.speed), None)
    if speed is not None:
        print_line(f"images/s: in {speed.precision} on {speed.device}; name a size without a number to measure it")
