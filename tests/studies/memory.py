"""How much memory does it take to build, load, compare and judge a large NFNet? Peaks beside the size of its weights.

    python tests/studies/memory.py                                 # dm_nfnet_f6 at 128 pixels, every stage
    python tests/studies/memory.py --variant dm_nfnet_f0 session compare

Each stage runs in a process of its own. *peak* is the most that it had in memory (ru_maxrss), the interpreter, its
packages and pages of mapped files included, which the system may take back; *own* is the most that was not of a file.
Both are also given as multiples of the size of the fp32 weights. Files stay in the cache folder and are made once.
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

sys.path.insert(0, str(Path(__file__).parents[2]))

import ort_comparison
from fixtures.cache import cache_folder
from fixtures.nfnet.architecture import network, parameter_shapes
from fixtures.nfnet.store import built_model
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.onnx_file import inspect
from fixtures.precisions import precision
from fixtures.programs import programs
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference import kept
from fixtures.reference.arithmetic import arithmetic
from fixtures.resources import status_bytes
from fixtures.run.context import RunContext

POLL_SECONDS = 0.005
MEGA = 1e6
ENGINE = "onnxruntime:cpu"


def write_weights(name, path):
    """A safetensors file of seeded weights with timm's names, a tensor at a time."""
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
    """What is measured; each starts with nothing but the files of the one before."""

    def __init__(self, words, cache):
        self.cache, size = cache, (words.image_size, words.image_size)
        self.weights = weights_path(words.variant, cache)
        self.spec = ModelSpec(words.variant, None, size, weights=self.weights.name, weights_path=self.weights)

    def nothing(self):
        """The interpreter with its packages."""

    def build(self):
        """The fp32 ONNX file from the safetensors file."""
        self._built("fp32")

    def build_fp16(self):
        """The fp16 ONNX file."""
        self._built("fp16")

    def look(self):
        """What a model takes and gives."""
        inspect(built_model(self.spec, precision("fp32"), self.cache))

    def plain(self):
        """The reference: ONNX Runtime without optimisation, one image."""
        with RunContext.create(self.cache) as context:
            context.reference.outputs(self.spec, context.model_store.images(self.spec, 1))

    def session(self):
        """ONNX Runtime with every optimisation, one image."""
        self._run("fp32")

    def session_fp16(self):
        """The same of the fp16 file."""
        self._run("fp16")

    def compare(self):
        """Optimised and plain ONNX Runtime held against each other, floors and verdict included."""
        self._forget()
        sys.argv = ["ort_comparison.py"]
        code = ort_comparison.main(
            [
                "--engine",
                ENGINE,
                "--variant",
                self.spec.variant,
                f"--weights={self.weights}",
                "--inputs",
                "2",
                "--image-size",
                str(self.spec.size[0]),
                f"--cache-dir={self.cache}",
            ]
        )
        if code:
            raise SystemExit(code)

    def truth(self):
        """The float64 oracle on one image."""
        self._forget()
        with RunContext.create(self.cache) as context:
            context.tolerances.exact(self.spec, 1)

    def floor(self):
        """The floor of fp16 on one image: exact and rounded."""
        self._forget()
        with RunContext.create(self.cache) as context:
            context.tolerances.float64(self.spec).noise_floors(
                context.model_store.images(self.spec, 1), arithmetic("fp16")
            )

    def _built(self, kind):
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            built_model(self.spec, precision(kind), Path(folder))

    def _forget(self):
        """What the oracle computed and what was compiled before is made again."""
        for folder in (kept.FOLDER, programs.FOLDER):
            shutil.rmtree(self.cache / folder, ignore_errors=True)

    def _run(self, kind):
        case = Case(ENGINE, self.spec, kind, 1, EngineOptions())
        with RunContext.create(self.cache) as context:
            context.program_pool.run(case, context.model_store.images(self.spec, 1))


NAMES = [name for name in vars(Stages) if not name.startswith("_")]


def weights_path(name, cache):
    """Where the safetensors file is."""
    return cache / f"{name}.safetensors"


def measured(stage, words):
    """(peak, own peak) in bytes of a process that runs ``stage``. Raises SystemExit where it fails."""
    command = [
        sys.executable,
        __file__,
        "--child",
        "--variant",
        words.variant,
        "--image-size",
        str(words.image_size),
        stage,
    ]
    own, child = 0, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while True:
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        if done:
            break
        own = max(own, status_bytes("RssAnon", Path(f"/proc/{child.pid}")) or 0)  # not of a file
        time.sleep(POLL_SECONDS)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{stage} failed\n{child.stdout.read()}")
    return 1024 * usage.ru_maxrss, own


def main():
    """Print a line a stage."""
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
    if words.child:
        (stage,) = words.stages
        getattr(Stages(words, cache), stage)()
        return
    write_weights(words.variant, weights_path(words.variant, cache))
    size = weights_path(words.variant, cache).stat().st_size
    print(
        f"{words.variant} at {words.image_size}: weights of {size / MEGA:.0f} MB\n"
        f"{'stage':<14}{'peak':>9}{'of weights':>12}{'own':>12}{'of weights':>12}"
    )
    for stage in words.stages or NAMES:
        peak, own = measured(stage, words)
        print(
            f"{stage:<14}{peak / MEGA:>6.0f} MB{peak / size:>12.2f}{own / MEGA:>9.0f} MB{own / size:>12.2f}", flush=True
        )


if __name__ == "__main__":
    main()
