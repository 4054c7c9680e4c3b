"""What MIGraphX's gpu target makes of our graph, beside ``torch.onnx.export`` of timm's network. Needs no GPU.

    python tests/studies/gpu_program.py build FOLDER --variant dm_nfnet_f0 --image-size 64 192
    .ci/with-migraphx --gpu gfx90a python tests/studies/gpu_program.py measure FOLDER --precision fp32 fp16 --batch 1 32

``build`` needs PyTorch, timm and onnxscript; all models get the same seeded weights. ``measure`` compiles each model
and prints the number of its kernels, the bytes of activations that they read and write, and the seconds to compile,
also as ratios to the first model.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.engines.base import CompileRequest
from fixtures.engines.migraphx.element_types import type_string
from fixtures.engines.registry import open_engine
from fixtures.precisions import ELEMENT_TYPES

SIDES = ("dynamo", "torchscript", "ours")
INSTRUCTION = re.compile(r"^(?P<name>\S+) = (?P<op>[\w:]+|@\w+)(?P<rest>.*) -> (?P<shapes>.*)$")
SHAPE = re.compile(r"(\w+_type), \{([^}]*)\}, \{([^}]*)\}")
BYTES = {type_string(name): np.dtype(kind).itemsize for name, kind in ELEMENT_TYPES.items() if name != "BFLOAT16"}
ALIASES = (
    "broadcast",
    "get_tuple_elem",
    "multibroadcast",
    "reshape_lazy",
    "slice",
    "squeeze",
    "transpose",
    "unsqueeze",
)
SCRATCH, LITERAL = "int8_type", "hip::hip_copy_literal"


def measure_text(text: str) -> tuple[int, int]:
    """Return the number of kernels of a printed program, and the bytes of activations that they read and write.

    Weights and scratch memory do not count. An array that is broadcast counts with the elements that it stores.
    """
    kernels, total = 0, 0
    size: dict[str, int] = {}  # of the activations
    for match in filter(None, map(INSTRUCTION.match, text.splitlines())):
        name, op = match["name"], match["op"]
        arguments = re.findall(r"[^\s,()]+", match["rest"].rpartition("(")[2])
        if op == LITERAL or (op in ALIASES and not size.keys() & arguments):
            continue
        size[name] = sum(_bytes(*shape) for shape in SHAPE.findall(match["shapes"]))
        if op.startswith("gpu::"):
            kernels += 1
            *inputs, _ = arguments  # the last one is where the output goes
            total += size[name] + sum(size.get(argument, 0) for argument in inputs)
    return kernels, total


def _bytes(kind: str, lens: str, strides: str) -> int:
    if kind == SCRATCH:
        return 0
    pairs = zip(lens.split(", "), strides.split(", "), strict=True)
    return BYTES[kind] * math.prod(int(length) for length, stride in pairs if stride not in ("", "0"))


def build(folder: Path, variant: str, sizes: list[int]) -> None:
    """Write the models of all sides, ``FOLDER/SIDE/SIZE/model.onnx``."""
    from model_build import OURS, export  # noqa: PLC0415 - of this folder; only here is PyTorch needed
    from safetensors.numpy import save_file  # noqa: PLC0415

    from fixtures.nfnet.architecture import network  # noqa: PLC0415
    from fixtures.nfnet.graph import build_graph  # noqa: PLC0415
    from fixtures.nfnet.variants import variant as row  # noqa: PLC0415
    from fixtures.nfnet.weights import SeededWeights  # noqa: PLC0415
    from fixtures.nfnet.writer import write_model  # noqa: PLC0415
    from fixtures.precisions import precision  # noqa: PLC0415

    weights = SeededWeights(variant, 0)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "weights.safetensors"
        save_file(dict(weights), file)
        for side in SIDES:
            for size in sizes:
                target = folder / side / str(size)
                target.mkdir(parents=True, exist_ok=True)
                if side == OURS:
                    graph = build_graph(network(row(variant)), weights, (size, size))
                    write_model(graph, target / "model.onnx", precision("fp32"))
                else:
                    export(variant, size, file, target, dynamo=side == "dynamo")()


def measure(folder: Path, sides: list[str], precisions: list[str], sizes: list[int], batches: list[int]) -> None:
    """Compile the models and print the table."""
    engine = open_engine("migraphx:gpu")
    print(f"MIGraphX {engine.version}\n")
    print("| precision | pixels | batch | side | kernels | MB | seconds | ratios |\n|" + 8 * "---|")
    for precision, size, batch in product(precisions, sizes, batches):
        best = None  # what each column is divided by: the first side
        for side in sides:
            start = time.perf_counter()
            model = folder / side / str(size) / "model.onnx"
            program = engine.prepare(CompileRequest(model, (batch, 3, size, size), precision))
            seconds = time.perf_counter() - start
            row = (*measure_text(str(program._program)), seconds)
            program.close()
            best = best or row
            ratios = " ".join(f"{value / other:.2f}" for value, other in zip(row, best, strict=True))
            cells = (precision, size, batch, side, row[0], f"{row[1] / 1e6:.1f}", f"{seconds:.0f}", ratios)
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Build or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first, second = commands.add_parser("build"), commands.add_parser("measure")
    for command in (first, second):
        command.add_argument("folder", type=Path)
    first.add_argument("--variant", default="dm_nfnet_f0")
    first.add_argument("--image-size", type=int, nargs="+", default=[64, 192])
    second.add_argument("--side", nargs="+", default=SIDES, choices=SIDES)
    second.add_argument("--precision", nargs="+", default=["fp32", "fp16"])
    second.add_argument("--image-size", type=int, nargs="+", default=[64, 192])
    second.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    options = parser.parse_args()
    if options.command == "build":
        build(options.folder, options.variant, options.image_size)
    else:
        measure(options.folder, options.side, options.precision, options.image_size, options.batch)


if __name__ == "__main__":
    main()
