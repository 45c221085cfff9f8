"""Frozen features: the probe against scikit-learn's on the same features, and the cost of `embed` around the model."""

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

from transfer_suite.options import Options, PrintedNotes, split_by_hash
from vitreous.callbacks import Callback
from vitreous.transfer.embed import open_job, write_features
from vitreous.transfer.neighbors import NEIGHBOR_COUNTS, TEMPERATURE
from vitreous.transfer.probing.data import LabeledFeatures, cached_features, split_features
from vitreous.transfer.probing.fit import fit_knn, fit_logistic
from vitreous.transfer.probing.linear import INVERSE_PENALTIES

PROBE_BAR = 0.001
EMBED_BAR = 0.95
EMBED_IMAGES, ROUNDS = 96, 3


def compare_probes(options: Options) -> None:
    """Print the test accuracy of both libraries for kNN and logistic regression."""
    features = cached_features(options.load(), f"folder:{split_by_hash(options.images)}", "fp32", PrintedNotes())
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


def compare_embed(options: Options) -> None:
    """Print the images per second of `embed`, from files to Parquet, over those of the forward pass alone."""
    classifier = options.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, file in enumerate(sorted(options.images.rglob("*.jpg"))[:EMBED_IMAGES]):
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
