"""What the page computes in the browser is what PyTorch and `render` compute: the same JavaScript, run by Node."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from vitreous.diagnostics.doctor.head_statistics import head_statistics, sample_queries, uniform_distance
from vitreous.explanation.attribute import attention_weights
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.methods.features import patch_features
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.trace import TokenLayout, Trace
from vitreous.model.vit import ViT
from vitreous.render.color import COLORMAPS, Scale, color_table
from vitreous.render.overlay import blend_table
from vitreous.web.explorer import attention_export
from vitreous.web.explorer.attention_export import export_attention
from vitreous.web.explorer.explorer import describe_palettes
from vitreous.web.explorer.routes import PAGES
from vitreous.web.explorer.token_export import export_tokens

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="the page's computations are compared in Node, which isn't there")
RUN = """
import {readFileSync} from "node:fs";
import {Attention} from "./attention.js";
import {Palettes, Upsampler, robustScale, toLevels} from "./heatmap.js";
import {samePlace} from "./places.js";
import {PatchTokens} from "./tokens.js";
import {tokenName} from "./view.js";
const input = JSON.parse(readFileSync("input.json")), file = readFileSync("data.bin");
const data = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const attention = input.description?.heads && new Attention(input.description, data);
const palettes = new Palettes(input.palettes);
console.log(JSON.stringify((() => { %s })()));
"""


@pytest.fixture
def run_page(tmp_path):
    """Runs JavaScript with the page's modules on an exported attention, and returns what it returns."""

    def run(code, result=None, **values):
        for script in PAGES.glob("*.js"):
            shutil.copy(script, tmp_path)
        (tmp_path / "package.json").write_text('{"type": "module"}')
        description = None if result is None else result.description
        (tmp_path / "data.bin").write_bytes(b"" if result is None else result.data)
        content = {"description": description, "palettes": describe_palettes(), **values}
        (tmp_path / "input.json").write_text(json.dumps(content))
        (tmp_path / "run.js").write_text(RUN % code)
        done = subprocess.run([NODE, "run.js"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def make_classifier(sharpness=8.0, **fields):
    torch.manual_seed(0)
    config = ViTConfig((24, 40), 8, embed_dim=16, depth=3, num_heads=2, num_classes=3, stem="linear", **fields)
    vit = ViT(config)
    with torch.no_grad():  # an untrained model attends to everything alike
        for name, parameter in vit.named_parameters():
            if "qkv" in name and parameter.ndim == 2:
                parameter.mul_(sharpness)
    return ImageClassifier(vit, Preprocessing((24, 40), "squash", (0.5,) * 3, (0.5,) * 3, 8), ("dog", "cat", "cow"))


@pytest.fixture(scope="module", params=["token", "avg"])
def classifier(request):
    return make_classifier(global_pool=request.param)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (72, 120, 3), dtype=np.uint8)


def patch_map(classifier, image, method, **options):
    query = options.pop("query", None)
    (found,) = explain_batch(classifier, [image], method, MethodOptions(**options), query=query)
    return found.patch_map.ravel()


@pytest.mark.parametrize("encoding", ["float16", "uint8"])
def test_maps_of_the_page_are_those_of_the_methods(encoding, classifier, image, run_page, monkeypatch):
    if encoding == "uint8":
        monkeypatch.setattr(attention_export, "EXACT_BYTES", 2000)  # 6 heads x 15² or 16² weights
    exported = export_attention(classifier, image)
    assert exported.description["encoding"] == encoding
    found = run_page(
        """
        const start = attention.tokenOf(1, 3), all = {heads: null, fusion: "mean", first: 0, last: 2};
        const maps = [
          attention.rollout({...all, start}), attention.rollout({...all, start: -1}),
          attention.rollout({...all, start, fusion: "max"}),
          attention.attention({layer: 1, heads: null, fusion: "mean", start}),
          attention.attention({layer: 2, heads: null, fusion: "max", start: -1}),
          attention.attention({layer: 0, heads: [1], fusion: "mean", start}),
        ];
        return maps.map(map => [...map.slice(attention.prefix)]);
        """,
        exported,
    )
    point = (84.0, 36.0)  # of 24 x 24 pixels a patch: row 1, column 3
    expected = [
        patch_map(classifier, image, "rollout", query=point),
        patch_map(classifier, image, "rollout"),
        patch_map(classifier, image, "rollout", query=point, head_fusion="max"),
        patch_map(classifier, image, "attention", query=point, layer=1),
        patch_map(classifier, image, "attention", layer=2, head_fusion="max"),
        patch_map(classifier, image, "attention", query=point, layer=0, head=1),
    ]
    tolerance = 3e-4 if encoding == "float16" else 3e-3
    for own, reference in zip(found, expected, strict=True):
        assert np.abs(np.array(own) - reference).max() < tolerance
        assert reference.std() > tolerance, "a map that is flat would prove nothing"


def test_the_minimum_over_heads_is_that_of_rollout(image, run_page):
    classifier = make_classifier(sharpness=2.0)  # in sharper models it is less than float16 holds
    found = run_page(
        'const all = {heads: null, fusion: "min", first: 0, last: 2, start: -1};'
        "return [...attention.rollout(all)].slice(attention.prefix);",
        export_attention(classifier, image),
    )
    reference = patch_map(classifier, image, "rollout", head_fusion="min")
    assert np.abs(np.array(found) - reference).max() < 3e-4 < reference.std()


def test_columns_chosen_layers_and_chosen_heads_follow_the_definition(image, run_page):
    classifier = make_classifier(global_pool="token", reg_tokens=2)
    found = run_page(
        """
        const start = attention.tokenOf(2, 0);
        return [
          [...attention.attention({layer: 1, heads: null, fusion: "mean", start, toward: true})],
          [...attention.rollout({first: 1, last: 2, heads: [0], fusion: "mean", start})],
          [...attention.rollout({first: 0, last: 2, heads: null, fusion: "mean", start, toward: true})],
          [...attention.rollout({first: 0, last: 2, heads: null, fusion: "mean", start: 1})],
          [attention.prefix, attention.tokens, attention.readToken],
        ];
        """,
        export_attention(classifier, image),
    )
    weights = torch.stack(attention_weights(classifier, classifier.preprocess(image)[0][None]))[:, 0]
    mixing = (weights.mean(1) + torch.eye(18)) / 2
    one_head = (weights[:, 0] + torch.eye(18)) / 2
    product = mixing[2] @ mixing[1] @ mixing[0]
    expected = [weights[1].mean(0)[:, 13], (one_head[2] @ one_head[1])[13], product[:, 13], product[1]]
    for own, reference in zip(found, expected, strict=False):
        assert np.abs(np.array(own) - reference.numpy()).max() < 1e-3
    assert found[-1] == [3, 18, 0]


def test_head_statistics_are_those_of_the_doctor(classifier, image, run_page):
    exported = export_attention(classifier, image)
    found = run_page("return [0, 1, 2].map(layer => attention.headStatistics(layer))", exported)
    trace = Trace()
    with torch.no_grad():
        classifier.model(classifier.preprocess(image)[0][None], trace)
    queries = sample_queries(trace.layout, 256)
    for layer, record in zip(found, trace.records, strict=True):
        reference = head_statistics(record, trace.layout, queries)
        assert [one["entropy"] for one in layer] == pytest.approx(reference.entropy.tolist(), abs=1e-3)
        assert [one["distance"] for one in layer] == pytest.approx(reference.distance.tolist(), abs=1e-2)
    uniform = run_page("return attention.uniformDistance", exported)
    assert uniform == pytest.approx(uniform_distance(TokenLayout(0, 3, 5), torch.arange(15)), abs=1e-5)


def test_similarity_is_the_cosine_of_tokens(classifier, image, run_page):
    code = """
        const tokens = new PatchTokens(input.description, data), other = tokens.vector(2, 0).map(value => -value);
        return [[...tokens.similarity(tokens.vector(1, 3))], [...tokens.similarity(other)]];
    """
    found, opposite = run_page(code, export_tokens(classifier, image, 1))
    with torch.no_grad():
        tokens = patch_features(classifier.model, classifier.preprocess(image)[0][None], 1)[0].flatten(0, 1)
    cosines = torch.cosine_similarity(tokens[:, None], tokens[None], dim=-1).numpy()
    assert np.abs(np.array(found) - cosines[8]).max() < 1e-3 < cosines[8].std()
    assert np.abs(np.array(opposite) + cosines[10]).max() < 1e-3


def test_a_patch_is_linked_with_the_one_at_the_same_place(run_page):
    code = """
        const from = input.stages[0], to = input.stages[1];
        return Array.from({length: 15}, (_, i) => samePlace([Math.floor(i / 5), i % 5], from, to));
    """
    # 3 x 5 patches on all of an image of 60 x 100; 4 x 4 on the middle square of another, twice as large
    whole, middle = [0, 0, 60, 100], [0, 40, 120, 160]
    stages = [
        {"size": {"width": 100, "height": 60}, "grid": {"rows": 3, "columns": 5},
         "geometry": {"box": whole, "visible_box": whole}},
        {"size": {"width": 200, "height": 120}, "grid": {"rows": 4, "columns": 4},
         "geometry": {"box": middle, "visible_box": middle}},
    ]  # fmt: skip
    row = [
        [None, [0, 0], [0, 2], [0, 3], None],
        [None, [2, 0], [2, 2], [2, 3], None],
        [None, [3, 0], [3, 2], [3, 3], None],
    ]
    assert run_page(code, stages=stages) == [one for line in row for one in line]


def test_colors_scales_and_interpolation_are_those_of_render(run_page):
    values = np.random.default_rng(1).gamma(2, size=(3, 5)).astype(np.float32)
    found = run_page(
        """
        const fine = [...new Upsampler(3, 5, 8).apply(Float32Array.from(input.values))];
        const tables = [[false, "inferno"], [true, "inferno"]].map(([signed, name]) => {
          const {light, added, gray} = palettes.blendTables(name, 0.8, 0.5, signed);
          return [light, added, gray].map(words => [...new Uint8Array(words.buffer)]);
        });
        return {fine, tables, scale: robustScale(fine, palettes.percentiles),
          signed: robustScale(fine.map(value => value - 2), palettes.percentiles, true),
          levels: [...toLevels([0, 0.25, 1, 2], [0, 1], new Uint8Array(4))], color: [...palettes.color("viridis", 7)]};
        """,
        values=values.ravel().tolist(),
    )
    geometry = Geometry((24, 40), (24, 40), (0, 0, 24, 40))
    fine = geometry.to_image(values)
    assert np.abs(np.array(found["fine"]) - fine.ravel()).max() < 1e-5
    scale, signed = Scale.robust(fine), Scale.symmetric(fine - 2)
    span = scale.high - scale.low
    assert found["scale"] == pytest.approx([scale.low, scale.high], abs=0.01 * span)
    assert found["signed"] == pytest.approx([signed.low, signed.high], abs=0.01 * span)
    assert found["levels"] == [0, 64, 255, 255] and found["color"] == color_table("viridis")[7].tolist()
    for is_signed, (light, added, gray) in zip((False, True), found["tables"], strict=True):
        table = blend_table(0.8, 0.5, signed=is_signed) / 256  # channel, (own, gray, added), level
        light, added, gray = (np.array(one).reshape(256, 4) for one in (light, added, gray))
        assert np.abs(light[:, :3] / 255 - (table[:, 0] + table[:, 1]).T).max() < 0.01
        assert np.abs(added[:, :3] - table[:, 2].T).max() < 1.01
        own = light[:, :3] / 255 * (1 - gray[:, 3:] / 255)
        assert np.abs(own - table[:, 0].T).max() < 0.01
    assert set(describe_palettes()["colormaps"]) == set(COLORMAPS)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"global_pool": "token", "reg_tokens": 1}, ["class token", "class token", "register 1"]),
        ({"global_pool": "avg", "reg_tokens": 2}, ["model's output", "register 1", "register 2"]),
        ({"global_pool": "avg"}, ["model's output"]),
    ],
)
def test_tokens_have_their_names(fields, names, image, run_page):
    exported = export_attention(make_classifier(**fields), image)
    code = "return Array.from({length: attention.prefix + 1}, (_, token) => tokenName(token - 1, attention));"
    assert run_page(code, exported) == names
