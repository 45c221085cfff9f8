"""The gradient of a whole batch, from as many parts and processes as it takes."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.runtime import autocast
from vitreous.tasks.classification import loss as classification_loss
from vitreous.training.distillation import DistilledModel, Teacher, distillation_loss
from vitreous.training.distributed import DistributedContext, shard_of
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


class GradientAccumulator:
    """A model from which gradients are taken: in parts one after the other, and in step with the other processes."""

    def __init__(
        self,
        model: ViT,
        recipe: Recipe,
        processes: DistributedContext,
        weights: Tensor | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """With `weights` (classes), on the model's device, each image counts as much as its class.

        A `teacher` learns too, and the model from it.
        """
        check_micro_batches(recipe, processes.world_size)
        self.model, self.recipe, self.distributed, self.class_weights = model, recipe, processes, weights
        self.forward: nn.Module = DistilledModel(model, teacher) if teacher else model
        self.rng_draws: AbstractContextManager = nullcontext()
        if processes.world_size > 1 and not is_sharded(model):
            self.forward = DistributedDataParallel(self.forward)
            self.forward.register_comm_hook(None, _all_reduce_sum)

    def backward(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Add the gradient of the (weighted) mean loss of a batch to the weights; with a teacher, of what it says too.

        Args:
            images: The whole batch (batch, channels, height, width), the same in all processes.
            labels: int64 (batch).
            seed: Of the model's random numbers.

        Returns:
            What this one adds to the mean loss on the labels and to the number of images told right, on the device.
        """
        mine = self.distributed.shard(len(labels))
        results = []
        for index in range(self.recipe.grad_accum_steps):
            piece = shard_of(mine.stop - mine.start, index, self.recipe.grad_accum_steps)
            part = slice(mine.start + piece.start, mine.start + piece.stop)
            last = index == self.recipe.grad_accum_steps - 1
            torch.manual_seed(seed)
            self.rng_draws = global_rng_draws(part, len(labels))
            with self._gradient_sync(last=last), self.rng_draws:
                results.append(self._micro_batch(images[part], labels[part], self._fraction(labels, part)))
        losses, rights = zip(*results, strict=True)
        return (sum_tensors(losses), sum_tensors(rights))

    @contextmanager
    def checkpointing(self) -> Generator[None]:
        """Within, if the recipe says so, the blocks keep their input alone and compute the rest again for the
        gradients, with the same random numbers (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost")."""
        blocks = list(self.model.blocks) if self.recipe.grad_checkpointing else []
        for block in blocks:
            options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), self.rng_draws)}
            block.forward = partial(checkpoint, block.forward, **options)
        try:
            yield
        finally:
            for block in blocks:
                del block.forward

    def _fraction(self, labels: Tensor, part: slice) -> float | Tensor:
        """Of the mean over a whole batch, how much the mean over a part of it makes up."""
        if self.class_weights is None:
            return (part.stop - part.start) / len(labels)
        return self.class_weights[labels[part]].sum() / self.class_weights[labels].sum()

    def _micro_batch(self, images: Tensor, labels: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, self.recipe.precision):
            answers = self.forward(images)
        logits = answers[0] if isinstance(answers, tuple) else answers
        loss = classification_loss(logits, labels, self.recipe.label_smoothing, self.class_weights) * share
        total = self._distilled_loss(loss, *answers, labels, share) if isinstance(answers, tuple) else loss
        total.backward()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _distilled_loss(
        self, loss: Tensor, logits: Tensor, told: Tensor, labels: Tensor, share: float | Tensor
    ) -> Tensor:
        """What is minimized where a teacher, who answers `told`, has its share of the model's loss, and its own."""
        settings = self.recipe.distillation
        counts = None if self.class_weights is None else self.class_weights[labels]
        heard = distillation_loss(logits, told, settings.temperature, counts) * share
        own = classification_loss(told, labels, weights=self.class_weights) * share
        return (1 - settings.weight) * loss + settings.weight * heard + own

    def _gradient_sync(self, *, last: bool) -> AbstractContextManager:
        """The context in which gradients are added up over the processes after the last part, and only then."""
        if isinstance(self.forward, DistributedDataParallel) and not last:
            return self.forward.no_sync()
        if is_sharded(self.model):
            self.model.set_requires_gradient_sync(last)  # ty: ignore[not-callable]
        return nullcontext()


def check_micro_batches(recipe: Recipe, processes: int) -> None:
    """Refuse a batch that can't be cut into a part or more for each process.

    Raises:
        InputError: it has too few images.
    """
    smallest = recipe.grad_accum_steps * processes
    if recipe.batch_size < smallest:
        raise InputError(
            f"batch_size is {recipe.batch_size}: it can't be shared by {processes} process(es) in "
            f"{recipe.grad_accum_steps} part(s) each: raise it to {smallest} or lower accumulate"
        )


def sum_tensors(parts: Sequence[Tensor]) -> Tensor:
    """The parts added up; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def _all_reduce_sum(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Add up a bucket of gradients: each process has weighed its own by its number of images."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def global_rng_draws(part: slice, whole: int) -> AbstractContextManager:
    """The context in which a part of a batch gets the random numbers that it would get within the whole."""
    return nullcontext() if part == slice(0, whole) else GlobalRngDraws(part, whole)


class GlobalRngDraws(TorchFunctionMode):
    """Has `torch.rand` draw for the whole batch of `whole` images and keep what is for those of `part`.

    The model draws patch dropout and stochastic depth with a first axis of images, and nothing else.
    """

    def __init__(self, part: slice, whole: int) -> None:
        super().__init__()
        self.part, self.whole = part, whole

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Called by torch in place of each of its functions."""
        if func is torch.rand:
            assert args[0] == self.part.stop - self.part.start, "random numbers that are no image's"
            return func(self.whole, *args[1:], **kwargs or {})[self.part]
        return func(*args, **kwargs or {})


@contextmanager
def out_of_memory_hint(what: str, recipe: Recipe, processes: int = 1, *, gradients: bool = True) -> Generator[None]:
    """Say which setting to go on with where there is too little memory for `what`, with or without its gradients.

    Raises:
        InputError: there was too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        more = min(2 * recipe.grad_accum_steps, recipe.batch_size // processes)
        settings = [f"accumulate={more}"] if more > recipe.grad_accum_steps else []
        settings += ["checkpoint_activations=true"] if gradients and not recipe.grad_checkpointing else []
        advice = "start a new run with a smaller model"
        if settings:
            advice = f"go on with --resume --set {' or --set '.join(settings)}, which change speed and rounding alone"
        raise InputError(f"{what} doesn't fit into memory: {advice}") from error
