"""The table of explanation methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

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
        "attention of one layer, from the readout or a chosen patch (Vaswani et al. 2017)",
        "proportion",
        frozenset({"layer", "head", "head_fusion", "query"}),
        is_class_specific=False,
    ),
    "rollout": Method(
        rollout,
        "attention multiplied through all layers (Abnar and Zuidema 2020)",
        "proportion",
        frozenset({"query", "head_fusion", "discard_ratio"}),
        is_class_specific=False,
    ),
    "attention-gradient": Method(
        attention_gradient,
        "attention of one layer where it raises the target's score (Chefer et al. 2021)",
        "positive",
        frozenset({"layer", "head"}),
        uses_gradients=True,
    ),
    "gradient-rollout": Method(
        gradient_rollout,
        "attention that raises the target's score, multiplied through all layers (Chefer et al. 2021)",
        "positive",
        uses_gradients=True,
    ),
    "grad-cam": Method(
        grad_cam,
        "patch features weighted by the mean gradient of the target's score (Selvaraju et al. 2017)",
        "positive",
        frozenset({"layer"}),
        uses_gradients=True,
    ),
    "hires-cam": Method(
        hires_cam,
        "patch features weighted by their own gradients (Draelos and Carin 2020)",
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
        "each pixel's part in the target's score; the parts sum to it (Sundararajan et al. 2017)",
        "signed",
        frozenset({"n_steps"}),
        uses_gradients=True,
    ),
    "smoothgrad": Method(
        smoothgrad,
        "input x gradient with the gradient averaged over noisy copies (Smilkov et al. 2017)",
        "signed",
        frozenset({"n_samples", "noise_level", "seed"}),
        uses_gradients=True,
    ),
    "value-norm": Method(
        value_norm,
        "attention of one layer times the norm of the values (Kobayashi et al. 2020)",
        "positive",
        frozenset({"layer", "head", "query"}),
        is_class_specific=False,
    ),
    "occlusion": Method(
        occlusion,
        "how much the target's score drops where a window is hidden (Zeiler and Fergus 2014)",
        "signed",
        frozenset({"patch_window"}),
    ),
    "rise": Method(
        rise,
        "how much a visible pixel raises the target's score, from random masks (Petsiuk et al. 2018)",
        "signed",
        frozenset({"n_samples", "seed"}),
    ),
    "features": Method(
        features,
        "patch features: principal components as colors, similarity to a patch, or norms (Oquab et al. 2023)",
        "signed",
        frozenset({"layer", "query", "view"}),
        is_class_specific=False,
    ),
}
"""Every method by name. To add a method, add one file and one line here."""


class MethodTable(Mapping[str, Method]):
    """The explanation methods by name, which prints as a table."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = dict(methods)

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return name, kind of scale, whether the target matters, options, and summary of each method."""
        return [
            (
                name,
                method.scale_kind,
                "target" if method.is_class_specific else "-",
                ", ".join(sorted(method.options)) or "-",
                method.summary,
            )
            for name, method in self._methods.items()
        ]

    def __repr__(self) -> str:
        rows = [("method", "scale", "target", "options", "summary"), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("method", "scale", "target", "options", "summary"))
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows())
        return f"<table><tr>{head}</tr>{body}</table>"


def methods() -> MethodTable:
    """List the explanation methods with their options; the result prints as a table.

    >>> methods()["rollout"].options == {"query", "head_fusion", "discard_ratio"}
    True
    """
    return MethodTable(METHODS)


def options_by_method(methods: Sequence[str], options: MethodOptions) -> dict[str, MethodOptions]:
    """Return the options of each method: of several methods each gets those that it uses.

    >>> options_by_method(("attention", "rollout"), MethodOptions(layer=3))
    {'attention': MethodOptions(layer=3), 'rollout': MethodOptions()}

    Raises:
        InputError: there is no such method, or none uses one of the options.
    """
    if len(methods) == 1:
        find_method(methods[0], options)
        return {methods[0]: options}
    used = {option for method in methods for option in find_method(method, MethodOptions()).options}
    for option in options.changed():
        if option not in used:
            raise InputError(f"none of {', '.join(methods)} uses the option {option}: leave it out")
    chosen = {method: {name: getattr(options, name) for name in METHODS[method].options} for method in methods}
    return {method: replace(MethodOptions(), **values) for method, values in chosen.items()}


def find_method(name: str, options: MethodOptions) -> Method:
    """Return the method of this name, after a check that it uses every option that differs from its default.

    >>> find_method("rollout", MethodOptions(head_fusion="max")).scale_kind
    'proportion'

    Raises:
        InputError: there is no such method, or it doesn't use one of the options; the message names those that do.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    for option in sorted(options.changed()):
        if option not in METHODS[name].options:
            able = ", ".join(other for other, method in METHODS.items() if option in method.options)
            raise InputError(f"method '{name}' doesn't use the option {option}: leave it out, or choose {able}")
    return METHODS[name]
