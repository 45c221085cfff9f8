"""Flags under the names that they had before, and under those of other tools: what the error line answers."""

from collections.abc import Mapping

RENAMED: Mapping[str, str | Mapping[str, str]] = {
    "--data-out": "--save-maps",
    "--discard": "--discard-ratio",
    "--edges": "--edge-aware",
    "--fusion": "--head-fusion",
    "--model-fit": "--resize-mode (its value stretch is now squash)",
    "--model-size": "--input-size",
    "--noise": "--noise-level",
    "--passes": "--epochs",
    "--samples": "--n-samples",
    "--size": {"video": "--height", "live": "--max-side", "": "--input-size"},
    "--steps": "--n-steps",
    "--strength": "--opacity",
    "--strip": "--class-strip",
    "--window": "--patch-window",
}
"""Old names of flags; where the new one depends on the verb, by verb, and "" for all others."""

SYNONYMS: Mapping[str, str | Mapping[str, str]] = {
    "--alpha": "--opacity",
    "--bs": "--batch-size",
    "--dataset": "--data",
    "--drop-path": "--set model.drop_path_rate=",
    "--fit": "--resize-mode",
    "--image-size": {"train": "--set model.image_size=", "": "--input-size"},
    "--img-size": {"train": "--set model.image_size=", "": "--input-size"},
    "--limit": "--count",
    "--lr": "--learning-rate",
    "--max-images": "--count",
    "--num-images": "--count",
    "--output-dir": "--output",
    "--smoothing": "--set label_smoothing=",
    "--topk": "--top-k",
    "--wd": "--set optimizer.weight_decay=",
    "--weight-decay": "--set optimizer.weight_decay=",
}
"""What timm, transformers and others call it."""


def renamed_flag(flag: str, verb: str) -> str | None:
    """Return the error line for a flag that has another name now or here; None for any other flag.

    >>> renamed_flag("--size=480", "video")
    '--size is now --height'
    """
    flag = flag.partition("=")[0]
    for table, text in ((RENAMED, "{} is now {}"), (SYNONYMS, "there is no option {}: did you mean {}?")):
        name = table.get(flag, {})
        name = name if isinstance(name, str) else name.get(verb, name.get("", ""))
        if name:
            return text.format(flag, name)
    return None
