"""Pretrained models on new classes: frozen features, fine-tuning, LoRA, and the time of a fine-tuning step.

Command:  python benchmarks/transfer.py [--parts probe,embed,finetune,lora,few,step] [--images DIR] [--weights FILE]
              [--input-size PIXELS] [--minutes 10] [--seeds 3] [--precision fp32]

The images are a folder with one folder per class; 20 % of them, chosen by a hash of their content, are for testing.

- probe: kNN and logistic regression against scikit-learn's on the same features. Validation images (20 % of the others,
  of each class) choose k and C, from the same grids, for both; test images report.
- embed: images a second from files to Parquet over those of the bare forward pass, on batches of the same images that
  are in memory, alternating in one process.
- finetune: `vitreous train finetune` against training from scratch in the same time.
- lora: LoRA matrices of rank 8 against all weights, for as many steps.
- few: fine-tuning with default settings against the probe, on 120 training images of each of two classes.
- step: seconds a training step, over transformers' Trainer. It needs the package accelerate.

How training is timed is said in transfer_suite/timed_runs.py; settings of the runs stand in transfer_suite/tuning.py.
"""

import argparse
import os
from pathlib import Path

import torch
from transfer_suite.frozen import compare_embed, compare_probes
from transfer_suite.options import Options
from transfer_suite.trainer_step import compare_steps
from transfer_suite.tuning import compare_few, compare_finetune, compare_lora

from vitreous.process_tuning import keep_freed_memory

SHARED = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).parents[2] / "shared" / "data"))
PARTS = {
    "probe": compare_probes,
    "embed": compare_embed,
    "finetune": compare_finetune,
    "lora": compare_lora,
    "few": compare_few,
    "step": compare_steps,
}


def main() -> None:
    """Print the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=Path, default=SHARED / "flowers5")
    parser.add_argument("--weights", default=str(SHARED / "weights" / "dinov2-vits14.safetensors"))
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the steps that are timed")
    given = parser.parse_args()
    keep_freed_memory()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    options = Options(given.images, given.weights, given.input_size, given.minutes, given.seeds, given.precision)
    for part in given.parts.split(","):
        print(f"\n{part}", flush=True)
        PARTS[part](options)


if __name__ == "__main__":
    main()
