"""A config.json that announces parts which our ViT doesn't have is refused, whatever the names of the weights."""

import json

import pytest

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.create import create_model
from vitreous.pretrained.load import load
from vitreous.workflows.convert import convert


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model in the form of timm and of transformers."""
    folder = tmp_path_factory.mktemp("models")
    model = create_model("nano/4-32", num_classes=3, global_pool="token")
    classifier = ImageClassifier(model, Preprocessing(32, "squash", (0.5,) * 3, (0.5,) * 3, 4), ["a", "b", "c"])
    for library in ("timm", "hf"):
        convert(classifier, library, folder / library)
    return folder


def load_changed(folders, library: str, tmp_path, change) -> ImageClassifier:
    config = json.loads((folders / library / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "preprocessor_config.json"):
        if (folders / library / name).exists():
            (tmp_path / name).write_bytes((folders / library / name).read_bytes())
    return load(tmp_path, "cpu")


@pytest.mark.parametrize(
    "architecture",
    [
        "vit_pe_core_base_patch16_224", "vit_pe_spatial_tiny_patch16_512", "vit_base_patch16_rope_mixed_ape_224",
        "vit_medium_patch16_rope_reg1_gap_256", "vit_base_patch16_xp_224", "vit_dwee_patch16_reg1_gap_256",
        "vit_small_patch16_18x2_224", "vit_base_r50_s16_224", "vit_relpos_base_patch16_224", "eva02_base_patch14_224",
        "beit3_base_patch16_224", "swin_tiny_patch4_window7_224",
    ],
)  # fmt: skip
def test_architectures_of_timm_with_other_parts(architecture, folders, tmp_path):
    with pytest.raises(InputError, match=f"architecture '{architecture}', which is no plain ViT"):
        load_changed(folders, "timm", tmp_path, lambda config: config.update(architecture=architecture))
    with pytest.raises(InputError, match=f"architecture '{architecture}', which is no plain ViT"):
        load_changed(
            folders, "timm", tmp_path, lambda config: config["pretrained_cfg"].update(architecture=architecture)
        )


@pytest.mark.parametrize("architecture", ["vit_small_patch16_36x1_224", "vit_little_patch16_reg4_gap_256", "deit3_x"])
def test_plain_architectures(architecture, folders, tmp_path):
    assert load_changed(folders, "timm", tmp_path, lambda config: config.update(architecture=architecture)).class_names


CHANGES = {
    "block_fn": ("timm", lambda config: config["model_args"].update(block_fn="ParallelScalingBlock")),
    "use_rot_pos_emb": ("timm", lambda config: config["model_args"].update(use_rot_pos_emb=True)),
    "scale_attn_norm": ("timm", lambda config: config["model_args"].update(scale_attn_norm=True)),
    "pos_embed": ("timm", lambda config: config["model_args"].update(pos_embed="none")),
    "rotary positions": ("hf", lambda config: config.update(rope_theta=100.0)),
    "relative positions": ("hf", lambda config: config.update(use_relative_position_bias=True)),
    "windows": ("hf", lambda config: config.update(vision_config={"window_size": 7})),
    "model_type 'yolos'": ("hf", lambda config: config.update(model_type="yolos")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_settings_that_announce_other_parts(name, folders, tmp_path):
    library, change = CHANGES[name]
    with pytest.raises(InputError, match=name):
        load_changed(folders, library, tmp_path, change)


def test_settings_without_effect(folders, tmp_path):
    assert load_changed(
        folders, "timm", tmp_path, lambda config: config["model_args"].update(block_fn=None, rope=False)
    )
    assert load_changed(folders, "hf", tmp_path, lambda config: config.update(use_relative_position_bias=False))


@pytest.mark.parametrize(
    "key",
    ["properties", "dropout_property", "europe", "prot_pos", "barrel_posture", "relative_pose", "gnomoe_x",
     "subwindow_size", "nonparallel_blocks", "outpost_norm"],
)  # fmt: skip
def test_words_that_contain_the_name_of_a_part(key, folders, tmp_path):
    assert load_changed(folders, "hf", tmp_path, lambda config: config.update({key: 3})).class_names


@pytest.mark.parametrize(
    "key",
    ["rope", "use_rope", "rope_2d", "rope2d", "rotary_dim", "use_rot_pos_emb", "rel_pos", "relpos_bias", "use_rel_pos",
     "relative_position_bias", "relative_positional_encoding", "window_sizes", "use_sliding_window", "num_experts",
     "num_experts_per_tok", "moe_top_k", "use_post_norm", "sandwich_norm", "use_parallel_block", "use_diff_attn"],
)  # fmt: skip
def test_names_of_parts_among_other_words(key, folders, tmp_path):
    with pytest.raises(InputError, match="announces"):
        load_changed(folders, "hf", tmp_path, lambda config: config.update({key: 3}))


def test_one_label_that_is_stated_as_a_class(folders, tmp_path):
    classifier = ImageClassifier(
        create_model("nano/4-32", num_classes=1, global_pool="token"),
        Preprocessing(32, "squash", (0.5,) * 3, (0.5,) * 3, 4), ["a"],
    )  # fmt: skip
    convert(classifier, "hf", tmp_path / "hf")
    (tmp_path / "changed").mkdir()
    stated = {"problem_type": "single_label_classification"}
    found = load_changed(tmp_path, "hf", tmp_path / "changed", lambda config: config.update(stated))
    assert (found.problem_type, found.function_to_apply) == ("multi_label_classification", "sigmoid")


def test_other_outputs_of_a_config(folders, tmp_path):
    change = {"problem_type": "multi_label_classification"}
    found = load_changed(folders, "hf", tmp_path, lambda config: config.update(change))
    assert (found.problem_type, found.function_to_apply) == ("multi_label_classification", "sigmoid")
    convert(found, "hf", tmp_path / "again")
    assert load(tmp_path / "again", "cpu").problem_type == "multi_label_classification"


def test_the_tower_of_open_clip(tmp_path):
    from vitreous.model.config import ViTConfig
    from vitreous.pretrained.formats.announced_parts import check_announced

    for key, value in (("pool_type", "avg"), ("final_ln_after_pool", True), ("attentional_pool", True)):
        with pytest.raises(InputError, match=key):
            check_announced({"model_cfg": {"vision_cfg": {"width": 64, key: value}}}, ViTConfig(), "open-clip")
    check_announced({"vision_cfg": {"width": 64, "pool_type": "tok"}}, ViTConfig(), "open-clip")
