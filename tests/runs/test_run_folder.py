"""The messages on missing and damaged files: advice about runs only where a run was meant."""

import pytest

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.runs.run_folder import RunFolder, read_metadata


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
