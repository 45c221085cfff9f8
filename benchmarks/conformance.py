"""Are the maps what they are said to be? Vitreous and other tools on models of known weights, check by check.

Command:  python benchmarks/conformance.py [docs/conformance.md]      (writes the page too)

Other people's tools can't all be imported beside the main environment; without them only Vitreous is checked. For all:

    pip install -c constraints.txt torch==2.13.0 numpy safetensors huggingface_hub einops pillow pyyaml transformers
    pip install --no-deps timm torchvision==0.28.0 vit-pytorch fast-vit-rollout opencv-python-headless
    pip install -e .

A check is added in conformance_suite/checks.py (CHECKS), a tool in conformance_suite/other_tools.py (OTHER_TOOLS).
"""

import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from conformance_suite.checks import run_all
from conformance_suite.report import page, plain
from conformance_suite.subject import Subject
from conformance_suite.vitreous_tool import VITREOUS_TOOLS

PACKAGES = ("vitreous", "torch", "timm", "transformers", "vit-pytorch", "fast-vit-rollout", "opencv-python-headless")
MADE = """\
Tools that show a Vision Transformer's attention, held to the definitions: A = softmax(q kᵀ / √d), and rollout as the
product of ½ I + ½ A over the layers. Every tool is given the same small models of known weights, as its own library's
class. That class must first answer as the definition does, which is computed in float64 from the weights by code of
its own (`benchmarks/conformance_suite/definition.py`). `tests/explanation/test_conformance.py` runs the same checks
on tools that are wrong on purpose, and each is caught.

Written by `python benchmarks/conformance.py docs/conformance.md` on {date}, Python {python}, on a CPU, with
{versions}. Don't edit this page.

Each tool is called as its own documentation shows, in its default settings first. Where it gives matrices, the last
layer's row and the usual rollout are read from them as its user would. fast-vit-rollout throws away 90 % of the
weights by default; that is turned off here, so that its rollout is the defined one. On mean-pooled models, rows are
the mean over the patches' rows; a map that a tool draws itself is taken as drawn."""


def other_tools() -> tuple[Sequence[Subject], Mapping[str, str]]:
    """Other people's tools, and those that are not run; none of either where they can't be imported."""
    for name in ("nms", "qnms"):  # torchvision's CUDA build has them compiled; only their names are needed here
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        from conformance_suite.other_tools import NOT_RUN, OTHER_TOOLS
    except ImportError as error:
        print(f"Only Vitreous is checked: {error}. The head of this file says what to install.\n")
        return (), {}
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return OTHER_TOOLS, NOT_RUN


def main(path: str | None = None) -> None:
    """Print the table, and write the page if there is a path for it."""
    others, not_run = other_tools()
    if path and not others:
        sys.exit("The page is written with all tools in it, and some can't be imported here.")
    results = [(subject, run_all(subject)) for subject in [*VITREOUS_TOOLS, *others]]
    print(plain(results))
    if path:
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        made = MADE.format(date=datetime.now(UTC).date(), python=platform.python_version(), versions=versions)
        Path(path).write_text(page(results, made, not_run), encoding="utf-8")
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
