"""vitreous models"""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from vitreous.cli.console import MIN_TABLE_WIDTH, print_line, progress
from vitreous.cli.flags import DeviceName, Flag, JsonFlag

if TYPE_CHECKING:
    from vitreous.workflows.models import ModelSize


def models(
    *names: str,
    measure: Flag = False,
    json_: JsonFlag = False,
    device: DeviceName = "auto",
    precision: str = "auto",
) -> int:
    """List the model sizes and their cost.

    The cost is parameters, GMACs per image and, with --measure, images per second on this machine.

    Args:
        names: Sizes such as Ti/16; all by default.
        measure: Measure images per second, half a second per size; large sizes only if they are named.
        json_: Print the list as JSON.
        device: auto, cpu or cuda; for measuring.
        precision: auto, bf16 or fp32; for measuring.
    """
    from vitreous.workflows.models import model_sizes

    if measure:
        with progress("measuring") as callback:
            listed = model_sizes(names, measure=True, device=device, precision=precision, callback=callback)
    else:
        listed = model_sizes(names, device=device, precision=precision)
    if json_:
        print_line(json.dumps([asdict(size) for size in listed]))
    else:
        print_sizes(listed, measured=measure)
    return 0


def print_sizes(listed: "list[ModelSize]", *, measured: bool) -> None:
    """Print the sizes as a table to standard output."""
    from rich.console import Console
    from rich.table import Column, Table

    speed_columns = ("images/s", "batch") if measured else ()
    columns = ("image_size", "tokens", "embed_dim", "depth", "heads", "params", "GMACs", *speed_columns)
    table = Table(Column("size", no_wrap=True), *(Column(name, justify="right", no_wrap=True) for name in columns))
    for size in listed:
        config, grid_size = size.config, size.config.grid_size
        tokens = config.num_prefix_tokens + grid_size[0] * grid_size[1]
        speed = (f"{size.speed.images_per_second:,.0f}", str(size.speed.batch)) if size.speed else ("", "")
        table.add_row(
            size.name, " × ".join(map(str, config.image_size)), f"{tokens:,}", str(config.embed_dim),
            str(config.depth), str(config.num_heads), f"{size.params / 1e6:.2f} M",
            f"{size.macs / 1e9:#.3g}".rstrip("."), *(speed if measured else ()),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else MIN_TABLE_WIDTH).print(table)
    print_line("GMACs: billions of multiply-adds per image")
    first = next((size.speed for size in listed if size.speed), None)
    if first is not None:
        print_line(f"images/s: {first.precision} on {first.device}; name a size without a number to measure it")
