"""What looking costs: the time of an explained forward pass over that of a plain one, measured in turns in one run.

Command:  python benchmarks/explain.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from vitreous.explanation.attention import layer_attention
from vitreous.explanation.rollout import plain_rollout, roll
from vitreous.explanation.rows import plain_attention
from vitreous.explanation.settings import Settings
from vitreous.model.config import size
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

ROUNDS = 9
CASES = (("Ti/16", (224, 224), 4), ("S/16", (224, 224), 2), ("S/16", (512, 512), 1))


def ways(model: ViT, pictures: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The plain pass and the explained ones."""

    def observed(read: Callable[[Trace], object]) -> Callable[[], object]:
        def run() -> object:
            trace = Trace()
            model(pictures, trace)
            return read(trace)

        return run

    depth = model.config.depth
    return {
        "plain": lambda: model(pictures),
        "class row, last layer": observed(lambda trace: layer_attention(trace, depth - 1, Settings())),
        "class row, all layers": observed(lambda trace: [layer_attention(trace, i, Settings()) for i in range(depth)]),
        "rollout": observed(lambda trace: roll(trace.records, trace.readout)),
        "usual way: all matrices kept": observed(lambda trace: [plain_attention(one) for one in trace.records]),
        "usual way: rollout by matrices": observed(lambda trace: plain_rollout(trace, trace.readout)),
    }


@torch.no_grad()
def compare(name: str, size_hw: tuple[int, int], batch: int) -> None:
    """Print the median time of each way over that of the plain pass."""
    model = ViT(size(name)).eval()
    chosen = ways(model, torch.randn(batch, 3, *size_hw))
    times: dict[str, list[float]] = {way: [] for way in chosen}
    for turn in range(ROUNDS + 1):
        for way, run in chosen.items():
            started = time.perf_counter()
            run()
            if turn:
                times[way].append(time.perf_counter() - started)
    plain = median(times["plain"])
    print(f"{name} at {size_hw[0]} x {size_hw[1]}, batch {batch}: plain {plain * 1000:.0f} ms")
    for way in list(chosen)[1:]:
        print(f"  {way:32s} {median(times[way]) / plain:5.2f} times the plain pass")


if __name__ == "__main__":
    for case in CASES:
        compare(*case)
