"""The whole chain on one command: train, evaluate, explain, video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.clips.explain import explain_video
from vitreous.data.image_set import ImageSet
from vitreous.data.shapes.dataset import draw_video
from vitreous.data.sources import load_images
from vitreous.errors import unknown
from vitreous.evaluation.report import Evaluation
from vitreous.explanation.figures import draw_explanation_figure, draw_gallery
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.result import Explanation
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder
from vitreous.video.encode import write_clip
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.explain import draw_layers_by_heads, explain_test_images
from vitreous.workflows.patches import patches_image
from vitreous.workflows.train import Listener, train

DEMO_RECIPES = {"shapes": "shapes", "cifar10": "cifar10-quick", "mnist": "mnist"}
CLIP_FPS = Fraction(24)
CLIP_SECONDS = 6
CLIP_SEED = 3
CLIP_SIZE_HW = (360, 432)
GALLERY_IMAGES = 16


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the scores, and each file with a few words."""

    scores: Evaluation
    files: tuple[tuple[Path, str], ...]


def demo(out: str | Path = "demo", data: str = "shapes", listener: Listener | None = None) -> DemoResult | None:
    """Train a model, measure it, and make images and a video of what it looks at, all in the folder `out`.

    A run that is there already is taken up where it stopped. None if the listener had the training stopped.

    Raises:
        InputError: data the demo doesn't know, or a folder that can't be used.
    """
    if data not in DEMO_RECIPES:
        raise unknown("demo data", data, DEMO_RECIPES)
    listener, folder = listener or Listener(), Path(out) / data
    run = folder / "run"
    result = train(DEMO_RECIPES[data], run, resume=RunFolder(run).recipe.exists(), listener=listener)
    if not result.finished:
        return None
    listener.note("measuring on the test images")
    scores = evaluate(run)
    classifier, images = load(run), load_images(data, "test", None)
    files = [
        (run / "figures" / "curves.png", "loss and accuracy during training"),
        (run / "figures" / "confusion.png", "which classes it confuses"),
        *_images(classifier, images, data, folder, listener.note),
        *_video(classifier, images, data, folder, listener.note),
    ]
    return DemoResult(scores, tuple(files))


def _images(
    classifier: ImageClassifier, images: ImageSet, data: str, folder: Path, note: Callable[[str], None]
) -> list[tuple[Path, str]]:
    note("drawing what it looks at")
    explanations, truths = explain_test_images(classifier, GALLERY_IMAGES, "rollout", MethodOptions(), data)
    surest = max(range(len(truths)), key=lambda i: told_right(explanations[i], truths[i]))
    shown, truth = explanations[surest], truths[surest]
    heads = draw_layers_by_heads(classifier, shown.image_u8)
    drawn = {
        "gallery.png": (draw_gallery(explanations, truths), "truth, prediction and attention of test images"),
        "explanation.png": (draw_explanation_figure(shown, truth), "an image it is sure of, and what it looks at"),
        "layers-and-heads.png": (heads, "every layer and head of that image"),
        "patches.png": (patches_image(shown.image_u8, classifier), "how that image is cut into patches"),
    }
    for name, (image, _) in drawn.items():
        save_image(image, folder / name)
    return [(folder / name, words) for name, (_, words) in drawn.items()]


def told_right(explanation: Explanation, truth: str) -> float:
    """The probability that the model gave its answer, if that is the truth; else 0."""
    return explanation.prediction.score if explanation.prediction.label == truth else 0.0


def _video(
    classifier: ImageClassifier, images: ImageSet, data: str, folder: Path, note: Callable[[str], None]
) -> list[tuple[Path, str]]:
    note("drawing a moving clip, and the attention over it")
    clip, target = folder / "clip.mp4", folder / "clip-attention.mp4"
    frames = draw_video(CLIP_SECONDS, CLIP_FPS, CLIP_SIZE_HW, CLIP_SEED) if data == "shapes" else _pan(images)
    write_clip(clip, frames, CLIP_FPS)
    explain_video(classifier, clip, target)
    return [(clip, "a moving clip, drawn by the demo"), (target, "the same with what the model looks at")]


def _pan(images: ImageSet) -> Iterator[np.ndarray]:
    """Test images passing by: a window glides over a strip of them, uint8 (*CLIP_SIZE_HW, 3)."""
    height, width = CLIP_SIZE_HW
    chosen = images.images_u8[:8].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    tiles = [Image.fromarray(image).resize((height, height), Image.Resampling.BICUBIC) for image in chosen]
    strip = np.concatenate([np.asarray(tile) for tile in tiles], 1)
    frames = int(CLIP_SECONDS * CLIP_FPS)
    for frame in range(frames):
        left = round((strip.shape[1] - width) * frame / (frames - 1))
        yield strip[:, left : left + width]
