"""Other people's tools as subjects, each opened as its own documentation shows."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from fast_vit_rollout import ViTAttentionRollout
from timm.utils import AttentionExtract
from torch import Tensor, nn
from vit_pytorch.recorder import Recorder

from conformance_suite.known_models import KnownModel
from conformance_suite.library_models import (
    timm_model,
    timm_unfused,
    transformers_eager,
    transformers_model,
    vit_pytorch_model,
)
from conformance_suite.subject import NoMap, Subject, Tool, ToolOutput
from conformance_suite.vitreous_tool import observed


def output_of_matrices(matrices: Sequence[Tensor], known: KnownModel) -> ToolOutput:
    """What a user reads from matrices (batch, heads, tokens, tokens) a layer: the last row, and the usual rollout.

    The recipe is Abnar and Zuidema's; the user knows which rows the model's head reads.
    """
    shapes = {tuple(matrix.shape[1:]) for matrix in matrices}
    tokens = known.config.num_prefix_tokens + known.config.grid_size[0] * known.config.grid_size[1]
    if len(matrices) != known.config.depth or shapes != {(known.config.num_heads, tokens, tokens)}:
        raise NoMap(f"{len(matrices)} tensors of shapes {shapes}")
    layers = [readout_rows(matrix.mean(1), known) for matrix in matrices]
    product = torch.eye(tokens, dtype=matrices[0].dtype)
    for matrix in matrices:
        product = (matrix.mean(1) + torch.eye(tokens, dtype=matrix.dtype)) / 2 @ product
    return ToolOutput({"attention": layers[-1], "rollout": readout_rows(product, known)}, {}, layers)


def readout_rows(matrix: Tensor, known: KnownModel) -> Tensor:
    """The rows of a matrix (batch, tokens, tokens) that the model's head reads: (batch, tokens)."""
    return matrix[:, 0] if known.config.global_pool == "token" else matrix[:, known.config.num_prefix_tokens :].mean(1)


def timm_extract(method: str):
    """AttentionExtract in one of its two ways; its documented `mode` is the mode that the model is in."""

    def open_tool(model: nn.Module, known: KnownModel) -> Tool:
        extract = AttentionExtract(model, method=method, mode="train" if model.training else "eval")

        def explain(images: Tensor) -> ToolOutput:
            with torch.no_grad():
                found = extract(images)
            if not found:
                raise NoMap("an empty dictionary, and no error")
            return output_of_matrices(list(found.values()), known)

        return Tool(explain)

    return open_tool


def output_attentions(model: nn.Module, known: KnownModel) -> Tool:
    """transformers' documented way."""

    def explain(images: Tensor) -> ToolOutput:
        with torch.no_grad():
            attentions = model(images, output_attentions=True).attentions
        if not attentions:
            raise NoMap(f"{attentions!r} for `attentions`, and logs a line that asks for eager attention")
        return output_of_matrices(attentions, known)

    return Tool(explain)


def recorder(model: nn.Module, known: KnownModel) -> Tool:
    """vit-pytorch's Recorder, ejected at the end, as its README shows."""
    wrapped = Recorder(model)

    def explain(images: Tensor) -> ToolOutput:
        with torch.no_grad():
            _, attentions = wrapped(images)
        if attentions is None:
            raise NoMap("None instead of attention")
        return output_of_matrices(attentions.unbind(1), known)

    return Tool(explain, wrapped.eject)


def fast_vit_rollout(model: nn.Module, known: KnownModel) -> Tool:
    """ViTAttentionRollout with its matrix and its heat map; discarding is off, so that it is the defined rollout."""
    tool = ViTAttentionRollout(model, discard_ratio=0.0)

    def explain(images: Tensor) -> ToolOutput:
        black = np.zeros((*images.shape[2:], 3), np.uint8)
        matrix, drawn = tool(images, original_image=black, return_vis=True)
        return ToolOutput({"rollout": readout_rows(matrix, known)}, {"rollout": invert_colormap(drawn)[None]})

    return Tool(explain)


def invert_colormap(drawn: np.ndarray) -> Tensor:
    """A heat map in OpenCV's colors over black (height, width, 3) back to numbers from 0 to 1 (height, width)."""
    colors = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_JET).reshape(256, 3).astype(np.int32)
    distance = np.abs(drawn.astype(np.int32)[:, :, None] - colors).sum(-1)
    return torch.from_numpy(distance.argmin(-1)).float() / 255


OBSERVE = "`with vitreous.observe(model, LightTrace()) as trace: model(images)`"
EXTRACT = "`timm.utils.AttentionExtract(model)(images)`"
HOOKS = '`timm.utils.AttentionExtract(model, method="hook")(images)`'
OUTPUT = "`model(images, output_attentions=True).attentions`"
ROLLOUT = "`ViTAttentionRollout(model, discard_ratio=0)(images, original_image=..., return_vis=True)`"
WRITTEN_OUT = "`timm.layers.set_fused_attn(False)` before the model is built; "
EAGER = '`from_pretrained(..., attn_implementation="eager")`; '
BARE = "; the two norms around the model's patch embedding, which the other ViTs lack, are removed"
OTHER_TOOLS = (
    Subject("Vitreous `observe` on timm", OBSERVE, timm_model, observed),
    Subject("timm `AttentionExtract`", EXTRACT, timm_model, timm_extract("fx")),
    Subject("timm `AttentionExtract`, hooks", HOOKS, timm_model, timm_extract("hook")),
    Subject("timm `AttentionExtract`, fused attention off", WRITTEN_OUT + EXTRACT, timm_unfused, timm_extract("fx")),
    Subject(
        "timm `AttentionExtract`, hooks, fused attention off",
        WRITTEN_OUT + HOOKS,
        timm_unfused,
        timm_extract("hook"),
    ),
    Subject("fast-vit-rollout on timm", ROLLOUT, timm_model, fast_vit_rollout),
    Subject("fast-vit-rollout on timm, fused attention off", WRITTEN_OUT + ROLLOUT, timm_unfused, fast_vit_rollout),
    Subject("Vitreous `observe` on transformers", OBSERVE, transformers_model, observed),
    Subject("transformers `output_attentions`", OUTPUT, transformers_model, output_attentions),
    Subject(
        "transformers `output_attentions`, eager",
        EAGER + OUTPUT,
        transformers_eager,
        output_attentions,
        remarks={"clean-up": "the library's own, registered when attention is first requested; idle otherwise"},
    ),
    Subject("fast-vit-rollout on transformers, eager", EAGER + ROLLOUT, transformers_eager, fast_vit_rollout),
    Subject(
        "Vitreous `observe` on vit-pytorch",
        OBSERVE + BARE,
        vit_pytorch_model,
        observed,
        remarks={"memory": "this model writes every matrix out, and the trace holds on to it"},
    ),
    Subject("vit-pytorch `Recorder`", "`Recorder(model)(images)`, then `.eject()`" + BARE, vit_pytorch_model, recorder),
)
"""Every tool that installs and runs here, and `observe` on the very same models."""

NOT_RUN = {
    "vit-explain": "pip finds no package of this name",
    "attention-rollout, vit-rollout": "pip finds no packages of these names",
    "glassbox-vit": "PyPI's index lists it, but pip finds no version",
    "attnread 0.1.2": "asks for torch 2.14 and transformers 5.19; the others ran with the versions above",
    "attention-maps-extraction 0.1.4": "takes no model: it builds one of its own around weights that it downloads",
    "grad-cam 1.5.7, captum 0.9.0, transformers-interpret 0.10.0": (
        "they explain the score of a class, not the attention, and only attention is defined here"
    ),
}
"""Tools that are not in the table, and why: nothing is said of how good they are."""
