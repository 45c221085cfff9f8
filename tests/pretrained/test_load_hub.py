"""Models from a hub on this machine that answers as the real one does, refuses as it does, and goes away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from fake_hub import COMMIT, HubHandler, serve_hub
from safetensors.torch import save

from vitreous.errors import InputError
from vitreous.hub import HubRepository
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import WEIGHTS, save_config, write_weights
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.load import load

TINY = ViTConfig((32, 48), 8, num_classes=3, embed_dim=32, depth=2, num_heads=2)
PROCESSOR = {"size": {"height": 32, "width": 48}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


def tiny_repository() -> tuple[ViT, dict[str, bytes]]:
    """A model of ours, and the files of it as transformers would have written them."""
    torch.manual_seed(0)
    vit, layout = ViT(TINY).eval(), FORMATS["hf-vit"]
    config = layout.external_config(TINY, ["cat", "crane", "crane"]) | {"num_attention_heads": 2}
    tensors = {name: tensor.half() for name, tensor in layout.to_external(vit.state_dict(), TINY).items()}
    files = {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(PROCESSOR).encode(),
        "model.safetensors": save(tensors),
    }
    return vit, files


class Handler(HubHandler):
    """Answers with `server.files`, keyed by "owner/name/file"; `server.refuse` is said to all."""

    def respond(self, *, body: bool) -> None:
        repository, _, rest = self.path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        self.server.requests.append(f"{self.command} {repository}@{revision}/{name}")
        content, problem = self.server.files.get(f"{repository}/{name}"), self.server.refuse
        if not problem and not any(key.startswith(f"{repository}/") for key in self.server.files):
            problem = "401 RepoNotFound"
        elif not problem and revision not in ("main", "v1", COMMIT):
            problem = "404 RevisionNotFound"
        elif not problem and content is None:
            problem = "404 EntryNotFound"
        self.reply(problem, content or b"", name, body=body)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that holds me/tiny, whose client keeps its cache in the test's own folder."""
    with serve_hub(Handler, tmp_path / "cache", monkeypatch) as server:
        server.vit, files = tiny_repository()
        server.files = {f"me/tiny/{name}": content for name, content in files.items()}
        yield server


def refused(model: str) -> str:
    with pytest.raises(InputError) as caught:
        load(model, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_repository_becomes_a_classifier_with_preprocessing_and_names(hub, capfd):
    classifier, images = load("hf:me/tiny", "cpu"), torch.randn(2, 3, 32, 48)
    assert classifier.class_names == ("cat", "crane (class 1)", "crane (class 2)")
    preprocessing = classifier.preprocessing
    assert (preprocessing.input_size, preprocessing.resize_mode, preprocessing.mean) == (
        (32, 48),
        "squash",
        (0.1, 0.2, 0.3),
    )
    assert {weight.dtype for weight in classifier.model.parameters()} == {torch.float32}
    assert not classifier.model.training and all(weight.requires_grad for weight in classifier.model.parameters())
    with torch.no_grad():
        assert (classifier.model(images) - hub.vit(images)).abs().max() < 2e-3  # stored as float16
    assert capfd.readouterr() == ("", ""), "no progress bars where there is no terminal"


def test_files_are_downloaded_once_and_work_offline(hub):
    load("hf:me/tiny", "cpu")
    fetched = [line for line in hub.requests if line.startswith("GET me/tiny")]
    assert len(fetched) == len(set(fetched)) == 3
    hub.refuse = "503"
    before = len(hub.requests)
    assert load("hf:me/tiny", "cpu").class_names[0] == "cat"
    assert len(hub.requests) == before + 1, "one request is enough to see that nobody answers"


def test_a_revision_is_requested_by_name(hub):
    load("hf:me/tiny@v1", "cpu")
    assert all("@v1/" in line or f"@{COMMIT}/" in line for line in hub.requests)
    assert "has no revision 'v7'" in refused("hf:me/tiny@v7")


def test_sharded_weights_are_merged(hub):
    from safetensors.torch import load as parse

    tensors = list(parse(hub.files.pop("me/tiny/model.safetensors")).items())
    parts = {"model-1.safetensors": tensors[:9], "model-2.safetensors": tensors[9:]}
    index = {"weight_map": {name: part for part, inside in parts.items() for name, _ in inside}}
    hub.files["me/tiny/model.safetensors.index.json"] = json.dumps(index).encode()
    hub.files["me/tiny/model-1.safetensors"] = save(dict(parts["model-1.safetensors"]))
    assert "me/tiny lacks model-2.safetensors, which its index names" in refused("hf:me/tiny")
    hub.files["me/tiny/model-2.safetensors"] = save(dict(parts["model-2.safetensors"]))
    assert load("hf:me/tiny", "cpu").class_names[0] == "cat"


def test_a_pickle_is_read_only_without_a_safetensors_file(hub, tmp_path):
    from safetensors.torch import load as parse

    torch.save(parse(hub.files["me/tiny/model.safetensors"]), tmp_path / "weights")
    hub.files["me/tiny/pytorch_model.bin"] = (tmp_path / "weights").read_bytes()
    load("hf:me/tiny", "cpu")
    assert not any("pytorch_model" in line for line in hub.requests)
    del hub.files["me/tiny/model.safetensors"]
    assert load("hf:me/tiny@v1", "cpu").class_names[0] == "cat"
    assert any("pytorch_model" in line for line in hub.requests)


def test_a_vitreous_model_on_the_hub(hub, tmp_path):
    classifier = load("hf:me/tiny", "cpu")
    save_config(classifier, tmp_path)
    write_weights(classifier.vit.state_dict(), tmp_path / WEIGHTS)
    hub.files = {f"me/run/{name}": (tmp_path / name).read_bytes() for name in ("config.json", "model.safetensors")}
    assert load("hf:me/run", "cpu").class_names == classifier.class_names


def test_imagenet_class_names_are_downloaded_for_1000_classes(hub, notes):
    labels = {str(index): f"thing {index}" for index in range(1000)}
    config = ViTConfig((16, 16), 8, embed_dim=16, depth=1, num_heads=1)
    layout, content = FORMATS["hf-vit"], {"num_attention_heads": 1}
    hub.files["me/thousand/model.safetensors"] = save(layout.to_external(ViT(config).state_dict(), config))
    hub.files["me/thousand/config.json"] = json.dumps(content).encode()
    named = load("hf:me/thousand", "cpu", callback=notes).class_names
    assert named[7] == "class 7" and "class 0 to class 999" in notes.lines[-1]
    hub.files["datasets/huggingface/label-files/imagenet-1k-id2label.json"] = json.dumps(labels).encode()
    assert load("hf:me/thousand", "cpu").class_names[7] == "thing 7"


REFUSALS = {
    "hf:me/other": "me/other is not on the Hugging Face hub, or is private",
    "hf:tiny": "'hf:tiny' is not a repository: write hf:OWNER/NAME",
    "hf:me/a/b": "is not a repository",
    "hf:-me/x--y": "is not a valid repository name",
    "timm:nothing": "timm/nothing is not on the Hugging Face hub",
}


@pytest.mark.parametrize("model", REFUSALS)
def test_names_that_stand_for_nothing(model, hub):
    assert REFUSALS[model] in refused(model)


def test_a_gated_repository_says_what_to_do(hub):
    hub.refuse = "403 GatedRepo"
    assert "me/tiny is gated: accept its terms" in refused("hf:me/tiny")


def test_no_network_and_nothing_in_the_cache(hub):
    hub.refuse = "500"
    assert "can't reach the Hugging Face hub for me/tiny, and its config.json was not downloaded" in refused(
        "hf:me/tiny"
    )


def test_a_repository_without_weights(hub):
    del hub.files["me/tiny/model.safetensors"]
    assert "me/tiny has no model.safetensors or pytorch_model.bin" in refused("hf:me/tiny")


def test_a_cache_that_cannot_be_written(hub, tmp_path):
    Path(tmp_path / "cache").write_text("a file, no folder")
    assert "me/tiny can't be downloaded" in refused("hf:me/tiny")


def test_a_disk_that_is_full(hub, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/cache/model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(InputError, match=r"me/tiny can't be downloaded: /cache/model.safetensors: no space left"):
        HubRepository("me/tiny").find("config.json")


def test_the_hubs_own_settings_count(hub, tmp_path):
    environment = os.environ | {"HF_ENDPOINT": huggingface_hub.constants.ENDPOINT, "HF_HOME": str(tmp_path / "home")}
    code = 'import vitreous; print(vitreous.load("hf:me/tiny", "cpu").class_names[0])'
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "cat\n" and (tmp_path / "home" / "hub" / "models--me--tiny").is_dir()
