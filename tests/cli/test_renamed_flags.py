"""Flags of earlier versions: each is still there, or its error line names the new one."""

import re

import pytest

from vitreous.cli import ALIASES, VERBS, app, run
from vitreous.cli.renamed import CHOSEN_IN_THE_PAGE, RENAMED, SYNONYMS
from vitreous.cli.train_settings import settings_lines
from vitreous.training_recipes import find_recipe

OLD_FLAGS = {
    "compare": "--data --device --json --output --split",
    "convert": "--output --to",
    "data": "--json --recipe",
    "demo": "--data --out",
    "doctor": "--count --data --json --output",
    "evaluate": "--corruptions --count --data --device --json --shifts --skip-unreadable --split --temperature",
    "explain": (
        "--checkpoint --count --data --device --discard --factory --fusion --head --layer --layout --method "
        "--noise --output --query --samples --seed --size --steps --target --truth --view --window"
    ),
    "faithfulness": "--count --data --device --json --methods --output --restart --seed --split --target",
    "live": (
        "--camera --discard --edges --fusion --head --host --layer --layout --legend --loop --method "
        "--model-fit --model-size --no-legend --port --precision --query --size --smooth --source --strength "
        "--strip --target --track --view"
    ),
    "localisation": "--count --data --head --json --layer --methods --output",
    "methods": "",
    "models": "--device --json --measure --precision",
    "patches": "--model --output --patch-size --size",
    "train": "--accept-changed-data --data --device --out --resume --set --skip-unreadable",
    "video": (
        "--batch-size --data-out --discard --edges --end --every --format --fusion --head --layer --layout "
        "--legend --method --model-fit --model-size --no-legend --output --precision --quality --query "
        "--resume --shared --size --smooth --start --strength --strip --target --timeline --track --view"
    ),
}
"""Every flag in the help of the version before the flags were renamed (ddd946c)."""
REQUIRED = {"convert": ["--to", "timm", "--output", "X"], "plan": ["--images", "5"]}
"""Flags without which a verb doesn't look at others."""


def flags_of(verb):
    """The flags that a verb takes now."""
    return {name for argument in app[verb].assemble_argument_collection() for name in argument.names}


@pytest.mark.parametrize(("verb", "flag"), [(verb, flag) for verb, text in OLD_FLAGS.items() for flag in text.split()])
def test_every_old_flag_works_or_is_answered_with_its_new_name(verb, flag, capsys):
    taken = flags_of(ALIASES.get(verb, verb)) | {f"--no-{name[2:]}" for name in ("--legend", "--audio")}
    if flag in taken:
        return
    for given in ([flag, "1"], [f"{flag}=1"]):
        assert run([verb, "MODEL", "IMAGE", *given]) == 2
        error = capsys.readouterr().err
        new = re.match(rf"vitreous: {flag} is now (--[a-z-]+)", error)
        if verb == "live" and flag in CHOSEN_IN_THE_PAGE:
            assert error.startswith(f"vitreous: live has no {flag} any more") and error.count("\n") == 1
            continue
        assert new and new[1] in taken and error.count("\n") == 1, error


@pytest.mark.parametrize("verb", [*VERBS, *ALIASES])
def test_every_answer_names_a_flag_of_the_verb(verb, capsys):
    taken = flags_of(verb)
    for old in {**RENAMED, **SYNONYMS}.keys() - taken:
        assert run([verb, "MODEL", *REQUIRED.get(verb, ()), old, "1"]) == 2
        error = capsys.readouterr().err
        new = re.match(rf"vitreous: (?:{old} is now|there is no option {old}: did you mean) (--[a-z-]+)", error)
        assert new[1] in taken if new else "Unknown option" in error or "any more" in error, error


def test_every_new_name_is_answered_by_some_verb():
    everywhere = set().union(*(flags_of(verb) for verb in VERBS))
    named = {
        name for new in [*RENAMED.values(), *SYNONYMS.values()] for name in ([new] if isinstance(new, str) else new)
    }
    assert {name.split()[0] for name in named} <= everywhere
    settings = "\n".join(settings_lines(find_recipe("cifar10-quick"), is_named=True))
    for name in named:
        if name.startswith("--set "):
            assert re.search(rf"^ *{name.split()[1]}", settings, re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("train shapes --passes 3", "--passes is now --epochs"),
        ("train shapes --lr 0.1", "there is no option --lr: did you mean --learning-rate?"),
        ("train shapes --img-size 64", "there is no option --img-size: did you mean --set model.image_size=?"),
        ("train shapes --size 64", "there is no option --size: did you mean --set model.image_size=?"),
        ("train shapes --input-size 64", "there is no option --input-size: did you mean --set model.image_size=?"),
        ("train shapes --steps 5", "Unknown option: --steps. Did you mean --set?"),
        ("explain MODEL cat.png --lr 1", "Unknown option: --lr. Did you mean --layer?"),
        ("predict MODEL cat.png --alpha 1", "Unknown option: --alpha."),
        ("video MODEL clip.mp4 --size 480", "--size is now --height"),
        ("live MODEL --size 480", "--size is now --max-side"),
        ("explain MODEL cat.png --size 480", "--size is now --input-size"),
        ("explain MODEL cat.png --banana", "Unknown option: --banana."),
    ],
)
def test_the_error_line(arguments, line, capsys):
    assert run(arguments.split()) == 2
    assert capsys.readouterr().err == f"vitreous: {line}\n"
