"""Validation accuracy against training time of several runs, as a figure and a table.

Command:  python benchmarks/accuracy_against_time.py RUN [RUN ...] [-o docs/accuracy.png]

The time is that of the training steps alone, so that more validations are no disadvantage. Runs are named by recipe and
must have been trained without interruption.
"""

import argparse
from pathlib import Path

from vitreous.render.plots.style import new_figure, save_figure, style_axes
from vitreous.render.theme import COOL, MUTED, WARM
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics

COLORS = (WARM, COOL, "#7a5ea8", "#3f8f5f")


def read_curve(run: Path) -> tuple[str, list[float], list[float]]:
    """Return a run's recipe, and its validations: minutes of training and accuracies in percent, from 0 minutes on."""
    recipe = read_metadata(RunFolder(run))["recipe"]
    minutes, accuracies, now = [0.0], [10.0], 0.0
    for line in read_metrics(RunFolder(run)):
        if line["split"] == "train":
            now = line["step"] * recipe["batch_size"] / line["images_per_second"] / 60
        elif line["split"] == "validation":
            minutes.append(now)
            accuracies.append(100 * line["top1"])
    return recipe["name"], minutes, accuracies


def main() -> None:
    """Draw the figure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", "-o", type=Path, default=Path("docs/accuracy.png"))
    options = parser.parse_args()
    figure = new_figure(1400, 760)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.97, top=0.9, bottom=0.13)
    style_axes(axes, "CIFAR-10 from scratch: validation accuracy, %")
    colors: dict[str, str] = {}
    for run in options.runs:
        name, minutes, accuracies = read_curve(run)
        is_labeled = name in colors
        color = colors.setdefault(name, COLORS[len(colors) % len(COLORS)])
        axes.plot(minutes, accuracies, color=color, marker="o", markersize=3, linewidth=1.4)
        if not is_labeled:
            axes.annotate(
                name,
                (minutes[-1], accuracies[-1]),
                (0, 8),
                textcoords="offset points",
                ha="center",
                color=color,
                fontsize=8,
            )
        print(f"{run}: {name}, {accuracies[-1]:.1f} % after {minutes[-1]:.1f} min of training")
    axes.set_xlabel("minutes of training on 2 cores", color=MUTED, fontsize=8)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.1)
    axes.set_ylim(10, 90)
    save_figure(figure, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
