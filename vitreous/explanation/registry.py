"""The table of methods."""

from vitreous.errors import InputError, unknown
from vitreous.explanation.method import Method
from vitreous.explanation.methods.attention import attention, attention_gradient
from vitreous.explanation.methods.features import features
from vitreous.explanation.methods.grad_cam import grad_cam, hires_cam
from vitreous.explanation.methods.gradient_rollout import gradient_rollout
from vitreous.explanation.methods.input_gradients import input_x_gradient, integrated_gradients, smoothgrad
from vitreous.explanation.methods.legrad import legrad
from vitreous.explanation.methods.occlusion import occlusion
from vitreous.explanation.methods.rise import rise
from vitreous.explanation.methods.rollout import rollout
from vitreous.explanation.methods.value_norm import value_norm
from vitreous.explanation.options import MethodOptions

METHODS = {
    "attention": Method(
        attention,
        "where one layer's readout, or a chosen patch, looks",
        "proportion",
        frozenset({"layer", "head", "head_fusion", "query"}),
        is_class_specific=False,
    ),
    "rollout": Method(
        rollout,
        "attention followed through all layers (Abnar and Zuidema 2020)",
        "proportion",
        frozenset({"query", "head_fusion", "discard_ratio"}),
        is_class_specific=False,
    ),
    "attention-gradient": Method(
        attention_gradient,
        "attention of one layer where it speaks for the target (Chefer et al. 2021)",
        "positive",
        frozenset({"layer", "head"}),
        uses_gradients=True,
    ),
    "gradient-rollout": Method(
        gradient_rollout,
        "attention that speaks for the target, followed through all layers (Chefer et al. 2021)",
        "positive",
        uses_gradients=True,
    ),
    "grad-cam": Method(
        grad_cam,
        "patches that hold what the target's score rises with (Selvaraju et al. 2017)",
        "positive",
        frozenset({"layer"}),
        uses_gradients=True,
    ),
    "hires-cam": Method(
        hires_cam,
        "patches that raise the target's score by what they hold (Draelos and Carin 2020)",
        "positive",
        frozenset({"layer"}),
        uses_gradients=True,
    ),
    "legrad": Method(
        legrad,
        "patches to which more attention would raise the target's score, in any layer (Bousselham et al. 2024)",
        "positive",
        uses_gradients=True,
    ),
    "input-x-gradient": Method(
        input_x_gradient,
        "each pixel's part in the target's score, to first order (Shrikumar et al. 2016)",
        "signed",
        uses_gradients=True,
    ),
    "integrated-gradients": Method(
        integrated_gradients,
        "each pixel's part in the target's score, adding up to it (Sundararajan et al. 2017)",
        "signed",
        frozenset({"n_steps"}),
        uses_gradients=True,
    ),
    "smoothgrad": Method(
        smoothgrad,
        "input x gradient, the gradient averaged over noisy copies (Smilkov et al. 2017)",
        "signed",
        frozenset({"n_samples", "noise_level", "seed"}),
        uses_gradients=True,
    ),
    "value-norm": Method(
        value_norm,
        "how much one layer's attention brings: its weights times the length of their values (Kobayashi et al. 2020)",
        "positive",
        frozenset({"layer", "head", "query"}),
        is_class_specific=False,
    ),
    "occlusion": Method(
        occlusion,
        "by how much the target's score drops where a window is hidden (Zeiler and Fergus 2014)",
        "signed",
        frozenset({"patch_window"}),
    ),
    "rise": Method(
        rise,
        "by how much seeing a place raises the score, from random masks (Petsiuk et al. 2018)",
        "signed",
        frozenset({"n_samples", "seed"}),
    ),
    "features": Method(
        features,
        "what the patches hold: principal components as colors, likeness to a patch, or lengths",
        "signed",
        frozenset({"layer", "query", "view"}),
        is_class_specific=False,
    ),
}
"""Every method by name: a new one is one file and one line here."""


def find_method(name: str, settings: MethodOptions) -> Method:
    """The method called so, if it has a use for each setting that isn't left as it was.

    Raises:
        InputError: there is no such method, or it has no use for a setting; names those that have.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    usual = MethodOptions()
    for setting in sorted(vars(settings)):
        if getattr(settings, setting) != getattr(usual, setting) and setting not in METHODS[name].options:
            able = ", ".join(key for key, method in METHODS.items() if setting in method.options)
            raise InputError(f"method '{name}' has no use for the setting {setting}: leave it out, or choose {able}")
    return METHODS[name]
