"""The devices that a plan knows: published peaks of accelerators, and the names of the machine at hand."""

import re
from dataclasses import dataclass

from vitreous.errors import InputError, unknown

MEASURED_DEVICES = ("cpu", "cuda")
"""Names of this machine's own devices: what they can do is measured, not looked up."""


@dataclass(frozen=True)
class PublishedDevice:
    """What the maker of a device publishes of it.

    Attributes:
        peak_flops: floating point operations per second of dense bfloat16 matrix products with float32 accumulation.
            Makers often print twice as many, which hold for sparse matrices.
        memory_bytes: memory of one device.
        memory_bandwidth: bytes per second.
    """

    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float


DEVICES: dict[str, PublishedDevice] = {
    # NVIDIA HGX/DGX B200 datasheet: 4.5 PFLOPS with sparsity; 1,440 GB and 64 TB/s for eight.
    "b200": PublishedDevice(2250e12, 180e9, 8e12),
    # nvidia.com/en-us/data-center/h200, SXM: 1,979 TFLOPS with sparsity, 141 GB, 4.8 TB/s.
    "h200": PublishedDevice(989e12, 141e9, 4.8e12),
    # nvidia.com/en-us/data-center/h100, SXM: 1,979 TFLOPS with sparsity, 80 GB, 3.35 TB/s.
    "h100": PublishedDevice(989e12, 80e9, 3.35e12),
    # NVIDIA H100 datasheet, PCIe: 1,513 TFLOPS with sparsity, 80 GB, 2 TB/s.
    "h100-pcie": PublishedDevice(756e12, 80e9, 2e12),
    # NVIDIA A100 80GB datasheet, SXM: 312 TFLOPS dense, 80 GB, 2,039 GB/s.
    "a100": PublishedDevice(312e12, 80e9, 2.039e12),
    # NVIDIA A100 40GB datasheet: 312 TFLOPS dense, 40 GB, 1,555 GB/s.
    "a100-40gb": PublishedDevice(312e12, 40e9, 1.555e12),
    # NVIDIA L40S datasheet: 362 TFLOPS dense, 48 GB, 864 GB/s.
    "l40s": PublishedDevice(362e12, 48e9, 864e9),
    # NVIDIA L4 datasheet: 242 TFLOPS with sparsity, 24 GB, 300 GB/s.
    "l4": PublishedDevice(121e12, 24e9, 300e9),
    # NVIDIA A10 datasheet: 125 TFLOPS dense, 24 GB, 600 GB/s.
    "a10": PublishedDevice(125e12, 24e9, 600e9),
    # NVIDIA RTX Blackwell whitepaper, appendix A: 209.5 TFLOPS dense, 32 GB, 1,792 GB/s.
    "rtx5090": PublishedDevice(209.5e12, 32e9, 1.792e12),
    # NVIDIA Ada whitepaper, appendix A: 165.2 TFLOPS dense, 24 GB, 1,008 GB/s.
    "rtx4090": PublishedDevice(165.2e12, 24e9, 1.008e12),
    # NVIDIA GA102 whitepaper, appendix A: 71 TFLOPS dense, 24 GB, 936 GB/s.
    "rtx3090": PublishedDevice(71e12, 24e9, 936e9),
    # AMD Instinct MI300X datasheet: 1,307.4 TFLOPS dense, 192 GB, 5.3 TB/s.
    "mi300x": PublishedDevice(1307.4e12, 192e9, 5.3e12),
}
"""Accelerators by name."""


def parse_devices(text: str) -> tuple[int, str]:
    """Parse "64xh200" as a number and a name; a name alone is one device, a number alone has no name.

    >>> parse_devices("64xh200"), parse_devices("RTX 4090"), parse_devices("8")
    ((64, 'h200'), (1, 'rtx4090'), (8, ''))

    Raises:
        InputError: the number is below 1, or there is no such device; the message names those that there are.
    """
    plain = text.strip().lower().replace("×", "x")
    found = re.fullmatch(r"(?:(-?\d+)(?:\s*x\s*|$))?(.*)", plain)
    assert found is not None  # every text matches
    count, name = int(found[1] or 1), re.sub(r"[\s_]", "", found[2])
    if count < 1:
        raise InputError(f"'{text}' has {count} devices: give 1 or more, such as 8xh200")
    if name not in DEVICES and name not in MEASURED_DEVICES and (name or not found[1]):
        raise unknown("device", name, [*DEVICES, *MEASURED_DEVICES])
    return count, name
