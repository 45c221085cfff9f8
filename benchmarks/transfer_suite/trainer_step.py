"""The time of a fine-tuning step, over transformers' Trainer on the same model, images, batch size and precision.

Both fine-tune all weights of the same DINOv2 model with AdamW, gradients clipped to a norm of 1, random flips and
batches of 32, in float32 or with torch's autocast to bfloat16. Vitreous is `train("finetune")`, which decodes and
resizes the images once and keeps them in memory. For the Trainer, as its users write it, a Dataset opens the JPEG file,
flips it, and has the image processor resize and normalize it; `dataloader_num_workers` is 0, its default, or 2. A step
includes everything between two reports of the loss, which come every ten steps: the batch, forward and backward pass,
optimizer, logging. Reading images into memory, validation and checkpoints are not included. They take turns, each in a
process of its own.

"products" is a floor for both: the forward and backward passes of the model's linear maps alone, on as many random
tokens. No program that computes this model in this precision with the same matrix library takes a shorter step.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from transfer_suite.options import Options, split_by_hash
from transfer_suite.timed_runs import length

STEPS, ROUNDS, BATCH, REPORT_STEPS = 30, 3, 32, 10
STEP_BAR = 1.3
"""Trainer's time over ours."""


class StepTimes:
    """Wall and CPU time at each report; a step's are the medians over reports, but not the first."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def add(self) -> None:
        """Take the time now."""
        self.times.append((time.perf_counter(), time.process_time()))

    def print_step(self) -> None:
        """Print a step's wall time in seconds and CPU time, as JSON."""
        spans = [[(b - a) / REPORT_STEPS for a, b in zip(*pair, strict=True)] for pair in pairwise(self.times)]
        print(json.dumps([median(column) for column in zip(*spans, strict=True)]))


def compare_steps(options: Options) -> None:
    """Print the seconds of a step of both, and the ratio."""
    data, kinds = split_by_hash(options.images), ("vitreous", "trainer-0", "trainer-2", "products")
    times: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, taken in times.items():
            side = str(options.input_size or 224)
            command = [sys.executable, __file__, kind, options.weights, side, options.precision, str(data)]
            path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": path}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            taken.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{kind}: {taken[-1][0]:.3f} s a step, {taken[-1][1]:.2f} s of CPU time", flush=True)
    walls = {kind: median(wall for wall, _ in taken) for kind, taken in times.items()}
    for kind in kinds[1:3]:
        print(
            f"{kind} (workers) takes {walls[kind] / walls['vitreous']:.2f} times as long as Vitreous "
            f"(medians of {ROUNDS} rounds, {BATCH} images of {options.input_size or 224} pixels, {options.precision}); "
            f"bar {STEP_BAR}"
        )
    print(f"the linear maps alone: {walls['products'] / walls['vitreous']:.0%} of Vitreous' step")


def time_vitreous(weights: str, side: int, precision: str, data: Path) -> None:
    """Print the time of a step of `train`."""
    from vitreous.callbacks import Callback, Progress
    from vitreous.process_tuning import keep_freed_memory
    from vitreous.workflows.train import train

    class Reports(Callback):
        """Takes the time at each report before the validation."""

        def on_progress(self, progress: Progress) -> None:
            """Take the time."""
            if len(times.times) * REPORT_STEPS < progress.done:
                times.add()

    keep_freed_memory()
    times, settings = StepTimes(), dict(setting.split("=") for setting in length(STEPS))
    with tempfile.TemporaryDirectory() as name:
        train(
            "finetune", Path(name) / "run", data=f"folder:{data}", init=weights, batch_size=BATCH,
            settings={"model.image_size": side, "precision": precision, **settings},
            callback=Reports(),
        )  # fmt: skip
    times.print_step()


def time_products(weights: str, side: int, precision: str) -> None:
    """Print the time of the linear maps of a step."""
    from vitreous.pretrained.load import load

    model = load(weights, "cpu").vit.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    tokens = BATCH * ((side // model.config.patch_size) ** 2 + model.config.num_prefix_tokens)
    maps = [part for part in model.blocks.modules() if isinstance(part, torch.nn.Linear)]
    dtype = maps[0].weight.dtype
    inputs = {
        size: torch.randn(tokens, size, dtype=dtype, requires_grad=True) for size in {part.in_features for part in maps}
    }
    gradients = {size: torch.randn(tokens, size, dtype=dtype) for size in {part.out_features for part in maps}}
    times = StepTimes()
    for step in range(STEPS + 1):
        if step % REPORT_STEPS == 0:
            times.add()
        for part in maps:
            part(inputs[part.in_features]).backward(gradients[part.out_features])
    times.print_step()


class JpegImages(torch.utils.data.Dataset):
    """Images that are read from their files, one at a time."""

    def __init__(self, folder: Path, side: int) -> None:
        from transformers import BitImageProcessor

        names = sorted(path.name for path in folder.iterdir())
        self.files = [(file, label) for label, name in enumerate(names) for file in sorted((folder / name).iterdir())]
        mean, std, size = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], {"height": side, "width": side}
        self.processor = BitImageProcessor(size=size, do_center_crop=False, image_mean=mean, image_std=std)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, object]:
        path, label = self.files[index]
        image = Image.open(path).convert("RGB")
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return {"pixel_values": self.processor(image, return_tensors="pt")["pixel_values"][0], "labels": label}


def time_trainer(weights: str, side: int, precision: str, data: Path, workers: int) -> None:
    """Print the time of a step of Trainer."""
    from transformers import Dinov2ForImageClassification, Trainer, TrainerCallback, TrainingArguments

    from vitreous.callbacks import Callback
    from vitreous.workflows.convert import convert

    class Reports(TrainerCallback):
        """Takes the time at each report."""

        def on_log(self, *_: object, logs: dict[str, float], **__: object) -> None:
            """Take the time, but not at the last report, of the whole run."""
            if "loss" in logs:
                times.add()

    times, images = StepTimes(), JpegImages(data / "train", side)
    with tempfile.TemporaryDirectory() as name:
        convert(weights, "hf", Path(name) / "model", callback=Callback())
        model = Dinov2ForImageClassification.from_pretrained(Path(name) / "model", num_labels=5)
        arguments = TrainingArguments(
            str(Path(name) / "run"), per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=5e-4,
            weight_decay=0.05, lr_scheduler_type="cosine", warmup_steps=STEPS // 10, logging_steps=REPORT_STEPS,
            save_strategy="no", report_to=[], dataloader_num_workers=workers, remove_unused_columns=False,
            use_cpu=True, bf16=precision == "bf16", label_smoothing_factor=0.1, disable_tqdm=True,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=images, callbacks=[Reports()]).train()
    times.print_step()


def main(arguments: Sequence[str]) -> None:
    """Time one of them."""
    kind, weights, side, precision, data = arguments
    if kind == "vitreous":
        time_vitreous(weights, int(side), precision, Path(data))
    elif kind == "products":
        time_products(weights, int(side), precision)
    else:
        time_trainer(weights, int(side), precision, Path(data), int(kind.removeprefix("trainer-")))


if __name__ == "__main__":
    main(sys.argv[1:])
