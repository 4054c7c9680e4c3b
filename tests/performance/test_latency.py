"""How long does a run take?"""

import time
from dataclasses import asdict

import pytest

pytestmark = pytest.mark.performance


def described(laboratory, case, program):
    """What was timed, for the saved run."""
    return {
        "engine": case.engine, "version": laboratory.engine(case.engine).version, "model": case.model.label,
        "precision": case.precision, "batch": case.batch, "facts": program.facts,
        "costs": asdict(program.costs), "multiply_adds": laboratory.model(case.model).macs,
    }  # fmt: skip


def test_latency(stopwatch, figures, program, laboratory, case):
    """Host to host: inputs and outputs in the memory of the caller, one compiled program, compile time not counted."""
    feeds = {laboratory.model(case.model).input.name: laboratory.images(case.model, case.batch)}
    start = time.perf_counter()
    outputs = program.run(feeds)
    once = time.perf_counter() - start
    facts = described(laboratory, case, program)
    stopwatch.measure(
        lambda: program.run(feeds), group=case.model.label, first_run_seconds=once,
        error_units=lambda: figures.error(outputs), roofline=lambda: figures.roofline(program), **facts,
    )  # fmt: skip


@pytest.mark.device
def test_device_latency(stopwatch, figures, program, laboratory, case):
    """On the device: buffers stay in its memory and every run is waited for, where the engine offers that."""
    if not hasattr(program, "run_on_device"):
        pytest.skip(f"{case.engine} copies inside its run")
    feeds = {laboratory.model(case.model).input.name: laboratory.images(case.model, case.batch)}
    uploaded = program.upload(feeds)
    facts = described(laboratory, case, program)
    stopwatch.measure(
        lambda: program.run_on_device(uploaded), group=f"{case.model.label} on the device",
        roofline=lambda: figures.roofline(program), **facts,
    )  # fmt: skip
