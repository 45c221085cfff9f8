"""Vitreous: Vision Transformers you can see through.

Load any Vision Transformer, train one, measure it, and see which parts of an image or a video it attends to:

    import vitreous as vt

    model = vt.load("vitreous:cifar10")              # or "timm:NAME", "hf:OWNER/NAME", a run folder, a weights file
    model.predict("cat.jpg").top_k(3)
    model.embed(["a.jpg", "b.jpg"])                  # embeddings: (2, embed_dim)
    vt.explain(model, "cat.jpg", method="gradient-rollout", target="cat").save("cat-explained.png")
    vt.explain_video(model, "clip.mp4", "clip-attention.mp4")
    vt.train("cifar10-quick", "runs/quick").model    # a new model, trained from scratch

Models: `load`, `wrap`, `create_model`, `ViT`, `convert`, `apply_lora`; a loaded model has `predict` and `embed`.
Explanations: `explain`, `explain_before_after`, `explain_video`, `explain_videos`, `explain_frames`, `attribute`,
`attention_weights`, `observe`, `methods`; interventions: `mask_patches`, `ablate_heads`. Training: `train`, `recipes`,
`inspect_data`. Measurement: `evaluate`, `compare`, `report`, `faithfulness`, `localization`, `doctor`,
`measure_corruptions`, `measure_shifts`. Frozen features: `embed`, `probe`, `similar`.
Before work on many images: `plan`.

The names are imported when they are first used, so that `import vitreous` takes no time.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitreous.callbacks import Callback, LogCallback, Progress
    from vitreous.clips.explain import explain_video
    from vitreous.clips.folder import ClipJob, ClipOutcome, explain_videos
    from vitreous.clips.frames import FrameExplanation, explain_frames
    from vitreous.clips.options import DrawOptions, FrameOptions, OutputOptions, SpeedOptions
    from vitreous.clips.predictions import ClipPrediction
    from vitreous.clips.request import VideoKeywords
    from vitreous.clips.result import ExplainedVideo
    from vitreous.data.augment import Augment
    from vitreous.data.image_set import ImageSet
    from vitreous.data.masks import MaskedImage, MaskedImageSet
    from vitreous.diagnostics.doctor.findings import Finding
    from vitreous.diagnostics.doctor.run import Diagnosis, doctor
    from vitreous.diagnostics.doctor.statistics import ImageStatistics, ModelStatistics
    from vitreous.diagnostics.faithfulness.report import Agreement, MethodReport
    from vitreous.diagnostics.faithfulness.result import FaithfulnessResult
    from vitreous.diagnostics.faithfulness.run import faithfulness
    from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings
    from vitreous.diagnostics.localization.metrics import LocalizationScores
    from vitreous.diagnostics.localization.run import LocalizationResult, MethodLocalization, localization
    from vitreous.diagnostics.patch_masking import mask_patches
    from vitreous.diagnostics.report.run import Report, report
    from vitreous.diagnostics.robustness.run import CorruptionResult, ShiftResult, measure_corruptions, measure_shifts
    from vitreous.diagnostics.robustness.scores import CorruptionScore, CorruptionScores, ShiftScores, TransformScore
    from vitreous.errors import InputError
    from vitreous.evaluation.calibration import Bin, Calibration
    from vitreous.evaluation.comparison import Comparison, Difference
    from vitreous.evaluation.intervals import Estimate
    from vitreous.evaluation.report import ClassReport, TemperatureScaling
    from vitreous.evaluation.selective import CoveragePoint, SelectivePrediction
    from vitreous.explanation.ablation import ablate_heads
    from vitreous.explanation.attribute import attention_weights, attribute
    from vitreous.explanation.before_after import ExplanationPair
    from vitreous.explanation.method import ExplainableModel, Maps, Method
    from vitreous.explanation.observation.observe import observe
    from vitreous.explanation.options import MethodKeywords, MethodOptions
    from vitreous.explanation.regions import Box, PixelRegion, Point, Region
    from vitreous.explanation.registry import MethodTable, methods
    from vitreous.explanation.result import Explanation
    from vitreous.imaging.geometry import Geometry
    from vitreous.imaging.preprocessing import Preprocessing, ResizeMode
    from vitreous.model.classifier import ImageClassifier, ImageInput
    from vitreous.model.config import ViTConfig, ViTFields, named_config
    from vitreous.model.create import create_model, sizes
    from vitreous.model.lora import LoRASettings
    from vitreous.model.prediction import Prediction
    from vitreous.model.trace import AttentionRecord, TokenLayout, Trace
    from vitreous.model.vit import ViT
    from vitreous.pretrained.apply_lora import apply_lora
    from vitreous.pretrained.load import load
    from vitreous.pretrained.wrap import wrap
    from vitreous.records import Setting
    from vitreous.render.color import Scale
    from vitreous.render.plots.timeline import Segment
    from vitreous.render.temporal.flicker import FlickerSummary
    from vitreous.tasks.classification.evaluation import ClassificationEvaluation
    from vitreous.tasks.classification.targets import (
        ClassDifferenceTarget,
        ClassPerImageTarget,
        ClassTarget,
        PredictedClassTarget,
    )
    from vitreous.tasks.evaluation import Evaluation, MetricValue, TrainingStatus
    from vitreous.tasks.targets import (
        DirectionTarget,
        FeatureNormTarget,
        RegionTarget,
        SimilarityTarget,
        Target,
        TextTarget,
    )
    from vitreous.tasks.task import TaskMetric
    from vitreous.training.distillation import DistillationSettings
    from vitreous.training.loop import TrainProgress
    from vitreous.training.optimizer import OptimizerSettings, ScheduleSettings
    from vitreous.training.progressive_resizing import ProgressiveResizing
    from vitreous.training.recipe import Recipe
    from vitreous.training_film.film import FilmResult, film
    from vitreous.training_recipes import RecipeTable, recipes
    from vitreous.transfer.embed import embed
    from vitreous.transfer.extractor import Feature
    from vitreous.transfer.feature_set import FeatureInfo, FeatureSet
    from vitreous.transfer.probing.result import ProbeResult, ProbeScore
    from vitreous.transfer.probing.run import ProbeMethod, probe
    from vitreous.transfer.similar import SimilarImage, SimilarImages, similar
    from vitreous.video.decode import TruncatedVideoError
    from vitreous.video.info import VideoInfo
    from vitreous.video.stream import VideoResult
    from vitreous.workflows.before_after import explain_before_after
    from vitreous.workflows.compare import ComparisonResult, compare
    from vitreous.workflows.convert import ConvertedModel, convert
    from vitreous.workflows.data import ClassCount, DataReport, DecodedSize, ImageSizes, inspect_data
    from vitreous.workflows.demo import DemoResult, demo
    from vitreous.workflows.evaluate import evaluate
    from vitreous.workflows.explain import explain
    from vitreous.workflows.patches import patches
    from vitreous.workflows.planning.estimate import PlanFigure, PlanInput
    from vitreous.workflows.planning.plan import Plan, plan
    from vitreous.workflows.train import train
    from vitreous.workflows.train_result import TrainResult

__version__ = version("vitreous")
__all__ = [
    "Agreement",
    "AttentionRecord",
    "Augment",
    "Bin",
    "Box",
    "Calibration",
    "Callback",
    "ClassCount",
    "ClassDifferenceTarget",
    "ClassPerImageTarget",
    "ClassReport",
    "ClassTarget",
    "ClassificationEvaluation",
    "ClipJob",
    "ClipOutcome",
    "ClipPrediction",
    "Comparison",
    "ComparisonResult",
    "ConvertedModel",
    "CorruptionResult",
    "CorruptionScore",
    "CorruptionScores",
    "CoveragePoint",
    "DataReport",
    "DecodedSize",
    "DemoResult",
    "Diagnosis",
    "Difference",
    "DirectionTarget",
    "DistillationSettings",
    "DrawOptions",
    "Estimate",
    "Evaluation",
    "ExplainableModel",
    "ExplainedVideo",
    "Explanation",
    "ExplanationPair",
    "FaithfulnessResult",
    "FaithfulnessSettings",
    "Feature",
    "FeatureInfo",
    "FeatureNormTarget",
    "FeatureSet",
    "FilmResult",
    "Finding",
    "FlickerSummary",
    "FrameExplanation",
    "FrameOptions",
    "Geometry",
    "ImageClassifier",
    "ImageInput",
    "ImageSet",
    "ImageSizes",
    "ImageStatistics",
    "InputError",
    "LoRASettings",
    "LocalizationResult",
    "LocalizationScores",
    "LogCallback",
    "Maps",
    "MaskedImage",
    "MaskedImageSet",
    "Method",
    "MethodKeywords",
    "MethodLocalization",
    "MethodOptions",
    "MethodReport",
    "MethodTable",
    "MetricValue",
    "ModelStatistics",
    "OptimizerSettings",
    "OutputOptions",
    "PixelRegion",
    "Plan",
    "PlanFigure",
    "PlanInput",
    "Point",
    "PredictedClassTarget",
    "Prediction",
    "Preprocessing",
    "ProbeMethod",
    "ProbeResult",
    "ProbeScore",
    "Progress",
    "ProgressiveResizing",
    "Recipe",
    "RecipeTable",
    "Region",
    "RegionTarget",
    "Report",
    "ResizeMode",
    "Scale",
    "ScheduleSettings",
    "Segment",
    "SelectivePrediction",
    "Setting",
    "ShiftResult",
    "ShiftScores",
    "SimilarImage",
    "SimilarImages",
    "SimilarityTarget",
    "SpeedOptions",
    "Target",
    "TaskMetric",
    "TemperatureScaling",
    "TextTarget",
    "TokenLayout",
    "Trace",
    "TrainProgress",
    "TrainResult",
    "TrainingStatus",
    "TransformScore",
    "TruncatedVideoError",
    "ViT",
    "ViTConfig",
    "ViTFields",
    "VideoInfo",
    "VideoKeywords",
    "VideoResult",
    "ablate_heads",
    "apply_lora",
    "attention_weights",
    "attribute",
    "compare",
    "convert",
    "create_model",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "explain",
    "explain_before_after",
    "explain_frames",
    "explain_video",
    "explain_videos",
    "faithfulness",
    "film",
    "inspect_data",
    "load",
    "localization",
    "mask_patches",
    "measure_corruptions",
    "measure_shifts",
    "methods",
    "named_config",
    "observe",
    "patches",
    "plan",
    "probe",
    "recipes",
    "report",
    "similar",
    "sizes",
    "train",
    "wrap",
]

_NAMES = {
    "callbacks": "Callback LogCallback Progress",
    "clips.explain": "explain_video",
    "clips.folder": "ClipJob ClipOutcome explain_videos",
    "clips.frames": "FrameExplanation explain_frames",
    "clips.options": "DrawOptions FrameOptions OutputOptions SpeedOptions",
    "clips.predictions": "ClipPrediction",
    "clips.request": "VideoKeywords",
    "clips.result": "ExplainedVideo",
    "data.augment": "Augment",
    "data.image_set": "ImageSet",
    "data.masks": "MaskedImage MaskedImageSet",
    "diagnostics.doctor.findings": "Finding",
    "diagnostics.doctor.run": "Diagnosis doctor",
    "diagnostics.doctor.statistics": "ImageStatistics ModelStatistics",
    "diagnostics.faithfulness.report": "Agreement MethodReport",
    "diagnostics.faithfulness.result": "FaithfulnessResult",
    "diagnostics.faithfulness.run": "faithfulness",
    "diagnostics.faithfulness.values_file": "FaithfulnessSettings",
    "diagnostics.localization.metrics": "LocalizationScores",
    "diagnostics.localization.run": "LocalizationResult MethodLocalization localization",
    "diagnostics.patch_masking": "mask_patches",
    "diagnostics.report.run": "Report report",
    "diagnostics.robustness.run": "CorruptionResult ShiftResult measure_corruptions measure_shifts",
    "diagnostics.robustness.scores": "CorruptionScore CorruptionScores ShiftScores TransformScore",
    "errors": "InputError",
    "evaluation.calibration": "Bin Calibration",
    "evaluation.comparison": "Comparison Difference",
    "evaluation.intervals": "Estimate",
    "evaluation.report": "ClassReport TemperatureScaling",
    "evaluation.selective": "CoveragePoint SelectivePrediction",
    "explanation.before_after": "ExplanationPair",
    "explanation.ablation": "ablate_heads",
    "explanation.attribute": "attention_weights attribute",
    "explanation.method": "ExplainableModel Maps Method",
    "explanation.observation.observe": "observe",
    "explanation.options": "MethodKeywords MethodOptions",
    "explanation.regions": "Box PixelRegion Point Region",
    "explanation.registry": "MethodTable methods",
    "explanation.result": "Explanation",
    "imaging.geometry": "Geometry",
    "imaging.preprocessing": "Preprocessing ResizeMode",
    "model.classifier": "ImageClassifier ImageInput",
    "model.config": "ViTConfig ViTFields named_config",
    "model.create": "create_model sizes",
    "model.lora": "LoRASettings",
    "model.trace": "AttentionRecord TokenLayout Trace",
    "model.prediction": "Prediction",
    "model.vit": "ViT",
    "pretrained.apply_lora": "apply_lora",
    "pretrained.load": "load",
    "pretrained.wrap": "wrap",
    "records": "Setting",
    "render.color": "Scale",
    "render.plots.timeline": "Segment",
    "render.temporal.flicker": "FlickerSummary",
    "tasks.classification.evaluation": "ClassificationEvaluation",
    "tasks.classification.targets": "ClassDifferenceTarget ClassPerImageTarget ClassTarget PredictedClassTarget",
    "tasks.evaluation": "Evaluation MetricValue TrainingStatus",
    "tasks.targets": "DirectionTarget FeatureNormTarget RegionTarget SimilarityTarget Target TextTarget",
    "tasks.task": "TaskMetric",
    "training.distillation": "DistillationSettings",
    "training.loop": "TrainProgress",
    "training.optimizer": "OptimizerSettings ScheduleSettings",
    "training.progressive_resizing": "ProgressiveResizing",
    "training.recipe": "Recipe",
    "training_film.film": "FilmResult film",
    "training_recipes": "RecipeTable recipes",
    "transfer.embed": "embed",
    "transfer.extractor": "Feature",
    "transfer.feature_set": "FeatureInfo FeatureSet",
    "transfer.probing.run": "ProbeMethod probe",
    "transfer.probing.result": "ProbeResult ProbeScore",
    "transfer.similar": "SimilarImage SimilarImages similar",
    "video.decode": "TruncatedVideoError",
    "video.info": "VideoInfo",
    "video.stream": "VideoResult",
    "workflows.before_after": "explain_before_after",
    "workflows.compare": "ComparisonResult compare",
    "workflows.convert": "ConvertedModel convert",
    "workflows.data": "ClassCount DataReport DecodedSize ImageSizes inspect_data",
    "workflows.demo": "DemoResult demo",
    "workflows.evaluate": "evaluate",
    "workflows.explain": "explain",
    "workflows.patches": "patches",
    "workflows.planning.estimate": "PlanFigure PlanInput",
    "workflows.planning.plan": "Plan plan",
    "workflows.train": "train",
    "workflows.train_result": "TrainResult",
}
"""The public names of each module that has some."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'vitreous' has no attribute '{name}'")
    value = getattr(import_module(f"vitreous.{_MODULES[name]}"), name)
    globals()[name] = value
    if "torch" in sys.modules:
        import_module("vitreous.process_tuning").monitor_cores()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
