"""Golden tensors: checksums of timm's evaluation transform on seeded images.

``tests/studies/golden_make_images.py`` writes them with timm, PyTorch and torchvision.

They depend on Pillow. Up to 12.3 it always resizes rows first; 13.0 resizes columns first if that is less work. Each
pass rounds to whole pixel values, so 25 of the 476 tensors differ, by up to 11 of 255 on noise. timm uses the same
Pillow and changes with it, so the tests take the goldens of the installed version.
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
from fixtures.seeded import normal

FILE = Path(__file__).parent / "golden" / "images.json"
SHAPES: dict[str, Size] = {
    "landscape": (375, 500),
    "portrait": (500, 333),
    "square": (284, 284),
    "large": (847, 1213),
    "tiny": (31, 17),
    "sliver": (3, 40),
    "grey": (211, 160),
}
PILLOW_CHANGES = (10, 13)  # major versions in which Pillow's resizing changed
ODD_SIZE = (97, 131)  # timm resizes by another rule for sizes that are not square
TIMM_VARIANTS = tuple(row for row in VARIANTS if row.classes == IMAGENET_CLASSES)


@dataclass(frozen=True)
class Golden:
    """One checksum: an image, a variant and a size."""

    image: str
    variant: str
    size: Size

    @property
    def key(self) -> str:
        """Name of the checksum in the file."""
        return f"{self.image}/{self.variant}/{size_text(self.size)}"


def cases(row: Variant) -> list[Golden]:
    """Return every image at the training, test and odd size of a variant."""
    sizes = sorted({(row.train_size, row.train_size), (row.test_size, row.test_size), ODD_SIZE})
    return [Golden(image, row.name, size) for size in sizes for image in SHAPES]


def source(name: str) -> Image.Image:
    """Return a seeded image: coarse blocks under noise, so that the bicubic filter overshoots and is clipped."""
    height, width = SHAPES[name]
    channels = 1 if name == "grey" else 3
    fine = normal(f"images/{name}", (height, width, channels))
    coarse = normal(f"images/{name}/coarse", (16, 16, channels))
    blocks = coarse[np.arange(height)[:, None] * 16 // height, np.arange(width) * 16 // width]
    pixels = np.clip(128 + 64 * blocks + 24 * fine, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).convert("RGB")


def checksum(tensor: NDArray[np.float32]) -> str:
    """Return 128 bits of a hash of type, shape and bytes."""
    head = f"{tensor.dtype} {tensor.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(tensor).tobytes()).hexdigest()[:32]


def pillow_change() -> int:
    """Return the last change of Pillow's resizing before the installed version."""
    major = int(PIL.__version__.partition(".")[0])
    return max(change for change in PILLOW_CHANGES if change <= max(major, PILLOW_CHANGES[0]))


def load() -> dict[str, str]:
    """Return checksums by key: those of the newest Pillow, updated by what differs in the installed one."""
    file: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return file[str(PILLOW_CHANGES[-1])] | file.get(str(pillow_change()), {})
