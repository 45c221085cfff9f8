"""The doctor's checks on models with a known fault, which the test builds in, and on healthy ones."""

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.diagnostics.doctor import head_statistics as statistics
from vitreous.diagnostics.doctor.head_statistics import head_statistics, sample_queries, uniform_distance
from vitreous.diagnostics.doctor.measure import collect_statistics, mean_cosine
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


def findings_of(model, images=None):
    return {one.topic: one for one in diagnose(collect_statistics(model, images or make_images()))}


def faults(found):
    return {topic for topic, one in found.items() if one.level in ("fault", "note")}


def head_rows(model, layer, head, part):
    """Return the rows of a block's qkv weight for the query (0), key (1) or value (2) of a head."""
    width, each = 32, 8
    return model.vit.blocks[layer].attn.qkv, slice(part * width + head * each, part * width + (head + 1) * each)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("options", [{}, {"global_pool": "avg", "reg_tokens": 0}, {"pos_embed": "rope"}])
def test_a_healthy_model_has_no_findings(seed, options):
    found = findings_of(healthy(seed, **options))
    assert len(found) == len(CHECKS) and not faults(found), [one.message for one in found.values()]


def test_a_dead_head_is_found_and_named():
    model = healthy()
    with torch.no_grad():
        model.model.blocks[1].attn.proj.weight[:, 16:24] = 0
    found = findings_of(model)
    assert faults(found) == {"dead heads"} and found["dead heads"].locations == ((1, 2),)
    assert "1 of 12 heads adds less than 0.5% of a token's norm: layer 1: head 2." in found["dead heads"].message


def test_a_uniform_head_is_found():
    model = healthy()
    with torch.no_grad():
        qkv, rows = head_rows(model, 2, 3, 0)
        qkv.weight[rows], qkv.bias[rows] = 0, 0
    found = findings_of(model)
    assert faults(found) == {"uniform heads"} and found["uniform heads"].locations == ((2, 3),)


def test_two_heads_with_the_same_attention_are_found():
    model = healthy()
    with torch.no_grad():
        for part in (0, 1):
            qkv, source = head_rows(model, 0, 0, part)
            qkv.weight[head_rows(model, 0, 3, part)[1]] = qkv.weight[source]
    found = findings_of(model)
    assert faults(found) == {"redundant heads"} and found["redundant heads"].locations == ((0, 0), (0, 3))
    assert "layer 0: heads 0 and 3" in found["redundant heads"].message


class LargeToken(nn.Module):
    """An MLP that also adds a large value to one token."""

    def __init__(self, mlp, token):
        super().__init__()
        self.mlp, self.token = mlp, token

    def forward(self, tokens):
        result = self.mlp(tokens).clone()
        result[:, self.token, 0] += 200
        return result


def test_an_outlier_token_is_found_with_its_layer_and_position():
    model = healthy()
    model.model.blocks[1].mlp = LargeToken(model.model.blocks[1].mlp, 2 + 7)
    found = findings_of(model)
    one = found["outlier tokens"]
    assert one.level == "fault" and one.locations == ((1,), (2,)) and one.values["patches_per_image"] == 1
    assert f"1 of {PATCHES} patches (4.2%)" in one.message and "in 100% of the images" in one.message
    assert "mostly the patch in row 1, column 1, whatever the image" in one.message
    assert "0% of them at the border" in one.message and "They occur in layers 1-2." in one.message


def test_patches_with_large_norms_from_the_start_are_no_outliers():
    model, image = healthy(), np.full((16, 24, 3), 128, np.uint8)
    image[4:8, 8:12] = 255
    with torch.no_grad():
        model.model.patch_embed.proj.weight *= 30
    assert findings_of(model, [image] * 2)["outlier tokens"].level == "ok"


def test_uniform_rollout_is_a_fault():
    model = healthy(reg_tokens=0)
    with torch.no_grad():
        for block in model.model.blocks:
            block.attn.qkv.weight[:32] = 0
    found = findings_of(model)
    assert found["rollout collapse"].level == "fault" and "nearly uniform" in found["rollout collapse"].message
    assert len(found["uniform heads"].locations) == 12


def test_a_rollout_that_never_changes_is_a_fault():
    model = healthy()
    with torch.no_grad():
        model.model.patch_embed.proj.weight.zero_()
    found = findings_of(model)
    assert found["rollout collapse"].level == "fault" and "correlate 1.00" in found["rollout collapse"].message


def test_one_image_does_not_show_whether_rollout_changes():
    assert findings_of(healthy(), make_images(1))["rollout collapse"].level == "unknown"


def test_idle_blocks_and_weak_layer_scale():
    model = healthy(init_values=1.0)
    with torch.no_grad():
        model.model.blocks[1].ls1.gamma.fill_(1e-5)
        model.model.blocks[1].ls2.gamma.fill_(-1e-5)
    found = findings_of(model)
    assert faults(found) == {"dead heads", "idle blocks", "LayerScale"}
    assert found["idle blocks"].locations == found["LayerScale"].locations == ((1,),)
    assert "attention and MLP of layer 1" in found["LayerScale"].message


def test_tokens_that_are_all_the_same_are_a_fault():
    model = healthy(global_pool="avg", reg_tokens=0)
    with torch.no_grad():
        model.model.blocks[0].mlp.fc2.bias.fill_(300)
    found = findings_of(model)
    assert found["token collapse"].level == "fault" and found["token collapse"].locations == ((0,), (1,), (2,))


def record_of(attention: torch.Tensor) -> AttentionRecord:
    """Make a record with this attention matrix (heads, tokens, tokens), up to float64."""
    logits = attention.clamp_min(1e-40).log()[None]
    eye = torch.eye(attention.shape[-1], dtype=attention.dtype).expand_as(logits)
    return AttentionRecord(logits, eye, eye, logits, 1.0)


LAYOUT = TokenLayout(2, 3, 5)


def test_distance_entropy_and_dependence_of_known_attention():
    tokens, patches = LAYOUT.num_tokens, 15
    itself = torch.eye(tokens, dtype=torch.float64)
    across = itself.clone()
    grid = torch.arange(patches).reshape(3, 5)
    across[2:, 2:] = torch.eye(patches, dtype=torch.float64)[grid.roll(-1, 1).flatten()]
    even = torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64)
    sink = torch.zeros(tokens, tokens, dtype=torch.float64)
    sink[:, 1] = 1
    queries = sample_queries(LAYOUT, 100)
    found = head_statistics(record_of(torch.stack([itself, across, even, sink])), LAYOUT, queries)
    # one to the right, in each row's last column four to the left: (4 · 1 + 4) / 5
    assert found.distance[:2].tolist() == pytest.approx([0, 8 / 5], abs=1e-6)
    assert float(found.distance[2]) == pytest.approx(uniform_distance(LAYOUT, queries), rel=1e-5)
    assert found.entropy.tolist() == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert found.prefix_attention.flatten().tolist() == pytest.approx([0, 0, 0, 0, 1 / 17, 1 / 17, 0, 1], abs=1e-6)
    assert found.query_dependence.tolist() == pytest.approx([1, 1, 0, 0], abs=0.01)
    assert found.max_patch_attention.tolist() == pytest.approx([1 / 15, 1 / 15, 1 / 17, 0], abs=1e-6)
    assert found.head_similarity.diagonal().tolist() == [1] * 4 and abs(float(found.head_similarity[0, 1])) < 0.1


def test_statistics_in_blocks_equal_those_of_the_whole_matrix(monkeypatch):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 3, LAYOUT.num_tokens, 8, dtype=torch.float64) * 2
    record = AttentionRecord(query, key, key, key, 0.5)
    monkeypatch.setattr(statistics, "BLOCK_ELEMENTS", 3 * LAYOUT.num_tokens * 4)
    queries = sample_queries(LAYOUT, 100)
    found = head_statistics(record, LAYOUT, queries)
    whole = reference_attention(record)[0][:, 2:]
    entropy = -(whole * whole.log()).sum(-1).mean(-1) / np.log(LAYOUT.num_tokens)
    assert torch.allclose(found.entropy, entropy)
    centered = whole - 1 / LAYOUT.num_tokens
    flat = centered.flatten(1)
    assert torch.allclose(found.head_similarity, torch.corrcoef(flat), atol=1e-10)
    spread = (whole - whole.mean(1, keepdim=True)).square().sum((1, 2)) / centered.square().sum((1, 2))
    assert torch.allclose(found.query_dependence, spread)


def test_an_attention_sink_is_a_note_and_not_a_fault():
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
    found = findings_of(model)
    assert found["attention sinks"].level == "note" and len(found["attention sinks"].locations) == 4


def test_mean_cosine_averages_all_pairs():
    torch.manual_seed(0)
    tokens = torch.randn(7, 5, dtype=torch.float64)
    cosines = torch.nn.functional.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
    assert float(mean_cosine(tokens)) == pytest.approx(float((cosines.sum() - 7) / 42))


def test_queries_are_sampled():
    statistics_ = collect_statistics(healthy(), make_images(2))
    assert statistics_.num_queries == PATCHES
    assert sample_queries(TokenLayout(0, 37, 37), 256).shape == (256,)
    assert sample_queries(TokenLayout(0, 1, 1), 256).tolist() == [0]


def test_images_of_several_shapes_leave_the_model_unchanged():
    model = healthy(resize="aspect")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    measured = collect_statistics(model, [*make_images(2), *make_images(2, (60, 20))])
    assert {one.grid_size for one in measured.images} == {(4, 6), (8, 3)} or len(
        {one.grid_size for one in measured.images}
    ) == 2
    assert len(diagnose(measured)) == len(CHECKS)
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert torch.is_grad_enabled() and all(weight.grad is None for weight in model.model.parameters())


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="no image was given"):
        collect_statistics(healthy(), [])


def test_an_artifact_patch_is_traced_to_its_head():
    """In one head of the first layer, every patch attends to the one white patch of a dark image."""
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
    for row, column in ((0, 0), (2, 3), (3, 5)):
        image = np.zeros((16, 24, 3), np.uint8)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
        images.append(image)
    trace = Trace()
    model.model(model.preprocess(images[0])[0][None], trace)
    assert float(reference_attention(trace.records[0])[0, 1, :, 1].detach().min()) > 0.9
    one = findings_of(model, images)["artifact patches in rollout"]
    assert one.level == "fault" and one.locations == ((0, 1),)
    assert "in 3 of 3 images a single patch, far above all around it, holds" in one.message
    assert "a head in which one patch gets" in one.advice and "layer 0: head 1" in one.advice
    assert findings_of(model, images)["query-independent heads"].locations == ((0, 1),), "both findings name the head"


def test_without_query_independent_heads_the_least_dependent_one_is_named():
    message = findings_of(healthy())["query-independent heads"].message
    assert "In every head the attention depends on the query: least in layer" in message


def test_uniform_heads_are_excluded_from_query_independence():
    model = healthy()
    with torch.no_grad():
        qkv, rows = head_rows(model, 2, 3, 0)
        qkv.weight[rows], qkv.bias[rows] = 0, 0
    one = findings_of(model)["query-independent heads"]
    assert one.level == "ok" and "layer 2 head 3" not in one.message
    assert "In every other head the attention depends on the query" in one.message
