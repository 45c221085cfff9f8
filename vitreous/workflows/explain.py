"""Show what a model looks at on pictures."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitreous.data.images import as_image_u8
from vitreous.data.sources import load_pictures
from vitreous.errors import InputError
from vitreous.explanation.pictures import every_head, explain_batch
from vitreous.explanation.result import Explanation
from vitreous.explanation.settings import Settings
from vitreous.files import written_beside
from vitreous.render.color import Scale
from vitreous.render.overlay import overlay
from vitreous.render.sheet import GalleryItem, explanation_picture, gallery, layers_by_heads
from vitreous.tasks.classification import Classifier, Picture, Prediction
from vitreous.workflows.evaluate import check_classes
from vitreous.workflows.load import load

PICTURE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def explain(
    model: str | Path | Classifier,
    picture: Picture,
    method: str = "rollout",
    *,
    layer: int | None = None,
    head: int | None = None,
    target: str | None = None,
) -> Explanation:
    """What the model looks at on one picture, in the picture's own pixels.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        picture: a file's path, a Pillow image, or uint8 (height, width, 3).
        method: "attention" (one layer) or "rollout" (all layers).
        layer: counted from 0, negative ones from the end; the last by default. For "attention" only.
        head: counted from 0; the mean over heads by default. For "attention" only.
        target: a class whose probability is told beside the predicted one's.

    Raises:
        InputError: no such model, picture, method, layer, head or class.
    """
    classifier = load(model)
    return explain_batch(classifier, [picture], method, settings_for(layer, head), target)[0]


def settings_for(layer: int | None, head: int | None) -> Settings:
    """The settings that a user's choice of layer and head means."""
    return Settings(layer, head)


def explanation_image(explanation: Explanation, truth: str | None = None) -> Image.Image:
    """A picture to show to others: input and overlay side by side, with all that belongs to them in words."""
    drawn = overlay(explanation.picture_u8, explanation.heat)
    right = None if truth is None else truth == explanation.prediction.name
    lines = caption(explanation, truth)
    return explanation_picture(explanation.picture_u8, drawn, verdict(explanation.prediction), lines, right=right)


def layers_and_heads_image(model: str | Path | Classifier, picture: Picture) -> Image.Image:
    """Attention of every layer (rows) and head (columns), each on its own colour scale."""
    classifier, pixels = load(model), as_image_u8(picture)
    drawn = [[overlay(pixels, heat) for heat in heads] for heads in every_head(classifier, pixels)]
    prediction = classifier.predict(pixels)
    return layers_by_heads(drawn, f"attention · {verdict(prediction)}")


def gallery_image(explanations: Sequence[Explanation], truths: Sequence[str | None]) -> Image.Image:
    """Several explanations side by side with truth and prediction, right and wrong ones marked."""
    pairs = zip(explanations, truths, strict=True)
    title = f"truth / prediction / {explanations[0].words()}"
    return gallery([_item(explanation, truth) for explanation, truth in pairs], title)


def explain_test_pictures(
    classifier: Classifier, count: int, method: str, settings: Settings, source: str
) -> tuple[list[Explanation], list[str]]:
    """Explanations of the first pictures of a source's test split, and the truth about each."""
    pictures = load_pictures(source, "test", classifier.preprocessing.size_hw)
    check_classes(classifier, pictures, source)
    chosen = pictures.select(list(range(min(count, len(pictures)))))
    images = chosen.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    truths = [pictures.class_names[label] for label in chosen.labels.tolist()]
    return explain_batch(classifier, list(images), method, settings), truths


def truth_from_folder(path: Path, class_names: Sequence[str]) -> str | None:
    """The class that a picture's folder is named after, if it is one of the model's."""
    return path.resolve().parent.name if path.resolve().parent.name in class_names else None


def save_picture(image: Image.Image, path: Path | str) -> None:
    """Write a picture, whole or not at all, in the format that its name ends in.

    Raises:
        InputError: the ending is no picture format, or the file can't be written.
    """
    if Path(path).suffix.lower() not in PICTURE_FORMATS:
        raise InputError(f"can't write a picture as '{path}': let its name end in {', '.join(PICTURE_FORMATS)}")
    with written_beside(path) as temporary:
        image.save(temporary)


def verdict(prediction: Prediction) -> str:
    """A prediction in words: "cat 93 %"."""
    return f"{prediction.name} {100 * prediction.probability:.0f} %"


def caption(explanation: Explanation, truth: str | None) -> list[str]:
    """The lines under a picture: truth if known, target if asked for, method, layer and head."""
    lines = [explanation.words()]
    if explanation.target is not None and explanation.score is not None:
        lines.append(
            f"{explanation.target} {100 * explanation.score:.1f} % · this method's map is the same for every class"
        )
    if truth is not None:
        lines.insert(0, f"truth: {truth}")
    return lines


def _item(explanation: Explanation, truth: str | None) -> GalleryItem:
    drawn = overlay(explanation.picture_u8, explanation.heat, Scale.robust(explanation.heat))
    return GalleryItem(
        explanation.picture_u8, drawn, truth, explanation.prediction.name, explanation.prediction.probability
    )
