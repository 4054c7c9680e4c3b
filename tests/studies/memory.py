"""Measure the peak memory of building, loading, comparing and evaluating a large NFNet.

    python tests/studies/memory.py                                 # dm_nfnet_f6 at 128 pixels, every stage
    python tests/studies/memory.py --variant dm_nfnet_f0 session compare

Each stage runs in a process of its own. *peak* is the largest resident size, pages of mapped files included; *private*
is the largest size without such pages. Both are also given as multiples of the fp32 weights. Files stay in the cache
folder.
"""

import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

import ort_comparison
from fixtures.cache import cache_folder
from fixtures.engines.registry import REFERENCE
from fixtures.nfnet.architecture import network, parameter_shapes
from fixtures.nfnet.store import built_model
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.onnx_file import inspect
from fixtures.precisions import precision
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference import float64
from fixtures.reference.arithmetic import arithmetic
from fixtures.run.context import RunContext

POLL_SECONDS = 0.005
MEGA = 1e6


def write_weights(name, path):
    """Write a safetensors file of seeded weights with timm's names, one tensor at a time."""
    if path.exists():
        return
    shapes, header, at = parameter_shapes(network(variant(name))), {}, 0
    for key, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, weights = path.with_suffix(".part"), SeededWeights(name, 0)
    with unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key in shapes:
            file.write(weights[key].astype("<f4").tobytes())
    unfinished.replace(path)


class Stages:
    """What is measured; each stage has only the files of the ones before."""

    def __init__(self, spec, cache):
        self.spec, self.cache = spec, cache

    def nothing(self):
        """Import the packages."""

    def build(self, kind="fp32"):
        """Build the ONNX file from the safetensors file."""
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            built_model(self.spec, precision(kind), Path(folder))

    def build_fp16(self):
        """Build the fp16 file."""
        self.build("fp16")

    def inspect(self):
        """Read the inputs and outputs of the model."""
        inspect(built_model(self.spec, precision("fp32"), self.cache))

    def session(self, kind="fp32"):
        """Run ONNX Runtime with every optimisation on one image."""
        case = Case(REFERENCE, self.spec, kind, 1, EngineOptions())
        with RunContext.create(self.cache, isolation=None) as context:
            context.program_pool.run(case, context.model_store.images(self.spec, 1))

    def session_fp16(self):
        """Run the fp16 file."""
        self.session("fp16")

    def reference(self):
        """Run ONNX Runtime without optimisation on one image."""
        with RunContext.create(self.cache, isolation=None) as context:
            context.reference.outputs(self.spec, context.model_store.images(self.spec, 1))

    def compare(self):
        """Compare optimised with plain ONNX Runtime, noise floors and verdict included."""
        self._clear()
        words = [f"--engine={REFERENCE}", f"--variant={self.spec.variant}", f"--weights={self.spec.weights_path}"]
        words += ["--inputs=2", f"--image-size={self.spec.size[0]}", f"--cache-dir={self.cache}"]
        sys.argv = ["ort_comparison.py"]
        if code := ort_comparison.main(words):
            raise SystemExit(code)

    def float64(self):
        """Evaluate one image in float64."""
        self._clear()
        with RunContext.create(self.cache, isolation=None) as context:
            context.tolerances.exact(Case(REFERENCE, self.spec, "fp32", 1))

    def noise_floor(self):
        """Compute the noise floor of fp16 on one image."""
        self._clear()
        with RunContext.create(self.cache, isolation=None) as context:
            images = context.model_store.images(self.spec, 1)
            context.tolerances.float64(self.spec).noise_floors(images, arithmetic("fp16"))

    def _clear(self):
        """Remove memoized results."""
        shutil.rmtree(self.cache / float64.FOLDER, ignore_errors=True)


NAMES = [name for name in vars(Stages) if not name.startswith("_")]


def measured(stage, words):
    """Return (peak, private peak) in bytes of a process that runs ``stage``. Raises SystemExit if it fails."""
    command = [sys.executable, __file__, "--child", f"--variant={words.variant}", f"--image-size={words.image_size}"]
    child = subprocess.Popen([*command, stage], stdout=subprocess.PIPE, text=True)
    process, private = psutil.Process(child.pid), 0
    while True:
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        if done:
            break
        memory = process.memory_info()
        private = max(private, memory.rss - memory.shared)
        time.sleep(POLL_SECONDS)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{stage} failed\n{child.stdout.read()}")
    return 1024 * usage.ru_maxrss, private


def main():
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--variant", default="dm_nfnet_f6")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    unknown = [name for name in words.stages if name not in NAMES]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}")
    cache = cache_folder() / "memory"
    weights = cache / f"{words.variant}.safetensors"
    if words.child:
        size = (words.image_size, words.image_size)
        spec = ModelSpec(words.variant, None, size, weights=weights.name, weights_path=weights)
        getattr(Stages(spec, cache), words.stages[0])()
        return
    write_weights(words.variant, weights)
    size = weights.stat().st_size
    print(f"{words.variant} at {words.image_size}: weights of {size / MEGA:.0f} MB")
    print(f"{'stage':<14}{'peak':>9}{'of weights':>12}{'private':>12}{'of weights':>12}")
    for stage in words.stages or NAMES:
        peak, private = measured(stage, words)
        sizes = f"{peak / MEGA:>6.0f} MB{peak / size:>12.2f}{private / MEGA:>9.0f} MB{private / size:>12.2f}"
        print(f"{stage:<14}{sizes}", flush=True)


if __name__ == "__main__":
    main()
