"""NFNet's forward pass written from the papers: plain numpy, float64, nothing folded.

A second reference that shares no code with the graph builder, which folds all constants into the convolutions, nor with
the float64 evaluator, which runs that graph: the shape of the network follows from the names and shapes of the weights.
[A] is Brock, De and Smith 2021, arXiv:2101.08692; [B] is Brock, De, Smith and Simonyan 2021, arXiv:2102.06171. Where
timm differs from DeepMind's code, timm is followed, because users have its weights.
"""

import math

import numpy as np
from scipy import special

# Each with the gain gamma that restores unit variance after it ([A] section 4.1; numbers of [B]'s code).
NONLINEARITIES = {
    "relu": (lambda x: np.maximum(x, 0.0), 1.7139588594436646),
    "silu": (lambda x: x * special.expit(x), 1.7881293296813965),
    "gelu": (lambda x: 0.5 * x * (1.0 + special.erf(x / math.sqrt(2.0))), 1.7015043497085571),
}
STEM_STRIDES = {"deep_quad": (2, 1, 1, 2), "7x7_pool": (2,), "3x3": (2,)}


def forward(recipe, weights, images):
    """Return the logits (n, classes) of ``images`` (n, 3, height, width).

    ``recipe`` has what the weights do not tell, under the names of a row of the variant table: depths, stem,
    activation, alpha, eps, attention_gain, gamma_in_activation, same_padding.
    """
    return Network(recipe, weights).logits(np.asarray(images, np.float64))


class Network:
    """The network of a recipe with its weights."""

    def __init__(self, recipe, weights):
        self.recipe, self.weights = recipe, weights
        self.nonlinearity, self.gamma = NONLINEARITIES[recipe.activation]

    def logits(self, x):
        """Stem, four stages, in most variants a last convolution, average, classifier."""
        x = self.stem(x)
        variance = 1.0
        stem_stride = math.prod(STEM_STRIDES[self.recipe.stem]) * (2 if self.recipe.stem.endswith("pool") else 1)
        for stage, depth in enumerate(self.recipe.depths):
            for index in range(depth):
                stride = 2 if index == 0 and (stage > 0 or stem_stride == 2) else 1
                x = self.block(f"stages.{stage}.{index}", x, stride, beta=1.0 / math.sqrt(variance))
                # The variance of the signal is known in advance: a transition block resets it to one, every residual
                # branch then adds alpha^2 ([A] section 3).
                variance = (1.0 if index == 0 else variance) + self.recipe.alpha**2
        if "final_conv.weight" in self.weights:
            x = self.conv("final_conv", x)
        return self.dense("head.fc", self.activate(x).mean(axis=(2, 3)))

    def stem(self, x):
        """[B] figure 4: four 3x3 convolutions; or one of 7x7 and a max pool, or one of 3x3."""
        if self.recipe.stem != "deep_quad":
            x = self.conv("stem.conv", x, stride=2)
            return max_pool(x) if self.recipe.stem.endswith("pool") else x
        for number, stride in enumerate(STEM_STRIDES["deep_quad"], 1):
            x = self.conv(f"stem.conv{number}", x, stride)
            x = self.activate(x) if number < 4 else x
        return x

    def block(self, name, x, stride, beta):
        """X' = shortcut(x) + alpha * f(x / sqrt(Var(x))): [A] section 3, [B] figure 3."""
        out = self.activate(x) * beta
        shortcut = x
        if f"{name}.downsample.conv.weight" in self.weights:
            shortcut = self.conv(f"{name}.downsample.conv", average_pool(out) if stride == 2 else out)
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

    def activate(self, x):
        """The nonlinearity, with its gain if the variant has it there."""
        return self.nonlinearity(x) * (self.gamma if self.recipe.gamma_in_activation else 1.0)

    def attend(self, name, x):
        """Squeeze-and-excitation (arXiv:1709.01507) or efficient channel attention (arXiv:1910.03151), if any."""
        mean = x.mean(axis=(2, 3))
        if f"{name}.fc1.weight" in self.weights:
            score = self.dense(f"{name}.fc2", np.maximum(self.dense(f"{name}.fc1", mean), 0.0))
        elif f"{name}.conv.weight" in self.weights:
            kernel = self.parameter(f"{name}.conv.weight")[0, 0]
            score = np.stack([np.correlate(row, kernel, mode="same") for row in mean])
        else:
            return x
        return x * special.expit(score)[:, :, None, None] * self.recipe.attention_gain

    def dense(self, name, x):
        """A dense layer; those of attention are stored as 1x1 convolutions."""
        weight = self.parameter(f"{name}.weight")
        return x @ weight.reshape(weight.shape[:2]).T + self.parameter(f"{name}.bias")

    def conv(self, name, x, stride=1):
        """Scaled weight standardisation, [A] equation 1: W^ = gain * gamma * (W - mu) / (sigma sqrt N)."""
        weight = self.parameter(f"{name}.weight")
        fan_in = weight[0].size
        mean = weight.mean(axis=(1, 2, 3), keepdims=True)
        sigma = np.sqrt(weight.var(axis=(1, 2, 3), keepdims=True) + self.recipe.eps)
        standardised = (weight - mean) / (sigma * math.sqrt(fan_in)) * self.parameter(f"{name}.gain")
        if not self.recipe.gamma_in_activation:
            standardised = standardised * self.gamma
        pads = [padding(length, weight.shape[2], stride, self.recipe.same_padding) for length in x.shape[2:]]
        return convolve(x, standardised, stride, pads) + self.parameter(f"{name}.bias")[:, None, None]

    def parameter(self, name):
        """Return a parameter in float64."""
        return np.asarray(self.weights[name], np.float64)


def padding(length, kernel, stride, same):
    """Return (before, after). SAME: as much as ceil(length / stride) outputs need, an odd pixel after."""
    if not same:
        half = (stride - 1 + kernel - 1) // 2
        return half, half
    total = max(0, (-(-length // stride) - 1) * stride + kernel - length)
    return total // 2, total - total // 2


def convolve(x, weight, stride, pads):
    """Convolve one tap of the kernel at a time; the number of groups follows from the shapes."""
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


def average_pool(x):
    """2x2, stride 2; at odd edges the mean of the pixels there are."""
    rows, columns = np.arange(0, x.shape[2], 2), np.arange(0, x.shape[3], 2)
    total = np.add.reduceat(np.add.reduceat(x, rows, axis=2), columns, axis=3)
    return total / np.outer(np.minimum(2, x.shape[2] - rows), np.minimum(2, x.shape[3] - columns))


def max_pool(x):
    """3x3, stride 2, one pixel of padding on every side."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    rows, columns = (x.shape[2] - 1) // 2 + 1, (x.shape[3] - 1) // 2 + 1
    shifted = [padded[:, :, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
    return np.max([part[:, :, :rows, :columns] for part in shifted], axis=0)
