"""Train the bundled network on handwritten digits and write it with its held-out images.

    python tests/studies/training/train.py              # minutes on one core; writes into fixtures/assets
    python tests/studies/training/train.py --steps 3    # prints the losses of three steps, writes nothing

Needs torch, timm, scikit-learn and safetensors. Everything is seeded: the same versions on the same kind of processor
give the same weights. The held-out images are used once, after the last step, and choose nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import sklearn
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[3]))

from fixtures.accuracy.digits import HELD_OUT, VARIANT, WEIGHTS, as_input
from fixtures.nfnet.variants import variant
from tests.studies.training.agc import clip_gradients
from tests.studies.training.model import timm_network

EVERY = 5  # every fifth image is held out
WHITE = 16  # the set's brightest value
# Not clipped: the classifier, as in the paper, and the skip-init gains. These start at zero, where clipping limits a
# step to rate * clip * MIN_NORM = 2e-6: no residual branch would open over this short training.
UNCLIPPED = ("head.fc.weight", "head.fc.bias", "skipinit_gain")


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    seed: int = 0
    epochs: int = 60
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of weights; biases and gains have none
    clip: float = 0.02  # of adaptive gradient clipping
    smoothing: float = 0.1  # of labels
    average: float = 0.99  # decay of the moving average of the weights
    warm_up: int = 3  # epochs
    degrees: float = 12.0  # largest rotation
    shift: float = 0.08  # largest shift, of the image's width
    zoom: float = 0.12  # largest change of scale


@dataclass(frozen=True)
class Split:
    """Images (n, 8, 8) in 0..255 and labels of both parts."""

    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]


def data() -> Split:
    """Return scikit-learn's digits, every fifth held out."""
    found = load_digits()
    images = np.round(found.images * (255 / WHITE)).astype(np.uint8)
    held = np.arange(len(images)) % EVERY == 0
    return Split((images[~held], found.target[~held]), (images[held], found.target[held]))


class Training:
    """A network in training."""

    def __init__(self, recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> None:
        torch.manual_seed(recipe.seed)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.set_num_threads(1)  # the order of sums does not depend on the number of cores
        self.recipe = recipe
        self.images, self.labels = torch.from_numpy(as_input(images)), torch.from_numpy(labels)
        self.steps_an_epoch = len(labels) // recipe.batch
        self.model = timm_network(variant(VARIANT)).train()
        self.average = copy.deepcopy(self.model).eval()
        named = list(self.model.named_parameters())
        self.clipped = [value for name, value in named if not name.endswith(UNCLIPPED)]
        decayed = [value for name, value in named if name.endswith("weight")]
        others = [value for name, value in named if not name.endswith("weight")]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others}],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=True,
        )

    def steps(self) -> Iterator[float]:
        """Train and yield the loss of every step."""
        total = self.steps_an_epoch * self.recipe.epochs
        for step in range(total):
            if step % self.steps_an_epoch == 0:
                order = torch.randperm(len(self.labels))
            at = step % self.steps_an_epoch * self.recipe.batch
            chosen = order[at : at + self.recipe.batch]
            yield self._step(self.images[chosen], self.labels[chosen], self._rate(step, total))

    def _step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        logits = self.model(augment(images, self.recipe))
        loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
        loss.backward()
        clip_gradients(self.clipped, self.recipe.clip)
        self.optimizer.step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - self.recipe.average)
        return float(loss.detach())

    def _rate(self, step: int, total: int) -> float:
        """Linear warm-up, then a cosine down to zero."""
        warm = self.recipe.warm_up * self.steps_an_epoch
        share = (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (total - warm))
        return self.recipe.learning_rate * share


def augment(images: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return each image with a small random rotation, shift and zoom."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(recipe.degrees)
    scale = 1 + (torch.rand(count) * 2 - 1) * recipe.zoom
    shift = (torch.rand(count, 2) * 2 - 1) * 2 * recipe.shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    maps = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).reshape(count, 2, 3)
    grid = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def correct(model: torch.nn.Module, images: np.ndarray, labels: np.ndarray) -> int:
    """Return how many images the network classifies correctly."""
    with torch.inference_mode():
        return int((model(torch.from_numpy(as_input(images))).argmax(1).numpy() == labels).sum())


def write(training: Training, split: Split) -> None:
    """Write the averaged weights with their provenance, and the held-out images."""
    images, labels = split.held_out
    facts = {
        "variant": VARIANT,
        "data": "Optical Recognition of Handwritten Digits (UCI), as scikit-learn's load_digits; every fifth held out",
        "recipe": json.dumps(asdict(training.recipe)),
        "images": str(len(labels)),
        "correct": str(correct(training.average, images, labels)),
        "versions": f"torch {torch.__version__}, timm {timm.__version__}, scikit-learn {sklearn.__version__}",
    }
    tensors = {name: value.contiguous() for name, value in training.average.state_dict().items()}
    save_file(tensors, WEIGHTS, metadata=facts)
    np.savez_compressed(HELD_OUT, images=images, labels=labels.astype(np.uint8))
    print(f"held out: {facts['correct']} of {facts['images']} correct; wrote {WEIGHTS.name} and {HELD_OUT.name}")


def main(arguments: list[str]) -> int:
    """Train and write, or print the losses of a few steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, help="stop after so many and write nothing")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    chosen = parser.parse_args(arguments)
    split = data()
    training = Training(Recipe(seed=chosen.seed), *split.train)
    begun, losses = time.monotonic(), []
    for number, loss in enumerate(training.steps(), 1):
        losses.append(loss)
        if number == chosen.steps:
            print(*losses)
            return 0
        if number % training.steps_an_epoch == 0:
            mean, losses = sum(losses) / len(losses), []
            epoch = number // training.steps_an_epoch
            print(f"epoch {epoch:3}  loss {mean:.4f}  {time.monotonic() - begun:.0f} s", flush=True)
    print(f"training images: {correct(training.average, *split.train)} of {len(split.train[1])} correct")
    write(training, split)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
