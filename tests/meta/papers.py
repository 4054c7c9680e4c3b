"""NFNet's forward pass as the papers tell it: plain numpy, float64, nothing folded, nothing fast.

A second reference of other ancestry. It shares no code with the graph builder, which folds all constants into the
convolutions, nor with the oracle, which evaluates that graph: the shape of the network is read from the weights' own
names and shapes. [A] is Brock, De and Smith 2021, arXiv:2101.08692; [B] is Brock, De, Smith and Simonyan 2021,
arXiv:2102.06171. Where timm differs from DeepMind's code, timm is followed, because its weights are what people have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]

# Each with the gain gamma that brings unit variance back behind it ([A] section 4.1; numbers of [B]'s code).
NONLINEARITIES: dict[str, tuple[Callable[[Float64], Any], float]] = {
    "relu": (lambda x: np.maximum(x, 0.0), 1.7139588594436646),
    "silu": (lambda x: x * special.expit(x), 1.7881293296813965),
    "gelu": (lambda x: 0.5 * x * (1.0 + special.erf(x / math.sqrt(2.0))), 1.7015043497085571),
}
STEM_STRIDES = {"deep_quad": (2, 1, 1, 2), "7x7_pool": (2,), "3x3": (2,)}


class Recipe(Protocol):
    """What the weights do not tell; a row of the variant table has all of it."""

    @property
    def depths(self) -> tuple[int, int, int, int]:
        """Blocks in each of the four stages."""
        ...

    @property
    def stem(self) -> str:
        """``deep_quad``, ``7x7_pool`` or ``3x3``."""
        ...

    @property
    def activation(self) -> str:
        """Key of NONLINEARITIES."""
        ...

    @property
    def alpha(self) -> float:
        """Share of the residual branch, which makes the variance grow by alpha^2 a block ([A] section 3)."""
        ...

    @property
    def eps(self) -> float:
        """Of the weight standardisation."""
        ...

    @property
    def attention_gain(self) -> float:
        """2 makes up for a sigmoid that is one half on average ([B] appendix)."""
        ...

    @property
    def gamma_in_activation(self) -> bool:
        """DeepMind multiplies activations by gamma, timm's own variants the weights behind them."""
        ...

    @property
    def same_padding(self) -> bool:
        """TensorFlow's SAME, which pads more behind than before, instead of PyTorch's symmetric padding."""
        ...


def forward(recipe: Recipe, weights: Weights, images: NDArray[Any]) -> Float64:
    """Logits (n, classes) of ``images`` (n, 3, height, width)."""
    return _Network(recipe, weights).logits(np.asarray(images, np.float64))


class _Network:
    def __init__(self, recipe: Recipe, weights: Weights) -> None:
        self.recipe, self.weights = recipe, weights
        self.nonlinearity, self.gamma = NONLINEARITIES[recipe.activation]

    def logits(self, x: Float64) -> Float64:
        """Stem, four stages, a last convolution where there is one, average, classifier."""
        x = self.stem(x)
        variance = 1.0
        stem_stride = math.prod(STEM_STRIDES[self.recipe.stem]) * (2 if self.recipe.stem.endswith("pool") else 1)
        for stage, depth in enumerate(self.recipe.depths):
            for index in range(depth):
                stride = 2 if index == 0 and (stage > 0 or stem_stride == 2) else 1
                x = self.block(f"stages.{stage}.{index}", x, stride, beta=1.0 / math.sqrt(variance))
                # The variance of the signal is known in advance: a transition block brings it back to one, every
                # residual branch then adds alpha^2 ([A] section 3).
                variance = (1.0 if index == 0 else variance) + self.recipe.alpha**2
        if "final_conv.weight" in self.weights:
            x = self.conv("final_conv", x)
        pooled: Float64 = self.activate(x).mean(axis=(2, 3))
        logits: Float64 = pooled @ self.parameter("head.fc.weight").T + self.parameter("head.fc.bias")
        return logits

    def stem(self, x: Float64) -> Float64:
        """[B] figure 4: four 3x3 convolutions; or one of 7x7 and a max pool, or one of 3x3."""
        if self.recipe.stem != "deep_quad":
            x = self.conv("stem.conv", x, stride=2)
            return _max_pool(x) if self.recipe.stem.endswith("pool") else x
        for number, stride in enumerate(STEM_STRIDES["deep_quad"], 1):
            x = self.conv(f"stem.conv{number}", x, stride)
            x = self.activate(x) if number < 4 else x
        return x

    def block(self, name: str, x: Float64, stride: int, beta: float) -> Float64:
        """X' = shortcut(x) + alpha * f(x / sqrt(Var(x))): [A] section 3, [B] figure 3."""
        out = self.activate(x) * beta
        shortcut = x
        if f"{name}.downsample.conv.weight" in self.weights:
            shortcut = self.conv(f"{name}.downsample.conv", _average_pool(out) if stride == 2 else out)
        out = self.conv(f"{name}.conv1", out)
        out = self.conv(f"{name}.conv2", self.activate(out), stride)
        if f"{name}.conv2b.weight" in self.weights:
            out = self.conv(f"{name}.conv2b", self.activate(out))
        out = self.attend(f"{name}.attn", out)
        out = self.conv(f"{name}.conv3", self.activate(out))
        out = self.attend(f"{name}.attn_last", out)
        if f"{name}.skipinit_gain" in self.weights:
            out = out * self.parameter(f"{name}.skipinit_gain")  # SkipInit: De and Smith 2020, arXiv:2002.10444
        return out * self.recipe.alpha + shortcut

    def activate(self, x: Float64) -> Float64:
        """The nonlinearity, with its gain where the variant has it there."""
        out: Float64 = self.nonlinearity(x)
        return out * self.gamma if self.recipe.gamma_in_activation else out

    def attend(self, name: str, x: Float64) -> Float64:
        """Squeeze-and-excitation (arXiv:1709.01507) or efficient channel attention (arXiv:1910.03151), whichever is."""
        mean = x.mean(axis=(2, 3))
        if f"{name}.fc1.weight" in self.weights:
            hidden = np.maximum(
                mean @ self.parameter(f"{name}.fc1.weight")[:, :, 0, 0].T + self.parameter(f"{name}.fc1.bias"), 0.0
            )
            score = hidden @ self.parameter(f"{name}.fc2.weight")[:, :, 0, 0].T + self.parameter(f"{name}.fc2.bias")
        elif f"{name}.conv.weight" in self.weights:
            kernel = self.parameter(f"{name}.conv.weight")[0, 0]
            score = np.stack([np.correlate(row, kernel, mode="same") for row in mean])
        else:
            return x
        gate: Float64 = special.expit(score)
        return x * gate[:, :, None, None] * self.recipe.attention_gain

    def conv(self, name: str, x: Float64, stride: int = 1) -> Float64:
        """Scaled weight standardisation, [A] equation 1: W^ = gain * gamma * (W - mu) / (sigma sqrt N)."""
        weight, fan_in = self.parameter(f"{name}.weight"), self.parameter(f"{name}.weight")[0].size
        mean = weight.mean(axis=(1, 2, 3), keepdims=True)
        sigma = np.sqrt(weight.var(axis=(1, 2, 3), keepdims=True) + self.recipe.eps)
        standardised = (weight - mean) / (sigma * math.sqrt(fan_in)) * self.parameter(f"{name}.gain")
        if not self.recipe.gamma_in_activation:
            standardised = standardised * self.gamma
        pads = [_padding(length, weight.shape[2], stride, self.recipe.same_padding) for length in x.shape[2:]]
        return _convolution(x, standardised, stride, pads) + self.parameter(f"{name}.bias")[:, None, None]

    def parameter(self, name: str) -> Float64:
        return np.asarray(self.weights[name], np.float64)


def _padding(length: int, kernel: int, stride: int, same: bool) -> tuple[int, int]:
    """(before, after). SAME: as much as ceil(length / stride) outputs need, the odd one behind."""
    if not same:
        half = (stride - 1 + kernel - 1) // 2
        return half, half
    total = max(0, (-(-length // stride) - 1) * stride + kernel - length)
    return total // 2, total - total // 2


def _convolution(x: Float64, weight: Float64, stride: int, pads: list[tuple[int, int]]) -> Float64:
    """One tap of the kernel at a time; as many groups as the weights have too few input channels."""
    count, channels = x.shape[:2]
    outputs, depth, height, width = weight.shape
    groups = channels // depth
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    rows, columns = ((x.shape[2] - height) // stride + 1, (x.shape[3] - width) // stride + 1)
    result = np.zeros((count, groups, outputs // groups, rows * columns))
    for i in range(height):
        for j in range(width):
            seen = x[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride][:, :, :rows, :columns]
            taps = weight[:, :, i, j].reshape(groups, outputs // groups, depth)
            result += taps @ seen.reshape(count, groups, depth, rows * columns)
    return result.reshape(count, outputs, rows, columns)


def _average_pool(x: Float64) -> Float64:
    """2x2, stride 2; at odd edges the mean of what is there."""
    rows, columns = np.arange(0, x.shape[2], 2), np.arange(0, x.shape[3], 2)
    total: Float64 = np.add.reduceat(np.add.reduceat(x, rows, axis=2), columns, axis=3)
    high, wide = np.minimum(2, x.shape[2] - rows), np.minimum(2, x.shape[3] - columns)
    return total / np.outer(high, wide)


def _max_pool(x: Float64) -> Float64:
    """3x3, stride 2, one cell of padding on every side."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    rows, columns = (x.shape[2] - 1) // 2 + 1, (x.shape[3] - 1) // 2 + 1
    shifted = [padded[:, :, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
    best: Float64 = np.max([part[:, :, :rows, :columns] for part in shifted], axis=0)
    return best
