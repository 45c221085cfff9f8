"""Provenance: the folder of a run's images, and the last step of a resumed run."""

import pytest

from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder
from vitreous.training.provenance import ResumePlan, check_data_folder
from vitreous.training_recipes import find_recipe


def test_an_existing_data_folder_is_accepted_and_a_missing_one_refused(tmp_path):
    run = RunFolder(tmp_path / "run")
    for source in (f"folder:{tmp_path}", f"hf:{tmp_path}", f"hf:{tmp_path}:plain_text", "hf:owner/name", "cifar10"):
        check_data_folder(source, run)
    for source in (f"folder:{tmp_path}/gone", f"hf:{tmp_path}/gone:plain_text"):
        with pytest.raises(
            InputError, match=f"there is no folder .*gone.* if it was moved, resume with data {source[:2]}"
        ):
            check_data_folder(source, run)


def test_the_last_step_follows_from_the_images_in_the_metadata():
    recipe = find_recipe("mnist")
    plan = ResumePlan({"data": {"training": 2560}}, recipe, {}, ())
    assert recipe.steps(2560) == 50
    assert plan.is_complete(50, 40) and plan.is_complete(50, 60) and not plan.is_complete(30, 40)
    with pytest.raises(
        InputError, match=r"the run has taken 45 steps, but with the present images of .* it has only 40: start a new"
    ):
        plan.is_complete(45, 40)
    unknown = ResumePlan({}, recipe, {}, ())
    assert unknown.is_complete(40, 40) and not unknown.is_complete(39, 40)
