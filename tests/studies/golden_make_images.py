"""Write the golden tensors of timm's evaluation transform as checksums. Needs timm, PyTorch and torchvision.

    python tests/meta/golden/make_images.py     # all variants, half a minute; with the newest Pillow first, then with 12

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

from fixtures.images.transform import transform_of  # noqa: E402
from fixtures.nfnet.variants import BY_NAME  # noqa: E402
from tests.meta import golden_images as golden  # noqa: E402

FILE = Path(__file__).parents[1] / "meta" / "golden" / "images.json"


def timm_transform(case: golden.Golden):
    """What timm's validation script would use at this size."""
    row = BY_NAME[case.variant]
    settings = timm.models.get_pretrained_cfg(case.variant).to_dict()
    at_test_size = min(case.size) >= row.test_size
    wanted = resolve_data_config({"input_size": (3, *case.size)}, pretrained_cfg=settings, use_test_size=at_test_size)
    return create_transform(**wanted, is_training=False)


def write(checksums: dict[str, str]) -> None:
    """Replace the goldens of the running Pillow's era; of an older one only what differs from the newest."""
    file = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    name, newest = str(golden.era()), str(golden.ERAS[-1])
    kept = {key: value for key, value in checksums.items() if name == newest or file[newest][key] != value}
    modules = (timm, torch, torchvision, PIL)
    made_with = {module.__name__: module.__version__.partition("+")[0] for module in modules}
    file |= {name: kept, f"{name} made with": made_with}
    FILE.write_text(json.dumps(file, indent=0) + "\n", encoding="utf-8")


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
    write(checksums)
    print(f"{len(checksums)} goldens, era {golden.era()}; different from ours: {different or 'none'}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
