"""The cost of gradient rollout relative to one forward pass and one backward pass to the input.

The variants alternate in one run. The usual code keeps every attention matrix and its gradient, and multiplies the
relevance as a matrix.

Command:  python benchmarks/gradient_rollout.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from vitreous.explanation.methods.gradient_rollout import gradient_rollout
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.gradients import forward_scored, score_gradients
from vitreous.model import kernels
from vitreous.model.config import named_config
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget

ROUNDS = 7
CASES = (("S/16", (224, 224), 1), ("S/16", (224, 224), 4), ("S/16", (512, 512), 1))


def forward_and_backward(model: ViT, images: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the predicted class's logit with respect to the images."""
    with torch.enable_grad():
        start = images.detach().requires_grad_()
        return score_gradients(PredictedClassTarget()(model(start)), [start])[0]


def usual_code(model: ViT, images: torch.Tensor) -> torch.Tensor:
    """Compute Chefer et al. 2021 with the matrices of each layer's attention and its gradient, and their product."""
    before = dict(kernels.EAGER_MAX_TOKENS)
    kernels.EAGER_MAX_TOKENS[torch.float32] = 10**9
    try:
        run = forward_scored(model, images, PredictedClassTarget())
    finally:
        kernels.EAGER_MAX_TOKENS.update(before)
    weights = [record.weights for record in run.trace.records]
    relevance = torch.eye(weights[0].shape[-1]).expand(len(images), -1, -1)
    for one, gradient in zip(weights, score_gradients(run.scores, weights), strict=True):
        relevance = relevance + (gradient * one.detach()).clamp(min=0).mean(1) @ relevance
    return relevance[:, 0, 1:]


def variants(model: ViT, images: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the forward and backward pass, our map, and the usual one."""
    return {
        "forward and backward": lambda: forward_and_backward(model, images),
        "gradient-rollout": lambda: gradient_rollout(
            model, images, PredictedClassTarget(), MethodOptions()
        ).values.flatten(1),
        "usual code: all matrices kept": lambda: usual_code(model, images),
    }


@torch.no_grad()
def compare(name: str, size_hw: tuple[int, int], batch: int) -> None:
    """Print the median time of each variant relative to the two passes, and the difference of the two maps."""
    torch.manual_seed(0)
    model = ViT(named_config(name)).eval()
    for module in model.modules():
        if isinstance(
            module, torch.nn.Linear
        ):  # the branches and the head of a new model are 0, and so would be every gradient
            torch.nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    chosen = variants(model, torch.randn(batch, 3, *size_hw))
    times: dict[str, list[float]] = {variant: [] for variant in chosen}
    maps = {}
    for turn in range(ROUNDS + 1):
        for variant, run in chosen.items():
            started = time.perf_counter()
            maps[variant] = run()
            if turn:
                times[variant].append(time.perf_counter() - started)
    plain, *explained = chosen
    base = median(times[plain])
    print(f"{name} at {size_hw[0]} x {size_hw[1]}, batch {batch}: {plain} {base * 1000:.0f} ms")
    for variant in explained:
        print(f"  {variant:30s} {median(times[variant]) / base:5.2f} times that")
    ours, usual = (maps[variant] for variant in explained)
    print(
        f"  largest difference of the two  {((ours - usual).abs().max() / usual.abs().max()).item():.1e} of the maximum"
    )


if __name__ == "__main__":
    for case in CASES:
        compare(*case)
