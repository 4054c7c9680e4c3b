"""Faults of behaviour planted into a running engine: the conformance test of that behaviour fails."""

import pytest

from tests.meta.caching_engine import CACHING_PLUGIN

HEAD = """
import numpy as np
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine as Engine, OnnxRuntimeProgram as Program
run, prepare, state = Program.run, Engine.prepare, {}
def scaled(outputs, factor):
    return {name: array * np.float32(factor) for name, array in outputs.items()}
"""
REUSES_OUTPUT = """
def faulty(self, feeds):
    for name, array in run(self, feeds).items():
        buffer = state.setdefault((name, array.shape), array)
        buffer[...] = array
    return {name: buffer for (name, shape), buffer in state.items() if shape == array.shape}
Program.run = faulty
"""
DRIFTS = """
def faulty(self, feeds):
    state["runs"] = state.get("runs", 0) + 1
    return scaled(run(self, feeds), 1 + 2**-23 * (state["runs"] > 2))
Program.run = faulty
"""
LEAKS = """
def faulty(self, feeds):
    state[len(state)] = [np.array(array) for array in feeds.values()], np.ones(2**15)
    return run(self, feeds)
Program.run = faulty
"""
SAVES_ANOTHER_PROGRAM = f"""{CACHING_PLUGIN}
load = CachingEngine.load_program
def faulty(self, saved, request):
    program = load(self, saved, request)
    program.run = lambda feeds: scaled(run(program, feeds), 1 + 2**-23)
    return program
CachingEngine.load_program = faulty
"""
COMPILES_AT_RANDOM = """
def faulty(self, request):
    program = prepare(self, request)
    state["count"] = state.get("count", 0) + 1
    factor = 1 + 2**-23 * state["count"]
    program.run = lambda feeds: scaled(run(program, feeds), factor)
    return program
Engine.prepare = faulty
"""
STAYS_WRONG = """
def faulty(self, feeds):
    outputs = scaled(run(self, feeds), 1.5 if id(self) in state else 1)
    if any(np.isfinite(array).all() and np.abs(array).max() > 1e29 for array in feeds.values()):
        state[id(self)] = True
    return outputs
Program.run = faulty
"""


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (REUSES_OUTPUT, "test_coexistence.py::test_programs_do_not_interfere"),
        (DRIFTS, "test_coexistence.py::test_many_runs_neither_drift_nor_leak"),
        (LEAKS, "test_coexistence.py::test_many_runs_neither_drift_nor_leak"),
        (SAVES_ANOTHER_PROGRAM, "test_saving.py::test_saved_program_loads_unchanged"),
        (COMPILES_AT_RANDOM, "test_saving.py::test_second_program_gives_the_same_outputs"),
        (STAYS_WRONG, "test_isolation.py::test_extreme_image_leaves_the_others_unchanged"),
    ],
)
def test_conformance_test_of_a_behaviour_fails_for_its_fault(runner, fault, test):
    options = ("--batch", "2", "--precision", "fp32", "--explain", "never", f"tests/conformance/{test}")
    done = runner.small(*options, plugin=HEAD + fault, code=1)
    assert f"FAILED tests/conformance/{test}" in done.out
