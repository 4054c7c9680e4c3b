"""Do programs live beside each other, and for long?"""

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.conformance
LEAST_RUNS, MOST_RUNS, SECONDS = 2, 200, 3.0  # after the first one
SLACK = 2**20  # bytes of resident memory that an allocator may still take once it has settled


def bits(outputs):
    """The outputs' bytes, to compare to the last bit."""
    return {name: array.tobytes() for name, array in outputs.items()}


def resident():
    """Bytes of this process's memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_programs_do_not_disturb_each_other(check, context, case):
    """Two batches and other images in turn: all give what they gave, and results once handed out stay as they were."""
    other = (
        case
        if context.model_store.onnx_file(case.model).fixed_batch
        else replace(case, batch=1 if case.batch > 1 else 2)
    )
    images, others = (context.model_store.images(each.model, each.batch) for each in (case, other))
    first = check.run(images)
    kept = {name: array.copy() for name, array in first.items()}
    check.run(images * np.float32(0.5))
    assert bits(first) == bits(kept), "a later run changed a result that was handed out"
    with contextlib.closing(check.of_the_suite(lambda: context.program_pool.load_or_compile(other))) as program:
        name = program.inputs[0].name
        theirs = check.of_the_suite(lambda: program.run({name: others}))
        second = check.run(images)
        again = check.of_the_suite(lambda: program.run({name: others}))
    assert bits(first) == bits(kept), "another program changed a result that was handed out"
    check.agrees(second, kept, reference="the same engine, alone", images=images)
    check.agrees(again, theirs, reference="the same engine, before another program ran", images=others)
    if context.program_pool.engine(case.engine).deterministic:
        assert (bits(second), bits(again)) == (bits(kept), bits(theirs)), "another program changed the last bits"


def test_many_runs_neither_drift_nor_grow(check, context, case):
    """As many runs as fit in a few seconds: the last is as the first, and memory has stopped growing by half-time."""
    images = context.model_store.images(case.model, case.batch)
    start = time.perf_counter()
    first = check.run(images)
    runs = max(LEAST_RUNS, min(MOST_RUNS, int(SECONDS / max(time.perf_counter() - start, 1e-6))))
    exact = context.program_pool.engine(case.engine).deterministic
    before = half = resident()
    last = first
    for index in range(runs):
        if index == runs // 2:
            half = resident()
        last = check.run(images)
        assert not exact or bits(last) == bits(first), f"run {index + 2} differs from the first"
    check.agrees(last, first, reference=f"the same engine, {runs} runs before", images=images)
    later = runs - runs // 2
    leak = later * (images.nbytes + sum(array.nbytes for array in first.values()))
    grown = resident() - half
    assert grown <= max(SLACK, leak // 2), (
        f"{later} runs took {grown} bytes more, after {half - before} in the runs before them"
    )
