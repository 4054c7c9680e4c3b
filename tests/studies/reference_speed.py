"""How much faster than onnx's ReferenceEvaluator the oracle is, both in float64 on the same graph and image.

    python tests/studies/reference_speed.py [variant] [image size]     # two minutes

Both alternate, so that a busy machine slows both; the ratio is the median over the rounds. Their distance is shown too.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fixtures.cache import cache_folder  # noqa: E402
from fixtures.inputs import synthetic_images  # noqa: E402
from fixtures.nfnet.store import built_model  # noqa: E402
from fixtures.precisions import precision  # noqa: E402
from fixtures.records import ModelSpec  # noqa: E402
from fixtures.reference.evaluator import GraphEvaluator  # noqa: E402
from tests.meta.evaluator import float64_model, onnx_evaluator  # noqa: E402

ROUNDS = 7


def timed(work):
    """Seconds and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main(name="dm_nfnet_f0", size="192"):
    """Print the ratio."""
    size = int(size)
    path = built_model(ModelSpec(name, None, (size, size)), precision("fp32"), cache_folder())
    images = synthetic_images("speed", (1, 3, size, size)).astype(np.float64)
    oracle, evaluator = GraphEvaluator(path), onnx_evaluator(float64_model(path))
    oracle.evaluate({"inputs": images})  # reads the weights; the evaluator has done so
    ratios = []
    for at in range(ROUNDS):
        ours, got = timed(lambda: oracle.evaluate({"inputs": images})["logits"])
        theirs, (want,) = timed(lambda: evaluator.run(None, {"inputs": images}))
        ratios.append(theirs / ours)
        print(f"round {at + 1} of {ROUNDS}: {ratios[-1]:.1f} times", flush=True)
    off = np.linalg.norm(got - want) / np.linalg.norm(want)
    print(
        f"{name} at {size}: {statistics.median(ratios):.1f} times faster (median; {min(ratios):.1f} to "
        f"{max(ratios):.1f}), relative distance {off:.1e}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
