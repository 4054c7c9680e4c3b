"""Golden logits: what timm computes in float64 with the seeded weights, committed and held against our graph.

``tests/meta/golden/make.py`` writes them (it needs timm and PyTorch); nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fixtures.inputs import synthetic_images
from fixtures.nfnet.variants import VARIANTS, Variant

GREATEST_ERROR = 2e-6  # relative L2 error of the fp32 graph in ONNX Runtime, over all variants and sizes
ODD_SIZE = (97, 131)
REDUCED_SIZE = (64, 64)
LARGE = 200_000_000  # parameters; above, only one reduced size is committed, the rest is checked by the script


@dataclass(frozen=True)
class Golden:
    """One set of golden logits."""

    variant: str
    height: int
    width: int
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of the array in the file, and of the input's random numbers."""
        return f"{self.variant}/{self.height}x{self.width}/seed{self.seed}"

    def images(self) -> NDArray[np.float32]:
        """The input (1, 3, height, width)."""
        return synthetic_images(f"golden/{self.key}", (1, 3, self.height, self.width))


def committed() -> list[Golden]:
    """The cases of the committed file: every small variant at three sizes, two large ones at a reduced size."""
    small = [row for row in VARIANTS if row.parameters < LARGE]
    cases = [case for row in small for case in sizes(row)]
    return cases + [Golden(name, *REDUCED_SIZE) for name in ("dm_nfnet_f3", "nfnet_f3")]


def sizes(row: Variant) -> list[Golden]:
    """Train size, test size (small variants) and an odd size that is not square; a second seed at that one."""
    squares = {row.train_size} | ({row.test_size} if row.parameters < LARGE else set())
    return [Golden(row.name, size, size) for size in sorted(squares)] + [Golden(row.name, *ODD_SIZE, seed=1)]


def load(path: Path) -> dict[str, NDArray[np.float64]]:
    """Golden logits (images, classes) by key."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
