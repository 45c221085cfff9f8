"""Plan work on many images: estimate its time, memory, storage and cost before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

import torch

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError, unknown
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.runtime import PRECISIONS, choose_precision, select_device
from vitreous.workflows.planning.devices import DEVICES, MEASURED_DEVICES, parse_devices
from vitreous.workflows.planning.estimate import Inputs, PlanFigure, PlanInput, estimate
from vitreous.workflows.planning.measured_rates import count_cores, measure_decoding, measure_model
from vitreous.workflows.planning.method_passes import PIXEL_METHODS, Passes, Work, passes_of
from vitreous.workflows.planning.planned_model import PlannedModel, inspect_cost

UTILIZATION = 0.35
"""Part of a published peak that is assumed: large runs report 0.21 to 0.46 (Chowdhery et al. 2022, table 3)."""
BYTES_PER_IMAGE = 110_000
"""ImageNet's training images take 138 GB for 1.28 million (ILSVRC 2012)."""
BATCH_SIZE = 32
NOT_INCLUDED = "start-up, communication between devices, drawing and writing of results, failures"
"""What an estimate leaves out."""
NumberType = Literal["float32", "float16"]


@dataclass(frozen=True)
class PlanSettings:
    """What is to be done, and what is known already; `plan` explains the fields."""

    images: float
    work: Work = "embed"
    method: str | None = None
    epochs: float | None = None
    devices: str | None = None
    rate: float | None = None
    utilization: float | None = None
    batch_size: int | None = None
    precision: str = "auto"
    bytes_per_image: float | None = None
    number_type: NumberType = "float32"
    decode_rate: float | None = None
    cores: int | None = None
    read_bandwidth: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Plan:
    """An estimate: what a piece of work takes, and every number that it was computed from.

    Attributes:
        work: such as "explain with rollout".
        model: the model's name.
        device: of which there are `inputs["devices"]`.
        precision: "bf16" or "fp32".
        limit: what limits the rate: "compute", "memory bandwidth", "decoding" or "reading".
        fits: whether the memory of a device suffices; None where its size isn't known.
        inputs: numbers that were given, counted, published or measured, by name.
        figures: the estimated ones, with the formula of each.
    """

    work: str
    model: str
    device: str
    precision: str
    limit: str
    fits: bool | None
    inputs: Mapping[str, PlanInput]
    figures: Mapping[str, PlanFigure]

    def __getitem__(self, name: str) -> float:
        """Return the value of an input or a figure."""
        if name not in self.figures and name not in self.inputs:
            raise unknown("figure", name, [*self.figures, *self.inputs])
        return self.figures[name].value if name in self.figures else self.inputs[name].value

    def to_json(self) -> dict[str, object]:
        """Return everything as dictionaries, and that it is an estimate, and what it leaves out."""
        return {"kind": "estimate", "not_included": NOT_INCLUDED} | asdict(self)


@check_arguments
def plan(
    model: str | Path | ImageClassifier | ViT,
    images: float,
    *,
    work: Work = "embed",
    method: str | None = None,
    epochs: float | None = None,
    input_size: int | Sequence[int] | None = None,
    devices: str | None = None,
    rate: float | None = None,
    utilization: float | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    bytes_per_image: float | None = None,
    number_type: NumberType = "float32",
    decode_rate: float | None = None,
    cores: int | None = None,
    read_bandwidth: float | None = None,
    price: float | None = None,
    callback: Callback | None = None,
) -> Plan:
    """Estimate what a piece of work on many images takes: time, memory, storage, cost, and what limits it.

    Args:
        model: a size such as "L/16" (or "vit-l"), whose weights aren't needed, or whatever `load` takes.
        images: how many.
        work: "embed", "explain" or "train".
        method: of "explain", "attention" by default, with its default options.
        epochs: of "train", 1 by default.
        input_size: side, or (height, width), in pixels of the model's input; the model's own by default.
        devices: such as "64xh200"; "2xcpu" is two machines like this one, "4xcuda" four GPUs like its own. By default
            this machine's GPU, or its CPU. With `rate`, only the number.
        rate: images per second of one device for this work, as you measured it.
        utilization: part of a published device's peak that is reached, 0.35 by default.
        batch_size: images per forward pass, 32 by default.
        precision: "auto", "bf16" or "fp32"; of published devices bf16.
        bytes_per_image: of the image files, 110,000 by default, the mean of ImageNet.
        number_type: of the vectors or maps that are kept.
        decode_rate: images per second that one CPU core decodes; measured on this machine by default.
        cores: CPU cores that decode, of all machines together; of this machine all. Where they aren't known, decoding
            is no limit, and the plan says how many are needed.
        read_bandwidth: bytes per second from where the images are; no limit by default.
        price: of one device for an hour, in any currency.
        callback: receives notes.

    Raises:
        InputError: there is no such model, device or method, a number is out of range, or settings exclude each other.

    >>> plan("vit-l", 1e9, devices="64xh200", decode_rate=200)["compute_rate"] > 100_000
    True
    """
    settings = PlanSettings(
        images, work, method, epochs, devices, rate, utilization, batch_size, precision, bytes_per_image, number_type,
        decode_rate, cores, read_bandwidth, price,
    )  # fmt: skip
    _check(settings)
    count, name = parse_devices(devices or "1")
    _check_devices(settings, name)
    described = inspect_cost(model, input_size, callback or LogCallback(), embeds=work == "embed")
    chosen = passes_of(
        work, method or "attention", described.input_shape, described.grid_size, batch_size or BATCH_SIZE
    )
    return _plan(settings, described, chosen, count, name)


def _plan(settings: PlanSettings, model: PlannedModel, passes: Passes, count: int, name: str) -> Plan:
    inputs = _work_inputs(settings, model, passes)
    inputs["devices"] = PlanInput(count, "", "given" if settings.devices else "default")
    if name in DEVICES:
        published = DEVICES[name]
        inputs["peak_flops"] = PlanInput(published.peak_flops, "FLOP/s", "published, dense bf16")
        inputs["memory_bandwidth"] = PlanInput(published.memory_bandwidth, "bytes/s", "published")
        inputs["memory_size"] = PlanInput(published.memory_bytes, "bytes", "published")
        inputs["utilization"] = _given(settings.utilization, UTILIZATION, "")
        device, precision, is_here = name, "bf16", False
    elif settings.rate is not None:
        inputs["device_rate"] = PlanInput(settings.rate, "images/s", "given")
        device, is_here = "device of the given rate", False
        precision = "bf16" if settings.precision == "auto" else settings.precision
    else:
        torch_device = select_device(name or "auto")
        precision, is_here = choose_precision(settings.precision, torch_device), True
        speed = measure_model(model, torch_device, precision)
        source = f"measured: {speed.precision}, {speed.device}, batches of {speed.batch}"
        inputs["forward_rate"] = PlanInput(speed.images_per_second, "images/s", source)
        device = torch_device.type
        if torch_device.type == "cuda":
            size = torch.cuda.get_device_properties(torch_device).total_memory
            inputs["memory_size"] = PlanInput(size, "bytes", "of this machine's GPU")
    _add_decoding(inputs, settings, model, count if device == "cpu" else 1, is_here=is_here)
    _add_memory(inputs, settings, model, passes, precision)
    figures, limit = estimate(inputs, work=settings.work, on_cpu=device == "cpu")
    size = inputs.get("memory_size")
    fits = None if size is None else figures["device_memory"].value <= size.value
    work = f"explain with {settings.method or 'attention'}" if settings.work == "explain" else settings.work
    return Plan(work, model.name, device, precision, limit, fits, inputs, figures)


def _work_inputs(settings: PlanSettings, model: PlannedModel, passes: Passes) -> Inputs:
    """Return what the images, the model and the work say."""
    inputs = {
        "images": PlanInput(settings.images, "images", "given"),
        "epochs": _given(settings.epochs, 1, ""),
        "params": PlanInput(model.params, "", "counted"),
        "macs": PlanInput(model.macs, "MACs/image", "counted"),
        "tokens": PlanInput(model.tokens, "", "counted"),
        "token_values": PlanInput(model.token_values, "", "counted: inputs and outputs of linear layers"),
        "forward_passes": PlanInput(passes.forward, "", "counted"),
        "backward_passes": PlanInput(passes.backward, "", "counted, in forward passes"),
        "batch_size": _given(settings.batch_size, BATCH_SIZE, "images"),
        "bytes_per_image": _given(settings.bytes_per_image, BYTES_PER_IMAGE, "bytes"),
    }
    if settings.work == "embed":
        inputs["vector_width"] = PlanInput(model.vector_width, "", "counted")
    if settings.work == "explain":
        is_pixels = settings.method in PIXEL_METHODS
        height, width = model.preprocessing.input_size if is_pixels else model.grid_size
        inputs["map_values"] = PlanInput(height * width, "", f"counted: {height} × {width}")
    if settings.work != "train":
        inputs["bytes_per_number"] = PlanInput(int(settings.number_type[-2:]) // 8, "bytes", settings.number_type)
    if settings.price is not None:
        inputs["price"] = PlanInput(settings.price, "per device hour", "given")
    return inputs


def _add_decoding(inputs: Inputs, settings: PlanSettings, model: PlannedModel, machines: int, *, is_here: bool) -> None:
    """Add the rate of decoding, the cores for it, and the bandwidth of reading, as far as they are known."""
    if settings.decode_rate is None:
        bytes_per_second, size = measure_decoding(model.preprocessing)
        source = f"measured on one core of this machine: a JPEG of {size:,} bytes; in proportion to bytes_per_image"
        rate = bytes_per_second / inputs["bytes_per_image"].value
        inputs["decode_rate"] = PlanInput(rate, "images/s/core", source)
    else:
        inputs["decode_rate"] = PlanInput(settings.decode_rate, "images/s/core", "given")
    if settings.cores is not None:
        inputs["cores"] = PlanInput(settings.cores, "CPU cores", "given")
    elif is_here:
        source = "of this machine" if machines == 1 else f"of {machines} machines like this one"
        inputs["cores"] = PlanInput(count_cores() * machines, "CPU cores", source)
    if settings.read_bandwidth is not None:
        inputs["read_bandwidth"] = PlanInput(settings.read_bandwidth, "bytes/s", "given")


def _add_memory(inputs: Inputs, settings: PlanSettings, model: PlannedModel, passes: Passes, precision: str) -> None:
    """Add what the formula of the memory starts from.

    Weights are float32, and autocast keeps a copy in bfloat16; training adds a gradient and AdamW's two moments.
    """
    copies = 2 if precision == "bf16" else 0
    words = "float32 weights, gradient, AdamW's moments" if settings.work == "train" else "float32 weights"
    each = (16 if settings.work == "train" else 4) + copies
    source = f"{words}{', bf16 copy' * bool(copies)}"
    inputs["bytes_per_param"] = PlanInput(each, "bytes", source)
    inputs["bytes_per_value"] = PlanInput(2 if precision == "bf16" else 4, "bytes", precision)
    if passes.backward:
        kept, source = model.token_values * 17 / 16, "17/16 of token_values, for the backward pass"
    elif settings.work == "explain":
        kept, source = 2 * model.widest_layer + model.token_values / 4, "one layer twice, a quarter of token_values"
    else:
        kept, source = 2.0 * model.widest_layer, "the widest layer twice"
    inputs["kept_values"] = PlanInput(kept, "", source)
    inputs["images_per_pass"] = PlanInput(passes.images_per_pass, "images", "batch_size, or copies of the method")


def _given(value: float | None, default: float, unit: str) -> PlanInput:
    return PlanInput(default, unit, "default") if value is None else PlanInput(value, unit, "given")


def _check(settings: PlanSettings) -> None:
    """Check the numbers and what excludes what.

    Raises:
        InputError: a number is out of range, there is no such work, or the work doesn't use a setting.
    """
    for name, value in asdict(settings).items():
        if isinstance(value, str) or value is None:
            continue
        if not isfinite(value) or value < 0 or (value == 0 and name != "price"):
            raise InputError(f"{name} is {value:g}: give a number above 0")
    for name, value, valid in (
        ("work", settings.work, get_args(Work)),
        ("number type", settings.number_type, get_args(NumberType)),
        ("precision", settings.precision, PRECISIONS),
    ):
        if value not in valid:
            raise unknown(name, value, valid)
    if settings.images != int(settings.images):
        raise InputError(f"images is {settings.images:g}: give a whole number, such as 1e9")
    if settings.utilization is not None and settings.utilization > 1:
        raise InputError(f"utilization is {settings.utilization:g}: give a part of the peak, above 0 and at most 1")
    if settings.method is not None and settings.work != "explain":
        raise InputError(f"a method is for explaining, not for work '{settings.work}': leave it out")
    if settings.epochs is not None and settings.work != "train":
        raise InputError(f"epochs are for training, not for work '{settings.work}': leave them out")


def _check_devices(settings: PlanSettings, name: str) -> None:
    """Check that the rate of the devices has one source.

    Raises:
        InputError: it has two or none.
    """
    if settings.rate is not None and name:
        raise InputError(
            f"rate and the device '{name}' both say how fast a device is: give the number of devices alone, "
            "such as 64, or leave out the rate"
        )
    if settings.devices is not None and settings.rate is None and not name:
        known = ", ".join([*DEVICES, *MEASURED_DEVICES])
        raise InputError(f"devices '{settings.devices}' have no name: give one of {known}, or a rate")
    if settings.utilization is not None and name not in DEVICES:
        raise InputError("utilization is the part of a published peak, for devices such as 8xh200: leave it out")
    if name in DEVICES and settings.precision == "fp32":
        raise InputError(f"the published peak of {name} is for bf16: leave out the precision, or give a rate")
