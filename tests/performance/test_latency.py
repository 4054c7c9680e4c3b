"""How long does a run take?"""

import time

import pytest

pytestmark = pytest.mark.performance
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 50, 2.0


def test_latency(benchmark, program, laboratory, case):
    """Host to host: inputs and outputs in the memory of the caller, one compiled program, compile time not counted."""
    feeds = {laboratory.model(case.model).input.name: laboratory.images(case.model, case.batch)}
    start = time.perf_counter()
    program.run(feeds)
    once = time.perf_counter() - start
    engine = laboratory.engine(case.engine)
    benchmark.group = case.model.label
    benchmark.extra_info.update(
        engine=case.engine, version=engine.version, model=case.model.label, precision=case.precision, batch=case.batch,
        first_run_seconds=once, facts=program.facts,
    )  # fmt: skip
    rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, round(SECONDS / max(once, 1e-6))))
    benchmark.pedantic(program.run, args=(feeds,), rounds=rounds, warmup_rounds=1)
