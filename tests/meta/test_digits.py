"""The bundled trained network: its weights, its images and its accuracy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.numpy import load_file

from fixtures.accuracy import digits
from fixtures.cli.drawing import samples
from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import variant
from fixtures.nfnet.writer import write_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from tests.meta import golden_logits as golden
from tests.meta.tiny_models import by_onnxruntime

ROW = variant(digits.VARIANT)
LOGITS = golden.load(Path(__file__).parent / "golden" / "digits_logits.npz")["logits"]


@pytest.fixture(scope="module")
def metadata():
    """Metadata in the file of weights."""
    with safe_open(digits.WEIGHTS, framework="numpy") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def logits(tmp_path_factory):
    """ONNX Runtime's logits of our graph at fp32, for every held-out image."""
    path = tmp_path_factory.mktemp("digits") / "model.onnx"
    graph = build_graph(network(ROW), load_file(digits.WEIGHTS), (ROW.test_size, ROW.test_size))
    write_model(graph, path, precision("fp32"))
    return by_onnxruntime(path, digits.as_input(digits.held_out()[0]))["logits"].astype(np.float64)


def test_graph_agrees_with_timm_on_real_images(logits):
    """Relative L2 error of each image's logits against timm in float64 with the same weights."""
    errors = np.linalg.norm(logits - LOGITS, axis=1) / np.linalg.norm(LOGITS, axis=1)
    assert errors.max() <= golden.LARGEST_ERROR


def test_onnx_runtime_has_the_accuracy_in_the_metadata(logits, metadata):
    """The number of correct predictions is exactly that of the training script."""
    labels = digits.held_out()[1]
    assert len(labels) == int(metadata["images"])
    assert (logits.argmax(1) == labels).sum() == int(metadata["correct"])
    assert int(metadata["correct"]) / len(labels) >= 0.98


def test_only_images_like_the_digits_are_read():
    """White on black that fills the frame; black on white, or small in a corner, is far from the training data."""
    digit = digits.as_input(digits.held_out()[0][:1])[0]
    small = np.full_like(digit, digit.min())
    small[:, :8, :8] = digit[:, ::4, ::4]
    assert not digits.is_unlike_digits(digit + np.float32(0.01))
    assert digits.is_unlike_digits(-digit)
    assert digits.is_unlike_digits(small)
    assert np.array_equal(digits.as_pixels(digit)[..., 0] > 127, digit[0] > 0)


def test_a_picture_of_a_digit_is_shown_as_the_network_gets_it(context, tmp_path):
    """32 x 32, with a warning where it is black on white."""
    spec = ModelSpec(
        digits.VARIANT, size=(ROW.test_size, ROW.test_size), weights="trained", weights_path=digits.WEIGHTS
    )
    picture = Image.fromarray(digits.held_out()[0][0]).resize((200, 200), Image.Resampling.BILINEAR)
    for name, drawn, is_unlike in (("white", picture, False), ("black", ImageOps.invert(picture), True)):
        drawn.save(tmp_path / f"{name}.png")
        (shown,) = samples(context, spec, tmp_path / f"{name}.png")
        assert shown.image.size == (ROW.test_size, ROW.test_size)
        assert (digits.EXPECTED in shown.name) == is_unlike
