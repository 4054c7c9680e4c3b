"""Models that end the process of MIGraphX 2.14: one failed case each, and the rest of the run is intact."""

import re
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from fixtures.engines.isolated import ENDED_BEFORE
from fixtures.plugin.failures import CANNOT_JUDGE
from tests.studies.found.models import model

pytestmark = pytest.mark.migraphx
ENGINES = ("--engine", "onnxruntime:cpu,migraphx:ref", "--precision", "fp32", "--batch", "1")
OUT_OF_RANGE = np.array([[100000, 0, 0, 0]])  # no runtime can run it
CRASHES = {  # model, its constants; stage; what becomes of the case of ONNX Runtime
    "slice without axes": ("slice_without_axes", {}, "parse", "pass"),
    "scatter at -1": ("scatter_at_minus_one", {}, "run", "pass"),
    "scatter out of range": ("scatter_at_minus_one", {"index": OUT_OF_RANGE}, "run", "NOT JUDGED"),
}


@pytest.mark.parametrize(("name", "constants", "stage", "beside"), CRASHES.values(), ids=CRASHES)
def test_crash_is_one_failed_case(ref_engine, runner, tmp_path, name, constants, stage, beside):
    """The process dies once; the other tests of the case are not judged, those of ONNX Runtime are not touched."""
    del ref_engine
    onnx.save(model(name, **constants), tmp_path / "crash.onnx")
    place = "tests/conformance/test_agreement.py"
    done = runner.pytest(place, *ENGINES, f"--model={tmp_path / 'crash.onnx'}", isolated=True, code=1)
    (failure,) = set(re.findall(rf"migraphx:ref-crash-fp32-b1: failed at {stage}: .*", done.out))
    assert "SIG" in failure
    assert ENDED_BEFORE in done.out
    assert CANNOT_JUDGE not in done.out
    assert "ERROR at setup" not in done.out
    assert re.search(rf"^{beside} onnxruntime:cpu-crash-fp32-b1[ :]", done.out, re.MULTILINE)
    assert re.search(r"^FAIL migraphx:ref-crash-fp32-b1 .* 0 comparisons, tests failed: 1$", done.out, re.MULTILINE)
    crashes_again(failure)
    if (stage, beside) == ("run", "pass"):  # the program is in the cache now
        loaded = runner.pytest(place, *ENGINES, f"--model={tmp_path / 'crash.onnx'}", isolated=True, code=1)
        found = set(re.findall(r"migraphx:ref-crash-fp32-b1: failed at run: .*-loaded-.*", loaded.out))
        assert len(found) == 1, loaded.text
        (failure,) = found
        crashes_again(failure)


def test_crash_on_a_model_that_cannot_be_judged_fails(ref_engine, runner, tmp_path):
    del ref_engine
    onnx.save(model("scatter_at_minus_one", index=OUT_OF_RANGE), tmp_path / "crash.onnx")
    done = runner.compare("--engine", "migraphx:ref", f"--model={tmp_path / 'crash.onnx'}", isolated=True, code=1)
    assert "at run: SIG" in done.err.splitlines()[-1]


def crashes_again(failure):
    """Run the script that a failure names."""
    again = subprocess.run([sys.executable, failure.rpartition("python ")[2]], check=False, capture_output=True)
    assert again.returncode in {-signal.SIGABRT, -signal.SIGSEGV}, again.stderr
