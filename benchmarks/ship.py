"""Put a run's model into the package, with a card made from the run: what `vitreous:NAME` loads.

Command:  python benchmarks/ship.py RUN NAME

Weights go in half precision, which moves no answer on the test images by more than rounding; the card says what
`vitreous evaluate` says of the model as it is shipped. It writes vitreous/shipped/NAME.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vitreous.evaluation.report import Evaluation
from vitreous.files import make_folder, read_json, write_text
from vitreous.model.serialization import CONFIG, WEIGHTS, write_tensors
from vitreous.pretrained.registry import SHIPPED
from vitreous.runs.run_folder import RunFolder
from vitreous.workflows.evaluate import evaluate

LARGEST_BYTES = 6_000_000


def card(name: str, header: dict[str, Any], scores: Evaluation, parameters: int) -> str:
    """What the model is, from the run that made it."""
    recipe = header["recipe"]
    model, data = recipe["model"], header["data"]
    low, high = scores.top1_interval
    taught = "a small convolutional network, trained in the same run on the same images"
    taught = f"\n| taught by | {taught} |" if recipe["teacher"]["share"] else ""
    side, patch = model["image_size_hw"][0], model["patch_size"]
    return f"""---
license: apache-2.0
library_name: vitreous
pipeline_tag: image-classification
datasets: [cifar10]
---

# vitreous:{name}

A Vision Transformer of {parameters / 1e6:.2f} M parameters, made to be looked into: images of {side} × {side},
patches of {patch}, width {model["width"]}, depth {model["depth"]}, {model["heads"]} heads, {model["pooling"]} pooling.

| | |
|---|---|
| recipe | `vitreous train {recipe["name"]} --set seed={recipe["seed"]}` |
| learned from | {data["training"]:,} training images of {data["source"]}, and no other data |{taught}
| passes | {recipe["epochs"]:g} |
| top-1 on the {scores.count:,} test images | {scores.top1:.2%} (95 % interval {low:.2%} to {high:.2%}) |
| made with | vitreous {header["vitreous"]}, torch {header["torch"]}, {header["device"]} |

It knows ten classes and images of 32 × 32. Of any other image it says one of the ten all the same, often
surely. It is a specimen, not a tool for decisions. CIFAR-10 is by Krizhevsky (2009).
"""


def main() -> None:
    """Copy configuration and weights, evaluate them, write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", choices=SHIPPED)
    asked = parser.parse_args()
    folder = SHIPPED[asked.name]
    make_folder(folder)
    shutil.copyfile(asked.run / CONFIG, folder / CONFIG)
    weights = load_file(asked.run / WEIGHTS)
    write_tensors({name: value.to(torch.float16) for name, value in weights.items()}, folder / WEIGHTS)
    size = (folder / WEIGHTS).stat().st_size
    if size > LARGEST_BYTES:
        parser.error(f"{size} bytes are more than {LARGEST_BYTES}: ship a smaller model")
    header = read_json(RunFolder(asked.run).recipe)
    scores = evaluate(f"vitreous:{asked.name}", header["data"]["source"])
    write_text(folder / "README.md", card(asked.name, header, scores, sum(value.numel() for value in weights.values())))
    print(f"{folder}: {size / 1e6:.1f} MB, top-1 {scores.top1:.2%}")


if __name__ == "__main__":
    main()
