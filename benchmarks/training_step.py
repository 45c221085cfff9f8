"""A training step of Vitreous compared with a plain loop over transformers' ViT of the same size with a DataLoader.

Command:  python benchmarks/training_step.py

Both train on random images of CIFAR-10's shape, with the same batch size, width, depth, heads and patch size, AdamW
with fused=True, random flips and shifts. Vitreous keeps the images in memory and augments a batch at a time. The plain
loop has a Dataset that augments and normalizes one image at a time, in two worker processes, with which it is fastest.
Times are medians of steps in separate processes that take turns; Vitreous keeps freed memory, as its command line does.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.augment import Augment
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.model.config import named_config
from vitreous.model.flops import count_macs
from vitreous.model.vit import ViT
from vitreous.process_tuning import keep_freed_memory
from vitreous.runtime import autocast, seed_for
from vitreous.training.accumulation import GradientAccumulator
from vitreous.training.distributed import DistributedContext
from vitreous.training.optimizer import OptimizerSettings, build_optimizers
from vitreous.training.recipe import Recipe

BATCH, STEPS, IMAGES = 256, 25, 20_000
CPU = torch.device("cpu")


def make_images() -> tuple[Tensor, Tensor]:
    """Draw `IMAGES` random images, uint8 (images, 3, 32, 32), and labels."""
    random = torch.Generator().manual_seed(0)
    shape = (IMAGES, 3, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random), torch.arange(IMAGES) % 10


def vitreous_step(precision: str) -> Callable[[], None]:
    """Return a step made of the parts of Vitreous."""
    images, labels = make_images()
    model = named_config("micro/4-32", qk_norm=True)
    adamw = OptimizerSettings(kind="adamw")
    recipe = Recipe("step", "cifar10", model, epochs=1, batch_size=BATCH, optimizer=adamw)
    data = ImageSet(images, labels, tuple("0123456789"))
    batches = TrainingBatches(data, BATCH, Augment(flip=True, shift=3), 0, normalize=Normalize((0.5,) * 3, (0.25,) * 3))
    vit = ViT(recipe.model).train()
    accumulator, (optimizer,) = (
        GradientAccumulator(vit, recipe, DistributedContext()),
        build_optimizers(vit, recipe.optimizer).values(),
    )
    steps = iter(range(10**9))

    def step() -> None:
        number = next(steps)
        batch = batches.batch(number)
        with autocast(CPU, precision):
            accumulator.backward(batch.images, batch.labels, seed_for(0, "model", number))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class BaselineImages(torch.utils.data.Dataset):
    """One image at a time, flipped and shifted at random."""

    def __init__(self) -> None:
        self.images, self.labels = make_images()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index].float().div_(255).sub_(0.5).div_(0.25)
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        padded = functional.pad(image, (3, 3, 3, 3))
        down, across = torch.randint(0, 7, (2,)).tolist()
        return padded[:, down : down + 32, across : across + 32], int(self.labels[index])


def baseline_step(precision: str) -> Callable[[], None]:
    """Return a step of the plain loop."""
    from transformers import ViTConfig, ViTForImageClassification

    own = named_config("micro/4-32")
    theirs = ViTConfig(
        hidden_size=own.embed_dim, num_hidden_layers=own.depth, num_attention_heads=own.num_heads, num_labels=10,
        intermediate_size=int(own.mlp_ratio * own.embed_dim), image_size=32, patch_size=4,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ViTForImageClassification(theirs).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    loader = torch.utils.data.DataLoader(
        BaselineImages(), BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    batches = endless(loader)

    def step() -> None:
        images, labels = next(batches)
        with autocast(CPU, precision):
            loss = functional.cross_entropy(model(images).logits.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def endless(loader: torch.utils.data.DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from loader


def measure(step: Callable[[], None]) -> None:
    """Print the median seconds of a step."""
    times = []
    for _ in range(STEPS + 3):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    print(median(times[3:]))


def main() -> None:
    """Print both times, in each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        if given.run[0] == "vitreous":
            keep_freed_memory()
        measure((vitreous_step if given.run[0] == "vitreous" else baseline_step)(given.run[1]))
        return
    flops = 6 * count_macs(named_config("micro/4-32")) * BATCH  # forward and twice as much backward
    for precision in ("fp32", "bf16"):
        times: dict[str, list[float]] = {"vitreous": [], "baseline": []}
        for _ in range(3):
            for name, taken in times.items():
                command = [sys.executable, __file__, "--run", name, precision]
                taken.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        own, baseline = (min(times[name]) for name in ("vitreous", "baseline"))
        print(
            f"{precision}: a step of {BATCH} images takes Vitreous {own * 1000:.0f} ms ({BATCH / own:.0f} images/s, "
            f"{flops / own / 1e9:.0f} GFLOP/s), the plain loop {baseline * 1000:.0f} ms, {baseline / own:.2f} × as long"
        )


if __name__ == "__main__":
    main()
