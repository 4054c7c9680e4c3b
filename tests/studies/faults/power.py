"""Which planted faults are found, end to end and by locality, by our rule and by the peers'; not a test.

python tests/meta/faults/power.py --variant dm_nfnet_f0 --image-size 64 --precision all --local
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import onnx
import onnxruntime
from catalogue import CATALOGUE, EVERYWHERE, Fault
from onnx import numpy_helper
from peers import PEERS
from planting import copied, emulated_bf16

from fixtures.cache import cache_folder
from fixtures.engines.onnxruntime.int8 import quantised, quantised_products
from fixtures.localize.blocks import read_data_flow, split_into_blocks
from fixtures.localize.records import Localization
from fixtures.localize.score import score_tensors
from fixtures.localize.search import localize
from fixtures.precisions import BY_NAME
from fixtures.records import Case, ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.distance import relative_errors
from fixtures.run.compare import judge_outputs
from fixtures.run.context import RunContext
from fixtures.verdict.tolerances import DEFAULT, Tolerance

IMAGES = 2
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
BRIGHT = {"fp32": 1e5, "bf16": 1e5, "fp16": 2.0}
AS_WRITTEN = "ORT_DISABLE_ALL"  # an optimiser would take a planted pair of casts away


@dataclass(frozen=True)
class Row:
    """One fault at one place and one precision; effects are what it moves in the engine, in floors."""

    fault: str
    level: str
    precision: str
    where: str
    at_logits: float
    logits_limit: float  # from here on it is visible: the multiple of the floor and the clean engine's own error
    caught: bool
    by_treatment: bool
    at_block: float | None  # None where locality was not asked
    block_limit: float | None
    accused: str  # the node or block that locality names, empty where none
    located: bool  # and that is the right one
    by_peer: dict[str, bool]

    @property
    def visible(self) -> bool:
        """At the logits."""
        return not self.at_logits < self.logits_limit

    @property
    def visible_in_block(self) -> bool:
        """At the edges of its own block."""
        return self.at_block is not None and not self.at_block < self.block_limit


class Bench:
    """A model at a precision: clean outputs, floors, and the verdict on other outputs."""

    def __init__(self, context: RunContext, spec: ModelSpec, precision: str, folder: Path) -> None:
        self.context, self.spec, self.precision, self.folder = context, spec, precision, folder
        self.images = context.model_store.images(spec, IMAGES)
        self.path = context.model_store.onnx_file(spec, "fp16" if precision == "fp16" else "fp32").path
        self.model = onnx.load(self.path)
        self.model.doc_string = precision  # for faults that hang on it
        self.exact = context.tolerances.exact(spec, IMAGES)["logits"]
        self.expected = context.reference.expected(spec, IMAGES)["logits"]
        self.row = row = arithmetic(precision)
        self.case = Case("onnxruntime:cpu", spec, precision, IMAGES)
        self.truth = context.tolerances.float64(spec)
        self.tolerance = Tolerance(precision, row.name, max(self.truth.noise_floors(self.images, row)))
        self.oracle = self.truth.evaluator(row)
        self.unusual = list(self.strange())
        self.flow = read_data_flow(self.oracle.path)
        self.parts = split_into_blocks(self.flow)
        self.clean = self.runner(self.model)(self.images)
        self.own_error = self.floors(self.clean, self.exact)
        self.accused_clean = ""
        self.clean_tensors: dict[str, np.ndarray] = {}

    def passes(self, got, want, tolerance: Tolerance) -> bool:
        """The verdict on logits."""
        return judge_outputs(
            self.case, self.context, actual={"logits": got}, expected={"logits": want}, tolerance=tolerance
        ).passed

    def strange(self) -> Iterator[tuple[np.ndarray, Tolerance]]:
        """Images that are no photographs, as the suite has them: far brighter, and none at all."""
        if self.precision not in BRIGHT:
            return
        bright = self.images * np.float32(BRIGHT[self.precision])
        yield (
            bright,
            replace(
                self.tolerance,
                noise_floor=max(self.tolerance.noise_floor, *self.truth.noise_floors(bright, self.row)),
            ),
        )
        yield np.full_like(self.images, np.nan), self.tolerance

    def floors(self, actual, other) -> float:
        """A distance of logits in floors."""
        worst = relative_errors({"l": np.float64(actual)}, {"l": np.float64(other)}).max()
        return float(worst) / self.tolerance.noise_floor

    def made(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """What the engine runs at the precision."""
        if self.precision == "bf16":
            return emulated_bf16(model)
        if self.precision != "int8":
            return model
        path = self.folder / "to-quantise.onnx"
        onnx.save(model, path)
        return onnx.load_from_string(quantised(path, self.context.program_pool.calibration(self.case)))

    def runner(self, model: onnx.ModelProto, level: str = AS_WRITTEN, threads: int = 0):
        """ONNX Runtime on a model in memory."""
        return self.session(self.made(model), level, threads)

    def session(self, made: onnx.ModelProto, level: str = AS_WRITTEN, threads: int = 0):
        """The same on a model that has its precision."""
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        settings.intra_op_num_threads, settings.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        kind = np.float16 if self.precision == "fp16" else np.float32

        def run(images, names=None):
            results = session.run(names, {"inputs": images.astype(kind)})
            return results if names else results[0].astype(np.float32)

        return run

    def caught(self, run) -> tuple[bool, dict[str, bool], object]:
        """Our rules of numbers and of behaviour; then the peers'. The outputs are those after another input."""
        first, _, again = run(self.images), run(self.images * np.float32(0.5)), run(self.images)
        equal = run(self.images[:1].repeat(IMAGES, 0))
        pairs = (
            (again, self.expected),
            (again, self.exact),
            (again, first),
            (run(self.images[::-1])[::-1], again),
            (run(self.images[:1]), again[:1]),
            (equal[1:], equal[:-1]),
        )
        bad = not all(self.passes(got, want, self.tolerance) for got, want in pairs) or any(
            not self.passes(run(images), self.truth.outputs(images)["logits"], tolerance)
            for images, tolerance in self.unusual
        )
        peers = {name: not rule(again, self.expected, self.precision) for name, rule in PEERS.items()}
        return bad, peers, again

    def searched(self, path: Path) -> tuple[Localization, dict[str, np.ndarray]]:
        """What locality finds in a file, and the engine's tensors at the edges of its blocks."""
        seen: list[dict[str, np.ndarray]] = []
        engine = self.made(onnx.load(path))  # quantised before its tensors are shown: showing one would quantise it

        def run(exposed: Path, images):
            outputs = onnx.load(exposed, load_external_data=False).graph.output
            names, model = [output.name for output in outputs], copied(engine)
            del model.graph.output[:]
            model.graph.output.extend(outputs)
            seen.append(dict(zip(names, self.session(model)(images, names), strict=True)))
            return seen[-1]

        found = localize(
            run, path, self.oracle, self.images, self.row, case_id="fault", scratch=self.folder, seconds=np.inf
        )
        return found, seen[0]

    def search_clean(self) -> str:
        """What locality accuses in the clean engine, once: it should be nothing."""
        if not self.clean_tensors:
            found, self.clean_tensors = self.searched(self.path)
            self.accused_clean = found.first_node or found.first_block or ""
        return self.accused_clean

    def local(self, model: onnx.ModelProto, where: str) -> tuple[float, float, str, bool]:
        """(effect at the first block that differs, its limit, what locality accuses, whether that is right)."""
        path = self.folder / "planted.onnx"
        onnx.save(model, path)
        found, faulty = self.searched(path)
        self.search_clean()
        part = next((part for part in self.parts if self._differs(part, faulty)), None)
        if part is None:
            return 0.0, np.inf, found.first_node or found.first_block or "", False
        effect, own = self._effect(part, faulty)
        right = found.first_block == part.output and where in (EVERYWHERE, *self.outputs_of(found.first_node))
        return effect, DEFAULT.factor + own, found.first_node or found.first_block or "", right

    def outputs_of(self, node: str | None) -> tuple[str, ...]:
        """What a node of the right model computes."""
        return next((tuple(group.outputs) for group in self.flow.groups if group.name == node), ())

    def _differs(self, part, faulty) -> bool:
        return any(
            not np.array_equal(faulty[name], self.clean_tensors[name], equal_nan=True)
            for name in part.compared
            if name in faulty
        )

    def _effect(self, part, faulty) -> tuple[float, float]:
        """(what the fault moves, what the clean engine is off) in floors of the block, whole tensors."""
        clean = {**self.clean_tensors, self.flow.image: self.images}
        feeds = {name: clean[name] for name in {self.flow.image: 0, part.input: 0}}
        watched = [name for name in part.compared if name in faulty]
        exact = self.oracle.evaluate({name: np.float64(array) for name, array in feeds.items()}, watched)
        moved = {name: exact[name] + (np.float64(faulty[name]) - clean[name]) for name in watched}

        def worst(actual) -> float:
            rows = score_tensors(
                self.oracle, self.row, inputs=feeds, actual=actual, compared=watched, among=len(watched)
            )
            return max(row.error for row in rows)

        return worst(moved), worst(clean)


def study(bench: Bench, *, seed: int = 0, some: float = 1.0, local: bool = False, seconds: float = np.inf) -> list[Row]:
    """Every fault that changes the engine's bits, in a layer by chance; ``some`` of them by chance, too."""
    random, rows, end = np.random.default_rng(seed), [], time.monotonic() + seconds
    for fault in (CATALOGUE[at] for at in np.random.default_rng(seed).permutation(len(CATALOGUE))):
        share, taken = random.random(), random.random() < some
        if taken and time.monotonic() < end:
            rows += _studied(bench, fault, share, local)
    return rows + (_of_int8(bench) if bench.precision == "int8" else [])


def _studied(bench: Bench, fault: Fault, share: float, local: bool) -> list[Row]:
    if fault.level == "runtime":
        return _judged(bench, fault.name, fault.level, "run", fault.plant(bench.runner(bench.model)))
    model = copied(bench.model)
    try:
        where = fault.plant(model, share)
    except LookupError:  # the model has no such place
        return []
    asked = bench.local(model, where) if local else None
    return _judged(bench, fault.name, fault.level, where, bench.runner(model), asked)


def _judged(bench, name, level, where, run, asked=None, treated=False) -> list[Row]:
    """A row, none where not a bit differs."""
    caught, peers, outputs = bench.caught(run)
    block, limit, accused, right = asked or (None, None, "", False)
    if np.array_equal(outputs, bench.clean, equal_nan=True) and not caught and not treated:
        return []
    return [
        Row(
            name,
            level,
            bench.precision,
            where,
            bench.floors(outputs, bench.clean),
            DEFAULT.factor + bench.own_error,
            caught or treated,
            treated,
            block,
            limit,
            accused,
            right,
            peers,
        )
    ]


def _of_int8(bench: Bench) -> list[Row]:
    """Faults of quantisation itself, planted behind it."""
    ignored = bench.made(bench.model)
    ranges = {node.input[1] for node in ignored.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in ignored.graph.initializer:
        if tensor.name in ranges:
            scale = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(scale, 1 / 64), tensor.name))
    rows = []
    for name, model in (("calibration ignored", ignored), ("fp32 passed off as int8", bench.model)):
        treated, products = quantised_products(model)
        rows += _judged(bench, name, "runtime", "run", bench.session(model), treated=treated < products)
    return rows


def false_alarms(bench: Bench, levels: int = 4) -> dict[str, int]:
    """How often each rule accuses the clean model at every optimisation level and thread count."""
    names = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")[:levels]
    found = [bench.caught(bench.runner(bench.model, level, threads)) for level in names for threads in (1, 2)]
    accused = {name: sum(peers[name] for _, peers, _ in found) for name in PEERS}
    return {"ours": sum(ours for ours, _, _ in found), "of": len(found), **accused}


HEAD = (
    "precision",
    "planted",
    "visible at the logits",
    "of those caught",
    "caught end to end",
    "visible in its block",
    "of those accused",
    "of those right place",
    "caught by either",
    "false alarms",
    "locality's",
)


def table(rows: list[Row], alarms: dict[str, dict[str, int]]) -> str:
    """Markdown; behind a peer's count stands how many of the clean runs it accuses."""
    head = [*HEAD, *PEERS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(row.precision for row in rows):
        of = [row for row in rows if row.precision == name]
        visible, inside = [row for row in of if row.visible], [row for row in of if row.visible_in_block]
        cells = [
            name,
            len(of),
            len(visible),
            sum(row.caught for row in visible),
            sum(row.caught for row in of),
            len(inside),
            sum(bool(row.accused) for row in inside),
            sum(row.located for row in inside),
            sum(row.caught or bool(row.accused) for row in of),
            f"{alarms[name]['ours']} of {alarms[name]['of']}",
            alarms[name].get("locality", "not asked"),
            *(f"{sum(row.by_peer[peer] for row in of)} ({alarms[name][peer]})" for peer in PEERS),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _exceptions(rows: list[Row]) -> list[str]:
    """What was visible and yet missed, or put in the wrong place."""
    missed = [f"missed at the logits: {row}" for row in rows if row.visible and not row.caught]
    return missed + [f"misplaced: {row}" for row in rows if row.visible_in_block and not row.located]


def main() -> None:
    """From a shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--precision", default="all", choices=["all", *BY_NAME])
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    parser.add_argument(
        "--seconds",
        type=float,
        default=np.inf,
        help="for each precision; faults come in an order by chance, what is left is not planted",
    )
    parser.add_argument("--local", action="store_true", help="ask locality too")
    given = parser.parse_args()
    names = PRECISIONS if given.precision == "all" else (given.precision,)
    spec = ModelSpec(given.variant, None, (given.image_size, given.image_size))
    folder = cache_folder()
    rows, alarms = [], {}
    with RunContext.create(folder) as context, tempfile.TemporaryDirectory() as scratch:
        for name in names:
            bench = Bench(context, spec, name, Path(scratch))
            alarms[name] = false_alarms(bench)
            if given.local:
                alarms[name]["locality"] = int(bool(bench.search_clean()))
            rows += study(bench, seed=given.seed, local=given.local, seconds=given.seconds)
            print(table(rows, alarms), flush=True)
    path = folder / f"power-{spec.label}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print("\n".join(_exceptions(rows)))
    print(f"rows: {path}")


if __name__ == "__main__":
    main()
