"""Models that end the process of MIGraphX 2.14: one failed case each, and the rest of the run is intact."""

import contextlib
import re
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.engines.isolated import ENDED_BEFORE, IsolatedEngine
from fixtures.engines.worker_process import Isolation
from fixtures.errors import RunError
from fixtures.plugin.failures import CANNOT_JUDGE
from fixtures.records import EngineOptions

pytestmark = pytest.mark.migraphx
ENGINES = ("--engine", "onnxruntime:cpu,migraphx:ref", "--precision", "fp32", "--batch", "1")
FIVE = numpy_helper.from_array(np.array([5], "f"), "five")
CRASHES = {  # operator, its inputs after the first, their values; stage
    "slice without axes": ("Slice", {"starts": [0, 0], "ends": [9999, 8]}, "parse"),
    "scatter at -1": ("ScatterND", {"index": [[0, 0, 0, -1]], "five": None}, "run"),
}
OUT_OF_RANGE = {"index": [[100000, 0, 0, 0]], "five": None}


def crash_model(path, operator, inputs):
    """Write a small classifier with one node that MIGraphX does not survive."""
    random = np.random.default_rng(0)
    weights = {"w": (8, 3, 3, 3), "f": (8, 10)}
    constants = [
        numpy_helper.from_array((0.2 * random.standard_normal(weights[key])).astype("f"), key) for key in weights
    ]
    constants += [
        FIVE if value is None else numpy_helper.from_array(np.array(value, np.int64), key)
        for key, value in inputs.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c", *inputs], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["g"]),
        helper.make_node("Flatten", ["g"], ["v"]),
        helper.make_node("MatMul", ["v", "f"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"images": ["N", 3, 32, 32], "logits": ["N", 10]}.items()
    ]
    graph = helper.make_graph(nodes, "crash", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize(("operator", "inputs", "stage"), CRASHES.values(), ids=CRASHES)
def test_crash_is_one_failed_case(ref_engine, runner, tmp_path, operator, inputs, stage):
    """The process dies once; the other tests of the case are not judged, those of ONNX Runtime are not touched."""
    del ref_engine
    crash_model(tmp_path / "crash.onnx", operator, inputs)
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
    crash_model(tmp_path / "crash.onnx", "ScatterND", OUT_OF_RANGE)
    with contextlib.closing(
        IsolatedEngine("migraphx:ref", pytestconfig.option.migraphx, tmp_path, Isolation())
    ) as engine:
        request = {"shape": (1, 3, 32, 32), "precision": "fp32", "options": EngineOptions()}
        program = engine.prepare(tmp_path / "crash.onnx", **request)
        with pytest.raises(RunError, match="SIG"):
            program.run({"images": np.ones((1, 3, 32, 32), np.float32)})
        assert engine.unsupported("fp32") is None


def crashes_again(failure):
    """Run the script that a failure names."""
    again = subprocess.run([sys.executable, failure.rpartition("python ")[2]], check=False, capture_output=True)
    assert again.returncode in {-signal.SIGABRT, -signal.SIGSEGV}, again.stderr
