"""Interventions over HTTP: the measured change is that of the package's functions, and wrong requests are refused."""

import time

import numpy as np
import pytest
import torch
from test_explorer_api import png, run_job, status_of
from torch import nn

import vitreous as vt
from vitreous.diagnostics.doctor.checks_tokens import outliers_by_layer
from vitreous.diagnostics.doctor.measure import collect_statistics
from vitreous.diagnostics.doctor.run import diagnose
from vitreous.web.explorer.explorer import Explorer

MASKED, HEADS = [1, 2, 6], [[0, 1], [2, 0]]


class LargeToken(nn.Module):
    """An MLP that also adds a large value to one token."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, tokens):
        result = self.mlp(tokens).clone()
        result[:, 1 + 7, 0] += 300
        return result


@pytest.fixture(scope="module")
def classifier(small_classifier):
    torch.manual_seed(1)
    for weight in small_classifier.model.parameters():
        nn.init.normal_(weight, std=0.3)
    return small_classifier


@pytest.fixture(scope="module")
def features(classifier):
    vit = vt.ViT(vt.ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=0))
    torch.manual_seed(2)
    for weight in vit.parameters():
        nn.init.normal_(weight, std=0.3)
    return vt.ImageClassifier(vit, classifier.preprocessing, [])


@pytest.fixture(scope="module")
def explorer(classifier, features):
    made = Explorer({"small": classifier, "features": features})
    made.queue.start()
    yield made
    made.queue.close()


@pytest.fixture
def image(client, noise_image):
    return client.post("/api/images", content=png(noise_image)).json()["image"]


def changed(model, fill="mean"):
    mask = np.zeros((3, 4), bool)
    mask.flat[MASKED] = True
    return vt.mask_patches(model, mask, fill=fill)


@pytest.mark.parametrize("fill", ["mean", "blur", "neighbors"])
def test_the_change_of_a_class_is_measured(fill, client, image, classifier, noise_image):
    intervention = {"masked": MASKED, "fill": fill, "heads": HEADS, "target": "cow"}
    description, data = run_job(client, image=image, intervention=intervention)
    before = classifier(noise_image)
    with changed(classifier, fill), vt.ablate_heads(classifier, HEADS):
        after = classifier(noise_image)
        weights = vt.attention_weights(classifier, classifier.preprocess(noise_image)[0][None])
    change = description["change"]
    assert (change["target"], change["unit"]) == ("cow", "probability")
    assert change["before"] == pytest.approx(dict(before.scores)["cow"], abs=1e-6)
    assert change["after"] == pytest.approx(dict(after.scores)["cow"], abs=1e-6)
    assert abs(change["before"] - change["after"]) > 1e-3
    assert change["prediction"]["scores"][0][0] == before.label
    assert description["prediction"]["scores"][0] == [after.label, pytest.approx(after.score, abs=1e-6)]
    matrices = np.frombuffer(data[4 * 13 :][: 2 * 3 * 2 * 13**2], np.float16).reshape(3, 2, 13, 13)
    assert np.abs(matrices - np.stack([one[0].numpy() for one in weights])).max() < 5e-4


def test_the_page_gets_the_input_that_the_model_got(client, image, classifier, noise_image):
    description, data = run_job(client, image=image, intervention={"masked": MASKED})
    assert (description["input_height"], description["input_width"]) == (24, 32)
    found = np.frombuffer(data[-24 * 32 * 3 :], np.uint8).reshape(24, 32, 3)
    pixels = classifier.preprocess(noise_image)[0].permute(1, 2, 0).numpy()
    pixels[:8, 8:24] = pixels[8:16, 16:24] = 0
    assert np.abs(found - (pixels * 0.5 + 0.5) * 255).max() <= 0.51


def test_the_change_of_a_difference_and_of_features_is_measured(client, image, classifier, features, noise_image):
    intervention = {"heads": HEADS, "target": "cat - cow"}
    change = run_job(client, image=image, intervention=intervention)[0]["change"]
    before = vt.explain(classifier, noise_image, target="cat - cow").score
    with vt.ablate_heads(classifier, HEADS):
        after = vt.explain(classifier, noise_image, target="cat - cow").score
    assert change["unit"] == "score" and change["target"] == "cat rather than cow"
    assert [change["before"], change["after"]] == [pytest.approx(before, abs=1e-5), pytest.approx(after, abs=1e-5)]
    description = run_job(client, image=image, model=1, intervention={"masked": MASKED})[0]
    with changed(features):
        vector = features.embed(noise_image)
    similarity = torch.nn.functional.cosine_similarity(features.embed(noise_image), vector, dim=0)
    change = description["change"]
    assert change["unit"] == "cosine similarity" and change["before"] == pytest.approx(1)
    assert change["after"] == pytest.approx(float(similarity), abs=1e-5) and change["after"] < 0.9999


def test_a_map_is_that_of_the_changed_input(client, image, classifier, noise_image):
    intervention = {"masked": MASKED, "heads": HEADS}
    _, data = run_job(
        client, kind="map", method="gradient-rollout", target="cat", image=image, intervention=intervention
    )
    with changed(classifier), vt.ablate_heads(classifier, HEADS):
        expected = vt.explain(classifier, noise_image, method="gradient-rollout", target="cat").patch_map
    plain = vt.explain(classifier, noise_image, method="gradient-rollout", target="cat").patch_map
    found = np.frombuffer(data, np.float32).reshape(3, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - plain).max() > 1e-4


def test_the_doctor_speaks_about_this_image(client, image, classifier, noise_image):
    mlp = classifier.model.blocks[1].mlp
    classifier.model.blocks[1].mlp = LargeToken(mlp)
    try:
        description, data = run_job(client, kind="doctor", image=image)
        statistics = collect_statistics(classifier, [noise_image])
    finally:
        classifier.model.blocks[1].mlp = mlp
    expected = [np.flatnonzero(layer).tolist() for layer in outliers_by_layer(statistics.images[0].norms)]
    assert data == b"" and description["outliers"] == expected and [7] in expected
    found = {one["topic"]: one for one in description["findings"]}
    assert len(found) == len(diagnose(statistics)) and found["outlier tokens"]["level"] == "fault"
    assert found["outlier tokens"]["message"] == next(
        one.message for one in diagnose(statistics) if one.topic == "outlier tokens"
    )


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        ([], "intervention"),
        ("masked", "intervention"),
        ({}, "nothing is changed"),
        ({"masked": ["1"]}, "masked.0"),
        ({"masked": [True]}, "masked.0"),
        ({"masked": [1.5]}, "masked.0"),
        ({"masked": [-1]}, "counted from 0"),
        ({"masked": {"0": 1}}, "masked"),
        ({"heads": [[0, -2]]}, "counted from 0"),
        ({"heads": [[0]]}, "heads.0"),
        ({"heads": [[0, 1, 2]]}, "heads.0"),
        ({"heads": [3]}, "heads.0"),
        ({"heads": [[0, 0]] * 4097}, "the limit is 4096"),
        ({"masked": [1], "fill": "black"}, "fill"),
        ({"masked": [1], "target": 3}, "target"),
        ({"masked": [10**400]}, "below 65536"),
        ({"masked": [1], "heds": []}, "no field of intervention 'heds'"),
    ],
)
def test_wrong_interventions_are_refused(intervention, message, client, image):
    for kind in ("attention", "map"):
        response = client.post(
            "/api/jobs", json={"kind": kind, "image": image, "method": "grad-cam", "intervention": intervention}
        )
        assert response.status_code == 400 and message in response.json()["error"], response.text
        assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        ({"masked": [12]}, "there is no patch 12: the input has 3 x 4 patches"),
        ({"heads": [[3, 0]]}, "there is no head 0 in layer 3: the model has layers 0 to 2"),
        ({"heads": [[0, 2]]}, "there is no head 2 in layer 0: layer 0 has heads 0 to 1"),
        ({"masked": list(range(12)), "fill": "neighbors"}, "every patch is masked"),
        ({"masked": [1], "target": "horse"}, "there is no class 'horse'"),
        ({"masked": [1], "target": "region:0,0,9,9"}, "the score of a region can't be compared"),
    ],
)
def test_interventions_that_do_not_fit_the_model_fail_in_one_line(intervention, message, client, image, classifier):
    response = client.post("/api/jobs", json={"image": image, "intervention": intervention})
    status = status_of(client, response.json()["job"])
    assert status["state"] == "failed" and message in status["message"] and "\n" not in status["message"]
    assert not any(part._forward_pre_hooks for part in classifier.model.modules())


def test_other_kinds_and_an_intervention_for_the_doctor_are_refused(client, image):
    response = client.post("/api/jobs", json={"kind": "surgeon", "image": image})
    assert response.status_code == 400 and "attention, tokens, map, doctor" in response.json()["error"]
    response = client.post("/api/jobs", json={"kind": "doctor", "image": image, "intervention": {"masked": [1]}})
    assert response.status_code == 400 and "leave the intervention out" in response.json()["error"]


def test_an_intervention_is_cancelled_between_passes(client, image, classifier):
    slow = classifier.model.register_forward_pre_hook(lambda *_: time.sleep(0.4))
    try:
        job = client.post("/api/jobs", json={"image": image, "intervention": {"masked": [1]}}).json()["job"]
        time.sleep(0.1)
        assert client.delete(f"/api/jobs/{job}").status_code == 204
        assert run_job(client, image=image)[0]["heads"] == [2, 2, 2]
    finally:
        slow.remove()
    assert not any(part._forward_pre_hooks for part in classifier.model.modules())
