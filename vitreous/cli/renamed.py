"""Flags under the names that they had before, and under those of other tools: what the error line answers."""

from collections.abc import Collection, Mapping

RENAMED: Mapping[str, str | tuple[str, ...]] = {
    "--data-out": "--save-maps",
    "--discard": "--discard-ratio",
    "--edges": "--edge-aware",
    "--fusion": "--head-fusion",
    "--model-fit": "--resize-mode (its value stretch is now squash)",
    "--model-size": "--input-size",
    "--noise": "--noise-level",
    "--passes": "--epochs",
    "--samples": "--n-samples",
    "--size": ("--height", "--max-side", "--input-size"),
    "--steps": "--n-steps",
    "--strength": "--opacity",
    "--strip": "--class-strip",
    "--window": "--patch-window",
}
"""Old names of flags; of several new ones, the first that the verb has counts."""

IMAGE_SIZE = ("--input-size", "--set model.image_size=")
SYNONYMS: Mapping[str, str | tuple[str, ...]] = {
    "--alpha": "--opacity",
    "--bs": "--batch-size",
    "--dataset": "--data",
    "--drop-path": "--set model.drop_path_rate=",
    "--fit": "--resize-mode",
    "--image-size": IMAGE_SIZE,
    "--img-size": IMAGE_SIZE,
    "--input-size": IMAGE_SIZE,
    "--limit": "--count",
    "--lr": "--learning-rate",
    "--max-images": "--count",
    "--num-images": "--count",
    "--output-dir": "--output",
    "--size": IMAGE_SIZE,
    "--smoothing": "--set label_smoothing=",
    "--topk": "--top-k",
    "--wd": "--set optimizer.weight_decay=",
    "--weight-decay": "--set optimizer.weight_decay=",
}
"""What timm, transformers and others call it; settings of `train` are set through --set."""

CHOSEN_IN_THE_PAGE = (
    "--class-strip", "--discard", "--discard-ratio", "--edge-aware", "--edges", "--fusion", "--head-fusion", "--layout",
    "--legend", "--no-legend", "--opacity", "--query", "--smooth", "--strength", "--strip", "--track", "--view",
)  # fmt: skip
"""Flags that `live` had until it became the page of `serve`."""


def renamed_flag(flag: str, verb_flags: Collection[str], verb: str = "") -> str | None:
    """Return the error line for a flag that has another name now or here; None if the verb has no such flag.

    >>> renamed_flag("--size=480", ["--height", "--input-size"])
    '--size is now --height'
    >>> renamed_flag("--lr", ["--height", "--input-size"])
    """
    flag = flag.partition("=")[0]
    if verb == "live" and flag in CHOSEN_IN_THE_PAGE:
        return (
            f"live has no {flag} any more: its page has controls, and vitreous video draws with layouts and smoothing"
        )
    for table, text in ((RENAMED, "{} is now {}"), (SYNONYMS, "there is no option {}: did you mean {}?")):
        names = table.get(flag, ())
        for name in (names,) if isinstance(names, str) else names:
            if name.split()[0] in verb_flags:
                return text.format(flag, name)
    return None
