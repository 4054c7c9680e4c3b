"""Models of users on MIGraphX: quantised as it changes graphs, and bug reports whose script shows the fault again."""

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fixtures.localize import bug_report
from fixtures.localize.records import BUG_REPORT
from fixtures.machine import SUITE, WITHIN
from tests.meta import classifiers

pytestmark = pytest.mark.migraphx
REF = ("--engine", "migraphx:ref", "--inputs", "2", "--batch", "2")
INSIDE = ".ci/with-migraphx"
OTHER_MODULE = "raise AssertionError('the C library ran')"


@pytest.fixture
def compare(ref_engine, runner, tmp_path):
    """A function that compares a model on the ref target."""
    del ref_engine

    def run(name, *words, code=0):
        path = tmp_path / f"{name}.onnx"
        onnx.save(classifiers.model(name), path)
        return runner.compare(f"--model={path}", *REF, *words, env={WITHIN: INSIDE}, code=code)

    return run


@pytest.mark.parametrize(("name", "precision"), [("batch_normalised", "int8"), ("all_equal", "fp8")])
def test_constants_are_folded_before_a_model_is_quantised(compare, name, precision):
    """As MIGraphX multiplies them into the weights of the product before them."""
    compare(name, "--precision", precision)


def test_another_change_before_quantisation_is_not_judged(compare):
    """MIGraphX moves a mean of the images past the first convolution, and quantises another tensor."""
    done = compare("standardised_images", "--precision", "int8", code=2)
    assert "quantises other tensors than the file has (i:" in done.err
    assert "Sub 'm'" in done.err


@pytest.mark.parametrize("name", ["standardised_weight", "nan_in_a_channel"])
def test_script_of_a_bug_report_shows_the_fault_again(compare, name):
    """Through the library that ran, though there is a module; a fault of NaN is shown as one."""
    done = compare(name, "--explain", code=1)
    folder = Path(re.search(rf"{BUG_REPORT}: (.+)", done.out)[1])
    (folder / "migraphx.py").write_text(OTHER_MODULE)
    again = subprocess.run([sys.executable, bug_report.SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr
    recorded, right, engine = (line.partition("relative error ") for line in again.stdout.splitlines())
    assert (right[0].split()[0], engine[0].split()[0]) == ("onnxruntime", "migraphx")
    assert recorded[2] == engine[2] != right[2]
    assert ("NaN or Inf differ" in engine[2]) == (name == "nan_in_a_channel")
    command = f"run it in this folder: {SUITE / INSIDE} python {bug_report.SCRIPT}\n"
    assert command in (folder / bug_report.README).read_text()
