"""The API of the explorer: what it returns is what the package computes, and sessions, limits and caches hold."""

import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from vitreous.explanation.attribute import attention_weights
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.pretrained.load import load
from vitreous.render.color import color_table
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.openapi import OPERATIONS
from vitreous.web.sessions import Limits, SessionTable, StoredImage, name_upload

ADDRESS = "http://127.0.0.1:8765"


def png(image_u8, image_format="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, image_format)
    return stream.getvalue()


def status_of(client, job):
    after, end = 0, time.monotonic() + 20
    while time.monotonic() < end:
        status = client.get(f"/api/jobs/{job}?after={after}").json()
        if status["state"] not in ("queued", "running"):
            return status
        after = status["number"]
    raise AssertionError("the job did not end")


def run_job(client, **fields):
    response = client.post("/api/jobs", json=fields)
    assert response.status_code == 202, response.text
    job = response.json()["job"]
    status = status_of(client, job)
    assert status["state"] == "done", status
    return status["result"], client.get(f"/api/jobs/{job}/data").content


@pytest.fixture(scope="module")
def explorer(small_classifier, colored_folder):
    gallery = ImageGallery(f"folder:{colored_folder}", 9, print)
    made = Explorer({"small": small_classifier}, gallery, Limits(upload_bytes=200_000, image_pixels=100_000))
    made.queue.start()
    yield made
    made.queue.close()


@pytest.fixture
def uploaded(client, noise_image):
    response = client.post("/api/images", content=png(noise_image))
    assert response.status_code == 201
    return response.json()


def test_an_upload_comes_back_as_it_is(client, uploaded, noise_image):
    assert (uploaded["height"], uploaded["width"], uploaded["truth"]) == (72, 96, None)
    assert 0.3 <= uploaded["dimming"] <= 0.64
    response = client.get(f"/api/images/{uploaded['image']}/pixels")
    assert response.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(response.content))), noise_image)
    assert client.get(f"/api/images/{uploaded['image']}").json() == uploaded


def test_attention_is_that_of_the_model(client, uploaded, small_classifier, noise_image):
    description, data = run_job(client, image=uploaded["image"])
    weights = attention_weights(small_classifier, small_classifier.preprocess(noise_image)[0][None])
    assert description["encoding"] == "float16" and description["heads"] == [2, 2, 2]
    layout = description["layout"]
    tokens = layout["num_prefix_tokens"] + layout["grid_height"] * layout["grid_width"]
    assert (layout["grid_height"], layout["grid_width"]) == (3, 4)
    readout = np.frombuffer(data[: 4 * tokens], np.float32)
    matrices = np.frombuffer(data[4 * tokens :], np.float16).reshape(3, 2, tokens, tokens)
    assert readout.sum() == pytest.approx(1)
    assert np.abs(matrices - np.stack([one[0].numpy() for one in weights])).max() < 5e-4
    prediction = small_classifier(noise_image)
    assert description["prediction"]["scores"] == [[label, pytest.approx(score)] for label, score in prediction.scores]
    assert description["geometry"]["box"] == [0, 0, 72, 96] and description["rollout_obstacle"] is None


@pytest.mark.parametrize(
    ("method", "fields", "reference"),
    [
        ("gradient-rollout", {"target": "cat"}, {"target": "cat"}),
        ("occlusion", {"target": "cat - dog"}, {"target": "cat - dog"}),
        ("value-norm", {"query": [30.0, 30.0], "options": {"layer": 0}},
         {"query": (30.0, 30.0), "options": MethodOptions(layer=0)}),
        ("input-x-gradient", {}, {}),
    ],
)  # fmt: skip
def test_maps_are_those_of_explain(method, fields, reference, client, uploaded, small_classifier, noise_image):
    description, data = run_job(client, kind="map", image=uploaded["image"], method=method, **fields)
    (expected,) = explain_batch(small_classifier, [noise_image], method, **reference)
    found = np.frombuffer(data, np.float32).reshape(description["rows"], description["columns"])
    assert np.array_equal(found, expected.patch_map)
    assert description["caption"] == expected.caption() and description["scale_kind"] == expected.scale_kind
    assert description["target"] == expected.target and description["score"] == expected.score


def test_features_have_colors_of_their_own(client, uploaded):
    description, data = run_job(client, kind="map", image=uploaded["image"], method="features")
    assert description["has_colors"] and len(data) == 4 * 3 * 4 * (1 + 3)


def test_tokens_give_the_similarity_of_patches(client, uploaded, small_classifier, noise_image):
    description, data = run_job(client, kind="tokens", image=uploaded["image"], layer=0)
    rows, columns, width = (description[name] for name in ("rows", "columns", "width"))
    tokens = np.frombuffer(data, np.float16).reshape(rows * columns, width).astype(np.float32)
    query = (0.5 * noise_image.shape[1] / columns, 0.5 * noise_image.shape[0] / rows)
    options = MethodOptions(layer=0, view="similarity")
    (expected,) = explain_batch(small_classifier, [noise_image], "features", options, query=query)
    found = (tokens @ tokens[0]).reshape(rows, columns)
    assert np.abs(found - expected.patch_map).max() < 1e-3 < expected.patch_map.std()


def test_two_images_share_their_components(client, uploaded):
    fields = {"kind": "map", "method": "features", "image": uploaded["image"]}
    own, shared = (run_job(client, **fields, **other)[1] for other in ({}, {"other": "data-0"}))
    again = run_job(client, **fields, other=uploaded["image"])[1]
    assert own != shared, "the other image changes the components"
    values = [np.frombuffer(one, np.float32)[: 3 * 4] for one in (own, again)]
    assert np.allclose(*values, atol=1e-4), "an image together with itself has its own components"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"kind": "map", "method": "rolout"}, 400, "did you mean 'rollout'"),
        ({"kind": "map", "method": "rollout", "options": {"layer": 1}}, 400, "doesn't use the option layer"),
        ({"kind": "map", "method": "gradient-rollout", "target": "cow!"}, 400, "no class 'cow!'"),
        ({"kind": "map", "method": "rise", "options": {"n_samples": 10**9}}, 400, "the limit is 4096"),
        ({"kind": "map", "method": "rise", "options": {"n_samples": "20000000"}}, 400, "the limit is 4096"),
        ({"kind": "map", "method": "rise", "options": {"n_samples": 2e7}}, 400, "the limit is 4096"),
        ({"kind": "map", "method": "attention", "options": {"layr": 1}}, 400, "'layr'"),
        ({"kind": "map", "method": "attention", "querry": [1, 2]}, 400, "'querry'"),
        ({"kind": "map", "method": "value-norm", "query": [1.0]}, 400, "not a point"),
        ({"kind": "map"}, 400, "method"),
        ({"kind": "film"}, 400, "kind must be"),
        ({"model": 7}, 400, "there is no model 7"),
        ({"model": "0"}, 400, "whole number"),
        ({"kind": "tokens", "layer": 0.5}, 400, "whole numbers"),
        ({"kind": "map", "method": "features", "other": "upload-0"}, 404, "no such image"),
        ({"image": "upload-0"}, 404, "no such image"),
        ({"image": 3}, 400, "name of an image"),
    ],
    ids=str,
)
def test_what_can_not_be_done_is_refused_in_one_line(fields, status, words, client, uploaded):
    response = client.post("/api/jobs", json={"image": uploaded["image"], **fields})
    assert response.status_code == status
    message = response.json()["error"]
    assert words in message and "\n" not in message


def test_a_failure_of_the_work_is_the_status_of_the_job(client, uploaded):
    response = client.post(
        "/api/jobs", json={"kind": "map", "image": uploaded["image"], "method": "attention", "options": {"layer": 99}}
    )
    status = status_of(client, response.json()["job"])
    assert status["state"] == "failed" and "there is no layer 99" in status["message"]
    fields = {"kind": "map", "image": uploaded["image"], "method": "rollout", "other": "data-0"}
    status = status_of(client, client.post("/api/jobs", json=fields).json()["job"])
    assert status["state"] == "failed" and "share principal components only" in status["message"]


def test_progress_is_reported_and_a_job_can_be_cancelled(client, uploaded, small_classifier):
    hook = small_classifier.model.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    request = {"kind": "map", "image": uploaded["image"], "method": "rise", "options": {"n_samples": 4096}}
    job = client.post("/api/jobs", json=request).json()["job"]
    seen, after = [], 0
    while not seen or not seen[-1]["done"]:
        status = client.get(f"/api/jobs/{job}?after={after}").json()
        after = status["number"]
        seen.append(status)
        assert status["state"] in ("queued", "running"), status
    assert seen[-1]["total"] == 4096 and seen[-1]["done"] <= 4096 + 1
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    assert client.get(f"/api/jobs/{job}").status_code == 404
    hook.remove()


def test_the_gallery_is_filtered_by_what_the_model_predicts(client, explorer, small_classifier):
    end = time.monotonic() + 20
    while len(explorer.gallery.scored(0)) < 9 and time.monotonic() < end:
        time.sleep(0.05)
    everything = client.get("/api/gallery").json()
    assert everything["total"] == everything["scored"] == everything["count"] == 9
    for item in everything["items"]:
        pixels = client.get(f"/api/images/{item['image']}/pixels").content
        prediction = small_classifier(np.asarray(Image.open(io.BytesIO(pixels)).convert("RGB")))
        assert item["prediction"] == [prediction.label, pytest.approx(prediction.score, abs=1e-3)]
    truth = everything["items"][0]["truth"]
    of_class = client.get("/api/gallery", params={"class": truth}).json()["items"]
    assert of_class == [item for item in everything["items"] if item["truth"] == truth]
    assert {item["is_correct"] for item in everything["items"]} == {None}, "the model has none of the true classes"
    assert not client.get("/api/gallery?order=misclassified").json()["total"]
    least = [item["prediction"][1] for item in client.get("/api/gallery?order=least-confident").json()["items"]]
    assert len(least) == 9 and least == sorted(least)
    for query in ("order=best", "class=zebra", "model=3", "offset=-1", "model=x"):
        assert client.get(f"/api/gallery?{query}").status_code == 400
    described, _ = run_job(client, image=everything["items"][0]["image"])
    assert described["prediction"]["count"] == 3
    small = client.get(f"/api/images/{everything['items'][0]['image']}/thumbnail")
    assert min(Image.open(io.BytesIO(small.content)).size) <= 128


def test_clients_do_not_see_each_other(explorer, uploaded, client):
    description = client.post("/api/jobs", json={"image": uploaded["image"]}).json()
    status_of(client, description["job"])
    with TestClient(create_explorer_app(explorer), ADDRESS) as other:
        other.post("/api/images", content=png(np.zeros((8, 8, 3), np.uint8)))
        for path in (f"images/{uploaded['image']}", f"images/{uploaded['image']}/pixels", f"jobs/{description['job']}"):
            assert other.get(f"/api/{path}").status_code == 404
        assert other.get(f"/api/jobs/{description['job']}/data").status_code == 404
        other.delete(f"/api/jobs/{description['job']}")
    assert client.get(f"/api/jobs/{description['job']}/data").status_code == 200


def test_a_session_ends(client, uploaded, explorer):
    before = len(explorer.sessions)
    assert client.delete("/api/session").status_code == 204
    assert len(explorer.sessions) == before - 1
    assert client.get(f"/api/images/{uploaded['image']}").status_code == 404


def test_sessions_are_bounded_in_number_time_and_memory(monkeypatch):
    table = SessionTable(Limits(sessions=2, idle_seconds=60, session_bytes=1000))
    first, second = table.open(), table.open()
    assert table.find(first.id) is first
    third = table.open()
    assert table.find(second.id) is None and table.find(first.id) and table.find(third.id)
    images = [np.full((10, 10, 3), value, np.uint8) for value in range(5)]
    keys = [name_upload(image) for image in images]
    for key, image in zip(keys, images, strict=True):
        first.add_image(key, StoredImage("x", image))
    assert list(first.images) == keys[-3:] and first.stored_bytes == 900
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    table.end_idle()
    assert len(table) == 0 and table.stored_bytes == 0


def test_what_has_not_changed_is_not_sent_again(client, uploaded):
    job = client.post("/api/jobs", json={"image": uploaded["image"]}).json()["job"]
    status_of(client, job)
    paths = ("/api", "/api/start", "/static/explorer.js", f"/api/images/{uploaded['image']}/pixels",
             f"/api/jobs/{job}/data")  # fmt: skip
    for path in paths:
        response = client.get(path)
        again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (response.status_code, again.status_code, again.content) == (200, 304, b""), path
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_description_of_the_api_is_complete(client, explorer):
    described = client.get("/api").json()
    documented = {(method, path) for path, operations in described["paths"].items() for method in operations}
    routes = {
        (method.lower(), route.path)
        for route in create_explorer_app(explorer).routes
        if getattr(route, "methods", None) and route.path not in ("/", "/training")
        for method in route.methods - {"HEAD"}
    }
    assert documented == routes == {(method, path) for method, path, *_ in OPERATIONS}
    assert described["openapi"].startswith("3.1") and json.dumps(described)


def test_a_result_has_the_fingerprint_of_the_weights_that_made_it(explorer, client, uploaded, small_classifier):
    fields = ({}, {"kind": "tokens", "layer": 1}, {"kind": "map", "method": "occlusion"})
    keys = {run_job(client, image=uploaded["image"], **one)[0]["weights"] for one in fields}
    assert len(keys) == 1
    path = f"/api/fingerprints/{keys.pop()}"
    assert client.get(path).json() == {"fingerprint": weights_fingerprint(small_classifier)}
    for key in ("weights-99", "..%2f0", "x"):
        assert client.get(f"/api/fingerprints/{key}").status_code in (400, 404)
    explorer.models.replace(0, small_classifier.replace())
    try:
        assert run_job(client, image=uploaded["image"])[0]["weights"] != path.rpartition("/")[2]
    finally:
        explorer.models.replace(0, small_classifier)


def test_the_start_holds_the_tables_of_render(client):
    start = client.get("/api/start").json()
    assert bytes.fromhex(start["palettes"]["colormaps"]["inferno"]) == color_table("inferno").tobytes()
    assert start["models"][0]["class_names"] == ["dog", "cat", "cow"]
    assert start["gallery"]["count"] == 9


def test_health_and_metrics(client, uploaded):
    assert client.get("/healthz").json() == {"status": "ok"}
    client.get("/nowhere")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['vitreous_responses_total{status="404"}'] == "1" and float(lines["vitreous_session_bytes"]) > 0
    assert float(lines["vitreous_sessions"]) >= 1 and float(lines["vitreous_jobs_waiting"]) == 0


def test_the_gallery_is_searched_by_name_and_class(client, explorer):
    names = {item["image"]: f"{item['name']} {item['truth']}" for item in client.get("/api/gallery").json()["items"]}
    assert len(names) == 9 and all(name.startswith("test/") for name in names.values())

    def search(text, **more):
        found = client.get("/api/gallery", params={"search": text, **more}).json()
        return {item["image"] for item in found["items"]}

    for text in ("RED", "test/blue", "green 4", ".png", "  ", "4 GREEN test"):
        words = text.lower().split()
        assert search(text) == {image for image, name in names.items() if all(word in name for word in words)}
    assert search("red") and search("red") == search("", **{"class": "red"})
    assert not search("red", **{"class": "blue"}) and not search("zebra")
    key = next(iter(search("red")))
    assert client.get(f"/api/images/{key}").json()["name"] == names[key].rpartition(" ")[0]


@pytest.mark.parametrize(("source", "model"), [("mnist", None), ("cifar10", "vitreous:cifar10")])
def test_the_filters_hold_on_real_images(source, model, shared, small_classifier, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    gallery, classifier = ImageGallery(source, 40, print), small_classifier if model is None else load(model, "cpu")
    assert len(gallery) == 40 and gallery.name(1) == "test 256"
    for label in gallery.class_names:
        with_label = [index for index, truth in enumerate(gallery.labels) if truth == label]
        assert gallery.select(0, "stored", label) == with_label
        assert set(with_label) <= set(gallery.select(0, "stored", None, label.upper()))
    assert gallery.select(0, "stored", None, "TEST 256") == [i for i in range(40) if "test 256" in gallery.name(i)]
    for _ in gallery.score(0, classifier):
        pass
    own = {index: classifier(gallery.image(index).image_u8) for index in range(40)}
    judged = [index for index in own if gallery.labels[index] in classifier.class_names]
    wrong = [index for index in judged if own[index].label != gallery.labels[index]]
    found = gallery.select(0, "misclassified", None)
    assert sorted(found) == wrong and len(judged) == (0 if model is None else 40)
    for order, sign, among in (("misclassified", -1, wrong), ("least-confident", 1, list(own))):
        scores = [sign * own[index].score for index in gallery.select(0, order, None)]
        assert len(scores) == len(among) and scores == pytest.approx(sorted(scores), abs=1e-4)


def test_images_that_no_model_predicts_count_as_gone_through(colored_folder, tmp_path, small_classifier):
    shutil.copytree(colored_folder, tmp_path / "images")
    next((tmp_path / "images" / "test" / "red").iterdir()).write_bytes(b"no image")
    gallery = ImageGallery(f"folder:{tmp_path / 'images'}", 100, print)
    assert [*gallery.score(0, small_classifier)][-1] == len(gallery) == gallery.num_done(0)
    assert len(gallery.scored(0)) == len(gallery) - 1
