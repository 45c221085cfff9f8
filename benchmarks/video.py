"""The video pipeline against its stages, against DINO's script, over long clips, and in lower precision.

Command:  python benchmarks/video.py [--clip FILE] [--weights FILE] [--frames N] [PART ...]

Parts: stages, script, memory, precision, small, visibility. Times are ratios within one run, and what is compared takes
turns.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from vitreous import load
from vitreous.callbacks import Callback
from vitreous.clips.draw_stage import DrawStage
from vitreous.clips.explain import run_request
from vitreous.clips.explain_stage import ExplainStage, quantize_classifier
from vitreous.clips.maps import FrameMaps
from vitreous.clips.options import FrameOptions, SpeedOptions
from vitreous.clips.request import VideoRequest
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model import kernels, linear
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import named_config
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.pretrained.load import with_input_size
from vitreous.process_tuning import keep_freed_memory, share_cores
from vitreous.render.color import resize_coarse_map
from vitreous.render.temporal.scenes import SceneDetector
from vitreous.render.temporal.stabilize import MapStabilizer
from vitreous.runtime import autocast, choose_precision
from vitreous.video.decode import read_frames
from vitreous.video.info import Frame, read_info
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.output import create_writer
from vitreous.video.trim import expected_frames

SHARED = Path(os.environ.get("VITREOUS_SHARED", "../shared/data"))
TURNS = 3
KINDS = ("fp32", "bf16", "int8")


def plainly(size_hw: tuple[int, int], patch: int) -> Preprocessing:
    """Whole images, stretched to the model's size."""
    return Preprocessing(size_hw, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), patch)


def batches(frames: list[Frame], count: int) -> Iterator[list[Frame]]:
    """The frames, so many at a time."""
    return (frames[start : start + count] for start in range(0, len(frames), count))


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def core_seconds(run: Callable[[], object]) -> float:
    """How long a call keeps cores busy, all threads together."""
    started = time.process_time()
    run()
    return time.process_time() - started


def until(frames: list[Frame]) -> FrameOptions:
    """The part of the clip that these first frames are."""
    return FrameOptions(end=float(frames[-1].time_seconds) + 1e-3)


def read(clip: Path, count: int) -> list[Frame]:
    """The clip's first frames."""
    with closing(read_frames(clip, KEEP_ALL)) as reader:
        return list(islice(reader, count))


def write(clip: Path, frames: list[Frame], folder: Path) -> None:
    """Write frames as the pipeline does."""
    with create_writer(folder / "out.mp4", read_info(clip), frames[0].image_u8.shape[:2], KEEP_ALL) as writer:
        for frame in frames:
            writer.write(frame)


def stages(classifier: ImageClassifier, clip: Path, count: int, request: VideoRequest) -> None:
    """Print each stage alone, and the pipeline over the slowest."""
    frames = read(clip, count)
    stage = ExplainStage(classifier, request, request.resolve(classifier), None)
    found: list[FrameMaps] = []
    drawn: list[Frame] = []

    def explain() -> None:
        with autocast(classifier.device, choose_precision(request.speed.float_precision, classifier.device)):
            found[:] = [one for batch in batches(frames, request.speed.batch_size) for one in stage.explain(batch)]

    def draw() -> None:
        drawing = DrawStage(request, None, lambda frame, maps: None)
        step = request.speed.batch_size
        images = [
            image
            for start in range(0, len(frames), step)
            for image in drawing.draw(frames[start : start + step], found[start : start + step])
        ]
        drawn[:] = [Frame(image, frame.time_seconds) for image, frame in zip(images, frames, strict=True)]

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        end = until(frames)
        whole = replace(request, frames=end)
        parts: dict[str, Callable[[], object]] = {
            "decode": lambda: read(clip, count),
            "model": explain,
            "draw": draw,
            "encode": lambda: write(clip, drawn, folder),
            "pipeline": lambda: run_request(classifier, clip, folder / "whole.mp4", whole),
        }
        times = {name: [seconds(run) for _ in range(TURNS)] for name, run in parts.items()}
        busy = {name: core_seconds(run) / len(frames) * 1000 for name, run in parts.items() if name != "pipeline"}
    least = {name: min(values) / len(frames) * 1000 for name, values in times.items()}
    print(f"{request.methods[0]}, {request.speed.precision}: ", end="")
    print(", ".join(f"{name} {value:.1f} ms a frame" for name, value in least.items()))
    slowest = max(value for name, value in least.items() if name != "pipeline")
    print(f"  the pipeline runs at {slowest / least['pipeline']:.0%} of its slowest stage alone")
    cores, total = os.cpu_count() or 1, sum(busy.values())
    print(f"  core time: {', '.join(f'{value:.1f}' for value in busy.values())} ms a frame, in all "
          f"{total:.1f}: {total / cores:.1f} ms on {cores} cores, at most {slowest * cores / total:.0%}")  # fmt: skip


def script(classifier: ImageClassifier, clip: Path, count: int) -> None:
    """Print what the way of DINO's video script takes over our pipeline: same weights, same size for the model.

    That script (facebookresearch/dino, video_generation.py) writes every frame as JPEG, reads each again, passes it
    through the model alone with attention written out in every layer, has matplotlib write the last layer's, and
    makes the film of all files in the end.
    """
    frames = read(clip, count)
    end = until(frames)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ways: dict[str, Callable[[], object]] = {
            kind: lambda kind=kind: run_request(
                classifier,
                clip,
                folder / "ours.mp4",
                VideoRequest(("attention",), frames=end, speed=SpeedOptions(precision=kind)),
            )
            for kind in KINDS
        }
        ways["script"] = lambda: in_the_usual_way(lambda: by_script(classifier, clip, count, folder))
        times = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, run in ways.items():
                times[name].append(seconds(run))
    *ours, theirs = (min(values) / count * 1000 for values in times.values())
    ratios = ", ".join(f"{theirs / one:.1f} times in {kind}" for kind, one in zip(KINDS, ours, strict=True))
    print(
        f"DINO's script at {classifier.preprocessing.input_size[0]}: {theirs:.0f} ms a frame, our pipeline's {ratios}"
    )


@torch.no_grad()
def by_script(classifier: ImageClassifier, clip: Path, count: int, folder: Path) -> None:
    """A film by that script's steps, as large as the clip."""
    from matplotlib import pyplot
    from PIL import Image

    for number, frame in enumerate(read(clip, count)):
        Image.fromarray(frame.image_u8).save(folder / f"frame-{number:06d}.jpg")
    for number in range(count):
        with Image.open(folder / f"frame-{number:06d}.jpg") as image:
            inputs, _ = classifier.preprocess(np.asarray(image.convert("RGB")))
            size_hw = (image.height, image.width)
        trace = Trace()
        classifier.model(inputs[None], trace)
        assert trace.layout is not None
        matrices = reference_attention(trace.records[-1])
        grid = (trace.layout.grid_height, trace.layout.grid_width)
        heads = matrices[0, :, 0, trace.layout.num_prefix_tokens :].unflatten(1, grid)
        large = torch.nn.functional.interpolate(heads[None], size=size_hw, mode="nearest")[0]
        pyplot.imsave(folder / f"attention-{number:06d}.jpg", large.mean(0).numpy(), cmap="inferno")
    kept = []
    for path in sorted(folder.glob("attention-*.jpg")):
        with Image.open(path) as image:
            kept.append(Frame(np.asarray(image.convert("RGB")), Fraction(len(kept), 30)))
    write(clip, kept, folder)


def with_usual_products(run: Callable[[], object]) -> None:
    """Run with the matrix products that PyTorch takes by itself."""
    with patch.object(linear, "_has_wide_products", lambda: False):
        run()


def in_the_usual_way(run: Callable[[], object]) -> None:
    """Run with PyTorch's own products, and attention written out."""
    with patch.object(kernels, "EAGER_MAX_TOKENS", {torch.float32: math.inf}):
        with_usual_products(run)


def precision(classifier: ImageClassifier, clip: Path, count: int) -> None:
    """Print what the model's stage takes in each precision, and how alike the maps are to those in fp32."""
    frames = [frame.image_u8 for frame in read(clip, count)]
    around = choose_precision("auto", classifier.device)
    coarse = quantize_classifier(classifier)
    for method in ("attention", "rollout"):
        maps: dict[str, list[np.ndarray]] = {}

        def see(name: str, kind: str, method: str = method, maps: dict[str, list[np.ndarray]] = maps) -> None:
            model, floats = (coarse, around) if kind == "int8" else (classifier, kind)
            with autocast(classifier.device, floats):
                parts = [explain_batch(model, frames[i : i + 16], method) for i in range(0, count, 16)]
            maps[name] = [one.patch_heatmap for part in parts for one in part]

        ways: dict[str, Callable[[], object]] = {
            "fp32, PyTorch's products": lambda see=see: with_usual_products(lambda: see("usual", "fp32")),
            **{kind: lambda see=see, kind=kind: see(kind, kind) for kind in KINDS},
        }
        times = {name: min(seconds(run) for _ in range(TURNS)) for name, run in ways.items()}
        print(f"{method}: " + ", ".join(f"{name} {value / count * 1000:.1f} ms" for name, value in times.items()))
        usual, full = list(times.values())[:2]
        for kind in KINDS[1:]:
            alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps["fp32"], maps[kind], strict=True)]
            print(
                f"  {kind} is {usual / times[kind]:.2f} times as fast as PyTorch's fp32, {full / times[kind]:.2f} as "
                f"ours; maps' correlation at least {min(alike):.4f}, mean {np.mean(alike):.4f}"
            )


def small(clip: Path, count: int) -> None:
    """Print the frames a second of a small ViT at 224 pixels on the clip at its own size, from file to file."""
    torch.manual_seed(0)
    frames = read(clip, count)
    height, width = frames[0].image_u8.shape[:2]
    for name in ("Ti/16", "S/16"):
        config = named_config(name, image_size=(224, 224))
        names = tuple(f"class {i}" for i in range(config.num_classes))
        classifier = ImageClassifier(ViT(config), plainly((224, 224), 16), names)
        for kind in KINDS:
            request = VideoRequest(frames=until(frames), speed=SpeedOptions(precision=kind))
            least = min(whole_seconds(classifier, clip, request) for _ in range(TURNS))
            print(f"ViT-{name} at 224 on {width} x {height}, rollout, {kind}: {count / least:.1f} frames a second")


def whole_seconds(classifier: ImageClassifier, clip: Path, request: VideoRequest) -> float:
    """How long the pipeline takes from file to file."""
    with tempfile.TemporaryDirectory() as place:
        return seconds(lambda: run_request(classifier, clip, Path(place) / "out.mp4", request))


def visibility(classifier: ImageClassifier, clip: Path, count: int) -> None:
    """Print for each method in how many of about `count` frames of the whole clip the map can be seen, and its flicker.

    A map can be seen if it is drawn with at least two fifths of the colors, from its 1st to its 99.5th percentile, and
    at most a quarter of it is clipped at an end.
    """
    every = max(1, (expected_frames(read_info(clip), KEEP_ALL) or count) // count)
    with closing(read_frames(clip, VideoOptions(every=every))) as reader:
        frames = list(reader)
    times, scenes = [float(frame.time_seconds) for frame in frames], SceneDetector()
    changes = [scenes.update(frame.image_u8) for frame in frames]
    for method in METHODS:
        request = VideoRequest(methods=(method,))
        stage = ExplainStage(classifier, request, request.resolve(classifier), None)
        found = [one.maps[0] for batch in batches(frames, 16) for one in stage.explain(batch)]
        stabilizer = MapStabilizer(signed=found[0].signed)
        drawn = stabilizer.update([one.patch_heatmap for one in found], times, changes)
        seen = [can_be_seen(one.scale.apply(resize_coarse_map(one.heatmap)), signed=found[0].signed) for one in drawn]
        print(f"{method}: {sum(seen)} of {len(seen)} frames can be seen, flicker {stabilizer.flicker_after.value:.4f}")


def can_be_seen(drawn: np.ndarray, *, signed: bool) -> bool:
    """Whether a map as drawn, in [0, 1], neither drowns nor saturates; 0.5 is the zero of a signed one."""
    strength = np.abs(2 * drawn - 1) if signed else drawn
    low, high = np.percentile(strength, [1, 99.5])
    return bool(high - low >= 0.4 and (strength >= 1).mean() <= 0.25)


def memory(clip: Path) -> None:
    """Print the peak of the whole program over 300 and over 3,000 frames of one clip (its own size, a tiny model)."""
    frames = read(clip, 300)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        peaks = []
        for repeats in (1, 10):
            path = folder / f"{repeats}.mp4"
            with create_writer(path, read_info(clip), frames[0].image_u8.shape[:2], KEEP_ALL) as writer:
                for number in range(repeats * len(frames)):
                    writer.write(Frame(frames[number % len(frames)].image_u8, Fraction(number, 30)))
            command = [sys.executable, __file__, "--peak", str(path)]
            peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    shorter, longer = peaks
    print(f"peak memory: {len(frames)} frames {shorter:.0f} MiB, {10 * len(frames)} frames {longer:.0f} MiB: "
          f"{longer / shorter - 1:+.1%}")  # fmt: skip


def peak(clip: Path) -> None:
    """Print the peak memory of this process after it has explained a clip."""
    torch.manual_seed(0)
    config = named_config("micro/4-32")
    names = tuple(f"class {i}" for i in range(config.num_classes))
    classifier = ImageClassifier(ViT(config), plainly((32, 32), 4), names)
    run_request(classifier, clip, clip.with_name("out.mp4"), VideoRequest())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


PARTS = ("stages", "script", "precision", "small", "visibility", "memory")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--clip", type=Path, default=SHARED / "video" / "dog.mp4")
    parser.add_argument("--weights", default=str(SHARED / "weights" / "dinov2-vits14.safetensors"))
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if "GOMP_SPINCOUNT" not in os.environ:  # as the command line does, before torch is loaded
        share_cores()
        os.execv(sys.executable, [sys.executable, *sys.argv])
    keep_freed_memory()
    if given.peak:
        peak(given.peak)
        return
    wanted = given.parts or PARTS
    if any(part not in PARTS for part in wanted):
        parser.error(f"parts are {', '.join(PARTS)}")
    classifier = load(given.weights, callback=Callback())
    count = given.frames
    chosen: dict[str, Callable[[], None]] = {
        "stages": lambda: [stages(classifier, given.clip, count,
                                  VideoRequest(methods=(method,), speed=SpeedOptions(precision=kind)))
                           for method in ("attention", "rollout") for kind in KINDS] and None,
        "script": lambda: [script(with_input_size(classifier, side, callback=Callback()), given.clip, count)
                           for side in (224, 448)] and None,
        "precision": lambda: precision(classifier, given.clip, count),
        "small": lambda: small(given.clip, count),
        "visibility": lambda: visibility(classifier, given.clip, count),
        "memory": lambda: memory(given.clip),
    }  # fmt: skip
    for part in wanted:
        chosen[part]()


if __name__ == "__main__":
    main()
