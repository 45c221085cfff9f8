"""Make the reference curve of a recipe from runs with several seeds, and store it beside the recipe.

Command:  for seed in 0 1 2; do vitreous train NAME --output RUN$seed --seed $seed; done
          python benchmarks/reference_curve.py RUN0 RUN1 RUN2 [--machine "2 cores of an AMD EPYC"]

It writes vitreous/training_recipes/curves/NAME.json. A run of the recipe then compares itself with the curve after each
validation: "epoch 4: 71.2 %, reference 72.0 ± 0.4", mean and standard deviation over the seeds, or "72.0 (one run)".
"""

import argparse

from vitreous.errors import InputError
from vitreous.training.reference_curve import measure_curve, store_curve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a recipe's reference curve from its runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run, each with another seed")
    parser.add_argument("--machine", help="hardware of the runs; by default as recorded")
    arguments = parser.parse_args()
    try:
        curve = measure_curve(arguments.runs, arguments.machine)
        path = store_curve(curve)
    except InputError as error:
        parser.error(str(error))
    print(f"{curve.recipe.name}, validation top-1, n = {len(curve.seeds)}, {curve.date}, {curve.machine}")
    for point in curve.points:
        print(f"epoch {point.epoch:6.2f}  {point.mean:7.2%}" + ("" if point.std is None else f" ± {point.std:.2%}"))
    print(path)
