"""Which faults of quantisation are found: in what the engine reports, in the logits, and in which block?

    python tests/studies/faults/quantization.py --variant digits_nfnet --seeds 5                        # ONNX Runtime
    .ci/with-migraphx python tests/studies/faults/quantization.py --engine migraphx:ref --image-size 32

The engine runs the quantised graph of its rule, in which one fault is planted at random; the float64 reference keeps
the original. Prints a Markdown table for each rule, then every fault that was visible and missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fixtures.cache import cache_folder
from fixtures.engines.base import CompileRequest
from fixtures.engines.registry import target_of
from fixtures.localize.search import Localizer
from fixtures.onnx_quantization import PRODUCTS, quantized_tensors
from fixtures.precisions import QUANTIZED_TYPES, QuantizationRule
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.float64 import relative_errors
from fixtures.run.compare import judge_outputs
from fixtures.run.context import RunContext
from fixtures.run.quantization import blocks_of_tensors, compare_quantization
from fixtures.weight_sources import WeightSources
from tests.studies.faults.planting import constant, copy_model, edit_constant

IMAGES = 2
PLACES = 12  # that are tried at most, until a fault changes an output
SATURATES = "saturates at 128"
BRIGHT = 2  # times as bright as calibrated are the images for it
FP8 = QUANTIZED_TYPES["float8e4m3fn"]
STUDIED = {
    "int8, QDQ": ("int8", target_of("onnxruntime:cpu").rule("int8")),
    "int8, one scale a tensor": ("int8", QuantizationRule(QUANTIZED_TYPES["int8"])),
    "fp8, products": ("fp8", QuantizationRule(FP8)),
    "fp8, all operators": ("fp8", QuantizationRule(FP8, inputs="all")),
}


@dataclass(frozen=True)
class Pair:
    """QuantizeLinear and DequantizeLinear of one activation, and a product that reads it."""

    quantize: onnx.NodeProto
    dequantize: onnx.NodeProto
    product: onnx.NodeProto


def pairs(model: onnx.ModelProto) -> list[Pair]:
    """Return the quantised activations that products read, in order."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        for name in node.input[:2] if node.op_type in PRODUCTS else ():
            dequantize = makers.get(name)
            if dequantize is not None and dequantize.input[0] in makers:
                found.append(Pair(makers[dequantize.input[0]], dequantize, node))
    return found


def _replace_reads(model: onnx.ModelProto, old: str, new: str, but: onnx.NodeProto | None = None) -> None:
    for node in model.graph.node:
        if but is None or node.name != but.name:
            node.input[:] = [new if name == old else name for name in node.input]


def scale(model: onnx.ModelProto, pair: Pair) -> None:
    """Make the scale 1 % too large, in both nodes."""
    edit_constant(model, pair.quantize.input[1], lambda array: array * np.float32(1.01))


def unquantised(model: onnx.ModelProto, pair: Pair) -> None:
    """Leave one tensor as it is."""
    _replace_reads(model, pair.dequantize.output[0], pair.quantize.input[0])


def zero_point(model: onnx.ModelProto, pair: Pair) -> None:
    """Subtract another zero point than was added."""
    name = f"{pair.dequantize.output[0]}/wrong"
    kind = constant(model, pair.dequantize.input[2]).data_type
    if kind != TensorProto.INT8:
        raise LookupError("floating-point numbers have no zero point")
    model.graph.initializer.append(helper.make_tensor(name, kind, [], [1]))
    next(node for node in model.graph.node if node.name == pair.dequantize.name).input[2] = name


def per_tensor(model: onnx.ModelProto, pair: Pair) -> None:
    """Give a weight that has a scale for each channel the largest of them for all."""
    maker = next(node for node in model.graph.node if pair.product.input[1] in node.output)
    scales = numpy_helper.to_array(constant(model, maker.input[1]))
    if not scales.ndim:
        raise LookupError("the weight has one scale already")
    axis = next((entry.i for entry in maker.attribute if entry.name == "axis"), 1)
    steps = numpy_helper.to_array(constant(model, maker.input[0])).astype(np.float64)
    shape = [-1 if at == axis else 1 for at in range(steps.ndim)]
    values = steps * (scales / scales.max()).reshape(shape)
    edit_constant(model, maker.input[0], lambda _: np.rint(values))
    edit_constant(model, maker.input[1], lambda array: np.full_like(array, scales.max()))


def _constants(model: onnx.ModelProto, values: dict[str, float]) -> None:
    """Add scalar constants, once."""
    there = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in values.items() if name not in there
    )


Steps = list[tuple[str, list[str], str]]  # operator, inputs, output; "" is what comes before, as input and output
INT8 = {"least": -128.0, "most": 127.0, "too much": 128.0}
EXPONENT: Steps = [("Abs", [""], "size"), ("Log", ["size"], "log"), ("Mul", ["log", "log2e"], "log2")]
EXPONENT += [("Floor", ["log2"], "floor"), ("Max", ["floor", "smallest"], "exponent")]
QUANTUM: Steps = [("Sub", ["exponent", "bits"], "place"), ("Pow", ["two", "place"], "quantum")]
NEAREST: Steps = [("Round", ["units"], "whole")]
TOWARDS_ZERO: Steps = [("Abs", ["units"], "least"), ("Floor", ["least"], "down"), ("Sign", ["units"], "sign")]
TOWARDS_ZERO += [("Mul", ["down", "sign"], "whole")]
E4M3 = {"lowest": -448.0, "highest": 448.0, "log2e": float(np.log2(np.e)), "smallest": -6.0, "bits": 3.0, "two": 2.0}


def _float8(rounding: Steps) -> Steps:
    """Round to numbers with 3 bits behind the point; those below 2**-6 have the distance of those above."""
    units: Steps = [("Div", ["", "quantum"], "units")]
    return [
        ("Clip", ["", "lowest", "highest"], ""),
        *EXPONENT,
        *QUANTUM,
        *units,
        *rounding,
        ("Mul", ["whole", "quantum"], ""),
    ]


def replace_by_steps(model: onnx.ModelProto, quantize: onnx.NodeProto, result: str, steps: Steps) -> None:
    """Replace quantisation by operators on float numbers: divide by the scale, ``steps``, multiply."""
    names = {entry.name for entry in model.graph.initializer}
    scale_name, last, nodes = quantize.input[1], quantize.input[0], []
    for index, (kind, inputs, output) in enumerate(
        [("Div", ["", scale_name], ""), *steps, ("Mul", ["", scale_name], "")]
    ):
        given = [last if not name else name if name in names else f"{result}/{name}" for name in inputs]
        made = f"{result}/{output or index}"
        nodes.append(helper.make_node(kind, given, [made], made))
        last = last if output else made
    at = next(index for index, node in enumerate(model.graph.node) if node.name == quantize.name)
    _replace_reads(model, result, last)
    for node in reversed(nodes):
        model.graph.node.insert(at, node)


def without_float8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same model without 8-bit floating-point numbers, which MIGraphX 2.14 reads from no file."""
    model = copy_model(model)
    _constants(model, E4M3)
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        if node.input[0] in makers:
            replace_by_steps(model, makers[node.input[0]], node.output[0], _float8(NEAREST))
        else:
            weight = numpy_helper.to_array(constant(model, node.input[0])).astype(np.float32)
            value = weight * numpy_helper.to_array(constant(model, node.input[1]))
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    left = [node for node in model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    read = {name for node in left for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    for field, entries in ((model.graph.node, left), (model.graph.initializer, tensors)):
        del field[:]
        field.extend(entries)
    return model


def _steps(forms: dict[int, tuple[dict[str, float], Steps]]) -> Callable[[onnx.ModelProto, Pair], None]:
    """Replace quantisation by the steps for its element type."""

    def plant(model: onnx.ModelProto, pair: Pair) -> None:
        constants, steps = forms[constant(model, pair.quantize.input[2]).data_type]
        _constants(model, constants)
        replace_by_steps(model, pair.quantize, pair.dequantize.output[0], steps)

    return plant


TRUNCATED = {
    TensorProto.INT8: (INT8, [("Floor", [""], ""), ("Clip", ["", "least", "most"], "")]),
    TensorProto.FLOAT8E4M3FN: (E4M3, _float8(TOWARDS_ZERO)),
}
SATURATED = {TensorProto.INT8: (INT8, [("Round", [""], ""), ("Clip", ["", "least", "too much"], "")])}
FAULTS: dict[str, Callable[[onnx.ModelProto, Pair], None]] = {
    "scale 1 % off": scale,
    "tensor not quantised": unquantised,
    "wrong zero point": zero_point,
    "one scale for all channels": per_tensor,
    "truncated, not rounded": _steps(TRUNCATED),
    SATURATES: _steps(SATURATED),
}


COUNTED = {  # fields of Row -> columns
    "reported": "reported",
    "named_block": "with the right block",
    "in_logits": "in the logits",
    "in_block": "in a block",
    "right_block": "in the right block",
}


class Bench:
    """The quantised graph of a rule, run by an engine."""

    def __init__(self, context: RunContext, case: Case, rule: QuantizationRule, scratch: Path) -> None:
        spec = ModelSpec(**{**vars(case.model), "quantization": rule})
        self.context, self.scratch = context, scratch
        self.case = Case(case.engine, spec, case.precision, case.batch, case.options)
        self.graph = context.model_store.onnx_file(case.model).path
        self.path = context.model_store.onnx_file(spec).path
        self.model = onnx.load(self.path)
        self.expected = quantized_tensors(self.model)
        self.images = context.model_store.images(case.model, case.batch)

    def run(self, path: Path, images) -> dict[str, np.ndarray]:
        """Run a QDQ file as it is, or on MIGraphX without 8-bit floating-point numbers."""
        engine = self.context.program_pool.engine(self.case.engine)
        if self.case.precision == "fp8" and self.case.engine.startswith("migraphx"):
            onnx.save(without_float8(onnx.load(path)), self.scratch / "float.onnx")
            path = self.scratch / "float.onnx"
        program = engine.prepare(CompileRequest(path, images.shape, "fp32", self.case.options))
        try:
            return program.run({program.inputs[0].name: images})
        finally:
            program.close()

    def judge(self, path: Path, images):
        """Return the verdict on the logits of a file, its outputs, and its localisation."""
        outputs, float64 = self.run(path, images), self.context.tolerances.of_case(self.case)
        tolerance = self.context.tolerances.tolerance(self.case, images)
        sides = {"actual": outputs, "expected": float64.outputs(images)}
        verdict = judge_outputs(self.case, self.context, **sides, tolerance=tolerance, images=images)
        localizer = Localizer(
            self.run,
            path,
            float64.evaluator,
            images,
            self.context.tolerances.arithmetic(self.case),
            self.scratch,
            rows=range(len(images)),
            seconds=np.inf,
            factor=self.context.tolerances.factor(self.case).factor,
            graph=self.graph,
        )
        return verdict, outputs, localizer.localize()


@dataclass(frozen=True)
class Row:
    """One planted fault."""

    fault: str
    place: str
    effect: float  # relative change of the logits
    reported: bool  # as a difference of what the engine quantised
    named_block: bool  # of the reported tensor
    in_logits: bool
    in_block: bool
    right_block: bool


def plant(bench: Bench, name: str, random: np.random.Generator) -> Row | None:
    """Plant a fault at a random place where it changes an output; None if it applies nowhere."""
    images = bench.images * np.float32(BRIGHT if name == SATURATES else 1)
    clean = bench.run(bench.path, images)
    for index in random.permutation(len(pairs(bench.model)))[:PLACES]:
        model = copy_model(bench.model)
        pair = pairs(model)[index]
        try:
            FAULTS[name](model, pair)
        except LookupError:
            return None
        path = bench.scratch / "faulty.onnx"
        onnx.save(model, path)
        outputs = bench.run(path, images)
        if any(not np.array_equal(outputs[key], clean[key]) for key in clean):
            return _judge_fault(bench, name, model, pair, images, clean)
    return None


def _judge_fault(bench: Bench, name: str, model: onnx.ModelProto, pair: Pair, images, clean) -> Row:
    verdict, outputs, found = bench.judge(bench.scratch / "faulty.onnx", images)
    effect = float(relative_errors(outputs, {key: np.float64(value) for key, value in clean.items()}).max())
    faulty = {pair.quantize.input[0], _weight(pair)}
    reported = compare_quantization(bench.expected, quantized_tensors(model))
    reported = [row.tensor for row in reported if row.tensor in faulty]
    blocks = blocks_of_tensors(bench.graph, bench.path)
    block = blocks[pair.quantize.input[0]]
    return Row(
        name,
        pair.product.output[0],
        effect,
        bool(reported),
        any(blocks.get(tensor) == block for tensor in reported),
        verdict.wrong,
        found.first_block is not None,
        found.first_block == block,
    )


def _weight(pair: Pair) -> str:
    return pair.product.input[1].removesuffix("/dequantized")


def false_alarms(bench: Bench) -> Iterator[str]:
    """Yield what is flagged without fault: on ONNX Runtime with one thread and two, at int8 at each optimisation level.

    It has no fp8 of its own, and its optimiser changes results of such graphs.
    """
    levels = ("disable", "basic", "extended", "all") if "onnxruntime" in bench.case.engine else ("disable",)
    for level in levels if bench.case.precision == "int8" else levels[:1]:
        for threads in (1, 2) if len(levels) > 1 else (0,):
            options = EngineOptions(graph_optimization=level, threads=threads)
            bench.case = Case(bench.case.engine, bench.case.model, bench.case.precision, bench.case.batch, options)
            verdict, _, found = bench.judge(bench.path, bench.images)
            if verdict.wrong or found.first_block:
                yield f"{level} {threads}: {verdict.failed_check} {found.summary}"


def main() -> None:
    """Run from a shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxruntime:cpu")
    parser.add_argument("--variant", default="digits_nfnet")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1, help="of places; 0 has the default weights, others seeded ones")
    parser.add_argument("--precision", nargs="+", default=["int8", "fp8"])
    options = parser.parse_args()
    size = (options.image_size, options.image_size)
    with RunContext.create(cache_folder(), isolation=None) as context, tempfile.TemporaryDirectory() as scratch:
        for name, (kind, rule) in STUDIED.items():
            if kind not in options.precision:
                continue
            rows, alarms = [], []
            for seed in range(options.seeds):
                source = WeightSources("auto" if not seed else "seeded", cache_folder()).of(options.variant)
                spec = ModelSpec(options.variant, None, size, seed, None, source.weights, source.path)
                bench = Bench(context, Case(options.engine, spec, kind, IMAGES), rule, Path(scratch))
                alarms += false_alarms(bench)
                random = np.random.default_rng(seed)
                for fault in FAULTS:
                    if row := plant(bench, fault, random):
                        print(name, seed, row, file=sys.stderr, flush=True)
                        rows.append(row)
            print(f"\n{name}: {len(alarms)} false alarms", *alarms, sep="\n  ")
            print("| fault | planted | largest effect |", " | ".join(COUNTED.values()), "|")
            print("|---|---|---|" + "---|" * len(COUNTED))
            for fault in FAULTS:
                some = [row for row in rows if row.fault == fault]
                counts = [sum(getattr(row, key) for row in some) for key in COUNTED]
                effect = max((row.effect for row in some), default=0.0)
                print(f"| {fault} | {len(some)} | {effect:.2g} | {' | '.join(map(str, counts))} |", flush=True)
            print(*(f"missed: {row}" for row in rows if not (row.reported or row.in_logits or row.in_block)), sep="\n")


if __name__ == "__main__":
    main()
