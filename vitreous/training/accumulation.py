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
from vitreous.training.distillation import Taught, Teacher, distillation
from vitreous.training.distributed import Processes, part_of
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


class Learner:
    """A model from which gradients are taken: in parts one after the other, and in step with the other processes."""

    def __init__(
        self,
        model: ViT,
        recipe: Recipe,
        processes: Processes,
        weights: Tensor | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """With `weights` (classes), on the model's device, each image counts as much as its class.

        A `teacher` learns too, and the model from it.
        """
        check_shares(recipe, processes.count)
        self.model, self.recipe, self.processes, self.weights = model, recipe, processes, weights
        self.forward: nn.Module = Taught(model, teacher) if teacher else model
        self.drawing: AbstractContextManager = nullcontext()
        if processes.count > 1 and not is_sharded(model):
            self.forward = DistributedDataParallel(self.forward)
            self.forward.register_comm_hook(None, _summed)

    def gradients(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Add the gradient of the (weighted) mean loss of a batch to the weights; with a teacher, of what it says too.

        Args:
            images: The whole batch (batch, channels, height, width), the same in all processes.
            labels: int64 (batch).
            seed: Of the model's random numbers.

        Returns:
            What this one adds to the mean loss on the labels and to the number of images told right, on the device.
        """
        mine = self.processes.share(len(labels))
        results = []
        for index in range(self.recipe.accumulate):
            piece = part_of(mine.stop - mine.start, index, self.recipe.accumulate)
            part = slice(mine.start + piece.start, mine.start + piece.stop)
            last = index == self.recipe.accumulate - 1
            torch.manual_seed(seed)
            self.drawing = drawn_for(part, len(labels))
            with self._exchange(last=last), self.drawing:
                results.append(self._part(images[part], labels[part], self._share(labels, part)))
        losses, rights = zip(*results, strict=True)
        return (sum_of(losses), sum_of(rights))

    @contextmanager
    def checkpointing(self) -> Generator[None]:
        """Within, if the recipe says so, the blocks keep their input alone and compute the rest again for the
        gradients, with the same random numbers (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost")."""
        blocks = list(self.model.blocks) if self.recipe.checkpoint_activations else []
        for block in blocks:
            options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), self.drawing)}
            block.forward = partial(checkpoint, block.forward, **options)
        try:
            yield
        finally:
            for block in blocks:
                del block.forward

    def _share(self, labels: Tensor, part: slice) -> float | Tensor:
        """Of the mean over a whole batch, how much the mean over a part of it makes up."""
        if self.weights is None:
            return (part.stop - part.start) / len(labels)
        return self.weights[labels[part]].sum() / self.weights[labels].sum()

    def _part(self, images: Tensor, labels: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, self.recipe.precision):
            answers = self.forward(images)
        logits = answers[0] if isinstance(answers, tuple) else answers
        loss = classification_loss(logits, labels, self.recipe.label_smoothing, self.weights) * share
        total = self._taught(loss, *answers, labels, share) if isinstance(answers, tuple) else loss
        total.backward()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _taught(self, loss: Tensor, logits: Tensor, told: Tensor, labels: Tensor, share: float | Tensor) -> Tensor:
        """What is minimized where a teacher, who answers `told`, has its share of the model's loss, and its own."""
        settings = self.recipe.teacher
        counts = None if self.weights is None else self.weights[labels]
        heard = distillation(logits, told, settings.temperature, counts) * share
        own = classification_loss(told, labels, weights=self.weights) * share
        return (1 - settings.share) * loss + settings.share * heard + own

    def _exchange(self, *, last: bool) -> AbstractContextManager:
        """The context in which gradients are added up over the processes after the last part, and only then."""
        if isinstance(self.forward, DistributedDataParallel) and not last:
            return self.forward.no_sync()
        if is_sharded(self.model):
            self.model.set_requires_gradient_sync(last)  # ty: ignore[not-callable]
        return nullcontext()


def check_shares(recipe: Recipe, processes: int) -> None:
    """Refuse a batch that can't be cut into a part or more for each process.

    Raises:
        InputError: it has too few images.
    """
    smallest = recipe.accumulate * processes
    if recipe.batch_size < smallest:
        raise InputError(
            f"batch_size is {recipe.batch_size}: it can't be shared by {processes} process(es) in "
            f"{recipe.accumulate} part(s) each: raise it to {smallest} or lower accumulate"
        )


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """The parts added up; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def _summed(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Add up a bucket of gradients: each process has weighed its own by its number of images."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def drawn_for(part: slice, whole: int) -> AbstractContextManager:
    """The context in which a part of a batch gets the random numbers that it would get within the whole."""
    return nullcontext() if part == slice(0, whole) else DrawnForWhole(part, whole)


class DrawnForWhole(TorchFunctionMode):
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
def memory_advice(what: str, recipe: Recipe, processes: int = 1, *, gradients: bool = True) -> Generator[None]:
    """Say which setting to go on with where there is too little memory for `what`, with or without its gradients.

    Raises:
        InputError: there was too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        more = min(2 * recipe.accumulate, recipe.batch_size // processes)
        settings = [f"accumulate={more}"] if more > recipe.accumulate else []
        settings += ["checkpoint_activations=true"] if gradients and not recipe.checkpoint_activations else []
        advice = "start a new run with a smaller model"
        if settings:
            advice = f"go on with --resume --set {' or --set '.join(settings)}, which change speed and rounding alone"
        raise InputError(f"{what} doesn't fit into memory: {advice}") from error
