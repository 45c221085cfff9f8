"""What every dataset offers: its splits decoded to one size, or as they are stored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from vitreous.data.decoding import EncodedImages
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.splits import HoldOut


class Dataset(ABC):
    """A dataset of labeled images that was found; no image is decoded yet."""

    @property
    def splits(self) -> Sequence[str]:
        """The splits that it has. Without a "validation" split, one is held out of "train"."""
        return ("train", "test")

    @abstractmethod
    def load(self, split: str, image_size: tuple[int, int] | None, options: ReadOptions) -> ImageSet:
        """Load one of its splits, in RGB unless the images are published with one channel.

        Args:
            split: "train", "validation" or "test".
            image_size: (height, width) in pixels that images are resized to; without it all must have one size.
            options: how they are resized, and whether unreadable ones are skipped.

        Raises:
            InputError: there is no such split, or its images can't be found or read.
        """

    def load_train_validation(
        self, image_size: tuple[int, int] | None, hold_out: HoldOut, options: ReadOptions
    ) -> tuple[ImageSet, ImageSet]:
        """Load the training and the validation images, the latter held out of the former if there are no others.

        Raises:
            InputError: as `load`.
        """
        training = self.load("train", image_size, options)
        if "validation" in self.splits:
            return training, self.load("validation", image_size, options)
        kept, held_out = hold_out.divide(training.labels.cpu().numpy())
        return training.select(kept), training.select(held_out)


class EncodedDataset(Dataset):
    """A dataset of image files, which may differ in size; other datasets come decoded and of one size."""

    @abstractmethod
    def check_splits(self) -> None:
        """Refuse splits with different classes, which a model could be trained on but not evaluated on.

        Raises:
            InputError: there are some.
        """

    @abstractmethod
    def encoded(self, split: str) -> EncodedImages:
        """Return the images of a split as they are stored.

        Raises:
            InputError: as `load`.
        """

    @abstractmethod
    def state(self, split: str) -> object:
        """Return all that decides what the images of a split are, without reading them; its `repr` tells them apart.

        Raises:
            InputError: as `load`.
        """
