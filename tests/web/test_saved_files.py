"""The files that the page writes hold what it shows: its JavaScript, run by Node, against NumPy and PyTorch."""

import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import torch

from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.web.explorer.attention_export import export_attention
from vitreous.web.explorer.saving import PAGES, bundle_modules, digest_source, saved_view_page

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="the page's files are written by Node, which isn't there")


@pytest.fixture
def run_node(tmp_path):
    """Runs JavaScript beside the page's modules; returns the JSON that it prints."""

    def run(code):
        for path in PAGES.glob("*.js"):
            shutil.copy(path, tmp_path)
        (tmp_path / "package.json").write_text('{"type": "module"}')
        (tmp_path / "run.js").write_text(code)
        done = subprocess.run([NODE, "run.js"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    return run


def test_numpy_reads_the_arrays(run_node, tmp_path):
    run_node(
        """
        import {writeFileSync} from "node:fs";
        import {doubles, floats, integers, text, texts, toNpz} from "./npz.js";
        const blob = toNpz({
          patch_map: floats([1, 2, 3, 4, 5, 6.5], [2, 3]), method: text("rollout, é 🐈"), empty: text(""),
          labels: texts(["a", "", "Šķūnis"]), none: texts([]), scores: doubles([0.1, 0.7]), size: integers([60, -90]),
        });
        writeFileSync("map.npz", Buffer.from(await blob.arrayBuffer()));
        """
    )
    assert zipfile.ZipFile(tmp_path / "map.npz").testzip() is None
    with np.load(tmp_path / "map.npz", allow_pickle=False) as found:
        assert found["patch_map"].dtype == np.float32 and found["patch_map"].tolist() == [[1, 2, 3], [4, 5, 6.5]]
        assert str(found["method"]) == "rollout, é 🐈" and str(found["empty"]) == ""
        assert found["labels"].tolist() == ["a", "", "Šķūnis"] and found["none"].shape == (0,)
        assert found["scores"].tolist() == [0.1, 0.7] and found["size"].tolist() == [60, -90]


def test_halves_are_those_of_numpy(run_node):
    values = np.concatenate([np.geomspace(1e-9, 1, 400), [0, 1, 0.5, 2**-14, 2**-24, 0.99999]]).astype(np.float32)
    found = run_node(
        f'import {{toHalf}} from "./matrices.js"; console.log(JSON.stringify({values.tolist()}.map(toHalf)));'
    )
    halves = np.array(found, np.uint16).view(np.float16).astype(np.float64)
    step = np.spacing(np.maximum(values.astype(np.float16), np.float16(2**-14))).astype(np.float64)
    assert (np.abs(halves - values) <= 0.5001 * step).all()


MAPS = """
import {readFileSync} from "node:fs";
import {Attention} from "./attention.js";
import {chooseMatrices, encodeMatrices} from "./matrices.js";
const file = readFileSync("data.bin"), buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const attention = new Attention(JSON.parse(readFileSync("input.json")), buffer);
const views = [
  {method: "rollout", first: 0, layer: 2, heads: null, fusion: "mean"},
  {method: "rollout", first: 1, layer: 2, heads: [1], fusion: "mean"},
  {method: "rollout", first: 0, layer: 2, heads: null, fusion: "max"},
  {method: "attention", first: 0, layer: 1, heads: null, fusion: "max"},
  {method: "attention", first: 0, layer: 2, heads: [0], fusion: "mean"},
];
const starts = [
  {start: -1, toward: false}, {start: attention.tokenOf(1, 3), toward: false},
  {start: attention.tokenOf(0, 2), toward: true},
];
const rooms = [1600, 1599, 1024, 1023].map(bytes =>
  chooseMatrices(attention, views[0], bytes)?.description.encoding ?? null);
console.log(JSON.stringify({rooms, maps: views.map(view => {
  const {description, data, settings} = encodeMatrices(attention, view, ENCODING);
  const saved = new Attention(description, data.buffer), compute = (one, fields) => [...one[view.method](fields)];
  return starts.map(start =>
    [compute(saved, {...settings, ...start}), compute(attention, {...view, last: view.layer, ...start})]);
})}));
"""


@pytest.mark.parametrize(("encoding", "tolerance"), [("float16", 3e-4), ("uint8", 4e-3)])
def test_a_saved_view_computes_the_maps_of_the_page(encoding, tolerance, run_node, tmp_path):
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 40), 8, embed_dim=16, depth=3, num_heads=2, num_classes=3))
    with torch.no_grad():  # an untrained model attends to everything alike
        for name, parameter in vit.named_parameters():
            parameter.mul_(3.0 if "qkv" in name and parameter.ndim == 2 else 1.0)
    preprocessing = Preprocessing((24, 40), "squash", (0.5,) * 3, (0.5,) * 3, 8)
    classifier = ImageClassifier(vit, preprocessing, ("dog", "cat", "cow"))
    image = np.random.default_rng(0).integers(0, 256, (72, 120, 3), dtype=np.uint8)
    exported = export_attention(classifier, image)
    (tmp_path / "data.bin").write_bytes(exported.data)
    (tmp_path / "input.json").write_text(json.dumps(exported.description))
    found = run_node(MAPS.replace("ENCODING", json.dumps(encoding)))
    assert found["rooms"] == ["float16", "uint8", "uint8", None]
    assert len(found["maps"]) == 5
    for pair in (pair for view in found["maps"] for pair in view):
        saved, shown = map(np.array, pair)
        assert np.abs(saved - shown).max() < tolerance < np.ptp(shown)


LINKS = """
import {clampView, fromFragment, newView, toFragment} from "./view.js";
const full = {
  model: 1, image: "upload-1", name: "a & b=c#.png", method: "attention", first: 1, layer: 2, heads: [0, 3],
  fusion: "max", token: 0, patch: [2, 1], toward: true, opacity: 35, palette: "viridis", target: "cat, dog",
  contrast: "100 %", feature: "norms", masked: "3-5.9", fill: "blur", ablated: "0h3.2h1", unchanged: true,
};
const camera = {live: "browser"}; // it has no image to come back to
const attention = {depth: 4, heads: [4, 4, 4, 4], prefix: 1, rows: 3, columns: 5};
const hostile = [
  "layer=99&first=-7&heads=3.3.-1.9.1&token=-5&patch=9.9", "layer=1e400&first=NaN&heads=a.b&token=7&patch=1",
  "opacity=1e9&fusion=__proto__", `n=${"x".repeat(1e6)}&heads=${"0.".repeat(1e5)}0`,
  "layer=-2&patch=-1.2&opacity=-3&feature=constructor&fill=constructor&live=constructor",
];
const clamped = hostile.map(text => {
  const view = fromFragment(text);
  clampView(view, attention);
  return view;
});
console.log(JSON.stringify({
  fields: Object.keys(newView()).filter(name => !(name in {...full, ...camera})), full, clamped,
  restored: fromFragment(toFragment(full)), first: toFragment(newView()),
  camera: fromFragment(toFragment({...full, ...camera})),
}));
"""


def test_a_link_holds_every_field_of_the_view_and_a_hostile_one_is_brought_into_range(run_node):
    found = run_node(LINKS)
    assert found["restored"] == {**found["restored"], **found["full"]} and found["first"] == ""
    assert found["camera"] == {**found["restored"], "image": None, "name": "", "live": "browser"}
    assert found["fields"] == [], "give the fields of the view that are new a value in this test"
    for view in found["clamped"]:
        assert 0 <= view["first"] <= view["layer"] < 4 and -1 <= view["token"] < 1 and 0 <= view["opacity"] <= 100
        assert (
            view["live"] == ""
            and view["heads"] in (None, [1, 3])
            and view["patch"] is None
            and len(view["name"]) <= 300
        )
        assert (view["fusion"], view["feature"], view["fill"]) == ("mean", "colors", "mean")


INTERVENTIONS = """
import {interventionOf, readHeads, readPatches, writeHeads, writePatches} from "./intervention.js";
const hostile = ["0-99999999", "9-3", "-1", "a.b", "1e3", "70000", "3--5", "5-5.5"];
const view = {masked: "0-2.7", fill: "blur", ablated: "1h0.0h2", unchanged: false, target: "", contrast: "cow"};
console.log(JSON.stringify({
  hostile: hostile.map(text => readPatches(text).length), back: writePatches(readPatches("7.0-2.1")),
  heads: readHeads("3h1.xh2.0h.12h11"), headsBack: writeHeads([[3, 1], [0, 2]]),
  known: interventionOf(view, {scores: [["cat", 0.9]]}), unknown: interventionOf(view).target,
  off: interventionOf({...view, unchanged: true}), none: interventionOf({...view, masked: "", ablated: "x"}),
}));
"""


def test_an_intervention_is_written_in_the_link_and_read_with_care(run_node):
    found = run_node(INTERVENTIONS)
    assert found["hostile"] == [0, 0, 0, 0, 0, 0, 0, 1] and found["back"] == "0-2.7"
    assert found["heads"] == [[3, 1], [12, 11]] and found["headsBack"] == "3h1.0h2"
    assert found["known"] == {"masked": [0, 1, 2, 7], "fill": "blur", "heads": [[1, 0], [0, 2]], "target": "cat - cow"}
    assert found["unknown"] is None and found["off"] is None and found["none"] is None


def test_the_saved_page_allows_its_own_style_and_script_only():
    page = saved_view_page()
    assert page.count("<script") == 2 and page.count("<style") == 1
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy and "http" not in policy
    assert f"style-src '{digest_source(style)}'" in policy and f"script-src '{digest_source(script)}'" in policy
    assert " style=" not in page.replace(style, "").replace(script, "")
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\(", script), "it works without a server"


def test_bundled_modules_do_what_the_modules_do(run_node):
    names = re.findall(r'^modules\["(.*?)"\]', bundle_modules("python.js"), re.MULTILINE)
    assert names == ["intervention.js", "view.js", "python.js"]
    call = "stemOf({name: 'a photo.of me.png'})"
    expected = run_node(f'import {{stemOf}} from "./python.js"; console.log(JSON.stringify({call}));')
    assert expected == "a-photo-of-me"
    assert (
        run_node(f'{bundle_modules("python.js")}console.log(JSON.stringify(modules["python.js"].{call}));') == expected
    )
