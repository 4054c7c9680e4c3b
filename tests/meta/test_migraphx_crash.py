"""Models that end the process of MIGraphX 2.14: one failed case each, and the rest of the run is intact."""

import contextlib
import re
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from fixtures.engines.isolated import ENDED_BEFORE, IsolatedEngine
from fixtures.engines.worker_process import Isolation
from fixtures.errors import RunError
from fixtures.plugin.failures import CANNOT_JUDGE
from fixtures.records import EngineOptions
from tests.studies.found.models import model

pytestmark = pytest.mark.migraphx
ENGINES = ("--engine", "onnxruntime:cpu,migraphx:ref", "--precision", "fp32", "--batch", "1")
CRASHES = {"slice_without_axes": "parse", "scatter_at_minus_one": "run"}  # model: stage
OUT_OF_RANGE = np.array([[100000, 0, 0, 0]])


@pytest.mark.parametrize(("name", "stage"), CRASHES.items(), ids=CRASHES)
def test_crash_is_one_failed_case(ref_engine, runner, tmp_path, name, stage):
    """The process dies once; the other tests of the case are not judged, those of ONNX Runtime are not touched."""
    del ref_engine
    onnx.save(model(name), tmp_path / "crash.onnx")
    place = "tests/conformance/test_agreement.py"
    done = runner.pytest(place, *ENGINES, f"--model={tmp_path / 'crash.onnx'}", isolated=True)
    assert done.code == 1, done.text
    (failure,) = set(re.findall(rf"migraphx:ref-crash-fp32-b1: failed at {stage}: .*", done.out))
    assert "SIG" in failure
    assert ENDED_BEFORE in done.out
    assert CANNOT_JUDGE not in done.out
    assert re.search(r"^pass onnxruntime:cpu-crash-fp32-b1 ", done.out, re.MULTILINE)
    assert re.search(r"^FAIL migraphx:ref-crash-fp32-b1 .* 0 comparisons, tests failed: 1$", done.out, re.MULTILINE)
    crashes_again(failure)
    if stage == "run":  # the program is in the cache now
        loaded = runner.pytest(place, *ENGINES, f"--model={tmp_path / 'crash.onnx'}", isolated=True)
        (failure,) = set(re.findall(r"migraphx:ref-crash-fp32-b1: failed at run: .*-loaded-.*", loaded.out))
        crashes_again(failure)


def test_index_out_of_range_ends_the_worker_alone(ref_engine, pytestconfig, tmp_path):
    """The suite does not run such a model, since no runtime can; a user of the engine may."""
    del ref_engine
    onnx.save(model("scatter_at_minus_one", index=OUT_OF_RANGE), tmp_path / "crash.onnx")
    with contextlib.closing(
        IsolatedEngine("migraphx:ref", pytestconfig.option.migraphx, tmp_path, Isolation())
    ) as engine:
        request = {"shape": (1, 3, 8, 8), "precision": "fp32", "options": EngineOptions()}
        program = engine.prepare(tmp_path / "crash.onnx", **request)
        with pytest.raises(RunError, match="SIG"):
            program.run({"images": np.ones((1, 3, 8, 8), np.float32)})
        assert engine.unsupported("fp32") is None


def crashes_again(failure):
    """Run the script that a failure names."""
    again = subprocess.run([sys.executable, failure.rpartition("python ")[2]], check=False, capture_output=True)
    assert again.returncode in {-signal.SIGABRT, -signal.SIGSEGV}, again.stderr
