"""Classification metrics against scikit-learn."""

import pytest
import torch
from sklearn import metrics

from vitreous.evaluation.classification import compute_metrics


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_metrics_agree_with_scikit_learn(classes):
    torch.manual_seed(classes)
    logits, labels = torch.randn(300, classes), torch.randint(classes, (300,))
    names = tuple(f"class {index}" for index in range(classes))
    found = compute_metrics(logits, labels, names)
    predictions, probabilities = logits.argmax(1).numpy(), torch.softmax(logits.double(), 1).numpy()
    assert found.top1 == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(classes)), rel=1e-5)
    if classes > 2:
        top5 = metrics.top_k_accuracy_score(labels, probabilities, k=min(5, classes - 1), labels=range(classes))
        assert found.top5 == (pytest.approx(top5) if classes > 5 else None)
    by_class = metrics.precision_recall_fscore_support(labels, predictions, labels=range(classes), zero_division=0)
    rows = [(one.precision, one.recall, one.f1, one.count) for one in found.classes]
    for row, expected in zip(rows, zip(*by_class, strict=True), strict=True):
        assert row == pytest.approx(expected)
    assert torch.equal(torch.tensor(found.confusion), torch.from_numpy(metrics.confusion_matrix(labels, predictions)))


def test_a_class_that_never_occurs_or_is_never_predicted_scores_zero():
    logits = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    found = compute_metrics(logits, torch.tensor([0, 1]), ("a", "b", "c"))
    assert [one.f1 for one in found.classes] == pytest.approx([2 / 3, 0, 0])
    assert found.top1 == 0.5 and found.top5 is None and found.classes[2].count == 0
