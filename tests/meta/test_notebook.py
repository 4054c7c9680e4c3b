"""The notebook runs from top to bottom, from any folder, in a kernel of the running Python."""

import base64
import io
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "nfnet_inference.ipynb"
DIGITS = 3
PREDICTION = re.compile(r"^ {4} *(\d+\.\d)%  (\S+)$", re.MULTILINE)


def read_notebook():
    """Return the notebook in the repository."""
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def cell(notebook, cell_id):
    """Return one cell."""
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def printed(notebook, cell_id):
    """Return what a cell printed."""
    return "".join(output.text for output in cell(notebook, cell_id).outputs if output.output_type == "stream")


@pytest.fixture(scope="module")
def executed(runner, tmp_path_factory):
    """The notebook with its outputs, on ONNX Runtime and without network."""
    return runner.notebook(tmp_path_factory.mktemp("notebook"), {"ENGINE": "onnxruntime:cpu"})


def test_notebook_is_valid_and_has_no_outputs():
    """Format 4.5, and cells with readable ids."""
    notebook = read_notebook()
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "PHOTOGRAPH = None" in code[0].source


@pytest.mark.parametrize("place", ["root", "subfolder", "NFNET_ROOT", "JPY_SESSION_NAME"])
def test_notebook_finds_the_project_from_any_folder(runner, tmp_path, place):
    """In or above the working directory, by the variable, or above the notebook that Jupyter has open."""
    source = cell(read_notebook(), "project").source + "\nimport fixtures\nprint(fixtures.__path__[0])"
    folder = {"root": ROOT, "subfolder": ROOT / "tests" / "meta"}.get(place, tmp_path)
    env = {"NFNET_ROOT": {"NFNET_ROOT": ROOT}, "JPY_SESSION_NAME": {"JPY_SESSION_NAME": NOTEBOOK}}.get(place, {})
    done = runner.python("-I", "-c", source, cwd=folder, env={name: str(value) for name, value in env.items()})
    assert done.out.strip() == str(ROOT / "fixtures"), done.text


def test_notebook_that_finds_no_project_says_what_to_set(runner, tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    done = runner.python("-I", "-c", cell(read_notebook(), "project").source, cwd=tmp_path, code=1)
    assert str(tmp_path) in done.err.splitlines()[-1]
    assert "NFNET_ROOT" in done.err.splitlines()[-1]


def test_notebook_prints_probabilities_of_the_digits(executed):
    """Of the bundled network. Five for each image, in descending order, at most one in total; the first is correct."""
    text = printed(executed, "model")
    assert "onnxruntime:cpu is judged" in text
    assert re.search(r"^digits_nfnet@32\+trained: trained .*; dm_nfnet_f0: ", text, re.MULTILINE)
    found = PREDICTION.findall(printed(executed, "predictions"))
    assert len(found) == 5 * DIGITS
    for digit in range(DIGITS):
        rows = found[5 * digit : 5 * digit + 5]
        probabilities = [float(probability) for probability, _ in rows]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 50 < sum(probabilities) <= 100.5  # printed to a tenth
        assert rows[0][1] == str(digit)


def test_notebook_prints_times_and_the_verdict(executed):
    assert re.search(r"compile \S+ s, first run \S+ ms, later runs \S+ ms \(median of \d+\)", printed(executed, "run"))
    last = printed(executed, "predictions").splitlines()[-1]
    assert re.fullmatch(r"AGREE: .* on 3 images, worst error \S+ u of \S+ u allowed", last)


def test_notebook_draws_the_images_without_warnings(executed):
    outputs = cell(executed, "drawing").outputs
    (data,) = (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    assert min(pixels.shape) > 500
    assert pixels.std() > 10
    assert not [out for cell in executed.cells for out in cell.get("outputs", ()) if out.get("name") == "stderr"]
