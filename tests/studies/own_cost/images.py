"""Photographs to tensors: images a second on one core beside timm's evaluation transform, and on all cores."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from paired import ROOT, in_turns, missing, ratios, told
from PIL import Image

sys.path.insert(0, str(ROOT))

from fixtures.engines.onnxruntime.engine import physical_cores
from fixtures.images.decode import read_image
from fixtures.images.loader import load
from fixtures.images.transform import transform_of
from fixtures.nfnet.variants import variant
from tests.meta import golden_images as golden

PHOTOGRAPHS, BATCH, REPEATED = 32, 8, 4
AS_FAST, A_CORE = 1.0, 0.8  # of timm's rate; of one thread's rate, for each core


def images(options):
    """JPEG files of ImageNet's usual size, decoded and transformed."""
    ours, theirs = transform_of(variant(options.variant)), _timms(options.variant)
    with tempfile.TemporaryDirectory() as folder:
        paths = _photographs(Path(folder))
        sides = {"ours": lambda: _seconds(lambda path: ours(read_image(path)), paths)}
        if theirs:
            sides["timm"] = lambda: _seconds(lambda path: theirs(Image.open(path).convert("RGB")), paths)
        found = in_turns(sides, options.rounds)
        cores = physical_cores()

        def loading(threads):
            return lambda: _seconds(lambda _: None, load(paths * REPEATED, ours, batch=BATCH, threads=threads))

        loads = in_turns({"one": loading(1), "all": loading(cores)}, options.rounds)
    print(f"  {PHOTOGRAPHS / min(found['ours']):.0f} images a second on one thread")
    holds = [
        told(
            f"loader on {cores} cores / on one, images a second and core",
            [value / cores for value in ratios(loads["one"], loads["all"])],
            A_CORE,
            least=True,
        )
    ]
    what = "JPEG and transform: ours / timm's, images a second"
    return [*holds, told(what, ratios(found["timm"], found["ours"]), AS_FAST, least=True) if theirs else None]


def _timms(name):
    """The evaluation transform of timm on one thread, None where timm is missing."""
    try:
        import timm.data  # noqa: PLC0415
        import torch  # noqa: PLC0415
    except ImportError as error:
        return missing("timm", error)
    torch.set_num_threads(1)
    settings = timm.models.get_pretrained_cfg(name).to_dict()
    wanted = timm.data.resolve_data_config({}, pretrained_cfg=settings, use_test_size=True)
    return timm.data.create_transform(**wanted, is_training=False)


def _photographs(folder):
    """JPEG files, 500x375."""
    pixels = np.asarray(golden.source("landscape").resize((500, 375), Image.Resampling.BICUBIC))
    paths = [folder / f"{index}.jpg" for index in range(PHOTOGRAPHS)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(pixels, 7 * index, axis=1)).save(path, quality=90)
    return paths


def _seconds(work, items):
    """Wall time of ``work`` on each."""
    start = time.perf_counter()
    for item in items:
        work(item)
    return time.perf_counter() - start
