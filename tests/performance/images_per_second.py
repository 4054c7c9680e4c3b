"""How many photographs a second, beside timm's evaluation transform on the same files. Needs timm and torchvision.

    python tests/performance/images_per_second.py [variant]     # about a minute

Both sides alternate within a round, on one thread, so that a busy machine slows both; the ratio is the median over the
rounds. Then the loader with one to four threads.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fixtures.images import golden  # noqa: E402
from fixtures.images.decode import read_image  # noqa: E402
from fixtures.images.loader import load  # noqa: E402
from fixtures.images.transform import transform_of  # noqa: E402
from fixtures.nfnet.variants import variant  # noqa: E402

PHOTOGRAPHS, ROUNDS, BATCH = 32, 9, 8


def write_photographs(folder: Path) -> list[Path]:
    """JPEG files of ImageNet's usual size, 500x375."""
    pixels = np.asarray(golden.source("landscape").resize((500, 375), Image.Resampling.BICUBIC))
    paths = [folder / f"{index}.jpg" for index in range(PHOTOGRAPHS)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(pixels, 7 * index, axis=1)).save(path, quality=90)
    return paths


def seconds(work, items) -> float:
    """Wall time of ``work`` on each."""
    start = time.perf_counter()
    for item in items:
        work(item)
    return time.perf_counter() - start


def beside(title: str, theirs, ours, items) -> None:
    """Print both rates and the median ratio."""
    pairs = [(seconds(theirs, items), seconds(ours, items)) for _ in range(ROUNDS)]
    ratio = statistics.median(one / two for one, two in pairs)
    rates = [len(items) / min(each) for each in zip(*pairs, strict=True)]
    print(f"{title:<28} timm {rates[0]:7.0f}/s  ours {rates[1]:7.0f}/s  ours/timm {ratio:.2f} (median)", flush=True)


def main(name: str) -> None:
    """Decoding with transform, transform alone, the loader by threads."""
    torch.set_num_threads(1)
    row = variant(name)
    settings = timm.models.get_pretrained_cfg(name).to_dict()
    timms = create_transform(**resolve_data_config({}, pretrained_cfg=settings, use_test_size=True), is_training=False)
    ours = transform_of(row)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder))
        images = [Image.open(path).convert("RGB") for path in paths]
        beside("transform", timms, ours, images)
        beside("JPEG and transform", lambda path: timms(Image.open(path).convert("RGB")),
               lambda path: ours(read_image(path)), paths)  # fmt: skip
        one = None
        for threads in (1, 2, 4):
            times = [seconds(lambda _: None, load(paths * 4, ours, batch=BATCH, threads=threads)) for _ in range(3)]
            one = one or min(times)
            rate = 4 * PHOTOGRAPHS / min(times)
            print(f"loader, {threads} threads {rate:7.0f}/s, {one / min(times):.2f} times one thread", flush=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["dm_nfnet_f0"]))
