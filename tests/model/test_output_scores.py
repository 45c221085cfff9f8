"""Outputs become scores by what they mean: probabilities of classes, of labels, or values."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.clips.predictions import PredictionPool
from vitreous.diagnostics.faithfulness.imputation import mean_color_fill
from vitreous.diagnostics.faithfulness.perturbed_predictor import prepare_batch
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.output_scores import detect_function
from vitreous.model.prediction import Prediction
from vitreous.pretrained.load import load
from vitreous.pretrained.wrap import wrap

PREPROCESSING = Preprocessing(16, "squash", (0.5,) * 3, (0.5,) * 3, 4)
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
LOGITS = {1: [1.5], 3: [2.0, -1.0, 0.5]}


class Constant(nn.Module):
    """Gives the same outputs for every image."""

    def __init__(self, outputs: list[float], end):
        super().__init__()
        self.outputs, self.end = nn.Parameter(torch.tensor(outputs)), end

    def forward(self, images):
        return self.end(self.outputs.expand(len(images), -1) + 0 * images.mean((1, 2, 3))[:, None])


def sigmoid(values: list[float]) -> list[float]:
    return [1 / (1 + math.exp(-value)) for value in values]


def softmax(values: list[float]) -> list[float]:
    return [math.exp(value) / sum(map(math.exp, values)) for value in values]


CASES = {
    "logits": (3, lambda y: y, None, softmax, "single_label_classification"),
    "softmax": (3, lambda y: y.softmax(-1), None, softmax, "single_label_classification"),
    "log-softmax": (3, lambda y: y.log_softmax(-1), None, softmax, "single_label_classification"),
    "sigmoid": (3, torch.sigmoid, None, sigmoid, "multi_label_classification"),
    "stated": (3, lambda y: y, "multi_label_classification", sigmoid, "multi_label_classification"),
    "one output": (1, lambda y: y, None, sigmoid, "multi_label_classification"),
    "one probability": (1, torch.sigmoid, None, sigmoid, "multi_label_classification"),
    "regression": (3, lambda y: y, "regression", list, "regression"),
    "one value": (1, lambda y: y, "regression", list, "regression"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_scores_of_every_kind_of_outputs(name, notes):
    count, end, stated, expected, problem_type = CASES[name]
    found = wrap(Constant(LOGITS[count], end), PREPROCESSING, problem_type=stated, callback=notes).predict(IMAGE)
    assert found.problem_type == problem_type
    scores = dict(found.scores)
    assert [scores[f"class {i}"] for i in range(count)] == pytest.approx(expected(LOGITS[count]), abs=1e-5)
    is_noted = any("probabilities already" in line for line in notes.lines)
    assert is_noted == (name in ("softmax", "sigmoid", "one probability"))


def test_a_stated_problem_type_of_the_module_is_read(notes):
    module = Constant(LOGITS[3], lambda y: y)
    module.config = type("Config", (), {"problem_type": "multi_label_classification"})()
    found = wrap(module, PREPROCESSING, callback=notes)
    assert (found.problem_type, found.function_to_apply) == ("multi_label_classification", "sigmoid")


@pytest.mark.parametrize("function", [None, "sigmoid"])
def test_one_output_of_a_stated_single_label_is_a_sigmoid(function, tmp_path, notes):
    stated = "single_label_classification"
    module = Constant(LOGITS[1], lambda y: y)
    assert wrap(module, PREPROCESSING, ["a"], problem_type=stated, function_to_apply=function).predict(
        IMAGE
    ).score == pytest.approx(sigmoid(LOGITS[1])[0], abs=1e-5)
    module.config = type("Config", (), {"problem_type": stated})()
    assert wrap(module, PREPROCESSING, ["a"], callback=notes).function_to_apply == "sigmoid"
    assert any("has one output: its score is the sigmoid of it" in line for line in notes.lines)
    with pytest.raises(InputError, match=r"'softmax' doesn't fit .* with 1 output: give 'sigmoid'"):
        wrap(module, PREPROCESSING, ["a"], problem_type=stated, function_to_apply="softmax")


def test_small_logits_are_not_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.3]], requires_grad=True)
    assert detect_function(logits * 1) is None
    assert detect_function(logits.sigmoid()[:, :2].view(1, 2)) == ("multi_label_classification", "none")
    assert detect_function(logits.softmax(-1).detach()) == ("single_label_classification", "none")


def test_probabilities_become_logits_again():
    classifier = wrap(Constant(LOGITS[3], lambda y: y.softmax(-1)), PREPROCESSING)
    outputs = classifier.model(torch.zeros(1, 3, 16, 16))
    assert torch.allclose(classifier.to_logits(outputs).softmax(-1), outputs)
    for count, problem_type in ((3, "multi_label_classification"), (1, None), (3, "regression")):
        classifier = wrap(Constant(LOGITS[count], lambda y: y), PREPROCESSING, problem_type=problem_type)
        with pytest.raises(InputError, match="whose classes exclude each other"):
            classifier.to_logits(torch.zeros(1, count))


def test_faithfulness_measures_the_probability():
    """A model whose output doesn't depend on the image: the value of every variant is the score itself."""
    cases = ((1, lambda y: y, sigmoid), (3, torch.sigmoid, sigmoid), (3, lambda y: y.softmax(-1), softmax))
    for count, end, expected in cases:
        predictor = prepare_batch(wrap(Constant(LOGITS[count], end), PREPROCESSING), [IMAGE], [0]).predictor
        rows, columns = predictor.grid_size
        found = predictor.predict(torch.ones(1, 2, rows * columns, dtype=torch.bool), mean_color_fill(predictor.inputs))
        assert found.value.flatten().tolist() == pytest.approx([max(expected(LOGITS[count]))] * 2, abs=1e-5)
        assert found.is_predicted.eq(1).all()
    negative = prepare_batch(wrap(Constant([-1.0], lambda y: y), PREPROCESSING), [IMAGE], [0]).predictor
    kept = torch.ones(1, 1, negative.grid_size[0] * negative.grid_size[1], dtype=torch.bool)
    assert negative.predict(kept, mean_color_fill(negative.inputs)).is_predicted.eq(0).all()


def test_words_for_scores():
    values = Prediction((("age", 31.4159),), "regression")
    assert repr(values) == "Prediction(age 31.4)" and values.caption() == "age 31.4"
    assert values.probabilities == () and values.score == 31.4159


def test_labels_of_a_clip_are_pooled_each_by_itself():
    pool = PredictionPool(["cat", "dog"])
    for cat, dog in ((0.9, 0.8), (0.6, 0.7)):
        scores = sorted((("cat", cat), ("dog", dog)), key=lambda one: -one[1])
        pool.add(Prediction(tuple(scores), "multi_label_classification"), 0.5, 0, 1)
    by_rule = {one.rule: (one.label, one.score) for one in pool.predictions()}
    odds = math.sqrt(9 * 1.5), math.sqrt(4 * 7 / 3)
    assert by_rule["mean of logits"] == ("cat", pytest.approx(odds[0] / (1 + odds[0])))
    assert by_rule["confidence-weighted"] == ("cat", pytest.approx((0.9 * 0.9 + 0.7 * 0.6) / 1.6))
    assert by_rule["attention-weighted"] == ("cat", pytest.approx(0.75))


def test_what_the_outputs_are_is_saved(tmp_path):
    from vitreous.model.create import create_model

    for number, (count, problem_type) in enumerate(((3, "multi_label_classification"), (2, "regression"), (1, None))):
        model = create_model("nano/4-32", num_classes=count)
        preprocessing = Preprocessing(32, "squash", (0.5,) * 3, (0.5,) * 3, 4)
        written = ImageClassifier(model, preprocessing, [f"class {i}" for i in range(count)], problem_type)
        written.save(tmp_path / str(number))
        read = load(tmp_path / str(number), "cpu", input_size=64)
        assert (read.problem_type, read.function_to_apply) == (written.problem_type, written.function_to_apply)


@pytest.mark.parametrize(
    ("problem_type", "function", "message"),
    [
        ("multi-label", None, "there is no problem_type 'multi-label'"),
        (None, "relu", "there is no function_to_apply 'relu'"),
        ("multi_label_classification", "softmax", "doesn't fit problem_type"),
    ],
)
def test_what_does_not_fit_is_refused(problem_type, function, message):
    with pytest.raises(InputError, match=message):
        ImageClassifier(nn.Linear(1, 1), PREPROCESSING, ["a", "b"], problem_type, function)
