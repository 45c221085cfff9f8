"""The model that a probe makes: it is explained as the model and the regression one after the other are."""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from parquet_files import write_parquet
from torch import nn

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap
from vitreous.transfer.embed import embed
from vitreous.transfer.feature_set import FeatureSet
from vitreous.transfer.probing.data import split_features
from vitreous.transfer.probing.fit import fit_logistic
from vitreous.transfer.probing.run import probe
from vitreous.workflows.explain import explain

PREPROCESSING = Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)
CLASS_SPECIFIC = [name for name, method in METHODS.items() if method.is_class_specific]
NEED_TOKENS = ("grad-cam", "hires-cam", "legrad")  # of each block, which a module observed from outside doesn't show
OPTIONS = {"rise": {"n_samples": 40}, "integrated-gradients": {"n_steps": 8}, "smoothgrad": {"n_samples": 4}}


class ModelThenRegression(nn.Module):
    """A model's pooled vector, standardized, then multiplied: what the probe measured, step by step."""

    def __init__(self, vit: ViT, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.vit = vit
        self.regression = nn.Linear(weight.shape[1], weight.shape[0])
        self.regression.weight.data, self.regression.bias.data = weight.float(), bias.float()

    def forward(self, images):
        return self.regression(self.vit.forward_head(self.vit.forward_features(images), pre_logits=True))


@pytest.fixture(scope="module")
def base():
    """A model whose attention and pooled vector depend on the image."""
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool="avg"))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return ImageClassifier(vit.eval(), PREPROCESSING, ())


@pytest.fixture(scope="module")
def probed(base, colored_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "probe"
    probe(base, f"folder:{colored_folder}", folder, methods=["logistic"])
    return folder


@pytest.fixture(scope="module")
def composed(base, colored_folder):
    """The same model, then the regression as it was fitted: observed from outside, and as a ViT with another head."""
    features = embed(base, f"folder:{colored_folder}")
    data = split_features(features, 0.2, Callback())
    linear = fit_logistic(data.training, data, refit=True).classifier
    module, names = ModelThenRegression(base.vit, linear.weight, linear.bias), data.class_names
    vit = deepcopy(base.vit)
    vit.reset_classifier(len(names))
    vit.head = nn.Sequential(nn.Identity(), module.regression)
    return wrap(module, PREPROCESSING, class_names=names), ImageClassifier(vit, PREPROCESSING, names)


@pytest.mark.parametrize("method", CLASS_SPECIFIC)
def test_maps_are_those_of_the_model_and_the_regression(method, probed, composed, colored_folder):
    """Also of a class that isn't predicted."""
    image, kept = colored_folder / "test" / "red" / "3.png", load(probed, "cpu")
    reference = composed[method in NEED_TOKENS]
    for target in (None, "green"):
        one, other = (
            explain(each, image, method=method, target=target, **OPTIONS.get(method, {})) for each in (kept, reference)
        )
        assert one.prediction.label == other.prediction.label
        scale = np.abs(other.patch_map).max()
        assert scale > 0
        np.testing.assert_allclose(one.patch_map, other.patch_map, atol=2e-4 * scale, rtol=1e-3)


def test_gradients_are_the_finite_differences_of_the_score(probed, colored_folder):
    """Input x gradient of each pixel is the slope of the class's logit, in float64."""
    kept = load(probed, "cpu")
    kept.model.double()
    inputs = kept.preprocess(colored_folder / "test" / "blue" / "1.png")[0][None].requires_grad_()
    kept.model(inputs)[0, 2].backward()
    direction, step = torch.randn_like(inputs), 1e-5
    with torch.no_grad():
        high, low = (kept.model(inputs + sign * step * direction)[0, 2] for sign in (1, -1))
    assert (inputs.grad * direction).sum().item() == pytest.approx(((high - low) / (2 * step)).item(), rel=1e-5)


def test_the_verbs_take_the_folder_with_real_weights(shared, tmp_path, monkeypatch, capsys):
    """DINOv2 on photos of flowers and on a clip, as a user does it."""
    monkeypatch.chdir(tmp_path)
    classes = ("rose", "tulip")
    for name in classes:
        paths = sorted((shared / "flowers5" / name).glob("*.jpg"))[:14]
        for number, path in enumerate(paths):
            folder = tmp_path / "photos" / ("train" if number < 10 else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    weights, photo = shared / "weights" / "dinov2-vits14.safetensors", shared / "photos" / "two-cats.png"
    data, size = ["--data", "folder:photos"], ["--input-size", "56"]
    assert run(["probe", str(weights), *data, *size, "-o", "flowers", "--methods", "logistic"]) == 0
    assert run(["probe", str(weights), *data, "--input-size", "42", "-o", "small", "--methods", "logistic"]) == 0
    accuracy = json.loads((tmp_path / "flowers" / "probe.json").read_text())["scores"][0]["accuracy"]["value"]
    capsys.readouterr()
    assert run(["evaluate", "flowers", *data, "--json"]) == 0
    assert f'"top1": {accuracy}' in capsys.readouterr().out
    for arguments in (
        ["predict", "flowers", str(photo)],
        ["explain", "flowers", str(photo), "--method", "gradient-rollout", "-o", "map.png"],
        ["video", "flowers", str(shared / "video" / "rotated-90.mov"), "-o", "clip.mp4", "--method", "grad-cam"],
        ["doctor", "flowers", *data, "--count", "2", "-o", "doctor"],
        ["compare", "flowers", "small", *data],
        ["faithfulness", "flowers", *data, "--count", "2", "--methods", "gradient-rollout", "-o", "faithfulness"],
    ):
        assert run(arguments) == 0, capsys.readouterr().err
    for name in ("map.png", "clip.mp4", "doctor/doctor.html", "faithfulness/faithfulness.json"):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_way_to_the_published_probes_works_with_random_weights(tmp_path, colored_folder, monkeypatch, capsys):
    """The commands of docs/transfer.md on data in the layout of the hub, and a random DINOv2 in its own names."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    write_parquet(folder, colored_folder, 50)
    torch.manual_seed(0)
    vit = ViT(ViTConfig((28, 28), 14, embed_dim=64, depth=2, num_heads=1, num_classes=0, init_values=1.0))
    ImageClassifier(vit, Preprocessing((28, 28), "crop", (0.5,) * 3, (0.5,) * 3, 14), ()).save(tmp_path / "random")
    assert run(["convert", "random", "--to", "dinov2", "-o", "official"]) == 0
    model = shutil.copy(tmp_path / "official" / "model.safetensors", "dinov2.safetensors")  # without its config.json
    arguments = ["--input-size", "28", "--resize-mode", "crop"]
    assert run(["probe", model, "--data", "hf:./set", "--methods", "logistic", "--json", *arguments]) == 0
    direct = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert direct["width"] == 64 and direct["images"] == {"training": 96, "validation": 24, "test": 30}
    options = ["--features", "class-token,patch-mean", "--layers", "-1"]
    assert run(["embed", model, "hf:./set", "-o", "set.parquet", *options, *arguments]) == 0
    assert FeatureSet.load("set.parquet").info.width == 128
    assert run(["probe", model, "--data", "set.parquet", "--methods", "logistic", *arguments]) == 0
