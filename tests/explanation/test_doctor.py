"""The doctor on models whose illness is known, because the test made it; and on one that is well."""

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.diagnostics.doctor import head_statistics as statistics
from vitreous.diagnostics.doctor.checks_maps import share_of_spots
from vitreous.diagnostics.doctor.head_statistics import even_queries, head_statistics, uniform_distance
from vitreous.diagnostics.doctor.measure import dissect, mean_cosine
from vitreous.diagnostics.doctor.run import CHECKS, diagnose
from vitreous.errors import InputError
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace
from vitreous.model.vit import ViT

PATCHES = 4 * 6


def healthy(seed=0, resize="squash", **options) -> ImageClassifier:
    torch.manual_seed(seed)
    chosen = {"embed_dim": 32, "depth": 3, "num_heads": 4, "num_classes": 3, "reg_tokens": 1, **options}
    vit = ViT(ViTConfig((16, 24), 4, **chosen))
    with torch.no_grad():
        for weight in vit.parameters():
            if weight.ndim == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
        for block in vit.blocks:
            block.attn.qkv.weight[:64] *= 2
    return ImageClassifier(vit, Preprocessing((16, 24), resize, (0.5,) * 3, (0.25,) * 3, 4), ["cat", "dog", "eel"])


def make_images(count=4, size_hw=(30, 40)):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size_hw, 3), np.uint8) for _ in range(count)]


def examine(model, images=None):
    return {one.topic: one for one in diagnose(dissect(model, images or make_images()))}


def faults(found):
    return {topic for topic, one in found.items() if one.level in ("fault", "note")}


def head_rows(model, layer, head, part):
    """The rows of a block's qkv weight that make the query (0), key (1) or value (2) of a head."""
    width, each = 32, 8
    return model.vit.blocks[layer].attn.qkv, slice(part * width + head * each, part * width + (head + 1) * each)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("options", [{}, {"global_pool": "avg", "reg_tokens": 0}, {"pos_embed": "rope"}])
def test_a_healthy_model_is_called_well(seed, options):
    found = examine(healthy(seed, **options))
    assert len(found) == len(CHECKS) and not faults(found), [one.words for one in found.values()]


def test_a_dead_head_is_found_and_named():
    model = healthy()
    with torch.no_grad():
        model.model.blocks[1].attn.proj.weight[:, 16:24] = 0
    found = examine(model)
    assert faults(found) == {"dead heads"} and found["dead heads"].places == ((1, 2),)
    assert "1 of 12 heads adds less than 0.5% of a token's length: layer 1: head 2." in found["dead heads"].words


def test_a_uniform_head_is_found():
    model = healthy()
    with torch.no_grad():
        qkv, rows = head_rows(model, 2, 3, 0)
        qkv.weight[rows], qkv.bias[rows] = 0, 0
    found = examine(model)
    assert faults(found) == {"uniform heads"} and found["uniform heads"].places == ((2, 3),)


def test_two_heads_that_do_the_same_are_found():
    model = healthy()
    with torch.no_grad():
        for part in (0, 1):
            qkv, source = head_rows(model, 0, 0, part)
            qkv.weight[head_rows(model, 0, 3, part)[1]] = qkv.weight[source]
    found = examine(model)
    assert faults(found) == {"doubled heads"} and found["doubled heads"].places == ((0, 0), (0, 3))
    assert "layer 0: heads 0 and 3" in found["doubled heads"].words


class Shout(nn.Module):
    """An MLP that does what another does, and makes one token long."""

    def __init__(self, mlp, token):
        super().__init__()
        self.mlp, self.token = mlp, token

    def forward(self, tokens):
        result = self.mlp(tokens).clone()
        result[:, self.token, 0] += 200
        return result


def test_an_outlier_token_is_found_with_its_layer_and_place():
    model = healthy()
    model.model.blocks[1].mlp = Shout(model.model.blocks[1].mlp, 2 + 7)
    found = examine(model)
    one = found["outlier tokens"]
    assert one.level == "fault" and one.places == ((1,), (2,)) and one.numbers["patches"] == 1
    assert f"1 of {PATCHES} patches (4.2%)" in one.words and "in 100% of the images" in one.words
    assert "mostly the patch in row 1, column 1, whatever the image" in one.words
    assert "0% of them at the border" in one.words and "They are there in layers 1-2." in one.words


def test_patches_that_are_long_from_the_start_are_no_outliers():
    model, image = healthy(), np.full((16, 24, 3), 128, np.uint8)
    image[4:8, 8:12] = 255
    with torch.no_grad():
        model.model.patch_embed.proj.weight *= 30
    assert examine(model, [image] * 2)["outlier tokens"].level == "well"


def test_even_rollout_says_nothing():
    model = healthy(reg_tokens=0)
    with torch.no_grad():
        for block in model.model.blocks:
            block.attn.qkv.weight[:32] = 0
    found = examine(model)
    assert found["collapse of rollout"].level == "fault" and "nearly even" in found["collapse of rollout"].words
    assert len(found["uniform heads"].places) == 12


def test_a_rollout_that_never_changes_says_nothing():
    model = healthy()
    with torch.no_grad():
        model.model.patch_embed.proj.weight.zero_()
    found = examine(model)
    assert found["collapse of rollout"].level == "fault" and "correlate 1.00" in found["collapse of rollout"].words


def test_one_image_does_not_tell_whether_rollout_changes():
    assert examine(healthy(), make_images(1))["collapse of rollout"].level == "unknown"


def test_idle_blocks_and_weak_layer_scale():
    model = healthy(init_values=1.0)
    with torch.no_grad():
        model.model.blocks[1].ls1.gamma.fill_(1e-5)
        model.model.blocks[1].ls2.gamma.fill_(-1e-5)
    found = examine(model)
    assert faults(found) == {"dead heads", "idle blocks", "LayerScale"}
    assert found["idle blocks"].places == found["LayerScale"].places == ((1,),)
    assert "attention and MLP of layer 1" in found["LayerScale"].words


def test_tokens_that_are_all_the_same():
    model = healthy(global_pool="avg", reg_tokens=0)
    with torch.no_grad():
        model.model.blocks[0].mlp.fc2.bias.fill_(300)
    found = examine(model)
    assert found["collapse of tokens"].level == "fault" and found["collapse of tokens"].places == ((0,), (1,), (2,))


def record_of(attention: torch.Tensor) -> AttentionRecord:
    """A record whose attention is this matrix (heads, tokens, tokens), as far as float64 can say."""
    logits = attention.clamp_min(1e-40).log()[None]
    eye = torch.eye(attention.shape[-1], dtype=attention.dtype).expand_as(logits)
    return AttentionRecord(logits, eye, eye, logits, 1.0)


LAYOUT = TokenLayout(2, 3, 5)


def test_distance_entropy_and_dependence_of_attention_known_by_hand():
    tokens, patches = LAYOUT.num_tokens, 15
    itself = torch.eye(tokens, dtype=torch.float64)
    across = itself.clone()
    grid = torch.arange(patches).reshape(3, 5)
    across[2:, 2:] = torch.eye(patches, dtype=torch.float64)[grid.roll(-1, 1).flatten()]
    even = torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64)
    sink = torch.zeros(tokens, tokens, dtype=torch.float64)
    sink[:, 1] = 1
    queries = even_queries(LAYOUT, 100)
    found = head_statistics(record_of(torch.stack([itself, across, even, sink])), LAYOUT, queries)
    # one to the right, in each row's last column four to the left: (4 · 1 + 4) / 5
    assert found.distance[:2].tolist() == pytest.approx([0, 8 / 5], abs=1e-6)
    assert float(found.distance[2]) == pytest.approx(uniform_distance(LAYOUT, queries), rel=1e-5)
    assert found.entropy.tolist() == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert found.prefix_attention.flatten().tolist() == pytest.approx([0, 0, 0, 0, 1 / 17, 1 / 17, 0, 1], abs=1e-6)
    assert found.query_dependence.tolist() == pytest.approx([1, 1, 0, 0], abs=0.01)
    assert found.one_patch.tolist() == pytest.approx([1 / 15, 1 / 15, 1 / 17, 0], abs=1e-6)
    assert found.likeness.diagonal().tolist() == [1] * 4 and abs(float(found.likeness[0, 1])) < 0.1


def test_statistics_in_blocks_are_those_of_the_whole_matrix(monkeypatch):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 3, LAYOUT.num_tokens, 8, dtype=torch.float64) * 2
    record = AttentionRecord(query, key, key, key, 0.5)
    monkeypatch.setattr(statistics, "BLOCK_NUMBERS", 3 * LAYOUT.num_tokens * 4)
    queries = even_queries(LAYOUT, 100)
    found = head_statistics(record, LAYOUT, queries)
    whole = reference_attention(record)[0][:, 2:]
    entropy = -(whole * whole.log()).sum(-1).mean(-1) / np.log(LAYOUT.num_tokens)
    assert torch.allclose(found.entropy, entropy)
    centerd = whole - 1 / LAYOUT.num_tokens
    flat = centerd.flatten(1)
    assert torch.allclose(found.likeness, torch.corrcoef(flat), atol=1e-10)
    spread = (whole - whole.mean(1, keepdim=True)).square().sum((1, 2)) / centerd.square().sum((1, 2))
    assert torch.allclose(found.query_dependence, spread)


def test_a_sink_is_a_note_and_not_a_fault():
    model = healthy(depth=1)
    with torch.no_grad():
        for head in range(4):
            for part, value in ((0, 3.0), (1, 0.0)):
                qkv, rows = head_rows(model, 0, head, part)
                qkv.weight[rows] = 0
                qkv.bias[rows] = value
            model.model.cls_token.zero_()
            model.model.cls_token[..., 0] = 50
            qkv, rows = head_rows(model, 0, head, 1)
            qkv.weight[rows, 0] = 2
        model.model.patch_embed.proj.weight[0], model.model.pos_embed[..., 0] = 0, 0
    found = examine(model)
    assert found["resting heads"].level == "note" and len(found["resting heads"].places) == 4


def test_mean_cosine_is_that_of_all_pairs():
    torch.manual_seed(0)
    tokens = torch.randn(7, 5, dtype=torch.float64)
    cosines = torch.nn.functional.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
    assert float(mean_cosine(tokens)) == pytest.approx(float((cosines.sum() - 7) / 42))


def test_few_queries_stand_for_all():
    everything = dissect(healthy(), make_images(2))
    assert everything.queries == PATCHES
    assert even_queries(TokenLayout(0, 37, 37), 256).shape == (256,)
    assert even_queries(TokenLayout(0, 1, 1), 256).tolist() == [0]


def test_images_of_several_shapes_and_nothing_left_behind():
    model = healthy(resize="aspect")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    anatomy = dissect(model, [*make_images(2), *make_images(2, (60, 20))])
    assert {one.grid_hw for one in anatomy.images} == {(4, 6), (8, 3)} or len(
        {one.grid_hw for one in anatomy.images}
    ) == 2
    assert len(diagnose(anatomy)) == len(CHECKS)
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert torch.is_grad_enabled() and all(weight.grad is None for weight in model.model.parameters())


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="no image was given"):
        dissect(healthy(), [])


def test_a_spot_in_rollout_is_traced_to_its_head():
    """One head of the first layer looks from everywhere at the one white patch of a dark image."""
    model = healthy(depth=2, reg_tokens=0)
    with torch.no_grad():
        model.model.patch_embed.proj.weight[0] = 1
        model.model.pos_embed[..., 0] = 0
        model.model.blocks[0].attn.qkv.weight[8:16] = 0
        model.model.blocks[0].attn.qkv.bias[8:16] = 6
        model.model.blocks[0].attn.qkv.weight[40:48] = 0
        model.model.blocks[0].attn.qkv.weight[40:48, 0] = 1
        for layer in (0, 1):
            for head in range(4):
                if (layer, head) != (0, 1):
                    for part in (0, 1):
                        qkv, rows = head_rows(model, layer, head, part)
                        qkv.weight[rows] *= 0.1
    images = []
    for place in ((0, 0), (2, 3), (3, 5)):
        image = np.zeros((16, 24, 3), np.uint8)
        image[4 * place[0] : 4 * place[0] + 4, 4 * place[1] : 4 * place[1] + 4] = 255
        images.append(image)
    trace = Trace()
    model.model(model.preprocess(images[0])[0][None], trace)
    assert float(reference_attention(trace.records[0])[0, 1, :, 1].detach().min()) > 0.9
    one = examine(model, images)["spots in rollout"]
    assert one.level == "fault" and one.places == ((0, 1),)
    assert "in 3 of 3 images a single patch, far above all around it, holds" in one.words
    assert "a head in which one patch gets" in one.meaning and "layer 0: head 1" in one.meaning
    assert examine(model, images)["same for every query"].places == ((0, 1),), "neither denies what the other says"


def test_without_blind_heads_the_least_dependent_one_is_named():
    assert (
        "In every head it matters which patch asks: least in layer" in examine(healthy())["same for every query"].words
    )


def test_heads_that_are_even_are_not_held_against_the_rest():
    model = healthy()
    with torch.no_grad():
        qkv, rows = head_rows(model, 2, 3, 0)
        qkv.weight[rows], qkv.bias[rows] = 0, 0
    said = examine(model)["same for every query"]
    assert (
        said.level == "well" and "In every other head it matters" in said.words and "layer 2 head 3" not in said.words
    )


def test_the_share_of_spots_is_that_of_patches_that_stand_alone():
    heat = np.ones((4, 6))
    assert share_of_spots(heat) == 0
    heat[1, 2] = 23
    assert share_of_spots(heat) == 0.5
    heat[1, 3] = 23
    assert share_of_spots(heat) == 0 and share_of_spots(0 * heat) == 0
