"""How other tools decide whether logits agree, a line or two each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
VERIFY = {"fp32": 1e-3}  # fp16 and bf16: 8e-2


def migraphx_verify(actual: Array, expected: Array, precision: str) -> bool:
    """``migraphx-driver verify``: root mean square, normalised by the largest value, over the whole batch."""
    got, want = actual.astype(np.float64), expected.astype(np.float64)
    scale = np.sqrt(got.size) * max(np.abs(got).max(), np.abs(want).max())
    return bool(np.linalg.norm(got - want) <= VERIFY.get(precision, 8e-2) * scale)


def accuracy_checker(actual: Array, expected: Array, precision: str) -> bool:
    """MIGraphX's accuracy_checker: allclose at 1e-3, relative to the engine's values."""
    del precision
    return bool(np.allclose(expected, actual, rtol=1e-3, atol=1e-3))


def polygraphy(actual: Array, expected: Array, precision: str) -> bool:
    """Polygraphy's default: a value is wrong only where it exceeds both 1e-5 absolute and 1e-5 relative."""
    del precision
    difference = np.abs(actual.astype(np.float64) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = difference / np.abs(expected)
    return bool(((difference <= 1e-5) | (relative <= 1e-5)).all())


def nfnet_example(actual: Array, expected: Array, precision: str) -> bool:
    """MIGraphX's NFNet example: assert_allclose at rtol 1e-2."""
    del precision
    return bool(np.allclose(actual, expected, rtol=1e-2, atol=0))


PEERS = {
    "MIGraphX verify": migraphx_verify,
    "accuracy_checker": accuracy_checker,
    "Polygraphy": polygraphy,
    "rtol 1e-2": nfnet_example,
}
