"""What a user of Python gives: targets for each image, one side as a size, and values that can't be used."""

import numpy as np
import pytest
import torch

import vitreous as vt
from vitreous.errors import InputError


def test_each_image_of_a_list_has_its_own_target(small_classifier, noise_image):
    others = [noise_image, noise_image[:, ::-1].copy(), noise_image[:40]]
    found = vt.explain(small_classifier, others, method="grad-cam", target=["cat", 2, "dog"])
    assert [one.target for one in found] == ["cat", "cow", "dog"]
    for one, image, target in zip(found, others, ["cat", "cow", "dog"], strict=True):
        alone = vt.explain(small_classifier, image, method="grad-cam", target=target)
        assert np.allclose(one.patch_map, alone.patch_map, atol=1e-6) and one.score == pytest.approx(alone.score)


def test_attribute_takes_the_names_of_an_image_classifier(small_classifier, noise_image):
    images = torch.stack([small_classifier.preprocess(noise_image)[0]] * 2)
    named = vt.attribute(small_classifier, images, method="grad-cam", target=["cat", "cow"])
    assert torch.equal(named, vt.attribute(small_classifier, images, method="grad-cam", target=[1, 2]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": ["cat"]}, "1 classes are given for 2 images: give one per image"),
        ({"target": ["cat", "dgo"]}, "there is no class 'dgo': did you mean 'dog'"),
        ({"target": np.zeros((2, 2))}, "<ndarray> is not a target: give the name or index of a class"),
        ({"query": np.zeros((2, 2))}, "query <ndarray> is not a point on an image"),
        ({"method": ["rollout"]}, r"method=\['rollout'\] has the wrong type: explain takes a string"),
        ({"head": "all"}, "head='all' has the wrong type: explain takes an integer or None"),
        ({"options": {"layer": 1}}, r"such as MethodOptions\(layer=1\)"),
    ],
    ids=str,
)
def test_bad_values_of_explain_are_named(given, message, small_classifier, noise_image):
    with pytest.raises(InputError, match=message) as caught:
        vt.explain(small_classifier, [noise_image, noise_image], **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [vt.attribute, vt.attention_weights])
def test_tensor_functions_refuse_what_is_no_model_and_no_batch(function, small_classifier, noise_image):
    batch = small_classifier.preprocess(noise_image)[0][None]
    for wrong in (None, "runs/quick", print, batch):
        with pytest.raises(InputError, match=r"is not a model: give a torch\.nn\.Module, or what"):
            function(wrong, batch)
    for wrong in (None, "cat.jpg", noise_image, batch[0], batch.to(torch.uint8), []):
        with pytest.raises(InputError, match=r"give a float tensor \(batch, channels, height, width\)"):
            function(small_classifier, wrong)


def test_one_side_is_a_square_input_in_patches(noise_image):
    one, both = vt.patches(noise_image, input_size=224), vt.patches(noise_image, input_size=[224, 224])
    assert one == both == vt.patches(noise_image)
    for wrong in ((1, 2, 3), [], "224", 2.5):
        with pytest.raises(InputError, match=r"input[_ ]size"):
            vt.patches(noise_image, input_size=wrong)
