"""The user's own model by `module:function` and a file of weights."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.factory import load_factory

SOURCE = """
import torch
from torch import nn
from torch.nn import functional
from own_parts_of_it import WIDTH
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.pretrained.wrap import wrap


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = tokens + functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(tokens.mean(1))


def build():
    return wrap(Model(), Preprocessing((8, 12), "squash", (0.5,) * 3, (0.5,) * 3, 4), ["a", "b", "c"])


def bare():
    model = Model()
    model.default_cfg = {"input_size": (3, 8, 12)}
    return model


def raw():
    return Model()


def nothing():
    return 3


def broken():
    raise ValueError("no such thing\\nand more")


def quits():
    raise SystemExit("wrong arguments")


def lazy():
    model = bare()
    model.forward = lambda images: __import__("own_late_one").answer(images)
    return model


def fails_later():
    model = bare()
    model.forward = lambda images: {}["tokens"]
    return model


number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the user's module in it, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model_here.py").write_text(SOURCE)
    (tmp_path / "own_parts_of_it.py").write_text("WIDTH = 8\n")
    (tmp_path / "own_broken_one.py").write_text("import not_there_at_all\n")
    (tmp_path / "own_wrong_one.py").write_text("1 / 0\n")
    (tmp_path / "own_program.py").write_text("import sys\nsys.exit(2)\n")
    (tmp_path / "own_late_one.py").write_text("def answer(images):\n    return images.mean((2, 3))\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def weights(own, **changes) -> dict[str, torch.Tensor]:
    made = load_factory("own_model_here:build", device="cpu").model.module.state_dict()
    return {name: torch.rand_like(tensor) for name, tensor in made.items()} | changes


@pytest.mark.parametrize("function", ["build", "bare"])
@pytest.mark.parametrize("kind", ["safetensors", "state_dict", "module.", "_orig_mod.module."])
def test_wrapper_prefixes_are_removed_from_weights(own, function, kind):
    tensors = weights(own)
    if kind == "safetensors":
        path = own / "weights.safetensors"
        save_file(tensors, path)
    else:
        path = own / "weights.pt"
        around = "" if kind == "state_dict" else kind
        torch.save({"state_dict": {around + name: tensor for name, tensor in tensors.items()}, "epoch": 3}, path)
    classifier = load_factory(f"own_model_here:{function}", path, "cpu")
    assert isinstance(classifier, ImageClassifier) and classifier.preprocessing.input_size == (8, 12)
    for name, tensor in classifier.model.module.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).numpy()
    assert explain_batch(classifier, [image], "attention")[0].heatmap.shape == (20, 30)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("own_model_here", "'own_model_here' is not a factory: write module:function"),
        ("own_model_here.build", "is not a factory"),
        (":build", "is not a factory"),
        ("own_missing:build", "there is no module 'own_missing' here"),
        ("own_broken_one:build", "own_broken_one can't be imported: it needs not_there_at_all"),
        ("own_wrong_one:build", "own_wrong_one can't be imported: ZeroDivisionError: division by zero"),
        ("own_program:build", "own_program can't be imported: SystemExit: 2$"),
        ("own_model_here:quits", "own_model_here:quits failed: SystemExit: wrong arguments$"),
        ("own_model_here:fails_later", "Model can't be run on an image of 8 x 12 .* channels: KeyError: 'tokens'$"),
        ("own_model_here:biuld", "did you mean 'build'"),
        ("own_model_here:number", "no function in own_model_here 'number'"),
        ("own_model_here:nothing", r"returns int: let it return a torch.nn.Module, or vitreous.wrap\(model"),
        ("own_model_here:raw", r"let a factory return it, as vitreous.wrap\(model, preprocessing=vitreous.Prep"),
        ("own_model_here:broken", "own_model_here:broken failed: ValueError: no such thing$"),
    ],
)
def test_invalid_factories(own, factory, message):
    with pytest.raises(InputError, match=message):
        load_factory(factory, device="cpu")


def test_modules_that_a_model_imports_later_are_found(own):
    for _ in range(2):
        classifier = load_factory("own_model_here:lazy", device="cpu")
    assert sys.path.count(str(own)) == 1 and sys.path[0] == str(own)
    del sys.modules["own_late_one"]
    assert classifier.model(torch.zeros(1, 3, 8, 12)).shape == (1, 3)


def test_weights_that_do_not_fit_are_named(own):
    path = own / "weights.safetensors"
    tensors = weights(own)
    left_out = {name: tensor for name, tensor in tensors.items() if not name.startswith("stem")}
    save_file(left_out | {"other.bias": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"lacks stem.weight and 1 more and has an unexpected other.bias$"):
        load_factory("own_model_here:build", path, "cpu")
    save_file(tensors | {"head.bias": torch.zeros(7)}, path)
    with pytest.raises(InputError, match=r"head.bias is \(7,\), the model's is \(3,\)"):
        load_factory("own_model_here:build", path, "cpu")
    with pytest.raises(InputError, match="there is no model at"):
        load_factory("own_model_here:build", own / "missing.pt", "cpu")


def test_warnings_of_libraries_become_notes(own, notes, recwarn):
    (own / "own_warns.py").write_text(
        "import warnings\nfrom torch import nn\nfrom vitreous.imaging.preprocessing import Preprocessing\n"
        "from vitreous.pretrained.wrap import wrap\n"
        "def build():\n    warnings.warn('heads are\\n  pruned')\n    warnings.warn('old', DeprecationWarning)\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))\n"
        "    return wrap(model, Preprocessing(2, 'squash', (0.5,) * 3, (0.5,) * 3, 1))\n"
    )
    load_factory("own_warns:build", device="cpu", callback=notes)
    assert notes.lines == ["own_warns:build warns: heads are pruned"] and not len(recwarn)
