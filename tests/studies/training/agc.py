"""Adaptive gradient clipping: Brock et al. 2021 (arXiv:2102.06171), equation 3.

The gradient G_i of unit i of a layer, one row of its weight W, becomes

    clip * max(|W_i|, MIN_NORM) / |G_i| * G_i    if |G_i| is larger than clip * max(|W_i|, MIN_NORM)

and is unchanged otherwise. Norms are Frobenius norms. A parameter without rows (bias, gain, scalar) is one unit.
MIN_NORM lets weights that start at zero change.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

MIN_NORM = 1e-3
SMALLEST = 1e-6  # avoids a division by zero


def clip_gradients(parameters: Iterable[torch.Tensor], clip: float) -> None:
    """Clip the gradients of ``parameters`` in place; the paper leaves out those of the classifier."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        largest = clip * unit_norms(parameter.detach()).clamp(min=MIN_NORM)
        norms = unit_norms(parameter.grad)
        parameter.grad.mul_(torch.where(norms > largest, largest / norms.clamp(min=SMALLEST), 1.0))


def unit_norms(values: torch.Tensor) -> torch.Tensor:
    """Return the norm of each unit, in a shape that broadcasts against ``values``.

    The units of a linear layer (out, in) or a convolution (out, in, height, width) are its outputs.
    """
    if values.squeeze().ndim <= 1:
        return values.norm()
    axes = tuple(range(1, values.ndim))
    return values.square().sum(dim=axes, keepdim=True).sqrt()
