"""Faults of behaviour planted into an engine that runs: the test whose claim they break says so."""

import pytest

HEAD = """
import numpy as np
from fixtures.engines.onnxruntime import engine as module
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine as Engine, OnnxRuntimeProgram as Program
run, load, prepare, kept = Program.run, Engine.load, Engine.prepare, {}
"""
FAULTS = {
    "reuses its output": (
        """
def faulty(self, feeds):
    for name, array in run(self, feeds).items():
        held = kept.setdefault((name, array.shape), array)
        held[...] = array
        kept[name, array.shape] = held
    return {name: held for (name, shape), held in kept.items() if shape == array.shape}
Program.run = faulty
""",
        "test_living.py::test_programs_do_not_disturb_each_other",
        "a later run changed a result that was handed out",
    ),
    "drifts": (
        """
def faulty(self, feeds):
    kept["runs"] = kept.get("runs", 0) + 1
    factor = np.float32(1 + 2**-23 * (kept["runs"] > 2))
    return {name: array * factor for name, array in run(self, feeds).items()}
Program.run = faulty
""",
        "test_living.py::test_many_runs_neither_drift_nor_grow",
        "differs from the first",
    ),
    "leaks": (
        """
def faulty(self, feeds):
    kept[len(kept)] = [np.array(array) for array in feeds.values()], np.ones(2**15)
    return run(self, feeds)
Program.run = faulty
""",
        "test_living.py::test_many_runs_neither_drift_nor_grow",
        "bytes more, after",
    ),
    "saves another program": (
        """
def faulty(self, *given, **named):
    program = load(self, *given, **named)
    program.run = lambda feeds: {name: array * np.float32(1 + 2**-23) for name, array in run(program, feeds).items()}
    return program
Engine.load = faulty
""",
        "test_saving.py::test_saved_and_loaded_program_gives_the_same_bits",
        "differs in the last bits once saved and loaded",
    ),
    "compiles at random": (
        """
def faulty(self, *given, **named):
    program = prepare(self, *given, **named)
    kept["count"] = kept.get("count", 0) + 1
    factor = np.float32(1 + 2**-23 * kept["count"])
    program.run = lambda feeds: {name: array * factor for name, array in run(program, feeds).items()}
    return program
Engine.prepare = faulty
""",
        "test_saving.py::test_compiled_twice_gives_the_same_program",
        "differs in the last bits when compiled again",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_claim_that_a_fault_breaks_fails(runner, tmp_path, fault):
    """One run of the one test, on an engine with that fault."""
    code, test, words = FAULTS[fault]
    plugin = tmp_path / "planted.py"
    plugin.write_text(HEAD + code)
    done = runner.small("--batch", "2", "--precision", "fp32", f"tests/conformance/{test}", plugin=plugin)
    assert done.code == 1, done.text
    assert "1 failed" in done.out
    assert words in done.out


LEFT_BEHIND = """
def faulty(self, feeds):
    outputs = run(self, feeds)
    if id(self) in kept:
        outputs = {name: array * np.float32(1.5) for name, array in outputs.items()}
    if any(np.isfinite(array).all() and np.abs(array).max() > 1e29 for array in feeds.values()):
        kept[id(self)] = True
    return outputs
Program.run = faulty
"""


def test_what_an_image_leaves_behind_is_seen_after_it(runner, tmp_path):
    """The others are asked again once it was there, though their answer was known before."""
    plugin = tmp_path / "left_behind.py"
    plugin.write_text(HEAD + LEFT_BEHIND)
    places = ("tests/conformance/test_agreement.py", "tests/conformance/test_isolation.py", "-k", "agrees or spoiled")
    done = runner.small("--batch", "2", "--precision", "fp32", "--explain", "never", *places, plugin=plugin)
    assert done.code == 1, done.text
    assert "test_a_spoiled_image_leaves_the_others_alone[onnxruntime:cpu-test_nfnet@64-fp32-b2-huge]" in done.out
    assert "disagrees with the same engine without the spoiled image" in done.out
