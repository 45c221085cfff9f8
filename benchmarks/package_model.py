"""Put the model of a run into the package, with a model card: what `vitreous:NAME` loads.

Command:  python benchmarks/package_model.py RUN NAME

It writes vitreous/shipped/NAME. Weights are stored in half precision, which changes predictions on the test images by
rounding only. The card quotes what `vitreous evaluate` prints for the packaged model.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from vitreous.files import make_folder, write_text
from vitreous.model.serialization import WEIGHTS, save_config, write_weights
from vitreous.pretrained.load import load
from vitreous.pretrained.registry import PACKAGED
from vitreous.runs.run_folder import RunFolder, read_metadata
from vitreous.workflows.evaluate import Evaluation, evaluate

MAX_BYTES = 6_000_000


def model_card(name: str, metadata: dict[str, Any], scores: Evaluation, parameters: int) -> str:
    """Describe the model and the run that trained it."""
    recipe, data = metadata["recipe"], metadata["data"]
    model = recipe["model"]
    low, high = scores.top1_interval
    teacher = "a small convolutional network, trained in the same run on the same images"
    teacher = f"\n| distilled from | {teacher} |" if recipe["distillation"]["weight"] else ""
    side, patch = model["image_size"][0], model["patch_size"]
    size = f"width {model['embed_dim']}, depth {model['depth']}, {model['num_heads']} heads"
    return f"""---
license: apache-2.0
library_name: vitreous
pipeline_tag: image-classification
datasets: [cifar10]
---

# vitreous:{name}

A Vision Transformer with {parameters / 1e6:.2f} M parameters, made for trying out explanation methods. Its input is
{side} × {side} pixels, in patches of {patch} × {patch}. It has {size} and `global_pool="{model["global_pool"]}"`.

| | |
|---|---|
| recipe | `vitreous train {recipe["name"]} --seed {recipe["seed"]}` |
| trained on | {data["training"]:,} training images of {data["source"]}, and no other data |{teacher}
| epochs | {recipe["epochs"]:g} |
| top-1 on the {scores.count:,} test images | {scores.top1:.2%} (95 % confidence interval {low:.2%} to {high:.2%}) |
| made with | vitreous {metadata["vitreous"]}, torch {metadata["torch"]}, {metadata["device"]} |

The model predicts the ten classes of CIFAR-10 (Krizhevsky 2009). For any other image it predicts one of these classes
too, often with high confidence. Use it for demonstrations, not for decisions.
"""


def main() -> None:
    """Write configuration and weights, evaluate them, write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", choices=PACKAGED)
    options = parser.parse_args()
    folder, classifier = PACKAGED[options.name], load(options.run, "cpu")
    make_folder(folder)
    save_config(classifier, folder)
    weights = classifier.vit.state_dict()
    write_weights({name: value.to(torch.float16) for name, value in weights.items()}, folder / WEIGHTS)
    size = (folder / WEIGHTS).stat().st_size
    if size > MAX_BYTES:
        parser.error(f"{size} bytes are more than {MAX_BYTES}: package a smaller model")
    metadata = read_metadata(RunFolder(options.run))
    scores = evaluate(f"vitreous:{options.name}", metadata["data"]["source"])
    parameters = sum(value.numel() for value in weights.values())
    write_text(folder / "README.md", model_card(options.name, metadata, scores, parameters))
    print(f"{folder}: {size / 1e6:.1f} MB, top-1 {scores.top1:.2%}")


if __name__ == "__main__":
    main()
