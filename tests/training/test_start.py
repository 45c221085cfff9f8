"""How a run starts: progressive resizing, whitening, and checks before anything is read."""

from dataclasses import replace

import pytest
import torch
from tiny_run import RecordingCallback, make_folder, tiny_recipe

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.data.sources import load_images, load_train_validation
from vitreous.data.splits import HoldOut
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT, patchify
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.whitening import whitening_weights
from vitreous.workflows.train import train

NORMALIZE = Normalize((0.5,) * 3, (0.25,) * 3)


def smooth_images(count: int = 500) -> ImageSet:
    """Return images whose neighboring pixels hardly differ."""
    torch.manual_seed(0)
    coarse = torch.rand(count, 3, 4, 6) * 255
    images = torch.nn.functional.interpolate(coarse, (12, 20), mode="bicubic").clamp(0, 255)
    return ImageSet(images.to(torch.uint8), torch.zeros(count, dtype=torch.long), ("one", "other"))


@torch.no_grad()
def whiten(model: ViT, images: ImageSet, seed: int) -> None:
    """Whiten the model's patch embedding."""
    weight, bias = whitening_weights(model.patch_embed, images, NORMALIZE, seed)
    model.patch_embed.proj.weight.copy_(weight)
    model.patch_embed.proj.bias.copy_(bias)


@pytest.mark.parametrize("width", [64, 48, 16])
def test_whitened_tokens_vary_alike_in_all_directions(width):
    images, model = smooth_images(), ViT(ViTConfig((12, 20), 4, embed_dim=width, depth=1, num_heads=2))
    before = torch.linalg.eigvalsh(model.patch_embed(NORMALIZE(images.images_u8)).flatten(0, 1).T.cov())[-16:]
    whiten(model, images, 0)
    tokens = model.patch_embed(NORMALIZE(images.images_u8)).flatten(0, 1)
    patches = patchify(NORMALIZE(images.images_u8), 4).flatten(0, 1)
    variances = torch.linalg.eigvalsh(patches.T.cov())
    after = torch.linalg.eigvalsh(tokens.T.cov())[-16:]
    assert tokens.mean(0).abs().max() < 1e-3
    assert torch.allclose(after, (variances / (variances + 0.01))[-16:].sort().values, atol=1e-2)
    assert after[0] / after[-1] > 3 * before[0] / before[-1]


def test_the_seed_decides_the_rotation_of_whitening():
    weights = []
    for seed in (0, 0, 1):
        model = ViT(ViTConfig((12, 20), 4, embed_dim=16, depth=1, num_heads=2))
        whiten(model, smooth_images(), seed)
        weights.append(model.patch_embed.proj.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_progressive_resizing_uses_small_images_first(colored_folder, tmp_path, monkeypatch):
    sizes, forward = [], ViT.forward

    def record_size(self, images, trace=None):
        if self.training:
            sizes.append(tuple(images.shape[2:]))
        return forward(self, images, trace)

    monkeypatch.setattr(ViT, "forward", record_size)
    recipe = tiny_recipe(
        colored_folder,
        progressive_resizing=ProgressiveResizing(fraction=0.5, initial_scale=0.7),
        whiten_patch_embed=True,
    )
    assert train(recipe, tmp_path / "run").finished
    half = len(sizes) // 2
    assert sizes[0] == (12, 20)  # a batch that doesn't fit into memory is noticed at once
    assert set(sizes[1:half]) == {(8, 16)}
    assert set(sizes[half:]) == {(12, 20)}


def test_recipes_that_cannot_start_are_refused(colored_folder):
    recipe = tiny_recipe(colored_folder)
    with pytest.raises(InputError, match="stem 'linear', not 'conv'"):
        replace(recipe, whiten_patch_embed=True, model=replace(recipe.model, stem="conv"))
    for wrong in ({"fraction": 1.0}, {"fraction": -0.1}, {"initial_scale": 0.0}, {"initial_scale": 1.0}):
        with pytest.raises(InputError, match=f"progressive_resizing.{next(iter(wrong))}"):
            ProgressiveResizing(**wrong)
    with pytest.raises(InputError, match="doesn't make images of 12 × 20 smaller"):
        replace(recipe, progressive_resizing=ProgressiveResizing(fraction=0.5, initial_scale=0.95))


def test_an_unwritable_folder_is_reported_before_anything_is_read(colored_folder, tmp_path):
    recipe, callback = tiny_recipe(colored_folder, epochs=1), RecordingCallback()
    with pytest.raises(InputError, match="can't make the folder /proc/new/run"):
        train(recipe, "/proc/new/run", callback=callback)
    name = "n" * 300
    with pytest.raises(InputError, match="file name too long"):
        train(recipe, tmp_path / "new" / name, callback=callback)
    assert callback.notes == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="there is no folder"):
        train(tiny_recipe(tmp_path / "nowhere"), tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["missing", "empty", "renamed"])
def test_a_test_split_that_evaluate_would_refuse_is_refused_before_images_are_read(change, tmp_path):
    folder, callback = make_folder(tmp_path / "images", 12), RecordingCallback()
    blue = folder / "test" / "blue"
    if change == "renamed":
        blue.rename(folder / "test" / "Blue")
    else:
        for path in blue.iterdir():
            path.unlink()
    if change == "missing":
        blue.rmdir()
    with pytest.raises(InputError) as raised:
        train(tiny_recipe(folder), tmp_path / "run", callback=callback)
    with pytest.raises(InputError) as later:
        load_images(f"folder:{folder}", "test", (12, 20))
    assert str(raised.value) == str(later.value) and "lue" in str(raised.value)
    assert callback.notes == [] and not (tmp_path / "run").exists()


def test_classes_without_validation_images_are_named(tmp_path):
    callback = RecordingCallback()
    folder = make_folder(tmp_path / "images", 12)
    train(tiny_recipe(folder, epochs=0.5), tmp_path / "by-class", callback=callback)
    assert not any("no image to validate on" in note for note in callback.notes)
    train(tiny_recipe(folder, epochs=0.5, validation_by_class=False), tmp_path / "run", callback=callback)
    assert "only 1 step: raise epochs or min_steps, or lower batch_size, to train longer" in callback.notes
    (note,) = [note for note in callback.notes if " no image to validate on" in note]
    _, validation = load_train_validation(f"folder:{folder}", (12, 20), HoldOut(0.05, by_class=False))
    missing = set(validation.class_names) - {validation.class_names[label] for label in validation.labels}
    assert note == f"{len(missing)} class(es) have no image to validate on: {', '.join(sorted(missing))}"
    callback.notes.clear()
    train(tiny_recipe(folder, epochs=0.5, validation_fraction=0.0), tmp_path / "none", callback=callback)
    assert not any("no image to validate on" in note for note in callback.notes)
