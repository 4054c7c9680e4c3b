"""Which planted faults are found, by this suite and by the rules of other tools?

python tests/studies/faults/power.py --variant dm_nfnet_f0 --precision all --local

Prints a Markdown table. A fault is visible if it changes a tensor by more than the tolerance and the error of the
engine without faults, together. In brackets behind a tool's count are its false alarms.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from fixtures.cache import cache_folder
from fixtures.engines.onnxruntime.int8 import quantised
from fixtures.localize.blocks import Subgraph, read_data_flow, split_into_blocks
from fixtures.localize.records import Localization
from fixtures.localize.score import score_tensors
from fixtures.localize.search import Localizer
from fixtures.onnx_quantization import quantized_tensors
from fixtures.precisions import BY_NAME
from fixtures.records import Case, ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.float64 import relative_errors
from fixtures.run.compare import judge_outputs
from fixtures.run.context import RunContext
from fixtures.verdict.tolerances import Tolerance
from tests.studies.faults.catalogue import CATALOGUE, EVERYWHERE, RUNTIME, Fault
from tests.studies.faults.peers import PEERS
from tests.studies.faults.planting import copy_model, emulate_bf16

IMAGES = 2
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
BRIGHTNESS = {"fp32": 1e5, "bf16": 1e5, "fp16": 2.0}
UNOPTIMIZED = "ORT_DISABLE_ALL"  # an optimiser would remove a planted pair of casts
LEVELS = (UNOPTIMIZED, "ORT_ENABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")


@dataclass(frozen=True)
class Located:
    """What the localisation finds; effects are changes of the engine's tensors in noise floors."""

    effect: float  # in the first block that the fault changes
    limit: float
    flagged: str  # node or block, empty if none
    right: bool  # and it is the one with the fault

    @property
    def visible(self) -> bool:
        """Whether the fault is visible in its block."""
        return not self.effect < self.limit


@dataclass(frozen=True)
class Row:
    """One fault in one place at one precision."""

    fault: str
    level: str
    precision: str
    place: str
    effect: float  # change of the logits in noise floors
    limit: float
    caught: bool
    by_request_check: bool  # before any number was compared
    by_peer: dict[str, bool]
    located: Located | None

    @property
    def visible(self) -> bool:
        """Whether the fault is visible in the logits."""
        return not self.effect < self.limit


class Bench:
    """A model at a precision, run by ONNX Runtime: its outputs without fault, and the checks of other outputs."""

    def __init__(self, context: RunContext, spec: ModelSpec, precision: str, scratch: Path) -> None:
        self.context, self.precision, self.scratch = context, precision, scratch
        self.case = Case("onnxruntime:cpu", spec, precision, IMAGES)
        self.arithmetic, self.float64 = arithmetic(precision), context.tolerances.of_case(self.case)
        self.evaluator, self.factor = self.float64.evaluator, context.tolerances.factor(self.case)
        self.images = context.model_store.images(spec, IMAGES)
        self.path = context.model_store.onnx_file(spec, "fp16" if precision == "fp16" else "fp32").path
        self.model = onnx.load(self.path)
        self.model.doc_string = precision  # for faults that depend on it
        self.expected = context.reference.expected(self.case)["logits"]
        self.tolerance = self._tolerance(self.images)
        self.clean = self.runner(self.model)(self.images)
        self.clean_error = self.effect(self.clean, self._exact(self.images))
        self.graph = context.model_store.onnx_file(spec).path
        self.flow = read_data_flow(self.graph)
        self.blocks = split_into_blocks(self.flow)
        self._clean_search: tuple[Localization, dict[str, np.ndarray]] | None = None

    def _exact(self, images) -> np.ndarray:
        return self.float64.outputs(images)["logits"]

    def _tolerance(self, images) -> Tolerance:
        floor = float(self.float64.noise_floors(images, self.arithmetic).max())
        return Tolerance(self.precision, self.arithmetic.name, floor, self.factor)

    def effect(self, actual, other) -> float:
        """Return the largest distance of logits in noise floors."""
        errors = relative_errors({"logits": np.float64(actual)}, {"logits": np.float64(other)})
        return float(errors.max()) / self.tolerance.noise_floor

    def engine_model(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return what the engine runs at the precision."""
        if self.precision == "bf16":
            return emulate_bf16(model)
        if self.precision != "int8":
            return model
        path = self.scratch / "float.onnx"
        onnx.save(model, path)
        return onnx.load_from_string(quantised(path, self.context.program_pool.calibration(self.case)))

    def runner(self, model: onnx.ModelProto, level: str = UNOPTIMIZED, threads: int = 0):
        """Return a function that runs a model at the precision."""
        return self.session(self.engine_model(model), level, threads)

    def session(self, model: onnx.ModelProto, level: str = UNOPTIMIZED, threads: int = 0):
        """Return a function that runs a model as it is: all outputs ``names``, or the logits."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        dtype = np.float16 if self.precision == "fp16" else np.float32

        def run(images, names=None):
            results = session.run(names, {"inputs": images.astype(dtype)})
            return results if names else results[0].astype(np.float32)

        return run

    def check(self, run) -> tuple[bool, dict[str, bool], np.ndarray]:
        """Return whether the suite's checks and the peers' rules fail, and the logits after another input."""
        first, _, again = run(self.images), run(self.images * np.float32(0.5)), run(self.images)
        equal = run(self.images[:1].repeat(IMAGES, 0))
        pairs = (
            (again, self.expected, self.tolerance),
            (again, self._exact(self.images), self.tolerance),
            (again, first, self.tolerance),
            (run(self.images[::-1])[::-1], again, self.tolerance),
            (run(self.images[:1]), again[:1], self.tolerance),
            (equal[1:], equal[:-1], self.tolerance),
            *((run(images), self._exact(images), tolerance) for images, tolerance in self._unusual()),
        )
        caught = not all(self._agrees(*pair) for pair in pairs)
        return caught, {name: not rule(again, self.expected, self.precision) for name, rule in PEERS.items()}, again

    def _agrees(self, actual, expected, tolerance) -> bool:
        sides = {"actual": {"logits": actual}, "expected": {"logits": expected}}
        return not judge_outputs(self.case, self.context, **sides, tolerance=tolerance).wrong

    def _unusual(self) -> Iterator[tuple[np.ndarray, Tolerance]]:
        """Yield images that are no photographs, as the suite has them: far brighter, and NaN."""
        if self.precision in BRIGHTNESS:
            bright = self.images * np.float32(BRIGHTNESS[self.precision])
            floor = max(self.tolerance.noise_floor, self._tolerance(bright).noise_floor)
            yield bright, replace(self.tolerance, noise_floor=floor)
            yield np.full_like(self.images, np.nan), self.tolerance

    def search(self, path: Path) -> tuple[Localization, dict[str, np.ndarray]]:
        """Localise in a file; return the result, and the engine's tensors at the edges of its blocks."""
        runs: list[dict[str, np.ndarray]] = []
        engine = self.engine_model(onnx.load(path))  # quantised first: an exposed tensor would be quantised, too

        def run(exposed: Path, images):
            outputs = onnx.load(exposed, load_external_data=False).graph.output
            model, names = copy_model(engine), [output.name for output in outputs]
            del model.graph.output[:]
            model.graph.output.extend(outputs)
            runs.append(dict(zip(names, self.session(model)(images, names), strict=True)))
            return runs[-1]

        options = {"scratch": self.scratch / "localize", "seconds": np.inf, "graph": self.graph}
        options["factor"] = self.factor.factor
        localizer = Localizer(run, path, self.evaluator, self.images, self.arithmetic, **options)
        return localizer.localize(), runs[0]

    def search_clean(self) -> tuple[Localization, dict[str, np.ndarray]]:
        """Localise in the engine without fault, once."""
        if self._clean_search is None:
            self._clean_search = self.search(self.path)
        return self._clean_search

    def locate(self, model: onnx.ModelProto, place: str) -> Located:
        """Localise a fault that changes the tensor ``place`` or is everywhere."""
        path = self.scratch / "faulty.onnx"
        onnx.save(model, path)
        found, faulty = self.search(path)
        _, clean = self.search_clean()
        flagged = found.first_node or found.first_block or ""
        for block in self.blocks:
            compared = [name for name in block.compared if name in faulty]
            if any(not np.array_equal(faulty[name], clean[name], equal_nan=True) for name in compared):
                effect, clean_error = self._block_effect(block, compared, faulty, clean)
                outputs = next((group.compared for group in self.flow.groups if group.name == found.first_node), ())
                right = found.first_block == block.name and place in (EVERYWHERE, *outputs)
                return Located(effect, self.factor.factor + clean_error, flagged, right)
        return Located(0.0, np.inf, flagged, right=False)

    def _block_effect(self, block: Subgraph, compared, faulty, clean) -> tuple[float, float]:
        """Return what the fault changes and the error without fault, in noise floors of the block."""
        tensors = {**clean, self.flow.image: self.images}
        inputs = {name: tensors[name] for name in (self.flow.image, *block.inputs)}
        exact = self.evaluator.evaluate({name: np.float64(array) for name, array in inputs.items()}, compared)
        changed = {name: exact[name] + (np.float64(faulty[name]) - clean[name]) for name in compared}

        def worst(actual) -> float:
            options = {"inputs": inputs, "compared": compared, "among": len(compared), "factor": self.factor.factor}
            return max(
                row.whole_error for row in score_tensors(self.evaluator, self.arithmetic, actual=actual, **options)
            )

        return worst(changed), worst(clean)


def study(bench: Bench, *, seed: int = 0, share: float = 1.0, local: bool = False) -> list[Row]:
    """Plant every fault, or a random ``share`` of them, in a random layer; those that change no bit have no row."""
    random, rows = np.random.default_rng(seed), []
    for index in np.random.default_rng(seed).permutation(len(CATALOGUE)):
        depth, chosen = random.random(), random.random() < share
        rows += plant(bench, CATALOGUE[index], depth, local=local) if chosen else []
    return rows + (_int8_faults(bench) if bench.precision == "int8" else [])


def plant(bench: Bench, fault: Fault, depth: float, *, local: bool = False) -> list[Row]:
    """Plant a fault; return one row, or none if it does not apply to the model or changes no bit."""
    if fault.level == RUNTIME:
        return _rows(bench, fault.name, RUNTIME, "run", fault.plant(bench.runner(bench.model)))
    model = copy_model(bench.model)
    try:
        place = fault.plant(model, depth)
    except LookupError:
        return []
    located = bench.locate(model, place) if local else None
    return _rows(bench, fault.name, fault.level, place, bench.runner(model), located)


def _rows(bench, name, level, place, run, located=None, *, by_request_check=False) -> list[Row]:
    caught, by_peer, logits = bench.check(run)
    caught |= by_request_check
    if np.array_equal(logits, bench.clean, equal_nan=True) and not caught:
        return []
    effect, limit = bench.effect(logits, bench.clean), bench.factor.factor + bench.clean_error
    return [Row(name, level, bench.precision, place, effect, limit, caught, by_request_check, by_peer, located)]


def _int8_faults(bench: Bench) -> list[Row]:
    """Plant faults of quantisation itself."""
    uncalibrated = bench.engine_model(bench.model)
    scales = {node.input[1] for node in uncalibrated.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in uncalibrated.graph.initializer:
        if tensor.name in scales:
            scale = np.full_like(numpy_helper.to_array(tensor), 1 / 64)
            tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    rows = []
    for name, model in (("calibration ignored", uncalibrated), ("fp32 instead of int8", bench.model)):
        by_request_check = not quantized_tensors(model)
        rows += _rows(bench, name, RUNTIME, "run", bench.session(model), by_request_check=by_request_check)
    return rows


def false_alarms(bench: Bench, levels: int = len(LEVELS)) -> dict[str, int]:
    """Count how often each rule fails without fault, at every optimisation level with one thread and two."""
    runs = [(level, threads) for level in LEVELS[:levels] for threads in (1, 2)]
    found = [bench.check(bench.runner(bench.model, *run)) for run in runs]
    peers = {name: sum(by_peer[name] for _, by_peer, _ in found) for name in PEERS}
    return {"this suite": sum(caught for caught, _, _ in found), "runs": len(found), **peers}


def table(rows: list[Row], alarms: dict[str, int]) -> dict[str, object]:
    """Return the cells of one precision by their heading."""
    visible = [row for row in rows if row.visible]
    local = [row.located for row in rows if row.located]
    in_block = [found for found in local if found.visible]
    return {
        "precision": rows[0].precision,
        "planted": len(rows),
        "visible in the logits": len(visible),
        "of those caught": sum(row.caught for row in visible),
        "caught in the logits": sum(row.caught for row in rows),
        "visible in a block": len(in_block),
        "of those flagged": sum(bool(found.flagged) for found in in_block),
        "of those located": sum(found.right for found in in_block),
        "caught or flagged": sum(row.caught or bool(row.located and row.located.flagged) for row in rows),
        "false alarms": f"{alarms['this suite']} of {alarms['runs']}",
        "false locations": alarms.get("localisation", "-"),
        **{name: f"{sum(row.by_peer[name] for row in rows)} ({alarms[name]})" for name in PEERS},
    }


def _exceptions(rows: list[Row]) -> Iterator[str]:
    """Yield the faults that were visible, and missed or located wrongly."""
    yield from (f"missed: {row}" for row in rows if row.visible and not row.caught)
    yield from (f"wrong place: {row}" for row in rows if row.located and row.located.visible and not row.located.right)


def main() -> None:
    """Run from a shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--precision", default="all", choices=["all", *BY_NAME])
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    parser.add_argument("--local", action="store_true", help="localise every fault, too")
    options = parser.parse_args()
    spec = ModelSpec(options.variant, None, (options.image_size, options.image_size))
    rows: list[Row] = []
    with RunContext.create(cache_folder(), isolation=None) as context, tempfile.TemporaryDirectory() as scratch:
        for name in PRECISIONS if options.precision == "all" else (options.precision,):
            bench = Bench(context, spec, name, Path(scratch))
            alarms = false_alarms(bench)
            if options.local:
                alarms["localisation"] = int(bench.search_clean()[0].first_block is not None)
            found = study(bench, seed=options.seed, local=options.local)
            cells = table(found, alarms)
            if not rows:
                print(f"| {' | '.join(cells)} |", "|" + "---|" * len(cells), sep="\n")
            print(f"| {' | '.join(map(str, cells.values()))} |", flush=True)
            rows += found
    path = cache_folder() / f"power-{spec.label}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(*_exceptions(rows), f"rows: {path}", sep="\n")


if __name__ == "__main__":
    main()
