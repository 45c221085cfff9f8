"""vitreous plan"""

import json
import sys
from typing import TYPE_CHECKING, Literal

from vitreous.cli.console import MIN_TABLE_WIDTH, print_line, progress
from vitreous.cli.flags import JsonFlag, parse_input_size

if TYPE_CHECKING:
    from vitreous.workflows.planning.plan import Plan

LABELS = {
    "seconds": "time",
    "device_hours": "device hours",
    "rate": "images/s, all devices",
    "device_rate": "images/s, one device",
    "device_memory": "memory of a device",
    "decode_cores": "CPU cores to decode",
    "read_rate": "read",
    "input_storage": "images on disk",
    "output_storage": "output on disk",
    "cost_per_million": "cost per million images",
    "cost": "cost",
}
"""The figures of the table, in order; --json has the others."""
PREFIXES = {1e18: "E", 1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k"}
PREFIXED = ("bytes", "bytes/s", "FLOP/s", "FLOPs/image", "MACs/image", "bytes/image")
DURATIONS = {86400.0: "days", 3600.0: "hours", 60.0: "minutes"}


def plan(
    model: str,
    *,
    images: float,
    work: Literal["embed", "explain", "train"] = "embed",
    method: str | None = None,
    epochs: float | None = None,
    input_size: str | None = None,
    devices: str | None = None,
    rate: float | None = None,
    utilization: float | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    bytes_per_image: float | None = None,
    number_type: Literal["float32", "float16"] = "float32",
    decode_rate: float | None = None,
    cores: int | None = None,
    read_bandwidth: float | None = None,
    price: float | None = None,
    json_: JsonFlag = False,
) -> int:
    """Estimate time, memory, storage and cost of work on many images.

    The rate is computed from a device's published peak, given, or measured on this machine in about a second. The
    output is an estimate with all its inputs.

    Args:
        model: A size such as L/16 (vit-l), or whatever the other verbs take.
        images: Number of images, such as 1e9.
        work: embed, explain or train.
        method: Explanation method of --work explain; attention by default.
        epochs: Epochs of --work train; 1 by default.
        input_size: Side in pixels of the model's input, or height x width; the model's own by default.
        devices: Number and name, such as 64xh200; 2xcpu is two machines like this one, 4xcuda four GPUs like its own.
            This machine by default. With --rate, the number alone.
        rate: Images per second of one device, for this work, as you measured it.
        utilization: Part of the published peak that is reached; 0.35 by default.
        batch_size: Images per forward pass; 32 by default.
        precision: auto, bf16 or fp32; of published devices bf16.
        bytes_per_image: Mean size of an image file; 110,000 by default, that of ImageNet.
        number_type: float32 or float16, of the vectors or maps that are kept.
        decode_rate: Images per second that one CPU core decodes; measured on this machine by default.
        cores: CPU cores that decode, of all machines together.
        read_bandwidth: Bytes per second from where the images are; no limit by default.
        price: Price of one device for an hour, in any currency.
        json_: Print the estimate as JSON, with the formula of each figure.
    """
    from vitreous.workflows.planning.plan import plan as make_plan

    with progress("planning") as callback:
        found = make_plan(
            model, images, work=work, method=method, epochs=epochs,
            input_size=None if input_size is None else parse_input_size(input_size), devices=devices, rate=rate,
            utilization=utilization, batch_size=batch_size, precision=precision, bytes_per_image=bytes_per_image,
            number_type=number_type, decode_rate=decode_rate, cores=cores, read_bandwidth=read_bandwidth, price=price,
            callback=callback,
        )  # fmt: skip
    if json_:
        print_line(json.dumps(found.to_json()))
    else:
        _print_plan(found)
    return 0


def _print_plan(plan: "Plan") -> None:
    """Print the estimate as two tables: figures with their formulas, inputs with their sources."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vitreous.workflows.planning.plan import NOT_INCLUDED

    print_line(
        f"Estimate: {plan.work}, {plan['images']:,.0f} images, {plan.model}, {plan['devices']:.0f} × {plan.device}, "
        f"{plan.precision}"
    )
    console = Console(width=None if sys.stdout.isatty() else MIN_TABLE_WIDTH)
    figures = Table(Column("figure", no_wrap=True), Column("estimate", justify="right", no_wrap=True), "computed as")
    for name, label in LABELS.items():
        if name in plan.figures:
            figure = plan.figures[name]
            text = format_quantity(figure.value, figure.unit)
            if name == "device_memory" and (size := plan.inputs.get("memory_size")):
                text += f" of {format_quantity(size.value, size.unit)}"
            figures.add_row(label, text, Text(f"{name} = {figure.formula}"))
    console.print(figures)
    inputs = Table(Column("input", no_wrap=True), Column("value", justify="right", no_wrap=True), "source")
    for name, one in plan.inputs.items():
        inputs.add_row(name, format_quantity(one.value, one.unit), Text(one.source))
    console.print(inputs)
    print_line(f"limited by {plan.limit}; not included: {NOT_INCLUDED}")
    if plan.fits is False:
        print_line("the memory of a device is too small: choose a smaller --batch-size")


def format_quantity(value: float, unit: str) -> str:
    """Format a number with its unit.

    >>> format_quantity(7200, "s"), format_quantity(1.1e14, "bytes"), format_quantity(0.35, ""), format_quantity(1, "")
    ('2.0 hours', '110 TB', '0.35', '1')
    """
    if unit == "s":
        size, word = next(((size, word) for size, word in DURATIONS.items() if value >= size), (1.0, "seconds"))
        return f"{value / size:,.1f} {word}"
    if unit in PREFIXED:
        size, prefix = next(((size, prefix) for size, prefix in PREFIXES.items() if value >= size), (1.0, ""))
        return f"{_short(value / size)} {prefix}{unit.replace('bytes', 'B')}"
    return f"{_short(value)} {'' if unit == 'price' else unit}".strip()


def _short(value: float) -> str:
    """Write three digits or more, without a power of ten."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
