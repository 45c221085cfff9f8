"""vitreous methods"""

from vitreous.cli.console import say


def methods() -> int:
    """List the ways to explain: what each map shows, and which settings it takes."""
    from vitreous.explanation.registry import METHODS

    for name, method in METHODS.items():
        options = " ".join(f"--{setting}" for setting in sorted(method.options))
        target = "for a target" if method.is_class_specific else "the same for every target"
        say(f"{name}\n    {method.summary}\n    {method.scale_kind}, {target}{'; ' + options if options else ''}")
    say("\nshare: adds to 1 with the prefix tokens; evidence: 0 or above; signed: for the target and against it")
    return 0
