"""What the tests of the web app share."""

import io

import numpy as np
import pytest
import torch
from page_driver import watched_pages
from PIL import Image
from starlette.testclient import TestClient
from video_clips import record_with_audio

from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import WEIGHTS, save_config, write_weights
from vitreous.model.vit import ViT
from vitreous.web.explorer.routes import create_explorer_app


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A second of 25 frames, 36 x 64 pixels."""
    return record_with_audio(tmp_path_factory.mktemp("clips") / "clip.mp4", "aac")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """The folder of a small model that has learned nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    vit = ViT(ViTConfig(image_size=(16, 16), patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2))
    save_config(
        ImageClassifier(vit, Preprocessing((16, 16), "squash", (0.5,) * 3, (0.5,) * 3, 4), ("red", "green", "blue")),
        folder,
    )
    write_weights(vit.state_dict(), folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def image():
    """Noise of 60 x 90 pixels."""
    return np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def png(image):
    """The bytes of `image` as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def client(explorer):
    """Requests to the module's `explorer`, from the address that it serves."""
    with TestClient(create_explorer_app(explorer), "http://127.0.0.1:8765") as made:
        yield made


@pytest.fixture
def open_page(browser, address):
    """Opens the explorer at the module's `address` in a browser of its own, see `watched_pages`."""
    with watched_pages(browser, address) as open_it:

        def open_ready(*arguments, **options):
            page = open_it(*arguments, **options)
            page.wait_for_selector("body[data-ready]")
            return page

        yield open_ready
