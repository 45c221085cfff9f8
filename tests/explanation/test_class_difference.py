"""Differences of classes as users write them, and classes with equal logits."""

import pytest
import torch

from vitreous.errors import InputError
from vitreous.explanation.target_parsing import find_target
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassDifferenceTarget, ClassTarget, PredictedClassTarget


def classifier(*names: str) -> ImageClassifier:
    vit = ViT(ViTConfig((8, 8), 4, embed_dim=8, depth=1, num_heads=1, num_classes=len(names)))
    return ImageClassifier(vit, Preprocessing((8, 8), "squash", (0.5,) * 3, (0.25,) * 3, 4), names)


def test_a_class_minus_itself_raises():
    with pytest.raises(InputError, match="'cat' minus itself is always 0"):
        find_target(classifier("cat", "dog"), "cat - cat")
    with pytest.raises(InputError, match="'dog' minus itself"):
        ClassDifferenceTarget(ClassTarget(1, "dog"), ClassTarget(1, "dog"))


@pytest.mark.parametrize("text", ["cat-dog", "cat -dog", "cat- dog", "cat–dog", "cat − dog"])
def test_a_difference_without_spaces_raises_with_a_suggestion(text):
    with pytest.raises(InputError, match="write 'cat - dog'"):
        find_target(classifier("cat", "dog"), text)


def test_dashes_in_class_names_are_kept():
    model = classifier("cat", "dog", "cat-dog", "x-ray")
    assert find_target(model, "cat-dog") == ClassTarget(2, "cat-dog")
    assert find_target(model, "x-ray - cat") == ClassDifferenceTarget(ClassTarget(3, "x-ray"), ClassTarget(0, "cat"))
    with pytest.raises(InputError, match="write 'x-ray - cat'"):
        find_target(model, "x-ray-cat")
    with pytest.raises(InputError, match="there is no class 'x-rays'"):
        find_target(model, "x-rays")


def test_the_first_of_equally_probable_classes_is_explained():
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    target = PredictedClassTarget()
    scores = target(logits)
    (gradient,) = torch.autograd.grad(scores.sum(), logits)
    assert scores.tolist() == [3, 2] and gradient.tolist() == [[0, 1, 0], [1, 0, 0]]
    held = target.detached(logits)
    (again,) = torch.autograd.grad(held(logits).sum(), logits)
    assert torch.equal(gradient, again)
