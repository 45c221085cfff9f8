"""Frozen features: our probe against scikit-learn's on the same features, and the cost of `embed` around the model.

Command:  python benchmarks/transfer.py [--parts probe,embed] [--images DIR] [--weights FILE] [--input-size PIXELS]

The images are a folder with one folder per class; 20 % of them, chosen by a hash of their content, are for testing.
Validation images (20 % of the others, of each class) choose k and C, from the same grids, for both; test images report.
The speed of `embed` is a ratio: images a second from files to Parquet over those of the bare forward pass, on batches
of the same images that are in memory, alternating in one process.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vitreous.callbacks import Callback
from vitreous.data.folder import open_image_folder
from vitreous.data.splits import in_test_split
from vitreous.downloads import cache_dir
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.process_tuning import keep_freed_memory
from vitreous.transfer.embed import open_job, write_features
from vitreous.transfer.neighbors import NEIGHBOR_COUNTS, TEMPERATURE
from vitreous.transfer.probing.data import LabeledFeatures, cached_features, split_features
from vitreous.transfer.probing.fit import fit_knn, fit_logistic
from vitreous.transfer.probing.linear import INVERSE_PENALTIES

SHARED = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).parents[2] / "shared" / "data"))
TEST_FRACTION = 0.2
PROBE_BAR = 0.001
EMBED_BAR = 0.95
EMBED_IMAGES, ROUNDS = 96, 3


def split_by_hash(images: Path) -> Path:
    """Return a folder of links, train/CLASS and test/CLASS, to images that have no split."""
    folder = cache_dir() / "benchmarks" / f"{images.name}-{TEST_FRACTION}"
    if folder.is_dir():
        return folder
    dataset = open_image_folder(images)
    for file in dataset.list_images("train"):
        split = "test" if in_test_split(file.path.read_bytes(), TEST_FRACTION) else "train"
        link = folder / split / dataset.class_names[file.label] / file.path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.path.resolve())
    return folder


def compare_probes(classifier: ImageClassifier, images: Path) -> None:
    """Print the test accuracy of both libraries for kNN and logistic regression."""
    features = cached_features(classifier, f"folder:{split_by_hash(images)}", "fp32", PrintedNotes())
    data = split_features(features, 0.2, Callback())
    print(f"{len(data.training):,} training, {len(data.validation):,} validation, {len(data.test):,} test images")
    both = data.training.join(data.validation)
    for name, fit, reference, settings in (
        ("kNN", fit_knn, knn, NEIGHBOR_COUNTS), ("logistic regression", fit_logistic, logistic, INVERSE_PENALTIES),
    ):  # fmt: skip
        seconds = time.perf_counter()
        own = fit(data.training, data, refit=True)
        accuracy = (own.scores.argmax(1) == data.test.labels).double().mean().item()
        seconds = time.perf_counter() - seconds
        started = time.perf_counter()
        near = [one for one in settings if own.setting / 4 <= one <= own.setting * 4]
        chosen = max(near, key=lambda one: reference(data.training, one)(data.validation))
        theirs = reference(both, chosen)(data.test)
        print(
            f"{name}: own {accuracy:.2%} (setting {own.setting:.3g}, {seconds:.0f} s for the whole grid), scikit-learn "
            f"{theirs:.2%} ({chosen:.3g}, {time.perf_counter() - started:.0f} s for {len(near)} settings), with own "
            f"setting {reference(both, own.setting)(data.test):.2%}; "
            f"difference {abs(accuracy - theirs):.2%}, bar {PROBE_BAR:.1%}"
        )


def knn(part: LabeledFeatures, count: float) -> Callable[[LabeledFeatures], float]:
    """Return the accuracy of scikit-learn's kNN with DINO's weights as a function of other images."""
    model = KNeighborsClassifier(
        int(count), metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    )
    model.fit(part.vectors.numpy(), part.labels.numpy())
    return lambda other: model.score(other.vectors.numpy(), other.labels.numpy())


def logistic(part: LabeledFeatures, inverse_penalty: float) -> Callable[[LabeledFeatures], float]:
    """Return the accuracy of scikit-learn's logistic regression as a function of other images."""
    scaler = StandardScaler().fit(part.vectors.double().numpy())
    model = LogisticRegression(C=inverse_penalty, max_iter=5000, tol=1e-5)
    model.fit(scaler.transform(part.vectors.double().numpy()), part.labels.numpy())
    return lambda other: model.score(scaler.transform(other.vectors.double().numpy()), other.labels.numpy())


def compare_embed(classifier: ImageClassifier, images: Path) -> None:
    """Print the images per second of `embed`, from files to Parquet, over those of the forward pass alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, file in enumerate(sorted(images.rglob("*.jpg"))[:EMBED_IMAGES]):
            (folder / f"{index:04}.jpg").symlink_to(file.resolve())
        job = open_job(classifier, name, callback=Callback())
        inputs = torch.stack([classifier.preprocess(path)[0] for path in sorted(folder.iterdir())])
        times: dict[str, list[tuple[float, float]]] = {"forward pass": [], "embed": []}
        for _ in range(ROUNDS):
            times["forward pass"].append(seconds_of(lambda: [job.extractor(b) for b in inputs.split(job.batch_size)]))
            times["embed"].append(seconds_of(lambda: write_features(job, folder.parent / f"{folder.name}.parquet")))
        (folder.parent / f"{folder.name}.parquet").unlink()
    bare, whole = (np.array(values) for values in times.values())
    ratios, cpu_ratios = (bare / whole).T.tolist()
    rates = {key: EMBED_IMAGES / median(wall for wall, _ in values) for key, values in times.items()}
    print(
        f"{len(inputs)} photos at {tuple(inputs.shape[2:])}: embed {rates['embed']:.1f} images/s, forward pass "
        f"{rates['forward pass']:.1f}; ratio {median(ratios):.1%} ({min(ratios):.1%} to {max(ratios):.1%}, "
        f"n = {ROUNDS}), of CPU time {median(cpu_ratios):.1%}, bar {EMBED_BAR:.0%}"
    )


def seconds_of(run: Callable[[], object]) -> tuple[float, float]:
    """Return the time that a call takes, and the time of all cores."""
    started = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started[0], time.process_time() - started[1]


class PrintedNotes(Callback):
    """Prints notes."""

    def on_note(self, text: str) -> None:
        """Print a note."""
        print(text)


PARTS = {"probe": compare_probes, "embed": compare_embed}


def main() -> None:
    """Print the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=Path, default=SHARED / "flowers5")
    parser.add_argument("--weights", default=str(SHARED / "weights" / "dinov2-vits14.safetensors"))
    parser.add_argument("--input-size", type=int)
    options = parser.parse_args()
    keep_freed_memory()
    classifier = load(options.weights, input_size=options.input_size)
    print(f"{classifier}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for part in options.parts.split(","):
        PARTS[part](classifier, options.images)


if __name__ == "__main__":
    main()
