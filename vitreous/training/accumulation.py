"""Gradient accumulation: the gradient of a whole batch, over any number of micro-batches and processes."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitreous.data.batch import Batch
from vitreous.errors import InputError, is_out_of_memory
from vitreous.model.vit import ViT
from vitreous.runtime import OwnGenerator, autocast
from vitreous.tasks.task import TaskLoss
from vitreous.training.distillation import DistilledModel, Teacher
from vitreous.training.distributed import DistributedContext, shard_of
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded


class BatchStatistics(NamedTuple):
    """What one process adds to the statistics of a batch, on the model's device."""

    loss: Tensor
    """Added to the mean loss on the truth."""
    score: Tensor
    """Added to the sum of the task's first metric over the images."""


class GradientAccumulator:
    """Compute the gradients of a model in micro-batches, together with the other processes."""

    def __init__(
        self,
        model: ViT,
        recipe: Recipe,
        distributed: DistributedContext,
        loss: TaskLoss,
        teacher: Teacher | None = None,
    ) -> None:
        """Wrap the model for several processes, and with its teacher.

        Args:
            model: the model that is trained.
            recipe: of the run.
            distributed: the processes that share each batch.
            loss: of the run's task.
            teacher: trained on the same batches; the model learns from it too.
        """
        check_micro_batches(recipe, distributed.world_size)
        self.model, self.recipe, self.distributed, self.loss = model, recipe, distributed, loss
        self.forward: nn.Module = DistilledModel(model, teacher) if teacher else model
        self.draws: BatchDraws | None = None
        if distributed.world_size > 1 and not is_sharded(model):
            self.forward = DistributedDataParallel(self.forward)
            self.forward.register_comm_hook(None, _all_reduce_sum)

    def backward(self, batch: Batch, seed: int) -> BatchStatistics:
        """Add the gradient of the (weighted) mean loss of a batch to the weights, and of the distillation loss.

        Args:
            batch: the whole batch, the same in all processes.
            seed: of the model's random numbers.
        """
        mine = self.distributed.shard(len(batch))
        results = []
        for index in range(self.recipe.grad_accum_steps):
            piece = shard_of(mine.stop - mine.start, index, self.recipe.grad_accum_steps)
            part = slice(mine.start + piece.start, mine.start + piece.stop)
            last = index == self.recipe.grad_accum_steps - 1
            if self.model.config.drop_path_rate or self.model.config.patch_drop_rate:  # else it draws nothing
                self.draws = BatchDraws(torch.Generator(batch.images.device).manual_seed(seed), part, len(batch))
            with self._gradient_sync(last=last), self.draws or nullcontext():
                micro_batch = batch.part(part)
                fraction = self.loss.weight(micro_batch) / self.loss.weight(batch)
                results.append(self._micro_batch(micro_batch, fraction))
        losses, scores = zip(*results, strict=True)
        return BatchStatistics(sum_tensors(losses), sum_tensors(scores))

    @contextmanager
    def checkpointing(self) -> Generator[None]:
        """Have the blocks keep only their input and recompute the rest for the gradients, if the recipe says so.

        The second computation draws the same random numbers (Chen et al. 2016, "Training Deep Nets with Sublinear
        Memory Cost").
        """
        self.model.set_grad_checkpointing(self.recipe.grad_checkpointing, self._recomputation)
        try:
            yield
        finally:
            self.model.set_grad_checkpointing(False)

    def _recomputation(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """Return the contexts of a block's forward pass, before it runs, and of its recomputation."""
        return nullcontext(), self.draws.again() if self.draws else nullcontext()

    def _micro_batch(self, batch: Batch, fraction: float | Tensor) -> BatchStatistics:
        """Add the gradient of a part of a batch, `fraction` of whose loss it makes up."""
        with autocast(batch.images.device, self.recipe.precision):
            outputs = self.forward(batch.images)
        own = outputs[0] if isinstance(outputs, tuple) else outputs
        loss = self.loss(own, batch) * fraction
        total = self._distilled_loss(loss, *outputs, batch, fraction) if isinstance(outputs, tuple) else loss
        total.backward()
        return BatchStatistics(loss.detach(), self.loss.score(own.detach(), batch))

    def _distilled_loss(
        self, loss: Tensor, outputs: Tensor, teacher_outputs: Tensor, batch: Batch, fraction: float | Tensor
    ) -> Tensor:
        """Mix the model's loss on the truth with the distillation loss, and add the teacher's own loss."""
        settings = self.recipe.distillation
        distilled, teacher_loss = self.loss.distill(outputs, teacher_outputs, batch, settings.temperature)
        return (1 - settings.weight) * loss + settings.weight * (distilled * fraction) + teacher_loss * fraction

    def _gradient_sync(self, *, last: bool) -> AbstractContextManager:
        """Return the context that sums the gradients over the processes after the last micro-batch, and only then."""
        if isinstance(self.forward, DistributedDataParallel) and not last:
            return self.forward.no_sync()
        if is_sharded(self.model):
            self.model.set_requires_gradient_sync(last)  # ty: ignore[not-callable]
        return nullcontext()


def check_micro_batches(recipe: Recipe, world_size: int) -> None:
    """Refuse a batch that has too few images for one in each micro-batch of each process.

    Raises:
        InputError: it has too few images.
    """
    smallest = recipe.grad_accum_steps * world_size
    if recipe.batch_size < smallest:
        raise InputError(
            f"batch_size is {recipe.batch_size}: it can't be split over {world_size} process(es) with "
            f"{recipe.grad_accum_steps} micro-batch(es) each: raise it to {smallest} or lower grad_accum_steps"
        )


def sum_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """Add up tensors of one shape; a single one is returned as it is."""
    return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors)).sum(0)


def _all_reduce_sum(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients; each process has already weighted its own by its number of images."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


class BatchDraws(OwnGenerator):
    """Give a part of a batch the random numbers that it would get within the whole batch of `batch_size` images.

    The model draws random numbers with `torch.rand`, for patch dropout and stochastic depth only, with images as the
    first axis. They are drawn for all images, and those of the images in `part` are kept.
    """

    def __init__(self, generator: torch.Generator, part: slice, batch_size: int) -> None:
        super().__init__(generator)
        self.part, self.batch_size = part, batch_size

    def again(self) -> "BatchDraws":
        """Return a copy that draws the numbers that this one will draw next."""
        generator = torch.Generator(self.generator.device)
        generator.set_state(self.generator.get_state())
        return BatchDraws(generator, self.part, self.batch_size)

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        """Intercept each function of torch."""
        if func is torch.rand:
            assert args[0] == self.part.stop - self.part.start, "random numbers of something that is not an image"
            drawn = super().__torch_function__(func, types, (self.batch_size, *args[1:]), kwargs)
            assert isinstance(drawn, Tensor)
            return drawn[self.part]
        return super().__torch_function__(func, types, args, kwargs)


@contextmanager
def out_of_memory_hint(what: str, recipe: Recipe, world_size: int = 1, *, gradients: bool = True) -> Generator[None]:
    """Name the setting to resume with if there is too little memory for `what`, with or without its gradients.

    Raises:
        InputError: there was too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        more = min(2 * recipe.grad_accum_steps, recipe.batch_size // world_size)
        settings = [f"grad_accum_steps={more}"] if more > recipe.grad_accum_steps else []
        settings += ["grad_checkpointing=true"] if gradients and not recipe.grad_checkpointing else []
        hint = "start a new run with a smaller model"
        if settings:
            hint = f"resume (--resume) with the setting {' or '.join(settings)}, which only changes speed and rounding"
        raise InputError(f"{what} doesn't fit into memory: {hint}") from error
