"""Golden logits: what timm computes in float64 with seeded weights, committed in ``golden/nfnet_logits.npz``.

``tests/studies/golden_make.py`` writes the file with timm and PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fixtures.inputs import synthetic_images
from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import VARIANTS, Variant, variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.writer import write_model
from fixtures.precisions import precision
from tests.meta.tiny_models import by_onnxruntime

FILE = Path(__file__).parent / "golden" / "nfnet_logits.npz"
LARGEST_ERROR = 2e-6  # relative L2 error of the fp32 graph in ONNX Runtime, over all variants and sizes
ODD_SIZE = (97, 131)
REDUCED_SIZE = (64, 64)
LARGE = 200_000_000  # parameters; of larger variants only two at a reduced size are committed


@dataclass(frozen=True)
class Golden:
    """One set of golden logits."""

    variant: str
    height: int
    width: int
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of the array in the file, and of the seed of the images."""
        return f"{self.variant}/{self.height}x{self.width}/seed{self.seed}"

    def images(self) -> NDArray[np.float32]:
        """Return the input (1, 3, height, width)."""
        return synthetic_images(f"golden/{self.key}", (1, 3, self.height, self.width))

    def weights(self) -> SeededWeights:
        """Return the seeded weights."""
        return SeededWeights(self.variant, self.seed)

    def onnx_logits(self, folder: Path) -> NDArray[np.float32]:
        """Build the fp32 model in ``folder`` and return the logits of ONNX Runtime."""
        path = folder / "model.onnx"
        graph = build_graph(network(variant(self.variant)), self.weights(), (self.height, self.width))
        write_model(graph, path, precision("fp32"))
        logits: NDArray[np.float32] = by_onnxruntime(path, self.images())["logits"]
        return logits


def relative_error(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return the relative L2 error, computed in float64."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(actual.astype(np.float64) - exact) / np.linalg.norm(exact))


def committed() -> list[Golden]:
    """Return the cases of the committed file: small variants at three sizes, two large ones at a reduced size."""
    small = [row for row in VARIANTS if row.parameters < LARGE]
    return [case for row in small for case in cases(row)] + [
        Golden(name, *REDUCED_SIZE) for name in ("dm_nfnet_f3", "nfnet_f3")
    ]


def cases(row: Variant) -> list[Golden]:
    """Return train size, test size (small variants only), and an odd size that is not square with a second seed."""
    squares = {row.train_size} | ({row.test_size} if row.parameters < LARGE else set())
    return [Golden(row.name, size, size) for size in sorted(squares)] + [Golden(row.name, *ODD_SIZE, seed=1)]


def load(path: Path = FILE) -> dict[str, NDArray[np.float64]]:
    """Return the golden logits (images, classes) by key."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
