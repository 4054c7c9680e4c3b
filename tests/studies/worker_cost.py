"""What does a worker cost: to start, and for each run beside the same engine in this process?

    python tests/studies/worker_cost.py                    # ONNX Runtime, a tiny model and dm_nfnet_f0@192
    .ci/with-migraphx python tests/studies/worker_cost.py --engine migraphx:ref --small

Runs of both are taken in turns, in random order; threads do not spin. Times are 10 % quantiles: under load the median
shows what else the machine does.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np
import onnx.parser

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.benchmark.ab import LOW_QUANTILE
from fixtures.cache import cache_folder
from fixtures.engines.base import CompileRequest
from fixtures.engines.isolated import IsolatedEngine
from fixtures.engines.registry import open_engine
from fixtures.engines.worker_process import Isolation
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import EngineOptions, ModelSpec

STARTS = 5
SHAPES = ((1, 3, 8, 8), (1, 3, 192, 192), (8, 3, 192, 192))  # the last two are those of dm_nfnet_f0, too
TINY = """<ir_version: 8, opset_import: ["" : 13]>
    tiny (float[N,3,H,W] x) => (float[N,3] y) { m = GlobalMaxPool(x) y = Flatten(m) }"""


def tiny_model():
    """Write a model of two nodes."""
    path = cache_folder() / "tiny.onnx"
    onnx.save(onnx.parser.parse_model(TINY), path)
    return path


def large_model():
    """Build dm_nfnet_f0."""
    return built_model(ModelSpec("dm_nfnet_f0", None, (192, 192)), precision("fp32"), cache_folder())


def seconds_of(call):
    """Time a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compare(engines, model, shape, runs):
    """Print the time of a run in this process and in a worker, and the difference."""
    options = EngineOptions(spin=False)
    programs = [engine.prepare(CompileRequest(model, shape, "fp32", options)) for engine in engines]
    images = synthetic_images("worker_cost", shape)
    calls = [lambda program=program: program.run({program.inputs[0].name: images}) for program in programs]
    for call in calls * 3:
        call()
    taken, order = [[], []], random.Random(0)  # noqa: S311  no secret
    for _ in range(runs):
        for side in order.sample(range(2), 2):
            taken[side].append(seconds_of(calls[side]))
    here, there = np.quantile(taken, LOW_QUANTILE, axis=1) * 1e3
    print(
        f"{model.stem:<20} {shape!s:<17}: here {here:8.3f} ms, in a worker {there:8.3f} ms, "
        f"cost {there - here:6.3f} ms = {(there - here) / here:.1%} ({runs} runs)"
    )
    for program in programs:
        program.close()


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxruntime:cpu")
    parser.add_argument("--small", action="store_true", help="the tiny model only")
    options = parser.parse_args()
    isolated = []
    starts = [
        seconds_of(lambda: isolated.append(IsolatedEngine(options.engine, None, cache_folder(), Isolation())))
        for _ in range(STARTS)
    ]
    print(f"start of a worker, with its engine: {min(starts):.2f} to {max(starts):.2f} s, {STARTS} times")
    for engine in isolated[1:]:
        engine.close()
    engines = (open_engine(options.engine), isolated[0])
    for shape in SHAPES:
        compare(engines, tiny_model(), shape, 1000)
    if not options.small:
        for shape in SHAPES[1:]:
            compare(engines, large_model(), shape, 40 // shape[0])
    isolated[0].close()


if __name__ == "__main__":
    main()
