"""An image classifier is called with images of any kind and size, and its predictions are readable."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier, Prediction
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT

NAMES = ("cat", "dog", "a <b>")


def build(names=NAMES, resize_mode="squash") -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((16, 24), 4, embed_dim=24, depth=1, num_heads=2, num_classes=3))
    torch.nn.init.normal_(vit.head.weight)
    return ImageClassifier(vit, Preprocessing((16, 24), resize_mode, (0.5,) * 3, (0.25,) * 3, 4), names)


def make_image(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("resize_mode", ["squash", "aspect"])
def test_one_image_or_several_of_every_kind(resize_mode, tmp_path):
    classifier, image = build(resize_mode=resize_mode), make_image()
    Image.fromarray(image).save(tmp_path / "image.png")
    one = classifier(image)
    assert one == classifier.predict(image) and [label for label, _ in one.scores] != list(NAMES[::-1])
    kinds = [image, Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")]
    for several in (kinds, tuple(kinds)):
        assert [found.label for found in classifier(several)] == [one.label] * 4
    mixed = classifier([image, make_image(40, 20)])
    assert mixed[0].label == one.label and sum(score for _, score in mixed[1].scores) == pytest.approx(1)


def test_a_batch_is_several_images(tmp_path):
    classifier, image = build(), make_image()
    for one in ("/a.png", tmp_path / "a.png", Image.fromarray(image), image):
        with pytest.raises(InputError, match="give a list of images, or call predict for one"):
            classifier.predict_batch(one)
    assert len(classifier.predict_batch(np.stack([image, image]))) == 2


def test_scores_are_the_softmax_highest_first():
    (found,) = build().postprocess(torch.tensor([[1.0, 3.0, 2.0]]))
    assert [label for label, _ in found.scores] == ["dog", "a <b>", "cat"]
    expected = torch.softmax(torch.tensor([1.0, 3.0, 2.0]), 0)
    assert [score for _, score in found.scores] == pytest.approx(expected[[1, 2, 0]].tolist())
    assert (found.label, found.score) == found.scores[0] and found.top_k(2) == found.scores[:2]
    with pytest.raises(InputError, match="output is NaN or infinite"):
        build().postprocess(torch.tensor([[1.0, float("nan"), 2.0]]))


def test_predictions_print_the_best_labels():
    found = Prediction(tuple((f"class {index}", (9 - index) / 45) for index in range(9)))
    assert (
        repr(found) == "Prediction(class 0 20.0 %, class 1 17.8 %, class 2 15.6 %, class 3 13.3 %, class 4 11.1 %, …)"
    )
    html = Prediction((("a <b>", 1.0),))._repr_html_()
    assert html == "<table><tr><td>a &lt;b&gt;</td><td>100.0 %</td></tr></table>"
    assert "3 classes, input 16 × 24" in repr(build()) and "features" in repr(build(()))


def test_a_model_without_class_names_predicts_nothing():
    classifier = build(())
    found = classifier(make_image())
    assert found.scores == () and repr(found) == "Prediction()"
    with pytest.raises(InputError, match="no classes, only features"):
        assert found.label
    with pytest.raises(InputError, match="no classes, only features"):
        classifier.class_index("cat")


def test_class_names_belong_to_the_outputs():
    assert build().class_index("dog") == 1
    with pytest.raises(InputError, match="did you mean 'dog'"):
        build().class_index("dogs")
    with pytest.raises(InputError, match="2 class names for a model of 3 classes"):
        build(("cat", "dog"))


def test_only_a_vit_of_vitreous_is_one():
    wrapped = ImageClassifier(torch.nn.Linear(2, 3), build().preprocessing, NAMES)
    with pytest.raises(InputError, match="needs a ViT of Vitreous"):
        assert wrapped.vit
    assert build().vit is not None and str(build().device) == "cpu"
