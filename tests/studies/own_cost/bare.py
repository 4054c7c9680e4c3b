"""What somebody would write who only wants to compare two sessions: ``bare.py MODEL SIZE INPUTS THREADS``."""

import sys

import numpy as np
import onnxruntime

path, size, count, threads = sys.argv[1], *map(int, sys.argv[2:])


def session(level):
    """One session."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = level
    settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


levels = onnxruntime.GraphOptimizationLevel
plain, optimised = session(levels.ORT_DISABLE_ALL), session(levels.ORT_ENABLE_ALL)
random = np.random.default_rng(0)
for index in range(count):
    image = random.standard_normal((1, 3, size, size), dtype=np.float32)
    (want,), (got,) = (each.run(None, {each.get_inputs()[0].name: image}) for each in (plain, optimised))
    print(index, np.linalg.norm(got - want) / np.linalg.norm(want), got.argmax() == want.argmax())
