"""The messages on missing and damaged files: advice about runs only where a run was meant."""

import pytest

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.runs.run_folder import RunFolder, check_unused, read_metadata, read_metrics


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "is not a JSON object"), ("\udcff", "is not JSON")]
)
def test_damaged_json_is_an_error(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=f"a.json {message}.*: restore or delete it"):
        read_json(tmp_path / "a.json")


def test_only_a_missing_recipe_is_explained_by_runs(tmp_path):
    with pytest.raises(InputError, match=r"curve\.json is missing$"):
        read_json(tmp_path / "curve.json")
    with pytest.raises(InputError, match=rf"recipe\.json is missing: {tmp_path} is not a run of Vitreous$"):
        read_metadata(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"recipe\.json has no JSON object 'recipe'"),
        ('{"recipe": 3}', r"recipe\.json has no JSON object 'recipe'"),
        ('{"recipe": {}, "data": null}', r"in .*recipe\.json, 'data' is no JSON object"),
        ('{"recipe": {}, "data": []}', r"in .*recipe\.json, 'data' is no JSON object"),
    ],
)
def test_a_damaged_recipe_is_an_error(text, message, tmp_path):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match=f"{message}: restore it from a copy, or start a new run$"):
        read_metadata(RunFolder(tmp_path))


@pytest.mark.parametrize("line", ["\0\0\0", "{}", "[1]", '{"step": "two", "split": "train"}', "\udcff"])
def test_a_damaged_line_of_metrics_is_named(line, tmp_path):
    good = '{"step": 1, "split": "train"}\n'
    content = f"{good}{line}\n{good}"
    (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=r"line 2 of .*metrics\.jsonl is damaged: delete that line"):
        read_metrics(RunFolder(tmp_path))


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_cannot_be_a_folder(name, tmp_path):
    with pytest.raises(InputError, match="can't be an output folder"):
        check_unused(tmp_path / name)
