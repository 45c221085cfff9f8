"""The demo: train, evaluate and explain a model with one call, and overlay its attention on a video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.clips.explain import explain_video
from vitreous.data.image_set import ImageSet
from vitreous.data.shapes import draw_video
from vitreous.data.sources import load_images
from vitreous.diagnostics.evaluation_set import first_test_images, training_run
from vitreous.errors import unknown
from vitreous.explanation.explain import all_heads
from vitreous.explanation.figures import draw_explanation_figure, draw_gallery, draw_layers_by_heads
from vitreous.explanation.result import Explanation
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder
from vitreous.video.encode import write_video
from vitreous.workflows.evaluate import Evaluation, evaluate
from vitreous.workflows.explain import explain
from vitreous.workflows.patches import patches
from vitreous.workflows.train import TrainResult, train

DEMO_RECIPES = {"shapes": "shapes", "cifar10": "cifar10-quick", "mnist": "mnist"}
VIDEO_FPS = Fraction(24)
VIDEO_SECONDS = 6
VIDEO_SEED = 3
VIDEO_SIZE_HW = (360, 432)
GALLERY_IMAGES = 16


@dataclass(frozen=True, repr=False)
class DemoResult:
    """The results of the demo.

    Attributes:
        training: The training run; unless it is finished, the callback stopped the demo, and a second call continues
            it.
        evaluation: None if the callback stopped the training.
        files: Each file that was written, with a description.
    """

    training: TrainResult
    evaluation: Evaluation | None = None
    files: tuple[tuple[Path, str], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the metrics, if any, and the files with their descriptions as plain dictionaries."""
        return {
            "training": self.training.to_json(),
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "files": {str(path): description for path, description in self.files},
        }

    def __repr__(self) -> str:
        if self.evaluation is None:
            return f"DemoResult({self.training!r})"
        return "\n".join(f"{path}  {description}" for path, description in self.files)


@check_arguments
def demo(output: str | Path = "demo", data: str = "shapes", *, callback: Callback | None = None) -> DemoResult:
    """Train a model, evaluate it, and draw its explanations of images and of a video.

    Args:
        output: folder for everything that the demo makes. A run that is there already is resumed.
        data: what to train on: "shapes", which Vitreous draws itself, "cifar10" or "mnist".
        callback: receives notes and the progress of the training, and may stop it. The result then holds the
            unfinished training only.

    Raises:
        InputError: the demo has no such data, or the folder can't be used.
    """
    if data not in DEMO_RECIPES:
        raise unknown("demo data", data, DEMO_RECIPES)
    callback, folder = callback or Callback(), Path(output) / data
    run = folder / "run"
    result = train(DEMO_RECIPES[data], run, resume=RunFolder(run).recipe.exists(), callback=callback)
    if not result.finished:
        return DemoResult(result)
    callback.on_note("evaluating on the test images")
    evaluation = evaluate(run)
    classifier, images = load(run), load_images(data, "test", None)
    files = [
        (run / "figures" / "curves.png", "loss and accuracy during training"),
        (run / "figures" / "confusion.png", "confusion matrix of the test images"),
        *_images(classifier, images, data, folder, callback.on_note),
        *_video(classifier, images, data, folder, callback.on_note),
    ]
    return DemoResult(result, evaluation, tuple(files))


def _images(
    classifier: ImageClassifier, images: ImageSet, data: str, folder: Path, on_note: Callable[[str], None]
) -> list[tuple[Path, str]]:
    on_note("drawing explanations")
    test_images, labels = first_test_images(classifier, training_run(classifier), data, GALLERY_IMAGES)
    explanations = explain(classifier, test_images, method="rollout")
    best = max(range(len(labels)), key=lambda i: confidence_if_correct(explanations[i], labels[i]))
    explanation, label = explanations[best], labels[best]
    heads = draw_layers_by_heads(explanation.image_u8, all_heads(classifier, explanation.image_u8))
    drawn = {
        "gallery.png": (draw_gallery(explanations, labels), "test images with label, prediction and rollout map"),
        "explanation.png": (
            draw_explanation_figure(explanation, label),
            "the most confident correct prediction, explained",
        ),
        "layers-and-heads.png": (heads, "the attention maps of every layer and head on that image"),
        "patches.png": (patches(explanation.image_u8, classifier), "the patches of that image"),
    }
    for name, (image, _) in drawn.items():
        save_image(image, folder / name)
    return [(folder / name, description) for name, (_, description) in drawn.items()]


def confidence_if_correct(explanation: Explanation, label: str) -> float:
    """Return the score of the prediction if its label is the true one, else 0."""
    return explanation.prediction.score if explanation.prediction.label == label else 0.0


def _video(
    classifier: ImageClassifier, images: ImageSet, data: str, folder: Path, on_note: Callable[[str], None]
) -> list[tuple[Path, str]]:
    on_note("drawing a video, and the attention over it")
    video, overlay = folder / "clip.mp4", folder / "clip-attention.mp4"
    frames = draw_video(VIDEO_SECONDS, VIDEO_FPS, VIDEO_SIZE_HW, VIDEO_SEED) if data == "shapes" else _pan(images)
    write_video(video, frames, VIDEO_FPS)
    explain_video(classifier, video, overlay)
    return [(video, "a video, drawn by the demo"), (overlay, "the same video with the model's attention")]


def _pan(images: ImageSet) -> Iterator[np.ndarray]:
    """Pan over a row of test images: yield frames, uint8 (*VIDEO_SIZE_HW, 3)."""
    height, width = VIDEO_SIZE_HW
    first = images.images_u8[:8].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    tiles = [Image.fromarray(image).resize((height, height), Image.Resampling.BICUBIC) for image in first]
    row = np.concatenate([np.asarray(tile) for tile in tiles], 1)
    frames = int(VIDEO_SECONDS * VIDEO_FPS)
    for frame in range(frames):
        left = round((row.shape[1] - width) * frame / (frames - 1))
        yield row[:, left : left + width]
