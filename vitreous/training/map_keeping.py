"""Open the file in which a run keeps the maps of a few fixed images: which images, and after which steps."""

from typing import TYPE_CHECKING

from vitreous.training.checkpoint import TrainingState
from vitreous.training.progressive_resizing import relative_cost
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded
from vitreous.training_film.keeper import (
    MapKeeper,
    TrainingCost,
    choose_images,
    choose_kept_steps,
    compute_maps,
    fixed_images,
)
from vitreous.training_film.kept_maps import (
    KeptStep,
    drop_kept_maps_after,
    images_line,
    start_kept_maps,
    step_line,
)

if TYPE_CHECKING:
    from vitreous.training.loop import TrainSetup

FORWARD_PASSES = {"full": 3.0, "lora": 2.0, "head": 1.0}
"""What a training step costs in forward passes, by the weights that get gradients; rather too little."""


def open_map_keeper(state: TrainingState, setup: "TrainSetup") -> MapKeeper | None:
    """Return what keeps the maps of a run that begins, or goes on, after `state.step`; None if nothing does.

    The images are validation images, or training images where there are none.
    """
    recipe, folder, callback = setup.recipe, setup.folder, setup.callback
    if not setup.distributed.is_rank0:
        return None
    if not recipe.keep_maps or is_sharded(state.model):
        drop_kept_maps_after(folder, state.step)
        if recipe.keep_maps:
            callback.on_note("fsdp shards the weights: no maps are kept for vitreous film")
        return None
    images, split = (setup.validation, "validation") if len(setup.validation) else (setup.batches.images, "train")
    indexes = choose_images(images, recipe.keep_maps)
    fixed = fixed_images(images, indexes, split, has_labels="labels" in setup.task.truth)
    first_line, existed = images_line(fixed), folder.kept_maps.exists()
    if start_kept_maps(folder, first_line, state.step) and existed:
        callback.on_note(f"other images than before: {folder.kept_maps} begins anew after step {state.step}")
    device = next(state.best_model.parameters()).device
    images_u8 = images.select(list(indexes)).images_u8.to(device)
    maps, outputs = compute_maps(state.best_model, setup.batches.normalize(images_u8))
    longest = step_line(KeptStep(setup.steps, 12345.6, maps, MapKeeper.few(outputs)))
    cost = training_cost(recipe, setup.steps, setup.distributed.world_size, device.type)
    steps = choose_kept_steps(cost, len(indexes), len(longest), len(first_line))
    return MapKeeper(folder, images_u8, setup.batches.normalize, steps)


def training_cost(recipe: Recipe, steps: int, world_size: int, device: str) -> TrainingCost:
    """Return what decides how many steps' maps a run can afford."""
    relative = relative_cost(steps, steps, recipe.progressive_resizing) / steps
    return TrainingCost(
        steps,
        max(1, recipe.batch_size // world_size),
        recipe.model,
        FORWARD_PASSES[recipe.tune] * relative,
        device,
        recipe.precision == "bf16",
    )
