"""How a run begins: with small images, and with an embedding made from the images' patches."""

from dataclasses import replace

import pytest
import torch
from runs import make_folder, tiny_recipe

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.data.sources import load_train_validation
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT, patchify
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.whitening import whitening_weights
from vitreous.workflows.train import Listener, train

PLAIN = Normalize((0.5,) * 3, (0.25,) * 3)


def some_images(count: int = 500) -> ImageSet:
    """Smooth images, whose pixels beside each other hardly differ."""
    torch.manual_seed(0)
    coarse = torch.rand(count, 3, 4, 6) * 255
    images = torch.nn.functional.interpolate(coarse, (12, 20), mode="bicubic").clamp(0, 255)
    return ImageSet(images.to(torch.uint8), torch.zeros(count, dtype=torch.long), ("one", "other"))


@torch.no_grad()
def begin(model: ViT, images: ImageSet, seed: int) -> None:
    """Give the model's embedding its first weights."""
    weight, bias = whitening_weights(model.patch_embed, images, PLAIN, seed)
    model.patch_embed.proj.weight.copy_(weight)
    model.patch_embed.proj.bias.copy_(bias)


@pytest.mark.parametrize("width", [64, 48, 16])
def test_tokens_vary_alike_in_all_directions(width):
    images, model = some_images(), ViT(ViTConfig((12, 20), 4, embed_dim=width, depth=1, num_heads=2))
    before = torch.linalg.eigvalsh(model.patch_embed(PLAIN(images.images_u8)).flatten(0, 1).T.cov())[-16:]
    begin(model, images, 0)
    tokens = model.patch_embed(PLAIN(images.images_u8)).flatten(0, 1)
    patches = patchify(PLAIN(images.images_u8), 4).flatten(0, 1)
    variances = torch.linalg.eigvalsh(patches.T.cov())
    after = torch.linalg.eigvalsh(tokens.T.cov())[-16:]
    assert tokens.mean(0).abs().max() < 1e-3
    assert torch.allclose(after, (variances / (variances + 0.01))[-16:].sort().values, atol=1e-2)
    assert after[0] / after[-1] > 3 * before[0] / before[-1]


def test_the_seed_decides_the_rotation():
    weights = []
    for seed in (0, 0, 1):
        model = ViT(ViTConfig((12, 20), 4, embed_dim=16, depth=1, num_heads=2))
        begin(model, some_images(), seed)
        weights.append(model.patch_embed.proj.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_images_grow_when_their_time_has_come(colored_folder, tmp_path, monkeypatch):
    sizes, forward = [], ViT.forward

    def noted(self, images, trace=None):
        if self.training:
            sizes.append(tuple(images.shape[2:]))
        return forward(self, images, trace)

    monkeypatch.setattr(ViT, "forward", noted)
    recipe = tiny_recipe(
        colored_folder, resolution=ProgressiveResizing(fraction=0.5, initial_scale=0.7), whitened_patches=True
    )
    assert train(recipe, tmp_path / "run").finished
    half = len(sizes) // 2
    assert sizes[0] == (12, 20)  # What doesn't fit into memory is known at once.
    assert set(sizes[1:half]) == {(8, 16)}
    assert set(sizes[half:]) == {(12, 20)}


def test_what_cannot_begin(colored_folder):
    recipe = tiny_recipe(colored_folder)
    with pytest.raises(InputError, match="stem 'patch', not 'conv'"):
        replace(recipe, whiten_patch_embed=True, model=replace(recipe.model, stem="conv"))
    for wrong in ({"share": 1.0}, {"share": -0.1}, {"scale": 0.0}, {"scale": 1.0}):
        with pytest.raises(InputError, match=f"resolution.{next(iter(wrong))}"):
            ProgressiveResizing(**wrong)
    with pytest.raises(InputError, match="don't get smaller"):
        replace(recipe, progressive_resizing=ProgressiveResizing(fraction=0.5, initial_scale=0.95))


def test_a_place_that_cant_be_written_is_told_before_anything_is_read(colored_folder, tmp_path):
    notes = []
    recipe, listener = tiny_recipe(colored_folder, epochs=1), Listener(notes.append)
    with pytest.raises(InputError, match="can't make the folder /proc/new/run"):
        train(recipe, "/proc/new/run", listener=listener)
    name = "n" * 300
    with pytest.raises(InputError, match="file name too long"):
        train(recipe, tmp_path / "new" / name, listener=listener)
    assert notes == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="there is no folder"):
        train(tiny_recipe(tmp_path / "nowhere"), tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_classes_without_an_image_to_validate_on_are_named(tmp_path):
    notes = []
    folder = make_folder(tmp_path / "images", 12)
    train(tiny_recipe(folder, epochs=0.5), tmp_path / "run", listener=Listener(notes.append))
    (note,) = [note for note in notes if note.startswith("no images to validate on of ")]
    _, validation = load_train_validation(f"folder:{folder}", (12, 20))
    missing = set(validation.class_names) - {validation.class_names[label] for label in validation.labels}
    assert note == f"no images to validate on of {len(missing)} class(es): {', '.join(sorted(missing))}"
    notes.clear()
    train(tiny_recipe(folder, epochs=0.5, validation_fraction=0.0), tmp_path / "none", listener=Listener(notes.append))
    assert not any("to validate on" in note for note in notes)
