"""Probes: equal to scikit-learn's, validation chooses, and the model that is kept predicts what was measured."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.evaluation.intervals import bootstrap_class_mean, bootstrap_draws, wilson_interval
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap
from vitreous.transfer.embed import embed
from vitreous.transfer.feature_set import FeatureInfo, FeatureSet
from vitreous.transfer.neighbors import TEMPERATURE, nearest
from vitreous.transfer.probing.data import cached_features, split_features
from vitreous.transfer.probing.fit import fit_knn, fit_logistic
from vitreous.transfer.probing.linear import INVERSE_PENALTIES, LinearClassifier, fit_logistic_path
from vitreous.transfer.probing.run import _measure_shots, probe, with_linear_head
from vitreous.workflows.explain import explain

CLASSES, WIDTH = 4, 24


@pytest.fixture(scope="module")
def synthetic() -> FeatureSet:
    """Features of 800 images of four classes that overlap: their scales differ by factors of up to 100."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 800)
    centers = random.normal(size=(CLASSES, WIDTH))
    vectors = (1.1 * centers[labels] + 2 * random.normal(size=(800, WIDTH))) * np.logspace(-1, 1, WIDTH) + 3
    splits = ("train",) * 400 + ("validation",) * 200 + ("test",) * 200
    preprocessing = Preprocessing((8, 8), "squash", (0.5,) * 3, (0.5,) * 3, 8)
    names = tuple("abcd")
    info = FeatureInfo("m", "f", preprocessing, ("pooled",), (), "fp32", WIDTH, "synthetic", "all", "d", names)
    return FeatureSet(vectors.astype(np.float32), labels, tuple(map(str, range(800))), splits, info)


def test_logistic_regression_equals_scikit_learn(synthetic):
    """The same objective, minimized to the same weights, so the same predictions."""
    data = split_features(synthetic, 0.2, Callback())
    scaler = StandardScaler().fit(data.training.vectors.double().numpy())
    inputs = scaler.transform(data.training.vectors.double().numpy())
    chosen = INVERSE_PENALTIES[4:13:4]
    for inverse_penalty, own in zip(
        chosen, fit_logistic_path(data.training.vectors, data.training.labels, CLASSES, chosen), strict=True
    ):
        reference = LogisticRegression(C=inverse_penalty, tol=1e-10, max_iter=10_000).fit(inputs, data.training.labels)
        weight = reference.coef_ / scaler.scale_
        torch.testing.assert_close(own.weight, torch.from_numpy(weight), rtol=1e-3, atol=1e-6)
        scores = reference.predict_log_proba(scaler.transform(data.test.vectors.double().numpy()))
        torch.testing.assert_close(
            own(data.test.vectors).log_softmax(1), torch.from_numpy(scores), rtol=1e-4, atol=1e-4
        )


def test_the_whole_probe_equals_scikit_learn(synthetic):
    """The penalty chosen on the same grid by the same images, then learned from training and validation."""
    data = split_features(synthetic, 0.2, Callback())
    choice = fit_logistic(data.training, data, refit=True)

    def fitted(part, inverse_penalty):
        scaler = StandardScaler().fit(part.vectors.double().numpy())
        model = LogisticRegression(C=inverse_penalty, max_iter=10_000, tol=1e-8)
        model.fit(scaler.transform(part.vectors.double().numpy()), part.labels)
        return lambda other: model.score(scaler.transform(other.vectors.double().numpy()), other.labels)

    accuracies = [fitted(data.training, one)(data.validation) for one in INVERSE_PENALTIES]
    assert choice.validation_accuracy == pytest.approx(max(accuracies), abs=0.005)
    reference = fitted(data.training.join(data.validation), choice.setting)(data.test)
    own = (choice.scores.argmax(1) == data.test.labels).double().mean().item()
    assert own == pytest.approx(reference, abs=0.001) and own > 0.5


def test_knn_equals_scikit_learn(synthetic):
    data = split_features(synthetic, 0.2, Callback())
    choice = fit_knn(data.training, data, refit=True)
    bank = data.training.join(data.validation)
    reference = KNeighborsClassifier(
        int(choice.setting), metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    ).fit(bank.vectors.numpy(), bank.labels)
    predicted = torch.from_numpy(reference.predict(data.test.vectors.numpy()))
    assert (choice.scores.argmax(1) != predicted).sum() <= 1


def test_neighbors_take_little_memory_whatever_the_number_of_images(monkeypatch):
    code = """
import resource, torch
from vitreous.process_tuning import keep_freed_memory
from vitreous.transfer.neighbors import nearest
keep_freed_memory()  # as the command line does
bank, queries = torch.randn(50_000, 4), torch.randn(6_000, 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(queries, bank, 100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 300_000  # kB; all similarities take 1,200,000
    bank, queries = torch.randn(50, 4), torch.randn(30, 4)
    whole = nearest(queries, bank, 5)
    monkeypatch.setattr("vitreous.transfer.neighbors.MAX_SIMILARITIES", 7 * 50)
    for one, other in zip(whole, nearest(queries, bank, 5), strict=True):
        torch.testing.assert_close(one, other)


def test_the_test_images_choose_nothing(synthetic):
    """Other labels of the test images leave the chosen k and penalty as they are."""
    labels = synthetic.labels.copy()
    labels[600:] = (labels[600:] + 1) % CLASSES
    for fit in (fit_knn, fit_logistic):
        settings = []
        for one in (synthetic, replace(synthetic, labels=labels)):
            data = split_features(one, 0.2, Callback())
            settings.append(fit(data.training, data, refit=True).setting)
        assert settings[0] == settings[1]


def test_draws_are_nested_and_balanced(synthetic):
    data = split_features(synthetic, 0.2, Callback())
    few, more = data.draw(3, 0, seed=0), data.draw(5, 0, seed=0)
    assert few.labels.bincount().tolist() == [3] * CLASSES
    assert {tuple(row) for row in few.vectors.tolist()} < {tuple(row) for row in more.vectors.tolist()}
    assert not torch.equal(few.vectors, data.draw(3, 1, seed=0).vectors)
    with pytest.raises(InputError, match=r"500 shots are more than the .* training images of the class 'a'"):
        data.draw(500, 0, seed=0)


def test_validation_images_are_held_out_of_each_class(synthetic):
    """Without validation images of its own, a data set gives the same fraction of each class."""
    without = replace(synthetic, splits=("train",) * 600 + ("test",) * 200)
    data = split_features(without, 0.25, Callback())
    assert len(data.training) + len(data.validation) == 600
    counts = np.bincount(synthetic.labels[:600])
    np.testing.assert_array_equal(data.validation.labels.bincount().numpy(), np.round(0.25 * counts))


@pytest.mark.parametrize("projected", [False, True])
def test_the_head_reads_features_as_the_classifier_does(projected):
    """Also where the vector is the projection of an image-text model, which becomes one with the head."""
    torch.manual_seed(0)
    config = ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=5 if projected else 0)
    vit = ViT(config)
    if projected:
        nn.init.normal_(vit.head.weight)
        nn.init.normal_(vit.head.bias)
    classifier = ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ())
    images = torch.rand(3, 3, 24, 32)
    width = 5 if projected else 16
    linear = LinearClassifier(torch.randn(2, width, dtype=torch.float64), torch.randn(2, dtype=torch.float64))
    with torch.no_grad():
        expected = linear(vit(images))
        found = with_linear_head(classifier, linear, ("cat", "dog"), Callback())
        assert found is not None and found.class_names == ("cat", "dog")
        torch.testing.assert_close(found.model(images), expected.float(), rtol=1e-4, atol=1e-4)
    assert vit.num_classes == config.num_classes, "the model itself is left as it was"


@pytest.fixture(scope="module")
def untrained():
    """A model whose pooled vector is the mean of the patches, so that it depends on the image."""
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=7, global_pool="avg"))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), map(str, range(7)))


def test_the_kept_model_predicts_what_was_measured(untrained, colored_folder, tmp_path):
    output = tmp_path / "probe"
    result = probe(untrained, f"folder:{colored_folder}", output, shots=[1, 4], draws=2)
    assert result.counts == (96, 24, 30) and result.score("logistic").accuracy.value > 0.9
    kept, features = load(output, "cpu"), embed(untrained, f"folder:{colored_folder}", split="test")
    predictions = kept.predict(list(features.paths))
    correct = np.mean([one.label == label for one, label in zip(predictions, features.label_names, strict=True)])
    assert correct == pytest.approx(result.score("logistic").accuracy.value)
    assert explain(kept, features.paths[0], method="gradient-rollout").prediction.label in result.class_names
    content = json.loads((output / "probe.json").read_text())
    assert [(one["method"], one["shots"]) for one in content["scores"]] == [
        (method, shots) for method in ("knn", "logistic") for shots in (1, 4, None)
    ]
    assert (output / "figures" / "probe.png").stat().st_size > 10_000
    again = probe(untrained, f"folder:{colored_folder}", shots=[1, 4], draws=2)
    assert again.to_json() == result.to_json()


def test_features_are_computed_once(small_classifier, colored_folder, monkeypatch):
    probe(small_classifier, f"folder:{colored_folder}", methods=["knn"])
    monkeypatch.setattr("vitreous.transfer.probing.data.write_features", None)
    probe(small_classifier, f"folder:{colored_folder}", methods=["knn"])


def test_features_of_a_module_whose_code_changed_are_computed_again(colored_folder):
    """Its weights, and so its fingerprint, are the same."""

    class Colors(nn.Module):
        power = 1

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(12))

        def forward(self, images):
            return (self.scale * nn.functional.avg_pool2d(images, 4).flatten(1)) ** self.power

    def features():
        classifier = wrap(Colors(), Preprocessing((8, 8), "squash", (0.5,) * 3, (0.5,) * 3, 8), class_names=[])
        return cached_features(classifier, f"folder:{colored_folder}", "fp32", Callback()).vectors

    before, again = features(), features()
    Colors.power = 2
    np.testing.assert_array_equal(before, again)
    np.testing.assert_allclose(features(), before**2, atol=1e-6)


def test_features_that_no_head_reads_are_measured_without_a_model(untrained, colored_folder, tmp_path, notes):
    """A head on the class token would be wrong on the pooled vector, though they have one width."""
    path = tmp_path / "features.parquet"
    embed(untrained, f"folder:{colored_folder}", path, features="patch-mean", layers=0)
    result = probe(untrained, str(path), methods=["logistic"], callback=notes)
    assert result.classifier is None and result.score("logistic").accuracy.value > 0.9
    assert any("a head reads the pooled vector, not patch-mean" in line for line in notes.lines)


def test_a_wrapped_model_is_measured_without_a_model_folder(colored_folder, tmp_path, notes):
    module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 12))
    classifier = wrap(module, Preprocessing((8, 8), "squash", (0.5,) * 3, (0.5,) * 3, 8), class_names=[])
    result = probe(classifier, f"folder:{colored_folder}", tmp_path / "probe", methods=["logistic"], callback=notes)
    assert result.score("logistic").accuracy.value > 0.9 and result.classifier is None
    assert any("its head can't be replaced, so no model is kept" in line for line in notes.lines)
    assert sorted(path.name for path in (tmp_path / "probe").iterdir()) == ["figures", "probe.json"]


def test_a_folder_is_written_whole_or_not_at_all(untrained, colored_folder, tmp_path, monkeypatch):
    result = probe(untrained, f"folder:{colored_folder}", methods=["logistic"])
    monkeypatch.setattr("vitreous.transfer.probing.result.probe_figure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result.save(tmp_path / "probe")
    assert not list(tmp_path.iterdir())


def test_intervals_of_draws_hold_both_images_and_draws():
    random = np.random.default_rng(0)
    by_draw = random.random((500, 4)) < np.array([0.5, 0.6, 0.7, 0.8])  # draws differ more than images
    estimate = bootstrap_draws(by_draw)
    assert estimate.low < 0.6 < estimate.value < 0.7 < estimate.high
    same = np.repeat(random.random((500, 1)) < 0.5, 4, 1)  # draws don't differ at all
    estimate, half = bootstrap_draws(same), 1.96 * 0.5 / 500**0.5
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.1)


def test_intervals_of_draws_are_those_of_a_direct_computation():
    """Images and draws, resampled each with replacement; the mean of the table that they make; 95 % of such means."""
    random = np.random.default_rng(1)
    hits = random.random((60, 5)) < 0.6 * random.random((60, 1)) + 0.4 * random.random((1, 5))
    means = [hits[np.ix_(random.integers(0, 60, 60), random.integers(0, 5, 5))].mean() for _ in range(20_000)]
    estimate = bootstrap_draws(hits)
    assert estimate.value == pytest.approx(hits.mean())
    np.testing.assert_allclose((estimate.low, estimate.high), np.quantile(means, [0.025, 0.975]), atol=0.012)


def test_few_shots_are_the_mean_of_their_draws(synthetic):
    """Each draw is fitted and scored here once more; value and interval are those of these hits."""
    data = split_features(synthetic, 0.2, Callback())
    found = _measure_shots(data, "logistic", 3, 4, 0)
    hits = []
    for number in range(4):
        training = data.draw(3, number, 0)
        inverse_penalty = found.settings[number]
        (fitted,) = fit_logistic_path(training.vectors, training.labels, CLASSES, [inverse_penalty])
        hits.append((fitted(data.test.vectors).argmax(1) == data.test.labels).numpy())
    assert found.accuracy.value == pytest.approx(np.mean(hits), abs=0.005)
    expected = bootstrap_draws(np.stack(hits, 1))
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_mean_of_classes_weighs_small_classes_as_large_ones():
    labels = np.array([0] * 90 + [1] * 10)
    estimate = bootstrap_class_mean(np.array([1] * 90 + [0] * 10), labels)
    assert estimate.value == 0.5 and (estimate.low, estimate.high) == pytest.approx(wilson_interval(18, 36))


def test_few_images_that_are_all_right_are_no_certainty():
    """The interval is Wilson's, which binomtest gives too, where draws don't differ and where classes are alike."""
    draws, classes = bootstrap_draws(np.ones((5, 3))), bootstrap_class_mean(np.ones(6), np.repeat([0, 1, 2], 2))
    for estimate, count in ((draws, 5), (classes, 6)):
        expected = binomtest(count, count).proportion_ci(method="wilson")
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high)) and estimate.low < 0.65


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(800, np.int64)}, "are all of one class"),
        ({"labels": np.full(800, -1)}, "has no labels: a probe needs them"),
        ({"splits": ("train",) * 3 + ("test",) * 797}, "has 3 training images for 4 classes"),
        ({"splits": ("train",) * 800}, "has no test images, only train"),
    ],
)
def test_bad_data_are_one_line(synthetic, change, message):
    with pytest.raises(InputError, match=message):
        split_features(replace(synthetic, **change), 0.2, Callback())


def test_weights_that_do_not_fit_name_their_layers(untrained, colored_folder, tmp_path, capsys):
    folder = tmp_path / "model"
    untrained.save(folder)
    weights = load_file(folder / "model.safetensors")
    weights["blocks.0.attn.proj.bias"] = torch.zeros(17)
    weights = {name: value for name, value in weights.items() if not name.startswith("blocks.1.norm1")}
    save_file({**weights, "blocks.7.more": torch.zeros(1)}, folder / "model.safetensors")
    assert run(["probe", str(folder), "--data", f"folder:{colored_folder}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "model.safetensors doesn't fit its config.json: other shapes: blocks.0.attn.proj.bias (17,) instead of (16,); "
        "missing: blocks.1.norm1.weight, blocks.1.norm1.bias; not in the model: blocks.7.more; restore one of the two"
    )


def test_a_probe_needs_validation_images(synthetic):
    without = replace(synthetic, splits=("train",) * 600 + ("test",) * 200)
    with pytest.raises(InputError, match="has no validation images, and --validation-fraction 0 holds none out"):
        split_features(without, 0, Callback())


def test_the_command_line(trained_run, small_classifier, colored_folder, tmp_path, capsys):
    source = f"folder:{colored_folder}"
    assert run(["probe", str(trained_run), "--data", source, "--methods", "knn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == {"training": 96, "validation": 24, "test": 30}
    assert run(["probe", str(trained_run), "--data", source, "--shots", "2", "-o", str(tmp_path / "probe")]) == 0
    assert "logistic" in capsys.readouterr().out
    assert run(["predict", str(tmp_path / "probe"), str(colored_folder / "test" / "red")]) == 0
    features = tmp_path / "others.parquet"
    embed(small_classifier, source, features)
    assert run(["probe", str(trained_run), "--data", str(features)]) == 2
    assert "these are features of another model" in capsys.readouterr().err
    assert run(["probe", str(trained_run), "--data", source, "--methods", "svm"]) == 2
    assert "there is no method 'svm'" in capsys.readouterr().err
