"""Compare the speed of the float64 evaluator with onnx's ReferenceEvaluator, both in float64 on the same graph.

    python tests/studies/reference_speed.py [variant] [image size]     # two minutes

They alternate, so that a busy machine slows down both; the result is the median ratio over the rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.cache import cache_folder
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.evaluator import float64_model, onnx_evaluator

ROUNDS = 7


def timed(work):
    """Return the seconds that ``work`` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main(name="dm_nfnet_f0", pixels="192"):
    """Print the ratio of each round and the median."""
    size = (int(pixels), int(pixels))
    path = built_model(ModelSpec(name, None, size), precision("fp32"), cache_folder())
    images = synthetic_images("speed", (1, 3, *size)).astype(np.float64)
    ours, theirs = GraphEvaluator(path), onnx_evaluator(float64_model(path))
    ours.evaluate({"inputs": images})  # warm-up: reads the weights, as ReferenceEvaluator has done
    ratios = []
    for round_number in range(1, ROUNDS + 1):
        own_seconds, got = timed(lambda: ours.evaluate({"inputs": images})["logits"])
        onnx_seconds, (want,) = timed(lambda: theirs.run(None, {"inputs": images}))
        ratios.append(onnx_seconds / own_seconds)
        print(f"round {round_number} of {ROUNDS}: {ratios[-1]:.1f} times as fast", flush=True)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    print(
        f"{name} at {pixels}: {statistics.median(ratios):.1f} times as fast (median; {min(ratios):.1f} to "
        f"{max(ratios):.1f}), relative L2 distance {error:.1e}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
