"""The planner: figures by hand, figures by their own formulas, what limits, and the machine at hand."""

import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import vitreous as vt
from vitreous.errors import InputError
from vitreous.explanation.registry import METHODS
from vitreous.model.flops import count_macs
from vitreous.workflows.planning.devices import DEVICES
from vitreous.workflows.planning.method_passes import PIXEL_METHODS, passes_of

slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")
BY_RATE = {"rate": 100.0, "devices": "4", "decode_rate": 50.0}
"""A plan in which nothing is measured."""
WORKS = {"embed": {}, "explain": {"method": "gradient-rollout"}, "train": {"epochs": 3}}
DEVICES_AT_HAND = {
    "published": {"devices": "8xa100", "decode_rate": 200.0},
    "given": BY_RATE,
    "all limits": BY_RATE | {"cores": 6, "read_bandwidth": 1e7, "price": 2.5},
    "measured": {"devices": "2xcpu", "precision": "fp32"},
}


def test_an_embedding_by_hand():
    found = vt.plan("vit-l", 1e9, devices="64xh200", decode_rate=200.0, price=3.0)
    macs = 61_600_000_000
    assert found["macs"] == pytest.approx(macs, rel=1e-3) and found.model == "L/16"
    assert found["device_rate"] == pytest.approx(989e12 * 0.35 / (2 * macs), rel=1e-3)
    assert found["seconds"] == pytest.approx(1e9 / (64 * found["device_rate"]))
    assert found["device_hours"] == pytest.approx(64 * found["seconds"] / 3600)
    assert found["cost"] == pytest.approx(3 * found["device_hours"])
    assert found["cost_per_million"] == pytest.approx(found["cost"] / 1000)
    assert found["decode_cores"] == pytest.approx(64 * found["device_rate"] / 200)
    assert found["input_storage"] == 110e12 and found["output_storage"] == 1e9 * 1024 * 4
    assert found["weight_memory"] == 6 * found["params"] and found.fits and found.limit == "compute"
    half = vt.plan("vit-l", 1e9, devices="64xh200", decode_rate=200.0, number_type="float16")
    assert half["output_storage"] == found["output_storage"] / 2 and "cost" not in half.figures


def test_training_and_explaining_by_hand():
    train = vt.plan("S/16", 1e6, work="train", epochs=10, devices="1xa100", decode_rate=1.0)
    embed = vt.plan("S/16", 1e6, devices="1xa100", decode_rate=1.0)
    assert train["flops"] == 6 * train["macs"] and train["seconds"] == pytest.approx(30 * embed["seconds"])
    assert train["weight_memory"] == 18 * train["params"] and train["output_storage"] == 16 * train["params"]
    assert train["activation_memory"] == 32 * 197 * (12 * 16 * 384 * 17 / 16) * 2
    maps = vt.plan("S/16", 1e6, work="explain", method="rise", devices="1xa100", decode_rate=1.0)
    assert maps["forward_passes"] == 1001 and maps["output_storage"] == 1e6 * 224 * 224 * 4
    assert vt.plan("S/16", 1e6, work="explain", **BY_RATE)["output_storage"] == 1e6 * 14 * 14 * 4
    assert vt.plan("S/16", 10, input_size=(448, 224), **BY_RATE)["tokens"] == 28 * 14 + 1


@pytest.mark.parametrize("devices", DEVICES_AT_HAND)
@pytest.mark.parametrize("work", WORKS)
def test_every_figure_is_what_its_formula_gives(work, devices):
    found = vt.plan("nano/4-32", 1000, work=work, **WORKS[work], **DEVICES_AT_HAND[devices])
    values = {name: one.value for name, one in {**found.inputs, **found.figures}.items()}
    assert len(found.figures) >= 9
    for name, figure in found.figures.items():
        assert eval(figure.formula, {"min": min}, values) == pytest.approx(figure.value), name
        assert figure.value > 0 and found[name] == figure.value
    assert found.to_json()["kind"] == "estimate"


def test_twice_the_devices_take_half_the_time_until_decoding_limits():
    plans = [vt.plan("S/16", 1e6, rate=100, devices=str(count), decode_rate=50, cores=9) for count in (1, 2, 4, 8, 16)]
    assert [one["seconds"] for one in plans] == pytest.approx([1e4, 5e3, 2.5e3, 1e6 / 450, 1e6 / 450])
    assert [one.limit for one in plans] == ["compute", "compute", "compute", "decoding", "decoding"]


def test_reading_and_memory_bandwidth_limit():
    slow_disk = vt.plan("S/16", 1e6, bytes_per_image=1e5, read_bandwidth=1e6, **BY_RATE)
    assert slow_disk.limit == "reading" and slow_disk["rate"] == 10
    nano = vt.plan("nano/4-32", 1e6, devices="h100", utilization=1.0, decode_rate=1.0)
    assert nano.limit == "memory bandwidth"
    assert nano["rate"] == pytest.approx(3.35e12 / (2 * nano["params"] / 32 + 4 * 64 * (4 * 16 * 64)))


def test_a_cpu_decodes_and_computes_one_after_the_other():
    found = vt.plan("nano/4-28", 1000, devices="3xcpu", precision="fp32", cores=6, decode_rate=10)
    assert 0 < found["rate"] < 60 and found.limit == "decoding"
    assert 1 / found["rate"] == pytest.approx(1 / found["compute_rate"] + 1 / 60)


def test_memory_that_is_too_small():
    assert vt.plan("H/14", 1e6, work="train", devices="l4", batch_size=512, decode_rate=1.0).fits is False
    assert vt.plan("H/14", 1e6, work="train", batch_size=512, **BY_RATE).fits is None


def test_activations_are_what_autograd_keeps():
    vit = vt.create_model("mini/4-32", num_classes=10)
    weights, kept = {one.data_ptr() for one in vit.parameters()}, {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = vit(torch.rand(32, 3, 32, 32))
    measured = sum(size for pointer, size in kept.items() if pointer not in weights)
    assert output.requires_grad
    found = vt.plan("mini/4-32", 1e6, work="train", precision="fp32", batch_size=32, **BY_RATE)
    assert found["activation_memory"] == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("name", METHODS)
def test_passes_and_maps_are_those_of_the_method(name):
    vit, images, seen = vt.create_model("nano/4-32").eval(), torch.rand(1, 3, 32, 32), []
    vit.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    values = vt.attribute(vit, images, method=name, target=1 if METHODS[name].is_class_specific else None)
    passes = passes_of("explain", name, (3, 32, 32), (8, 8), 1)
    assert passes.forward == sum(seen) and (passes.backward > 0) == METHODS[name].uses_gradients
    assert tuple(values.shape[1:]) == ((32, 32) if name in PIXEL_METHODS else (8, 8))


@pytest.mark.parametrize("name", ["attention-gradient", "grad-cam", "hires-cam", "gradient-rollout", "legrad"])
def test_backward_costs_are_what_torch_counts(name):
    vit = vt.create_model("Ti/32", num_classes=10).eval()
    with FlopCounterMode(display=False) as counter:
        vt.attribute(vit, torch.rand(1, 3, 224, 224), method=name, target=1)
    passes = passes_of("explain", name, (3, 224, 224), (7, 7), 1)
    assert passes.forward + passes.backward == pytest.approx(
        counter.get_total_flops() / 2 / count_macs(vit.config), rel=0.1
    )


def test_a_loaded_model_is_planned_as_its_size():
    vit = vt.create_model("nano/4-32")
    loaded, size = (vt.plan(one, 1000, **BY_RATE) for one in (vit, "nano/4-32"))
    same = {"params", "macs", "tokens", "token_values", "vector_width"}
    assert {name: loaded[name] for name in same} == {name: size[name] for name in same}
    packaged = vt.plan("vitreous:cifar10", 1000, **BY_RATE)
    assert packaged["vector_width"] == vt.load("vitreous:cifar10", "cpu").model.config.pooled_dim


def test_a_wrapped_model_is_counted():
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 1, "intermediate_size": 256}
    config = transformers.ViTConfig(**shape, image_size=32, patch_size=4, num_labels=10)
    found = vt.plan(vt.wrap(transformers.ViTForImageClassification(config)), 1000, work="train", **BY_RATE)
    own = vt.plan(vt.create_model("nano/4-32", global_pool="token"), 1000, work="train", **BY_RATE)
    assert found["tokens"] == own["tokens"] == 65
    assert found["macs"] == pytest.approx(own["macs"], rel=0.01)
    assert found["params"] == pytest.approx(own["params"], rel=0.05)


def test_devices_are_spelled_freely():
    rates = {vt.plan("S/16", 10, devices=text, decode_rate=1.0)["compute_rate"] for text in ("2xRTX 4090", "2×rtx4090")}
    assert len(rates) == 1
    assert all(one.memory_bytes < one.memory_bandwidth < one.peak_flops for one in DEVICES.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": "8xh2oo"}, "no device 'h2oo': did you mean 'h200'"),
        ({"devices": "0xh200"}, "'0xh200' has 0 devices"),
        ({"devices": "-2xh200"}, "has -2 devices"),
        ({"devices": "8"}, "'8' have no name: give one of b200"),
        ({"devices": "8xh200", "rate": 5}, "both say how fast a device is"),
        ({"rate": -5}, "rate is -5: give a number above 0"),
        ({"images": 0}, "images is 0"),
        ({"images": 2.5}, "images is 2.5: give a whole number"),
        ({"images": float("nan")}, "images is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"utilization": 1.5, "devices": "h200"}, "utilization is 1.5"),
        ({"utilization": 0.5, "rate": 5}, "utilization is the part of a published peak"),
        ({"precision": "fp32", "devices": "h200"}, "the published peak of h200 is for bf16"),
        ({"precision": "fp64", "rate": 5}, "no precision 'fp64'"),
        ({"method": "rollout"}, "a method is for explaining"),
        ({"epochs": 3}, "epochs are for training"),
        ({"work": "explain", "method": "rolout"}, "did you mean 'rollout'"),
        ({"work": "predict"}, "no work 'predict'"),
        ({"number_type": "int8"}, "no number type 'int8'"),
        ({"model": "vit-q"}, "no model 'vit-q': give a size such as L/16"),
        ({"input_size": 225}, "225"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message) as raised:
        vt.plan(**{"model": "S/16", "images": 1000} | settings)
    assert "\n" not in str(raised.value)


def test_a_figure_that_is_not_there():
    with pytest.raises(InputError, match="no figure 'second': did you mean 'seconds'"):
        vt.plan("S/16", 10, **BY_RATE)["second"]


@slow
def test_the_estimate_for_this_machine_is_within_a_factor_of_a_timed_run(tmp_path):
    random = np.random.default_rng(0)
    from vitreous.data.textures import pink_noise

    for index in range(96):
        Image.fromarray(pink_noise((375, 500), random)).save(tmp_path / f"{index}.jpg", quality=90)
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) / 96
    classifier = vt.load(vt.create_model("Ti/16", num_classes=0).eval(), "cpu")
    found = vt.plan(classifier, 96, devices="cpu", precision="fp32", bytes_per_image=size)
    started = time.perf_counter()
    vt.embed(classifier, str(tmp_path), precision="fp32")
    assert 1 / 1.5 < (time.perf_counter() - started) / found["seconds"] < 1.5
