"""Fine-tuning against training from scratch, LoRA against all weights, and few images against the probe."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np

from transfer_suite.options import Options, PrintedNotes, draw_images, split_by_hash
from transfer_suite.timed_runs import Command, Tested, length, paired_difference, plan_steps, run_command
from vitreous.callbacks import Callback
from vitreous.transfer.probing.data import cached_features, split_features
from vitreous.transfer.probing.fit import fit_knn, fit_logistic

SCRATCH = Command(
    "cifar10-20-stem",
    (
        "model.image_size=64", "model.patch_size=8", "model.embed_dim=192", "model.num_heads=3", "model.stem_convs=1",
        "batch_size=64", "augment.shift=6", "augment.cutmix=1",
    ),
)  # fmt: skip
"""The best on validation images for its CPU time of those that were tried (LOG.md, 2026-12-01)."""
TUNED = ("augment.cutmix=1",)
"""What was chosen for the same time on validation images, beside the input size."""
LORA = ("tune=lora", "lora.rank=8")
FINETUNE_BAR, LORA_BAR, LORA_WEIGHTS_BAR = 0.10, 0.01, 0.02
LORA_PART = 0.4
"""Of the minutes of `finetune`."""
FEW_CLASSES, FEW_IMAGES = ("rose", "tulip"), 120


def compare_finetune(options: Options) -> None:
    """Print the test accuracy of fine-tuned models and of those trained from scratch in the same time."""
    data, full = split_by_hash(options.images), finetune(options)
    command = Command(full.recipe, (*full.settings, *TUNED), full.init)
    with tempfile.TemporaryDirectory() as name:
        steps = [plan_steps(one, data, Path(name), options.minutes) for one in (command, SCRATCH)]
        tuned = train_seeds(command, data, steps[0], options)
        scratch = train_seeds(SCRATCH, data, steps[1], options)
    difference, low, high = paired_difference(tuned, scratch)
    margin = min(one.accuracy for one in tuned) - max(one.accuracy for one in scratch)
    print(
        f"fine-tuned is {100 * difference:.2f} points better, 95 % interval over test images {100 * low:.2f} to "
        f"{100 * high:.2f}; its worst seed {100 * margin:.2f} better than the best from scratch; bar {FINETUNE_BAR:.0%}"
    )


def compare_lora(options: Options) -> None:
    """Print the test accuracy of LoRA and of tuning all weights, for as many steps."""
    data, full = split_by_hash(options.images), finetune(options)
    lora = Command(full.recipe, (*full.settings, *LORA), full.init)
    with tempfile.TemporaryDirectory() as name:
        steps = plan_steps(full, data, Path(name), options.minutes * LORA_PART)
    tuned, adapted = (train_seeds(one, data, steps, options) for one in (full, lora))
    difference, low, high = paired_difference(adapted, tuned)
    fraction = re.search(r"\(([\d.]+)%\)", adapted[0].note)
    assert fraction, adapted[0].note
    print(
        f"LoRA trains {fraction[1]} % of the weights (bar {LORA_WEIGHTS_BAR:.0%}); from all weights it is "
        f"{100 * difference:+.2f} points, 95 % interval over test images {100 * low:+.2f} to {100 * high:+.2f}; "
        f"bar {-LORA_BAR:.0%}"
    )


def compare_few(options: Options) -> None:
    """Print the test accuracy of fine-tuning with default settings, and of the probe, on few images of two classes."""
    tuned, probed = [], []
    for seed in range(options.seeds):
        data = draw_images(options.images, FEW_CLASSES, FEW_IMAGES, seed)
        tuned.append(train_seed(finetune(options), data, [], seed))
        probed.append(probe(options, data))
        print(f"draw {seed}: fine-tuned {tuned[-1]}, probe {probed[-1]}", flush=True)
    difference, low, high = paired_difference(tuned, probed)
    print(
        f"{' and '.join(FEW_CLASSES)}, {FEW_IMAGES} images each, {len(tuned[0].correct)} test images: fine-tuned "
        f"{mean(one.accuracy for one in tuned):.2%}, probe {mean(one.accuracy for one in probed):.2%}, difference "
        f"{100 * difference:+.2f} points, 95 % interval over test images {100 * low:+.2f} to {100 * high:+.2f}; bar: "
        "the interval reaches 0 or more"
    )


def finetune(options: Options) -> Command:
    """Return the command of fine-tuning, with the recipe's defaults."""
    size = (f"model.image_size={options.input_size}",) if options.input_size else ()
    return Command("finetune", size, options.weights)


def train_seeds(command: Command, data: Path, steps: int, options: Options) -> Sequence[Tested]:
    """Train with several seeds, and print what each model gets right."""
    print(f"{command}, {steps:,} steps")
    found = []
    for seed in range(options.seeds):
        found.append(train_seed(command, data, length(steps), seed))
        print(f"seed {seed}: {found[-1]}", flush=True)
    print(f"mean {mean(one.accuracy for one in found):.2%} (n = {len(found)}){found[0].note}")
    return found


def train_seed(command: Command, data: Path, extra: Sequence[str], seed: int) -> Tested:
    """Train with a seed, and test the model."""
    with tempfile.TemporaryDirectory() as name:
        return run_command(command, data, Path(name) / "run", [*extra, f"seed={seed}"])


def probe(options: Options, data: Path) -> Tested:
    """Fit both methods of the probe, and test that which is better on validation images."""
    features = cached_features(options.load(), f"folder:{data}", "fp32", PrintedNotes())
    parts = split_features(features, 0.2, Callback())
    choices = [fit(parts.training, parts, refit=True) for fit in (fit_knn, fit_logistic)]
    best = max(choices, key=lambda one: one.validation_accuracy)
    return Tested(np.asarray(best.scores.argmax(1) == parts.test.labels), 0.0, 0.0, "")
