"""The figures of a plan: each follows from the inputs, and from figures before it, by the formula beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlanInput:
    """A number that a plan starts from.

    Attributes:
        value: in `unit`.
        unit: such as "images" or "bytes/s"; empty for a plain number.
        source: "given", "default", "counted", "published", or what was measured on this machine.
    """

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class PlanFigure:
    """A number that a plan estimates.

    Attributes:
        value: in `unit`.
        unit: such as "s" or "bytes".
        formula: the expression that gives the value, in names of inputs and of other figures.
    """

    value: float
    unit: str
    formula: str


Inputs = dict[str, PlanInput]


@dataclass
class Estimator:
    """Collects figures, in order; a later one may use earlier ones."""

    inputs: Mapping[str, PlanInput]
    figures: dict[str, PlanFigure] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value if name in self.figures else self.inputs[name].value

    def has(self, name: str) -> bool:
        """Return whether there is such an input."""
        return name in self.inputs

    def add(self, name: str, value: float, unit: str, formula: str) -> None:
        """Add a figure."""
        self.figures[name] = PlanFigure(value, unit, formula)


def estimate(inputs: Inputs, *, work: str, on_cpu: bool) -> tuple[dict[str, PlanFigure], str]:
    """Compute all figures of a plan, and what limits it.

    Args:
        inputs: by name.
        work: "embed", "explain" or "train".
        on_cpu: decoding shares the cores with the model.
    """
    plan = Estimator(inputs)
    device_limit = _device_rate(plan)
    limit = _throughput(plan, on_cpu=on_cpu, device_limit=device_limit)
    images = plan["images"]
    plan.add("seconds", images * plan["epochs"] / plan["rate"], "s", "images * epochs / rate")
    plan.add("device_hours", plan["devices"] * plan["seconds"] / 3600, "device hours", "devices * seconds / 3600")
    _memory(plan)
    _storage(plan, work)
    if plan.has("price"):
        plan.add("cost", plan["price"] * plan["device_hours"], "price", "price * device_hours")
        plan.add("cost_per_million", plan["cost"] / images * 1e6, "price", "cost / images * 1e6")
    return plan.figures, limit


def _device_rate(plan: Estimator) -> str:
    """Add the images per second of one device, and return what limits them.

    A published device computes at a part of its peak, but no faster than its memory delivers: each pass reads the
    weights once a batch, and writes and reads the inputs and outputs of all linear layers in bfloat16.
    """
    if plan.has("device_rate"):
        return "compute"
    passes = plan["forward_passes"] + plan["backward_passes"]
    if plan.has("forward_rate"):
        formula = "forward_rate / (forward_passes + backward_passes)"
        plan.add("device_rate", plan["forward_rate"] / passes, "images/s", formula)
        return "compute"
    flops = 2 * plan["macs"] * passes
    plan.add("flops", flops, "FLOPs/image", "2 * macs * (forward_passes + backward_passes)")
    traffic = passes * (2 * plan["params"] / plan["batch_size"] + 4 * plan["tokens"] * plan["token_values"])
    formula = "(forward_passes + backward_passes) * (2 * params / batch_size + 4 * tokens * token_values)"
    plan.add("traffic", traffic, "bytes/image", formula)
    compute, memory = plan["peak_flops"] * plan["utilization"] / flops, plan["memory_bandwidth"] / traffic
    formula = "min(peak_flops * utilization / flops, memory_bandwidth / traffic)"
    plan.add("device_rate", min(compute, memory), "images/s", formula)
    return "compute" if compute <= memory else "memory bandwidth"


def _throughput(plan: Estimator, *, on_cpu: bool, device_limit: str) -> str:
    """Add the images per second of everything together, and return what limits them."""
    plan.add("compute_rate", plan["devices"] * plan["device_rate"], "images/s", "devices * device_rate")
    if not on_cpu:
        formula = "compute_rate / decode_rate"
        plan.add("decode_cores", plan["compute_rate"] / plan["decode_rate"], "CPU cores", formula)
    limits = {device_limit: (plan["compute_rate"], "compute_rate")}
    if plan.has("cores"):
        decoding = plan["cores"] * plan["decode_rate"]
        if on_cpu:  # the same cores do one after the other
            rate = 1 / (1 / plan["compute_rate"] + 1 / decoding)
            name = device_limit if plan["compute_rate"] <= decoding else "decoding"
            limits = {name: (rate, "1 / (1 / compute_rate + 1 / (cores * decode_rate))")}
        else:
            limits["decoding"] = (decoding, "cores * decode_rate")
    if plan.has("read_bandwidth"):
        reading = plan["read_bandwidth"] / plan["bytes_per_image"]
        limits["reading"] = (reading, "read_bandwidth / bytes_per_image")
    limit = min(limits, key=lambda name: limits[name][0])
    formulas = [formula for _, formula in limits.values()]
    formula = formulas[0] if len(formulas) == 1 else f"min({', '.join(formulas)})"
    plan.add("rate", limits[limit][0], "images/s", formula)
    plan.add("read_rate", plan["rate"] * plan["bytes_per_image"], "bytes/s", "rate * bytes_per_image")
    return limit


def _memory(plan: Estimator) -> None:
    """Add what a device needs.

    Where gradients are computed, the graph keeps 17 values of a token for each 16 inputs and outputs of linear layers
    (Korthikanti et al. 2022, section 4.1, without dropout and without the attention matrices, which fused kernels don't
    keep). Elsewhere one layer is there at a time, its input and output twice: before and after normalization, GELU and
    residual. The queries, keys, values and outputs that explanations keep are a quarter of all inputs and outputs.
    """
    plan.add("weight_memory", plan["params"] * plan["bytes_per_param"], "bytes", "params * bytes_per_param")
    kept = plan["kept_values"]
    formula = "images_per_pass * tokens * kept_values * bytes_per_value"
    values = plan["images_per_pass"] * plan["tokens"] * kept * plan["bytes_per_value"]
    plan.add("activation_memory", values, "bytes", formula)
    memory = plan["weight_memory"] + plan["activation_memory"]
    plan.add("device_memory", memory, "bytes", "weight_memory + activation_memory")


def _storage(plan: Estimator, work: str) -> None:
    """Add the bytes of the images and of what is written."""
    plan.add("input_storage", plan["images"] * plan["bytes_per_image"], "bytes", "images * bytes_per_image")
    if work == "train":  # weights, and a checkpoint of weights and AdamW's two moments, all float32
        plan.add("output_storage", 16 * plan["params"], "bytes", "16 * params")
        return
    name = "vector_width" if work == "embed" else "map_values"
    value = plan["images"] * plan[name] * plan["bytes_per_number"]
    plan.add("output_storage", value, "bytes", f"images * {name} * bytes_per_number")
