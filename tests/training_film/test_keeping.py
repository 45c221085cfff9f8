"""Maps kept while a model trains: the run stays as it is, and a resumed run keeps what an uninterrupted one does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import RecordingCallback, make_base, make_folder, tiny_recipe

import vitreous
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.runs.run_folder import RunFolder
from vitreous.training.distributed import DistributedContext
from vitreous.training.map_keeping import open_map_keeper
from vitreous.training_film.keeper import TrainingCost, choose_images, choose_kept_steps, compute_maps
from vitreous.training_film.kept_maps import read_kept_maps, start_kept_maps
from vitreous.training_recipes import RECIPES

QUICK = {"epochs": 2.0, "checkpoint_seconds": 1000.0, "keep_maps": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of three classes, few enough for a run of a second."""
    return make_folder(tmp_path_factory.mktemp("images"), 24)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run with average, progressive resizing, whitening, dropout and validation images."""
    path = tmp_path_factory.mktemp("kept") / "run"
    vitreous.train(tiny_recipe(data, **QUICK), path, callback=vitreous.Callback())
    return path


def lines_of(run):
    """The metrics without the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def test_a_run_is_the_same_to_the_bit_with_and_without(run, data, tmp_path):
    before = torch.random.get_rng_state()
    vitreous.train(tiny_recipe(data, **{**QUICK, "keep_maps": 0}), tmp_path / "off", callback=vitreous.Callback())
    assert torch.equal(before, torch.random.get_rng_state())
    for name in ("model.safetensors", "checkpoint/state.safetensors"):
        assert (tmp_path / "off" / name).read_bytes() == (run / name).read_bytes()
    assert lines_of(tmp_path / "off") == lines_of(run)
    assert (run / "maps.jsonl").exists() and (run / "figures" / "filmstrip.png").stat().st_size > 5_000
    assert not (tmp_path / "off" / "maps.jsonl").exists()
    assert not (tmp_path / "off" / "figures" / "filmstrip.png").exists()


def test_the_last_maps_and_outputs_are_those_of_the_trained_model(run):
    kept, model = read_kept_maps(RunFolder(run)), vitreous.load(run, "cpu")
    inputs = torch.stack([model.preprocess(image_u8)[0] for image_u8 in kept.images.images_u8])
    for method in ("attention", "rollout"):
        expected = vitreous.attribute(model, inputs, method=method).numpy()
        assert expected.shape[1:] == (3, 5)
        np.testing.assert_allclose(kept.steps[-1].maps[method], 15 * expected, atol=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(kept.steps[-1].outputs, model.model(inputs).numpy(), atol=1e-5)
    assert [kept.steps[0].step, kept.steps[-1].step] == [
        0,
        json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"],
    ]
    assert np.ptp(kept.steps[0].outputs) == 0  # the head starts at zero
    assert kept.images.split == "validation" and set(kept.images.truths) <= {"blue", "green", "red"}


def test_stopped_and_resumed_it_keeps_the_same_bytes(run, data, tmp_path):
    recipe, folder = tiny_recipe(data, **QUICK), RunFolder(tmp_path / "run")
    assert not vitreous.train(recipe, folder.path, callback=RecordingCallback(stop_after=3)).finished
    with folder.kept_maps.open("a") as file:  # a kill later than the checkpoint, in the middle of a line
        file.write((run / "maps.jsonl").read_text().splitlines()[-1] + '\n{"step": 9, "ma')
    assert vitreous.train(recipe, folder.path, resume=True, callback=vitreous.Callback()).finished
    assert folder.kept_maps.read_bytes() == (run / "maps.jsonl").read_bytes()


def test_other_images_begin_the_file_anew_and_none_drop_what_is_taken_again(run, data, tmp_path):
    recipe, folder = tiny_recipe(data, **QUICK), RunFolder(tmp_path / "run")
    vitreous.train(recipe, folder.path, callback=RecordingCallback(stop_after=3))
    with folder.kept_maps.open("a") as file:
        file.write((run / "maps.jsonl").read_text().splitlines()[-1] + "\n")
    vitreous.train(
        recipe, folder.path, settings={"keep_maps": 0}, resume=True, callback=RecordingCallback(stop_after=1)
    )
    assert max(step.step for step in read_kept_maps(folder).steps) <= 4
    notes = RecordingCallback()
    vitreous.train(recipe, folder.path, settings={"keep_maps": 2}, resume=True, callback=notes)
    kept = read_kept_maps(folder)
    assert len(kept.images.indexes) == 2 and kept.steps[0].step > 3
    assert any("other images than before" in note for note in notes.notes)


def test_before_fine_tuning_it_is_the_model_to_start_from(data, tmp_path):
    base = make_base(tmp_path / "base", class_names=("blue", "green", "red"))
    recipe = replace(RECIPES["finetune"](), epochs=0.1, min_steps=2, validation_fraction=0.0, precision="fp32")
    for tune in ("lora", "head"):
        out = tmp_path / tune
        changes = {"tune": tune, "keep_maps": 3}
        vitreous.train(
            recipe, out, data=f"folder:{data}", init=str(base), settings=changes, callback=vitreous.Callback()
        )
        kept, model = read_kept_maps(RunFolder(out)), vitreous.load(base, "cpu")
        assert kept.images.split == "train" and kept.images.truths == ("blue", "green", "red")
        pixels = torch.from_numpy(kept.images.images_u8).permute(0, 3, 1, 2)  # cropped as the model wants them
        inputs = Normalize(model.preprocessing.mean, model.preprocessing.std)(pixels)
        expected = 15 * vitreous.attribute(model, inputs, method="rollout").numpy()
        np.testing.assert_allclose(kept.steps[0].maps["rollout"], expected, atol=2e-3)


def test_rank_0_alone_keeps_them_and_shards_are_noted(run, data, tmp_path, monkeypatch):
    from vitreous.training import loop, map_keeping

    notes, setups = RecordingCallback(), []
    monkeypatch.setattr(loop, "open_map_keeper", lambda state, setup: setups.append((state, setup)))
    vitreous.train(tiny_recipe(data, **QUICK), tmp_path / "run", callback=notes)
    ((state, setup),) = setups
    assert open_map_keeper(state, replace(setup, distributed=DistributedContext(1, 2))) is None
    assert not setup.folder.kept_maps.exists()
    monkeypatch.setattr(map_keeping, "is_sharded", lambda model: True)
    assert open_map_keeper(state, setup) is None and not setup.folder.kept_maps.exists()
    assert "fsdp shards the weights: no maps are kept" in notes.notes[-1]


def test_maps_leave_the_model_as_it_was():
    torch.manual_seed(0)
    vit = ViT(ViTConfig((8, 16), 4, embed_dim=8, depth=2, num_heads=2, num_classes=3, drop_path_rate=0.3)).train()
    maps, outputs = compute_maps(vit, torch.randn(2, 3, 8, 16))
    assert vit.training and maps["attention"].shape == (2, 2, 4) and outputs.shape == (2, 3)
    assert all(weight.grad is None for weight in vit.parameters())


@pytest.mark.parametrize("batch_size", [8, 64, 512])
@pytest.mark.parametrize("steps", [1, 7, 300, 1500, 100_000])
def test_kept_steps_stay_within_their_bounds(steps, batch_size):
    cost = TrainingCost(steps, batch_size, ViTConfig((32, 32), 4, embed_dim=96, depth=4, num_classes=10), 3.0)
    chosen = choose_kept_steps(cost, 8, 20_000, 300_000)
    assert chosen[0] == 0 and chosen[-1] == steps and list(chosen) == sorted(set(chosen))
    assert 300_000 + 20_000 * len(chosen) <= 5_000_000
    assert len(chosen) <= 4 or len(chosen) * cost.steps_per_keep(8) <= 0.01 * steps
    gaps = np.diff(chosen)
    assert gaps[-1] >= gaps[0] and np.ptp(gaps[-max(1, len(chosen) // 3) :]) <= 1


def test_images_spread_over_the_classes():
    def images(labels, classes):
        names = tuple(map(str, range(classes)))
        return ImageSet(torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8), torch.tensor(labels), names)

    assert choose_images(images([1, 1, 0, 2, 0], 3), 3) == (2, 0, 3)
    assert choose_images(images(list(range(100)), 100), 4) == (0, 25, 50, 75)
    assert choose_images(images([4, 4, 4], 5), 8) == (0, 1, 2)


def test_damaged_files_are_refused_in_one_line(run, tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    first, *rest = (run / "maps.jsonl").read_text().splitlines(keepends=True)
    for lines in ([first[:50] + first[80:], *rest], [first, "nonsense\n"], [first, rest[1], rest[0]]):
        folder.kept_maps.write_text("".join(lines))
        with pytest.raises(InputError, match=r"maps.jsonl is damaged") as caught:
            read_kept_maps(folder)
        assert "\n" not in str(caught.value)
    folder.kept_maps.write_text(first + "nonsense\n")
    with pytest.raises(InputError, match=r"a line of .*maps.jsonl is damaged"):
        start_kept_maps(folder, first, 3)


def test_the_setting_has_a_range(data):
    with pytest.raises(InputError, match=r"keep_maps is 65: it must be 0 to 64 images"):
        tiny_recipe(data, keep_maps=65)
