"""Several programs and many runs do not interfere or leak."""

import contextlib
import time

import numpy as np
import psutil
import pytest

pytestmark = pytest.mark.conformance
FEWEST_RUNS, MOST_RUNS, SECONDS = 2, 200, 3.0
SLACK = 2**20  # bytes that an allocator may still take


def bits(outputs):
    """The outputs' bytes, to compare bit by bit."""
    return {name: array.tobytes() for name, array in outputs.items()}


def test_programs_do_not_interfere(case, other_case, model_store, program_pool, run, images, assert_agrees):
    """Two programs run in turn give the same outputs as alone, and outputs already returned stay as they were."""
    other_images = model_store.images(other_case.model, other_case.batch)
    first = run(images)
    copies = {name: array.copy() for name, array in first.items()}
    run(images * np.float32(0.5))
    assert bits(first) == bits(copies), "a later run changed outputs that were already returned"
    with contextlib.closing(program_pool.load_or_compile(other_case)) as other:
        feeds = {other.inputs[0].name: other_images}
        other_first, second, other_second = other.run(feeds), run(images), other.run(feeds)
    assert bits(first) == bits(copies), "another program changed outputs that were already returned"
    assert_agrees(second, copies, reference="the same engine, alone", images=images)
    reference = "the same engine, before another program ran"
    assert_agrees(other_second, other_first, reference=reference, images=other_images)
    if program_pool.engine(case.engine).target.deterministic:
        assert bits(second) == bits(copies), "another program changed the last bits"
        assert bits(other_second) == bits(other_first), "another program changed the last bits"


def test_many_runs_neither_drift_nor_leak(case, program_pool, run, images, assert_agrees):
    """As many runs as fit in a few seconds: the last equals the first, and memory stops growing by half-time."""
    start = time.perf_counter()
    first = run(images)
    runs = max(FEWEST_RUNS, min(MOST_RUNS, int(SECONDS / max(time.perf_counter() - start, 1e-6))))
    deterministic, process = (
        program_pool.engine(case.engine).target.deterministic,
        psutil.Process(program_pool.pid(case)),
    )
    memory = [process.memory_info().rss]
    for half in (runs // 2, runs - runs // 2):
        for _ in range(half):
            last = run(images)
            assert not deterministic or bits(last) == bits(first), "a run differs from the first"
        memory.append(process.memory_info().rss)
    leak = (runs - runs // 2) * (images.nbytes + sum(array.nbytes for array in first.values()))
    growth = np.diff(memory)
    assert growth[1] <= max(SLACK, leak // 2), f"{runs} runs: memory grew by {growth} bytes in the two halves"
    assert_agrees(last, first, reference=f"the same engine, {runs} runs before", images=images)
