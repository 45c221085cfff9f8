"""An image classifier is called with images of any kind and size, and its predictions are readable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.prediction import Prediction
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.workflows.explain import explain

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
        assert classifier.predict(several) == classifier(several)
    mixed = classifier([image, make_image(40, 20)])
    assert mixed[0].label == one.label and sum(score for _, score in mixed[1].scores) == pytest.approx(1)


def test_a_batch_is_several_images(tmp_path):
    classifier, image = build(), make_image()
    for one in ("/a.png", tmp_path / "a.png", Image.fromarray(image), image):
        with pytest.raises(InputError, match="give a list of images, or call predict for one"):
            classifier.predict_batch(one)
    stacked = np.stack([image, image])
    assert len(classifier.predict_batch(stacked)) == 2
    assert classifier.predict(stacked) == classifier(stacked) == classifier.predict_batch(stacked)
    assert classifier.predict([]) == []


def test_scores_are_the_softmax_highest_first():
    (found,) = build().postprocess(torch.tensor([[1.0, 3.0, 2.0]]))
    assert [label for label, _ in found.scores] == ["dog", "a <b>", "cat"]
    expected = torch.softmax(torch.tensor([1.0, 3.0, 2.0]), 0)
    assert [score for _, score in found.scores] == pytest.approx(expected[[1, 2, 0]].tolist())
    assert (found.label, found.score) == found.scores[0] and found.top_k(2) == found.scores[:2]
    for k in (0, -1, "a", None):
        with pytest.raises(InputError, match=r"can't give the top .* labels"):
            found.top_k(k)
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
    for names in ("abc", [1, 2, 3], None, 3):
        with pytest.raises(InputError, match=r"class_names=.* is invalid: give a list of strings"):
            build(names)


def test_names_that_occur_twice_get_their_numbers():
    assert build(("cat", "dog", "cat")).class_names == ("cat (class 0)", "dog", "cat (class 2)")
    names = build(("cat", "cat", "cat (class 0)")).class_names
    assert names == ("cat (class 0) (class 0)", "cat (class 1)", "cat (class 0) (class 2)")
    assert build(names).class_names == names, "as they are stored"


def test_parts_that_do_not_fit_are_refused():
    vit, pixels = build().vit, build().preprocessing
    wrong = {
        "the preprocessing has patch_size=8, but the model's patches are 4 pixels: give 4": replace(
            pixels, patch_size=8
        ),
        "the preprocessing has 1 channels, the model 3": replace(pixels, mean=(0.5,), std=(0.5,)),
        "18 × 24 .* can't be cut into patches of 4": replace(pixels, input_size=(18, 24)),
        "the preprocessing has the type NoneType: give a vitreous.Preprocessing": None,
    }
    for message, preprocessing in wrong.items():
        with pytest.raises(InputError, match=message):
            ImageClassifier(vit, preprocessing, NAMES)
    ImageClassifier(vit, replace(pixels, input_size=(18, 24), resize_mode="aspect"), NAMES)
    with pytest.raises(InputError, match=r"the model has the type str: give a torch.nn.Module"):
        ImageClassifier("runs/quick", pixels, NAMES)


@pytest.mark.parametrize("resize_mode", ["squash", "aspect"])
def test_features_are_what_the_head_reads(resize_mode):
    classifier, images = build(resize_mode=resize_mode), [make_image(), make_image(40, 20)]
    features = classifier.embed(images)
    assert features.shape == (2, 24) and not features.requires_grad
    logits = classifier.vit.head(features).detach()
    for found, expected in zip(classifier.postprocess(logits), classifier(images), strict=True):
        assert dict(found.scores) == pytest.approx(dict(expected.scores))
    torch.testing.assert_close(classifier.embed(images[1]), features[1])
    without = ImageClassifier(classifier.vit, classifier.preprocessing, ())
    torch.testing.assert_close(without.embed(images), logits)
    with pytest.raises(InputError, match="embed got no image"):
        classifier.embed([])
    headless = ImageClassifier(torch.nn.Sequential(torch.nn.Linear(2, 3)), classifier.preprocessing, NAMES)
    with pytest.raises(InputError, match=r"Sequential has no forward_features.*wrap it with class_names=\[\]"):
        headless.embed(images)


def test_a_classifier_moves_to_a_device():
    classifier = build()
    assert classifier.to("cpu") is classifier is classifier.to(torch.device("cpu"))
    with pytest.raises(InputError, match="there is no device 'gpu'"):
        classifier.to("gpu")
    with pytest.raises(InputError, match="choose another device, such as cpu"):
        classifier.to("cuda:99")


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_classifier_is_read_back_to_the_bit(kind, dtype, tmp_path):
    classifier, image = build(resize_mode="crop"), make_image()
    classifier.model.to(dtype)
    classifier.save(kind(tmp_path / "model"))
    again = load(kind(tmp_path / "model"), torch.device("cpu"))
    assert (again.preprocessing, again.class_names) == (classifier.preprocessing, classifier.class_names)
    assert again.vit.config == classifier.vit.config
    for name, weight in again.vit.state_dict().items():
        assert torch.equal(weight, classifier.vit.state_dict()[name].float())
    assert dtype != torch.float32 or again(image) == classifier(image)
    with pytest.raises(InputError, match="model exists already: name a new folder"):
        classifier.save(tmp_path / "model")


def test_the_task_in_a_config_is_a_text(tmp_path):
    build().save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"task": ["classification"]}))
    with pytest.raises(InputError, match=r"config\.json: task: input should be a valid string$"):
        load(tmp_path / "model", torch.device("cpu"))


def test_what_cannot_be_read_back_is_not_saved(tmp_path):
    classifier = build()
    classifier.model.double()
    with pytest.raises(InputError, match="is float64: a model is saved in float32 or less, call float"):
        classifier.save(tmp_path / "model")
    classifier.model.float().head.bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"head\.bias has values that are NaN or infinite"):
        classifier.save(tmp_path / "model")
    with pytest.raises(InputError, match="needs a ViT of Vitreous"):
        ImageClassifier(torch.nn.Linear(2, 3), build().preprocessing, NAMES).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_only_a_vit_of_vitreous_is_one():
    wrapped = ImageClassifier(torch.nn.Linear(2, 3), build().preprocessing, NAMES)
    with pytest.raises(InputError, match="needs a ViT of Vitreous"):
        assert wrapped.vit
    assert build().vit is not None and str(build().device) == "cpu"


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_give_no_warning():
    image = np.asarray(Image.fromarray(make_image()))
    assert not image.flags.writeable
    assert build().predict(image) == build().predict(image.copy())
    classes = np.array([1])
    classes.flags.writeable = False
    assert explain(build(), [image], method="grad-cam", target=classes)[0].target == "dog"


def test_a_path_of_another_type_is_refused():
    with pytest.raises(InputError, match="path=3 has the wrong type: save takes a string or a path"):
        build().save(3)  # ty: ignore[invalid-argument-type]
    with pytest.raises(InputError, match="path=3 has the wrong type: save takes a string or a path"):
        explain(build(), make_image()).save(3)  # ty: ignore[invalid-argument-type]
