"""What keeping the maps of fixed images costs a run: the fraction of its CPU time, and the size of the file.

Command:   python benchmarks/kept_maps.py [RECIPE] [--steps 40] [--runs 2] [--data SOURCE]

Short runs with keep_maps=8 and keep_maps=0 in turns, float32. Printed are the CPU time of the training loop in both,
which scatters by some per cent, and what is resolved better: the CPU time of each call that keeps maps beside that of a
training step. From these two follows the fraction in the whole run, whose kept steps are known.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import vitreous
from vitreous.training import loop
from vitreous.training.map_keeping import training_cost
from vitreous.training.recipe import Recipe
from vitreous.training_film.keeper import MapKeeper, choose_kept_steps
from vitreous.training_recipes import find_recipe


class CpuMeter:
    """Measures the CPU seconds of each call of a function, all threads of the process together."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.seconds = function, []

    def __call__(self, *arguments: object, **options: object) -> object:
        started = time.process_time()
        result = self.function(*arguments, **options)
        self.seconds.append(time.process_time() - started)
        return result


def train(recipe: Recipe, folder: Path) -> dict[str, list[float]]:
    """Train once; return the CPU seconds of the whole loop, of its steps, of opening the file, of each kept step."""
    names = ("train", "training_step", "open_map_keeper")
    meters = {name: CpuMeter(getattr(loop, name)) for name in names}
    keep = meters["keep"] = CpuMeter(MapKeeper.keep)
    with (
        patch.multiple(loop, **{name: meters[name] for name in names}),
        patch.object(MapKeeper, "keep", lambda *arguments: keep(*arguments)),
    ):
        vitreous.train(recipe, folder, callback=vitreous.Callback())
    return {name: meter.seconds for name, meter in meters.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="cifar10-quick")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--data", help="another source than the recipe's")
    options = parser.parse_args()
    whole = replace(find_recipe(options.recipe), precision="fp32", report=False)
    whole = replace(whole, data=options.data or whole.data)
    results: dict[int, list[dict[str, list[float]]]] = {8: [], 0: []}
    with tempfile.TemporaryDirectory() as folder:
        train(replace(whole, epochs=1e-6, min_steps=3), Path(folder) / "first")  # which warms up
        for run in range(options.runs):
            for count in (8, 0):
                path = Path(folder) / f"{run}-{count}"
                recipe = replace(whole, epochs=1e-6, min_steps=options.steps, keep_maps=count, checkpoint_seconds=1e6)
                results[count].append(train(recipe, path))
        lines = (Path(folder) / "0-8" / "maps.jsonl").read_text().splitlines(keepends=True)
        images = vitreous.load(Path(folder) / "0-8").vit.config, read_count(Path(folder) / "0-8")
    on, off = ([sum(one["train"]) for one in results[count]] for count in (8, 0))
    ratio = statistics.median(on) / statistics.median(off)
    print(f"loop with maps {on}, without {off} CPU s; ratio of medians {ratio:.3f}")
    step = statistics.median(second for one in results[8] for second in one["training_step"])
    keep = statistics.median(second for one in results[8] for second in one["keep"])
    opening = statistics.median(second for one in results[8] for second in one["open_map_keeper"])
    print(f"a step {1000 * step:.1f} ms, keeping its maps {1000 * keep:.1f} ms, opening {1000 * opening:.1f} ms of CPU")
    steps = whole.steps(images[1])
    cost = training_cost(replace(whole, model=images[0]), steps, 1, "cpu")
    kept = choose_kept_steps(cost, 8, len(lines[1]), len(lines[0]))
    fraction = (opening + keep * len(kept)) / (step * steps)
    size = len(lines[0]) + len(lines[1]) * len(kept)
    print(f"whole run of {options.recipe}: {len(kept)} of {steps} steps kept, {fraction:.2%}, {size / 1e6:.2f} MB")


def read_count(folder: Path) -> int:
    """Return the number of training images of a run."""
    from vitreous.runs.run_folder import RunFolder, read_metadata

    return read_metadata(RunFolder(folder))["data"]["training"]


if __name__ == "__main__":
    main()
