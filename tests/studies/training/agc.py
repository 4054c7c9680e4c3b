"""Adaptive gradient clipping: Brock et al. 2021 (arXiv:2102.06171), equation 3.

The gradient G_i of unit i of a layer, one row of its weight W, becomes

    clip * |W_i|* / |G_i| * G_i    where |G_i| / |W_i|* > clip,    |W_i|* = max(|W_i|, floor),

and stays as it is elsewhere; norms are Frobenius norms of the unit. What has no rows (biases, gains, scalars) is one
unit. The floor lets weights that start at zero move at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

FLOOR = 1e-3
SMALLEST = 1e-6  # of a gradient's norm, against a division by zero


def clip_gradients(parameters: Iterable[torch.Tensor], clip: float, floor: float = FLOOR) -> None:
    """Clip the gradients of ``parameters`` in place; leave the classifier's out, as the paper says."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        greatest = clip * unit_norms(parameter.detach()).clamp(min=floor)
        norms = unit_norms(parameter.grad)
        parameter.grad.mul_(torch.where(norms > greatest, greatest / norms.clamp(min=SMALLEST), 1.0))


def unit_norms(values: torch.Tensor) -> torch.Tensor:
    """Norm of each unit, in a shape that broadcasts against ``values``.

    The units of a linear layer (out, in) or a convolution (out, in, height, width) are its outputs.
    """
    if values.squeeze().ndim <= 1:
        return values.norm()
    axes = tuple(range(1, values.ndim))
    return values.square().sum(dim=axes, keepdim=True).sqrt()
