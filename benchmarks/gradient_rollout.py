"""What gradient rollout costs: its time over that of one forward pass and one backward pass to the input.

Measured in turns in one run, beside the usual way: attention written out, every matrix and its gradient kept, and the
relevance multiplied as a matrix.

Command:  python benchmarks/gradient_rollout.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from vitreous.explanation.methods.gradient_rollout import gradient_rollout
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.gradients import forward_scored, score_gradients
from vitreous.explanation.targets import PredictedClassTarget
from vitreous.model import kernels
from vitreous.model.config import named_config
from vitreous.model.vit import ViT

ROUNDS = 7
CASES = (("S/16", (224, 224), 1), ("S/16", (224, 224), 4), ("S/16", (512, 512), 1))


def forward_and_backward(model: ViT, images: torch.Tensor) -> torch.Tensor:
    """The gradient of the predicted class's logit with respect to the images."""
    with torch.enable_grad():
        start = images.detach().requires_grad_()
        return score_gradients(PredictedClassTarget()(model(start)), [start])[0]


def usual_way(model: ViT, images: torch.Tensor) -> torch.Tensor:
    """Chefer et al. 2021 by the matrices: each layer's attention and its gradient, and their product."""
    before = dict(kernels.EAGER_MAX_TOKENS)
    kernels.EAGER_MAX_TOKENS[torch.float32] = 10**9
    try:
        run = forward_scored(model, images, PredictedClassTarget())
    finally:
        kernels.EAGER_MAX_TOKENS.update(before)
    weights = [record.weights for record in run.trace.records]
    relevance = torch.eye(weights[0].shape[-1]).expand(len(images), -1, -1)
    for one, slope in zip(weights, score_gradients(run.scores, weights), strict=True):
        relevance = relevance + (slope * one.detach()).clamp(min=0).mean(1) @ relevance
    return relevance[:, 0, 1:]


def ways(model: ViT, images: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The pass there and back, our map, and the usual one."""
    return {
        "forward and backward": lambda: forward_and_backward(model, images),
        "gradient-rollout": lambda: gradient_rollout(
            model, images, PredictedClassTarget(), MethodOptions()
        ).values.flatten(1),
        "usual way: all matrices kept": lambda: usual_way(model, images),
    }


@torch.no_grad()
def compare(name: str, size_hw: tuple[int, int], batch: int) -> None:
    """Print the median time of each way over that of the pass there and back, and how far the two maps differ."""
    torch.manual_seed(0)
    model = ViT(named_config(name)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):  # a new model's branches and head are 0, and so would be every gradient
            torch.nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    chosen = ways(model, torch.randn(batch, 3, *size_hw))
    times: dict[str, list[float]] = {way: [] for way in chosen}
    maps = {}
    for turn in range(ROUNDS + 1):
        for way, run in chosen.items():
            started = time.perf_counter()
            maps[way] = run()
            if turn:
                times[way].append(time.perf_counter() - started)
    plain, *explained = chosen
    base = median(times[plain])
    print(f"{name} at {size_hw[0]} x {size_hw[1]}, batch {batch}: {plain} {base * 1000:.0f} ms")
    for way in explained:
        print(f"  {way:30s} {median(times[way]) / base:5.2f} times that")
    ours, usual = (maps[way] for way in explained)
    print(
        f"  largest difference of the two  {((ours - usual).abs().max() / usual.abs().max()).item():.1e} of the maximum"
    )


if __name__ == "__main__":
    for case in CASES:
        compare(*case)
