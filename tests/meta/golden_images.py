"""Golden tensors: what timm's evaluation transform makes of seeded images, committed as checksums.

``tests/meta/golden/make_images.py`` writes them (it needs timm, PyTorch and torchvision); nothing else does.

They depend on Pillow: 10.0 to 12.3 always resize along the rows first, 13.0 along the columns where that is less work.
Each pass rounds to whole pixel values, so 25 of the 476 tensors differ between the two, in up to 11 of 255 steps on
noise. timm uses the same Pillow and changes with it; the tests take the goldens of the running one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from fixtures.images.labels import IMAGENET_CLASSES
from fixtures.images.transform import Size
from fixtures.nfnet.variants import VARIANTS, Variant
from fixtures.records import size_text
from fixtures.seeded import bell

SHAPES: dict[str, Size] = {
    "landscape": (375, 500),
    "portrait": (500, 333),
    "square": (284, 284),
    "large": (847, 1213),
    "tiny": (31, 17),
    "sliver": (3, 40),
    "grey": (211, 160),
}
ERAS = (10, 13)  # major versions of Pillow with which its resizing changed
ODD_SIZE = (97, 131)  # (height, width); timm resizes to shapes that are not square by another rule


@dataclass(frozen=True)
class Golden:
    """One checksum: an image, a variant and the size that is asked for."""

    image: str
    variant: str
    size: Size

    @property
    def key(self) -> str:
        """Name of the checksum in the file."""
        return f"{self.image}/{self.variant}/{size_text(self.size)}"


def goldens(row: Variant) -> list[Golden]:
    """Every image at the training, test and odd size of a variant."""
    sizes = sorted({(row.train_size, row.train_size), (row.test_size, row.test_size), ODD_SIZE})
    return [Golden(image, row.name, size) for size in sizes for image in SHAPES]


TIMMS = tuple(row for row in VARIANTS if row.classes == IMAGENET_CLASSES)  # timm has no transform for the others


def every() -> list[Golden]:
    """The goldens of all variants that timm knows."""
    return [golden for row in TIMMS for golden in goldens(row)]


def source(name: str) -> Image.Image:
    """The seeded image: coarse blocks under noise, so that bicubic overshoots and is clipped."""
    height, width = SHAPES[name]
    channels = 1 if name == "grey" else 3
    fine = bell(f"images/{name}", (height, width, channels))
    coarse = bell(f"images/{name}/coarse", (16, 16, channels))
    blocks = coarse[np.arange(height)[:, None] * 16 // height, np.arange(width) * 16 // width]
    pixels = np.clip(128 + 64 * blocks + 24 * fine, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).convert("RGB")


def checksum(tensor: NDArray[np.float32]) -> str:
    """128 bits over type, shape and bytes."""
    head = f"{tensor.dtype} {tensor.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(tensor).tobytes()).hexdigest()[:32]


def era(version: str = PIL.__version__) -> int:
    """The change of Pillow's resizing that a version comes after."""
    return max(first for first in ERAS if first <= max(int(version.partition(".")[0]), ERAS[0]))


def load(path: Path, of_era: int) -> dict[str, str]:
    """Checksums by key: those of the newest Pillow, and over them what differs in an older era."""
    file: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return file[str(ERAS[-1])] | file.get(str(of_era), {})
