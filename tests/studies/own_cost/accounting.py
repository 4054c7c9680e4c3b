"""A pytest plugin that says where the time of a session went; loaded by ``own_cost suite`` only.

Each of the calls below is timed without the calls of the table that happen inside it; what is in none is the rest.
"""

import functools
import importlib
import json
import os
import time
from collections import Counter
from pathlib import Path

RESULT = "NFNET_ACCOUNTS"  # environment variable: the file that the accounts are written to
RUNS, MADE, ORACLE = "engines: runs", "engines: sessions made, saved, loaded, closed", "oracle"
INSIDE = (RUNS, MADE, ORACLE)
CALLS = {
    "fixtures.engines.registry:open_engine": MADE,
    "fixtures.run.programs:open_engine": MADE,  # the name under which it is called
    "fixtures.engines.onnxruntime.engine:OnnxRuntimeEngine.prepare": MADE,
    "fixtures.engines.onnxruntime.engine:OnnxRuntimeEngine.load": MADE,
    "fixtures.engines.onnxruntime.engine:OnnxRuntimeProgram.run": RUNS,
    "fixtures.engines.onnxruntime.engine:OnnxRuntimeProgram.save": MADE,
    "fixtures.engines.onnxruntime.engine:OnnxRuntimeProgram.close": MADE,
    "fixtures.engines.migraphx.engine:MIGraphXEngine.prepare": MADE,
    "fixtures.engines.migraphx.engine:MIGraphXEngine.load": MADE,
    "fixtures.engines.migraphx.engine:MIGraphXProgram.run": RUNS,
    "fixtures.engines.migraphx.engine:MIGraphXProgram.save": MADE,
    "fixtures.engines.migraphx.engine:MIGraphXProgram.close": MADE,
    "fixtures.reference.evaluator:GraphEvaluator.evaluate": ORACLE,
    "fixtures.reference.float64:Float64Reference.outputs": "kept results of the oracle: hashes, files",
    "fixtures.run.models:ModelStore.onnx_file": "building models",
    "fixtures.run.models:ModelStore.images": "images",
    "fixtures.run.programs:ProgramPool.calibration": "images",
    "fixtures.run.compare:judge_outputs": "judging",
    "fixtures.run.tolerances:Tolerances.tolerance": "judging",
    "fixtures.plugin.agreement:explain_case": "locality without oracle and engine",
    "fixtures.plugin.speed:Stopwatch.measure": "sampling without the engine, pytest-benchmark",
    "fixtures.plugin.accuracy:Decisions.compare": "decisions without the engine",
}
BEGUN = time.perf_counter()
spent: Counter[str] = Counter()
inside: list[float] = []  # seconds of the table's calls inside each open one


def timed(kind, function):
    """``function``, its own time added to ``kind``."""

    @functools.wraps(function)
    def call(*words, **names):
        inside.append(0.0)
        start = time.perf_counter()
        try:
            return function(*words, **names)
        finally:
            seconds = time.perf_counter() - start
            spent[kind] += seconds - inside.pop()
            if inside:
                inside[-1] += seconds

    return call


def pytest_sessionstart():
    """Put a clock around each call of the table."""
    for name, kind in CALLS.items():
        module, _, path = name.partition(":")
        *owners, last = path.split(".")
        place = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(place, last, timed(kind, getattr(place, last)))
    spent["pytest: start and collection"] += time.perf_counter() - BEGUN


def pytest_unconfigure():
    """Write the accounts."""
    Path(os.environ[RESULT]).write_text(json.dumps({"spent": spent, "whole": time.perf_counter() - BEGUN}))
