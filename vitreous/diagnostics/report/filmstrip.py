"""The strip of the report: the maps of the fixed images at some kept steps, and the table behind it."""

from vitreous.diagnostics.evaluation_set import TrainingRun
from vitreous.diagnostics.report.content import DataTable, Section, WideImage
from vitreous.diagnostics.report.images import encode_wide
from vitreous.errors import InputError
from vitreous.training_film.filmstrip import draw_filmstrip, strip_positions
from vitreous.training_film.history import MapHistory, read_map_history
from vitreous.training_film.kept_maps import last_kept_step

KEY, TITLE = "filmstrip", "Over the epochs"


def filmstrip_section(run: TrainingRun) -> Section:
    """Show the maps of the fixed images from the first kept step to the last, if the run keeps them."""
    try:
        if last_kept_step(run.folder) < 0:
            return Section(KEY, TITLE, missing="The run keeps no maps of fixed images: train it with keep_maps=8.")
        history = read_map_history(run.folder.path)
    except InputError as error:
        return Section(KEY, TITLE, missing=f"Not shown: {error}.")
    chosen, steps = strip_positions(history), history.steps
    saved = " The run saves the weights of its best validation, which needn't be those of the last step."
    note = (
        f"The maps ({history.method}) of a few fixed {history.images.split} images at {len(chosen)} of {len(steps)} "
        f"kept steps, from step {steps[0]:,} to step {steps[-1]:,}.{saved if history.saves_best else ''} "
        f"`vitreous film RUN` shows all of them."
    )
    description = f"maps of fixed images, a row for each, from step {steps[0]:,} to step {steps[-1]:,}"
    image = WideImage(encode_wide(draw_filmstrip(history), description))
    return Section(KEY, TITLE, note, (image, strip_table(history, chosen)))


def later_section() -> Section:
    """Say that the strip follows, while a run trains: drawing it takes longer than the rest of the page."""
    missing = "It follows when the run ends or stops; `vitreous report RUN` and `vitreous film RUN` draw it before."
    return Section(KEY, TITLE, missing=missing)


def strip_table(history: MapHistory, positions: list[int]) -> DataTable:
    """Make the table behind the strip: what the model says about each image after each step that is shown."""
    rows = []
    for number, index in enumerate(history.images.indexes):
        truth = history.truth(number)
        name = f"image {index}" + ("" if truth is None else f", {truth}")
        for at in positions:
            prediction, probability = history.predictions[at][number], history.truth_probability(at, number)
            said = "–" if prediction is None else prediction.caption()
            rows.append((name, f"{history.steps[at]:,}", said, "–" if probability is None else f"{probability:.1%}"))
    columns = ("image", "step", "prediction", "probability of the true label")
    return DataTable("Predictions of the fixed images", columns, tuple(rows), is_folded=True)
