"""What a run's recipe.json says of where its images are and which step was the last."""

import pytest

from vitreous.errors import InputError
from vitreous.recipes import find_recipe
from vitreous.runs.run_folder import RunFolder
from vitreous.training.provenance import ResumePlan, check_data_folder


def test_a_folder_that_is_there_is_there(tmp_path):
    run = RunFolder(tmp_path / "run")
    for source in (f"folder:{tmp_path}", f"hf:{tmp_path}", f"hf:{tmp_path}:plain_text", "hf:owner/name", "cifar10"):
        check_data_folder(source, run)
    for source in (f"folder:{tmp_path}/gone", f"hf:{tmp_path}/gone:plain_text"):
        with pytest.raises(InputError, match=f"there is no folder .*gone.* if it was moved, add --data {source[:2]}"):
            check_data_folder(source, run)


def test_the_last_step_is_that_of_the_images_that_were_learned():
    recipe = find_recipe("mnist")
    renewal = ResumePlan({"data": {"training": 2560}}, recipe, {}, ())
    assert recipe.steps(2560) == 50
    assert renewal.is_complete(50, 40) and renewal.is_complete(50, 60) and not renewal.is_complete(30, 40)
    with pytest.raises(
        InputError, match=r"the run took 45 steps, and with .* as they are now it has only 40: start a new"
    ):
        renewal.is_complete(45, 40)
    unknown = ResumePlan({}, recipe, {}, ())
    assert unknown.is_complete(40, 40) and not unknown.is_complete(39, 40)
