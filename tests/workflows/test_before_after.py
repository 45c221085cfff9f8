"""The maps of a model before tuning and of the tuned one: which models, which target, which colors, which files."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import MEAN, STD, make_base

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.data.augment import Augment
from vitreous.errors import InputError
from vitreous.explanation.before_after import draw_pairs, pair_tiles
from vitreous.explanation.regions import PixelRegion
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.render.before_after_sheet import SINGLE_BOX_HW
from vitreous.render.color import Scale
from vitreous.render.image import resize_to_fit
from vitreous.training_recipes import find_recipe
from vitreous.workflows.before_after import explain_before_after
from vitreous.workflows.explain import explain
from vitreous.workflows.train import train


def start_run(path, folder, init, learning_rate=0.05, **settings):
    """Tune a model for a moment."""
    recipe = find_recipe("finetune")
    optimizer = replace(recipe.optimizer, learning_rate=learning_rate)
    changes = {"epochs": 1, "min_steps": 0, "batch_size": 16, "augment": Augment(), "optimizer": optimizer}
    train(replace(recipe, data=f"folder:{folder}", **changes), path, init=str(init), settings=settings)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A pretrained model for other classes than the run's."""
    return make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def tuned(base, colored_folder, tmp_path_factory):
    """A run that was started from `base`, for images of another size."""
    path = tmp_path_factory.mktemp("runs") / "tuned"
    return start_run(path, colored_folder, base, **{"model.image_size": (16, 32), "resize_mode": "squash"})


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def make_model(path, class_names, likely=None, **options):
    """A model with random weights that predicts one class for any image."""
    classifier = load(make_base(path, class_names, **options), "cpu")
    if likely is not None:
        with torch.no_grad():
            classifier.vit.head.bias[class_names.index(likely)] += 50
    return classifier


@pytest.mark.parametrize("method", ["attention", "grad-cam"])
def test_the_maps_are_those_of_each_model_at_the_tuned_models_input(method, base, tuned, photo):
    pair = explain_before_after(tuned, photo, method=method)
    after = explain(tuned, photo, method=method)
    own = load(base, "cpu", input_size=(16, 32), resize_mode="squash")
    before = explain(own, photo, method=method)
    assert np.array_equal(pair.after.patch_map, after.patch_map)
    assert np.array_equal(pair.before.patch_map, before.patch_map)
    assert pair.before.geometry.input_size == (16, 32) and pair.before.geometry.box == pair.after.geometry.box
    assert pair.before.prediction == before.prediction and pair.after.prediction == after.prediction
    assert not np.array_equal(pair.before.patch_map, pair.after.patch_map)
    assert pair.names == ("base", "tuned")


def test_a_run_that_learned_nothing_has_the_maps_of_its_start(base, colored_folder, tmp_path, photo, capsys):
    still = start_run(tmp_path / "still", colored_folder, base, learning_rate=0.0)
    pair = explain_before_after(still, photo)
    assert np.array_equal(pair.before.patch_map, pair.after.patch_map)
    assert run(["explain", str(still), str(photo), "--layout", "before-after", "-o", str(tmp_path / "x.png")]) == 0
    assert "the maps before and after are the same" in capsys.readouterr().err


def test_both_maps_explain_the_class_that_the_tuned_model_predicts_where_both_have_it(tmp_path, photo):
    before = make_model(tmp_path / "a", ("dog", "elk", "cat"), likely="elk")
    after = make_model(tmp_path / "b", ("cat", "dog"), likely="dog")
    pair = explain_before_after(after, photo, before=before, method="grad-cam")
    assert (pair.before.prediction.label, pair.after.prediction.label) == ("elk", "dog")
    assert pair.is_target_shared and pair.before.target == pair.after.target == "dog"
    assert np.allclose(pair.before.patch_map, explain(before, photo, method="grad-cam", target="dog").patch_map)
    assert pair.before.score == pytest.approx(dict(pair.before.prediction.scores)["dog"])
    elk = explain(before, photo, method="grad-cam", target="elk")
    assert not np.allclose(pair.before.patch_map, elk.patch_map)


def test_an_accent_makes_no_other_class(tmp_path, photo):
    before = make_model(tmp_path / "a", ("cafe\u0301", "tea"), likely="tea")
    after = make_model(tmp_path / "b", ("caf\u00e9", "milk"), likely="caf\u00e9")
    assert explain_before_after(after, photo, before=before, method="grad-cam").is_target_shared


def test_where_the_earlier_model_lacks_that_class_each_map_explains_its_own_prediction(tmp_path, photo):
    before = make_model(tmp_path / "a", ("dog", "elk"), likely="elk")
    after = make_model(tmp_path / "b", ("cat", "dog"), likely="cat")
    pair = explain_before_after(after, photo, before=before, method="grad-cam")
    assert not pair.is_target_shared and (pair.before.target, pair.after.target) == ("elk", "cat")
    assert np.array_equal(pair.before.patch_map, explain(before, photo, method="grad-cam", target="elk").patch_map)
    lines = [tile.lines for tile in pair_tiles(pair, None)[1:]]
    assert lines == [("elk 100 %", "target: its own prediction"), ("cat 100 %", "target: its own prediction")]


def test_in_one_sheet_some_targets_are_shared(tmp_path):
    before = make_model(tmp_path / "a", ("dog", "elk"), likely="elk")
    after = make_model(tmp_path / "b", ("cat", "dog"))
    images = [np.full((24, 30, 3), color, np.uint8) for color in (0, 50, 100, 150, 200, 250)]
    with torch.no_grad():  # half of the images become dogs
        logits = torch.stack([after.vit(after.preprocess(image)[0][None])[0] for image in images])
        after.vit.head.bias[1] += (logits[:, 0] - logits[:, 1]).quantile(0.5)
    pairs = explain_before_after(after, images, before=before, method="grad-cam")
    predicted = [pair.after.prediction.label for pair in pairs]
    assert set(predicted) == {"cat", "dog"}
    assert [pair.is_target_shared for pair in pairs] == [label == "dog" for label in predicted]
    assert [pair.before.target for pair in pairs] == ["dog" if label == "dog" else "elk" for label in predicted]


def test_a_model_without_classes_explains_its_features(tmp_path, photo):
    before = make_model(tmp_path / "a", ())
    after = make_model(tmp_path / "b", ("cat", "dog"), likely="cat")
    pair = explain_before_after(after, photo, before=before, method="grad-cam")
    assert (pair.before.target, pair.after.target) == ("the image's own features", "cat")
    assert pair_tiles(pair, "cat")[1].lines == ("no classes, only features", "target: the image's own features")


def test_a_named_target_must_be_one_of_both_models(tmp_path, photo):
    before, after = make_model(tmp_path / "a", ("dog", "elk")), make_model(tmp_path / "b", ("cat", "dog"))
    for target, one, other in (("elk", "a", "b"), ("cat", "b", "a"), ("cat - dog", "b", "a"), (0, "b", "a")):
        with pytest.raises(InputError, match=rf"only '{one}' has the target .*, and '{other}' doesn't: .*both \(dog\)"):
            explain_before_after(after, photo, before=before, method="grad-cam", target=target)
    with pytest.raises(InputError, match="there is no class 'yak'"):
        explain_before_after(after, photo, before=before, method="grad-cam", target="yak")
    by_index = explain_before_after(after, photo, before=before, method="grad-cam", target=1)
    by_name = explain_before_after(after, photo, before=before, method="grad-cam", target="dog")
    assert by_index.before.target == by_index.after.target == "dog"
    assert np.array_equal(by_index.before.patch_map, by_name.before.patch_map)
    region = explain_before_after(after, photo, before=before, method="grad-cam", target=PixelRegion(0, 0, 30, 20))
    assert region.before.region == region.after.region


def test_models_without_a_common_class_have_no_common_target(tmp_path, photo):
    before, after = make_model(tmp_path / "a", ("elk", "yak")), make_model(tmp_path / "b", ("cat", "dog"))
    with pytest.raises(InputError, match="only 'b' has the target 'cat', and 'a' doesn't: leave out the target"):
        explain_before_after(after, photo, before=before, method="grad-cam", target="cat")


def test_attention_has_one_scale_for_both_maps_and_other_methods_have_two(base, tuned, photo):
    pair = explain_before_after(tuned, photo, method="attention")
    own = [Scale.robust(one.heatmap) for one in (pair.before, pair.after)]
    assert pair.scale == Scale(min(one.low for one in own), max(one.high for one in own))
    tiles = pair_tiles(pair, None)
    for tile, one in zip(tiles[1:], (pair.before, pair.after), strict=True):
        assert np.array_equal(tile.image, resize_to_fit(one.render(pair.scale), SINGLE_BOX_HW))
    grad_cam = explain_before_after(tuned, photo, method="grad-cam")
    assert grad_cam.scale is None
    own_colors = resize_to_fit(grad_cam.before.render(), SINGLE_BOX_HW)
    assert np.array_equal(pair_tiles(grad_cam, None)[1].image, own_colors)


def test_a_prediction_is_marked_where_the_model_has_the_true_class(tmp_path, photo):
    before = make_model(tmp_path / "a", ("dog", "elk"), likely="elk")
    after = make_model(tmp_path / "b", ("cat", "dog"), likely="cat")
    pair = explain_before_after(after, photo, before=before)
    first = {truth: [tile.lines[0] for tile in pair_tiles(pair, truth)[1:]] for truth in ("cat", "dog", None)}
    assert first == {
        "cat": ["elk 100 %", "✓ cat 100 %"],
        "dog": ["✗ elk 100 %", "✗ cat 100 %"],
        None: ["elk 100 %", "cat 100 %"],
    }


def test_a_model_that_cannot_take_the_input_size_keeps_its_own(tuned, tmp_path, photo, notes):
    own = Preprocessing((15, 20), "squash", MEAN, STD, 5)
    vit = ViT(ViTConfig((15, 20), 5, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    ImageClassifier(vit, own, ("cat", "dog")).save(tmp_path / "odd")
    pair = explain_before_after(tuned, photo, before=tmp_path / "odd", callback=notes)
    assert pair.before.geometry.input_size == (15, 20) and pair.after.geometry.input_size == (16, 32)
    assert any("odd gets images of its own input size, 15 × 20: " in line for line in notes.lines)


def test_the_model_that_a_run_started_from_must_be_there_unchanged(colored_folder, trained_run, tmp_path, photo):
    base = make_base(tmp_path / "base")
    path = start_run(tmp_path / "run", colored_folder, base)
    with pytest.raises(InputError, match=r"base is no run folder.*: name it with --before"):
        explain_before_after(base, photo)
    with pytest.raises(InputError, match="was trained from random weights, not from a model"):
        explain_before_after(trained_run, photo)
    classifier = load(base, "cpu")
    with torch.no_grad():
        classifier.vit.head.bias += 1
    shutil.rmtree(base)
    with pytest.raises(InputError, match=r"the model that .*run started from can't be loaded: "):
        explain_before_after(path, photo)
    classifier.save(base)
    with pytest.raises(
        InputError, match=r"base', which .*run started from, has other weights now \(fingerprint \w{16}"
    ):
        explain_before_after(path, photo)
    pair = explain_before_after(path, photo, before=base)
    assert pair.before.prediction == explain(classifier, photo).prediction


def test_models_of_gray_and_of_color_images_are_not_compared(tuned, tmp_path, photo):
    gray = make_base(tmp_path / "gray", in_chans=1)
    with pytest.raises(InputError, match=r"gray takes images of 1 channel\(s\), .*tuned of 3"):
        explain_before_after(tuned, photo, before=gray)


def test_an_error_of_the_earlier_model_names_it(tmp_path, photo):
    before, after = make_model(tmp_path / "a", ("cat", "dog")), make_model(tmp_path / "b", ("cat", "dog"), depth=4)
    with pytest.raises(InputError, match=r"^a: there is no layer 3"):
        explain_before_after(after, photo, before=before, layer=3)


def test_a_list_is_explained_until_the_callback_stops(base, tuned, photo):
    class Stopper(Callback):
        done = 0

        def on_progress(self, progress):
            self.done = progress.done

        def should_stop(self):
            return self.done >= 16

    pairs = explain_before_after(tuned, [photo] * 20, callback=Stopper())
    assert len(pairs) == 16
    assert explain_before_after(tuned, []) == []


def explain_files(*arguments):
    return run(["explain", *map(str, arguments)])


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_the_verb_writes_one_row_for_each_image(tuned, colored_folder, tmp_path, photo, capsys):
    images, sheets = sorted((colored_folder / "test" / "red").iterdir())[:3], {}
    for count in (2, 3):
        output = tmp_path / f"{count}.png"
        assert explain_files(tuned, *images[:count], "--layout", "before-after", "-o", output) == 0
        sheets[count] = size_of(output)
    assert "before: cat" not in capsys.readouterr().out  # of several images, how many are correct
    assert sheets[2][0] == sheets[3][0] and sheets[3][1] > sheets[2][1] + 150
    folder = tmp_path / "figures"
    assert explain_files(tuned, *images, "--layout", "before-after", "-o", folder) == 0
    assert len(list(folder.iterdir())) == 3
    assert explain_files(tuned, "--layout", "before-after", "--count", 4, "-o", tmp_path / "test.png") == 0
    assert size_of(tmp_path / "test.png")[1] > sheets[3][1] + 50  # rows without the files' names


def test_json_and_csv_hold_both_models(base, tuned, photo, tmp_path, capsys):
    arguments = (tuned, photo, "--layout", "before-after", "--method", "grad-cam", "-o", tmp_path / "x.png")
    assert explain_files(*arguments, "--json") == 0
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    pair = explain_before_after(tuned, photo, method="grad-cam")
    for found, stage, model, one in zip(
        figure["images"], ("before", "after"), (base.resolve(), tuned), (pair.before, pair.after), strict=True
    ):
        assert (found["stage"], found["model"], found["image"]) == (stage, str(model), str(photo))
        assert found["prediction"][0]["label"] == found["target"] == one.prediction.label
        assert np.allclose(found["patch_map"], one.patch_map)
    assert explain_files(*arguments, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["stage"], row["label"], row["target"]) for row in rows] == [
        (stage, one.prediction.label, one.target) for stage, one in (("before", pair.before), ("after", pair.after))
    ]


def test_before_alone_asks_for_the_layout(base, tuned, photo, tmp_path, capsys):
    output = tmp_path / "x.png"
    assert explain_files(tuned, photo, "--before", base, "-o", output) == 0
    assert capsys.readouterr().out.startswith(f"{output}: before: ")
    for arguments in (["--layout", "grid"], ["--method", "attention,rollout"]):
        assert explain_files(tuned, photo, "--before", base, *arguments, "-o", output) == 2
        assert "--before is for --layout before-after, with one method" in capsys.readouterr().err


def test_a_broken_image_leaves_the_other_rows(tuned, photo, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    output = tmp_path / "x.png"
    assert explain_files(tuned, photo, broken, "--layout", "before-after", "-o", output) == 3
    error = capsys.readouterr().err
    assert str(broken) in error and output.is_file()
    assert (
        explain_files(tuned, photo, photo.parent / "no.png", "--layout", "before-after", "--layer", 9, "-o", output)
        == 2
    )


def test_one_reason_of_all_images_is_given_once(tuned, colored_folder, tmp_path, capsys):
    images = sorted((colored_folder / "test" / "red").iterdir())[:3]
    assert explain_files(tuned, *images, "--layout", "before-after", "--layer", 9, "-o", tmp_path / "x.png") == 2
    assert capsys.readouterr().err.count("there is no layer 9") == 1


def test_a_notebook_shows_the_figure(tuned, photo):
    pair = explain_before_after(tuned, photo)
    assert Image.open(io.BytesIO(pair._repr_png_())).size == pair.figure().size
    two = draw_pairs([pair_tiles(pair, None, alone=False)] * 2, [pair] * 2)
    assert two.height > pair.figure().height - 400 and repr(pair).startswith("ExplanationPair(before=Explanation(")
