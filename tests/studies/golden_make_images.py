"""Write the golden checksums of timm's evaluation transform. Needs timm, PyTorch and torchvision.

    python tests/studies/golden_make_images.py     # half a minute; with the newest Pillow first, then with Pillow 12

Compares our transform with timm's bit by bit, and exits with 1 if one differs.
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

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.images.transform import evaluation_transform
from fixtures.nfnet.variants import BY_NAME
from tests.meta import golden_images as golden


def timm_transform(case: golden.Golden):
    """Return the transform of timm's validation script at this size."""
    row = BY_NAME[case.variant]
    settings = timm.models.get_pretrained_cfg(case.variant).to_dict()
    at_test_size = min(case.size) >= row.test_size
    wanted = resolve_data_config({"input_size": (3, *case.size)}, pretrained_cfg=settings, use_test_size=at_test_size)
    return create_transform(**wanted, is_training=False)


def write(checksums: dict[str, str]) -> None:
    """Replace the goldens of the installed Pillow; for an older one write only what differs from the newest."""
    file = json.loads(golden.FILE.read_text(encoding="utf-8")) if golden.FILE.exists() else {}
    name, newest = str(golden.pillow_change()), str(golden.PILLOW_CHANGES[-1])
    rows = {key: value for key, value in checksums.items() if name == newest or file[newest][key] != value}
    modules = (timm, torch, torchvision, PIL)
    made_with = {module.__name__: module.__version__.partition("+")[0] for module in modules}
    file |= {name: rows, f"{name} made with": made_with}
    golden.FILE.write_text(json.dumps(file, indent=0) + "\n", encoding="utf-8")


def main() -> int:
    """Compare and write all goldens, and return the exit code."""
    images = {name: golden.source(name) for name in golden.SHAPES}
    checksums, different = {}, []
    for case in (case for row in golden.TIMM_VARIANTS for case in golden.cases(row)):
        expected = timm_transform(case)(images[case.image]).numpy()
        actual = evaluation_transform(BY_NAME[case.variant], case.size)(images[case.image])
        checksums[case.key] = golden.checksum(expected)
        if golden.checksum(actual) != checksums[case.key]:
            different.append(case.key)
    write(checksums)
    print(f"{len(checksums)} goldens for Pillow {golden.pillow_change()}; different from ours: {different or 'none'}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
