"""The notebook, run top to bottom by Jupyter's own client in a kernel of the running Python."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "nfnet_inference.ipynb"
SHOWN = 3  # digits
ANSWER = re.compile(r"^ {4} *(\d+\.\d)%  (\S+)$", re.MULTILINE)


def printed(notebook, cell_id):
    """What a cell printed."""
    outputs = next(cell for cell in notebook.cells if cell.id == cell_id).outputs
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture(scope="module")
def executed(runner, tmp_path_factory):
    """The notebook with its outputs, on ONNX Runtime, which is everywhere, and without network."""
    return runner.notebook(tmp_path_factory.mktemp("nb"), {"ENGINE": "onnxruntime:cpu"})


def test_the_file_is_valid_and_clean():
    """Format 4.5, cells with readable ids, no outputs, no counts."""
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "PHOTOGRAPH = None" in code[0].source


def test_it_takes_the_network_in_the_box(executed):
    """And says why it is not the pretrained one."""
    text = printed(executed, "model")
    assert "onnxruntime:cpu is judged" in text
    assert "digits_nfnet@32+trained: trained, comes with the suite; dm_nfnet_f0: no pretrained ones" in text


def test_it_prints_names_with_probabilities(executed):
    """Five an image, likeliest first, never more than one together, and the first is what the image shows."""
    text = printed(executed, "answers")
    found = ANSWER.findall(text)
    assert len(found) == 5 * SHOWN
    for at in range(SHOWN):
        part = found[5 * at : 5 * at + 5]
        shares = [float(share) for share, _ in part]
        assert shares == sorted(shares, reverse=True)
        assert 50 < sum(shares) <= 100.5  # printed to a tenth
        assert part[0][1] == str(at)


def test_it_says_how_fast_and_whether_onnx_runtime_agrees(executed):
    """First and later runs in milliseconds; the verdict of all images last."""
    assert re.search(r"compile \S+ s, first run \S+ ms, later runs \S+ ms \(median of \d+\)", printed(executed, "run"))
    last = printed(executed, "answers").splitlines()[-1]
    assert re.fullmatch(r"AGREE: .* on 3 images, worst error \S+ u of \S+ u allowed", last)


def test_it_draws_the_images(executed):
    """One PNG with something on it."""
    outputs = next(cell for cell in executed.cells if cell.id == "drawing").outputs
    (data,) = (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    assert min(pixels.shape) > 500
    assert pixels.std() > 10


def test_nothing_is_written_to_the_error_stream(executed):
    """No warning between the answers."""
    streams = [
        output for cell in executed.cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"
    ]
    assert not streams
