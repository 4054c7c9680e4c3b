"""Write the golden tensors of timm's evaluation transform as checksums. Needs timm, PyTorch and torchvision.

    python tests/golden/make_images.py     # all variants, under a minute

Holds the table's evaluation settings against timm's as well, and our transform against timm's, bit by bit; exits 1
where one differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import PIL
import timm
import torch
import torchvision
from timm.data import create_transform, resolve_data_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fixtures.images import golden  # noqa: E402
from fixtures.images.transform import transform_of  # noqa: E402
from fixtures.nfnet.variants import BY_NAME  # noqa: E402

FILE = Path(__file__).with_name("images.json")


def timm_transform(case: golden.Golden):
    """What timm's validation script would use at this size."""
    row = BY_NAME[case.variant]
    settings = timm.models.get_pretrained_cfg(case.variant).to_dict()
    at_test_size = min(case.size) >= row.test_size
    wanted = resolve_data_config({"input_size": (3, *case.size)}, pretrained_cfg=settings, use_test_size=at_test_size)
    return create_transform(**wanted, is_training=False)


def main() -> int:
    """Check and write all goldens, return the exit code."""
    images = {name: golden.source(name) for name in golden.SHAPES}
    checksums, different = {}, []
    for case in golden.every():
        expected = timm_transform(case)(images[case.image]).numpy()
        actual = transform_of(BY_NAME[case.variant], case.size)(images[case.image])
        checksums[case.key] = golden.checksum(expected)
        if golden.checksum(actual) != checksums[case.key]:
            different.append(case.key)
    made_with = {module.__name__: module.__version__ for module in (timm, torch, torchvision, PIL)}
    lines = json.dumps({"made_with": made_with, "checksums": checksums}, indent=0)
    FILE.write_text(lines + "\n", encoding="utf-8")
    print(f"{len(checksums)} goldens in {FILE.name}, made with {made_with}; different from ours: {different or 'none'}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
