"""How other tools decide whether logits agree, a line or two each; ``precision`` matters to the first one only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


def migraphx_verify(actual: Array, expected: Array, precision: str) -> bool:
    """``migraphx-driver verify``: root mean square relative to the largest value, over the whole batch."""
    got, want = actual.astype(np.float64), expected.astype(np.float64)
    scale = np.sqrt(got.size) * max(np.abs(got).max(), np.abs(want).max())
    return bool(np.linalg.norm(got - want) <= (1e-3 if precision == "fp32" else 8e-2) * scale)


def accuracy_checker(actual: Array, expected: Array, _precision: str) -> bool:
    """MIGraphX's accuracy_checker: allclose at 1e-3, relative to the engine's values."""
    return bool(np.allclose(expected, actual, rtol=1e-3, atol=1e-3))


def polygraphy(actual: Array, expected: Array, _precision: str) -> bool:
    """Polygraphy's default: a value is wrong only if it exceeds both 1e-5 absolute and 1e-5 relative."""
    difference = np.abs(actual.astype(np.float64) - expected)
    return bool(((difference <= 1e-5) | (difference <= 1e-5 * np.abs(expected))).all())


def nfnet_example(actual: Array, expected: Array, _precision: str) -> bool:
    """MIGraphX's NFNet example: assert_allclose at rtol 1e-2."""
    return bool(np.allclose(actual, expected, rtol=1e-2, atol=0))


PEERS = {
    "MIGraphX verify": migraphx_verify,
    "accuracy_checker": accuracy_checker,
    "Polygraphy": polygraphy,
    "rtol 1e-2": nfnet_example,
}
