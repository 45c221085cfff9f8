"""House rules about imports: what a verb loads, and what importing the package costs."""

import subprocess
import sys

import pytest

COUNT = """
import sys
from vitreous.cli import run
code = run({arguments!r})
assert code == 0, code
print(sum(name == "vitreous" or name.startswith("vitreous.") for name in sys.modules))
"""

BUDGET = {"explain": 100, "patches": 21}
"""Modules of the package that a verb may load."""


@pytest.mark.parametrize("verb", BUDGET)
def test_a_verb_loads_few_modules(verb, tmp_path):
    from PIL import Image

    image = tmp_path / "image.png"
    Image.new("RGB", (32, 32), "gray").save(image)
    model = ["vitreous:cifar10"] if verb == "explain" else []
    arguments = [verb, *model, str(image), "-o", str(tmp_path / "out.png")]
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(arguments=arguments)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) <= BUDGET[verb]


def test_importing_the_package_loads_neither_torch_nor_a_use_case():
    code = "import sys, vitreous; assert 'torch' not in sys.modules and 'vitreous.workflows' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("order", [["explain_video", "explain"], ["explain", "explain_video"], ["load", "explain"]])
def test_public_functions_are_functions_whatever_is_imported_first(order):
    code = "import vitreous; " + "; ".join(f"assert callable(vitreous.{name})" for name in [*order, *order])
    subprocess.run([sys.executable, "-c", code], check=True)
