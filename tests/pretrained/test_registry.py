"""The names of public models, and a file on the web that is fetched, checked and kept."""

import hashlib
import http.server
import re
import threading

import pytest

from vitreous.errors import InputError
from vitreous.hub import HubRepository
from vitreous.imaging.geometry import grid_for
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.pretrained.load import load
from vitreous.pretrained.registry import ORIGINS, TORCHVISION, WeightsUrl, is_origin_name, resolve_origin

CONTENT = bytes(range(256)) * 100
NO_WORD = Preprocessing((32, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)


@pytest.mark.parametrize("origin", ORIGINS)
def test_every_origin_finds_its_own_example(origin):
    place = resolve_origin(f"{origin}:{ORIGINS[origin].example}")
    assert isinstance(place, HubRepository | WeightsUrl) or place.is_dir()


def test_names_resolve_to_repositories():
    assert resolve_origin("timm:vit_tiny@abc") == HubRepository("timm/vit_tiny", "abc")
    assert resolve_origin("hf:facebook/dinov2-small@main") == HubRepository("facebook/dinov2-small", "main")
    assert resolve_origin("dinov2:vitl14_reg") == HubRepository("facebook/dinov2-with-registers-large")
    assert resolve_origin("dino:vitb8") == HubRepository("timm/vit_base_patch8_224.dino")


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_urls_have_a_checksum_and_fit_their_patch_size(name):
    address = TORCHVISION[name]
    assert re.fullmatch(rf"https://download\.pytorch\.org/models/{name}-[0-9a-f]{{8}}\.pth", address.url)
    assert address.preprocessing.patch_size == int(name.split("_")[2])
    grid_for(address.preprocessing.input_size, address.preprocessing.patch_size)


UNKNOWN = {
    "timmm:x": "there is no origin 'timmm': did you mean 'timm'?",
    "dinov2:vits41": "there is no dinov2 model 'vits41': did you mean 'vits14'?",
    "torchvision:vit_b_61": "there is no torchvision model 'vit_b_61': did you mean 'vit_b_16'?",
    "timm:a/b": "'timm:a/b' is not a model: write it as timm:vit_base_patch16_224",
    "hf:": "'hf:' is not a repository",
}


@pytest.mark.parametrize("model", UNKNOWN)
def test_unknown_names(model):
    with pytest.raises(InputError) as caught:
        load(model, "cpu")
    assert UNKNOWN[model] in str(caught.value)


def test_an_existing_path_with_a_colon_is_no_origin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_origin_name("dinov2:vits14") and not is_origin_name("runs/a") and not is_origin_name("C:/runs/a")
    (tmp_path / "dinov2:vits14").touch()
    assert not is_origin_name("dinov2:vits14")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, or refuses."""

    def do_GET(self):
        self.server.request_count += 1
        self.send_response(self.server.code)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.code, listening.request_count = 200, 0
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def address(server: http.server.HTTPServer, checksum: str = hashlib.sha256(CONTENT).hexdigest()[:8]) -> WeightsUrl:
    return WeightsUrl(f"http://127.0.0.1:{server.server_address[1]}/vit-{checksum}.pth", NO_WORD)


def refused(place: WeightsUrl, tmp_path) -> str:
    with pytest.raises(InputError) as caught:
        place.download()
    assert not list(tmp_path.rglob("*.p*")), "something was left behind"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_downloaded_once(server, tmp_path, capfd):
    path = address(server).download()
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "home" / "hub" / "checkpoints"
    assert address(server).download() == path and server.request_count == 1
    assert capfd.readouterr() == ("", "")


def test_a_file_with_another_checksum_is_not_kept(server, tmp_path):
    assert "is not the published file" in refused(address(server, "00000000"), tmp_path)


def test_http_errors_and_missing_servers_say_what_to_do(server, tmp_path):
    server.code = 404
    line = refused(address(server), tmp_path)
    assert "404" in line and "download it by other means and put it into" in line
    missing = WeightsUrl("http://127.0.0.1:9/vit-00000000.pth", NO_WORD)
    assert "connection refused" in refused(missing, tmp_path)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "home").write_text("a file")
    assert "can't make the folder" in refused(address(server), tmp_path)
