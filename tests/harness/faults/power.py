"""Which planted faults are found, end to end, by our rule and by the peers'; not a test.

python tests/harness/faults/power.py --variant dm_nfnet_f0 --image-size 64 --precision all
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import onnx
import onnxruntime
from catalogue import CATALOGUE
from peers import PEERS
from planting import copied, emulated_bf16

from fixtures.cache import cache_folder
from fixtures.locality.explain import explain
from fixtures.pipeline import Laboratory
from fixtures.precisions import BY_NAME
from fixtures.records import Case, ModelSpec
from fixtures.truth.floors import NEAREST, arithmetic, relative_errors
from fixtures.truth.oracle import Oracle
from fixtures.verdict.budgets import Budget

IMAGES = 2
SHARES = (0.15, 0.5, 0.85)  # where in the network's depth a fault is planted
VISIBLE = 4.0  # floors


@dataclass(frozen=True)
class Row:
    """One fault at one place and one precision; effects are those of the fault alone, in floors."""

    fault: str
    level: str
    precision: str
    where: str
    logits_floors: float
    caught: bool
    located: str | None  # the node or block that locality names; None where it was not asked
    by_peer: dict[str, bool]


class Bench:
    """A model at a precision: clean outputs, floors, and the verdict on other outputs."""

    def __init__(self, laboratory: Laboratory, spec: ModelSpec, precision: str, images: int = IMAGES) -> None:
        self.laboratory, self.spec, self.precision = laboratory, spec, precision
        self.images = laboratory.images(spec, images)
        self.model = onnx.load(laboratory.model(spec, "fp16" if precision == "fp16" else "fp32").path)
        self.exact = laboratory.exact(spec, images)["logits"]
        self.expected = laboratory.expected(spec, images)["logits"]
        self.row = row = arithmetic(precision, NEAREST)
        self.budget = Budget(precision, row.name, laboratory.truth(spec).floor(self.images, row))
        self.oracle = Oracle(laboratory.model(spec).path)
        own = Oracle(laboratory.model(spec, "fp16" if precision == "fp16" else "fp32").path)
        self.clean = own.evaluate({"inputs": self.images})["logits"]

    def runner(self, model: onnx.ModelProto, level: str = "ORT_ENABLE_ALL", threads: int = 0):
        """ONNX Runtime on a model in memory, as fp32 logits."""
        made = emulated_bf16(model) if self.precision == "bf16" else model
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
        """Our rule against ONNX Runtime and the oracle, and two runs against each other; then the peers'."""
        first, second = run(self.images), run(self.images * np.float32(0.5))
        del second
        again = run(self.images)
        case = Case("onnxruntime:cpu", self.spec, self.precision, len(self.images))
        pairs = ((again, self.expected), (again, self.exact), (again, first))
        bad = any(not self.laboratory.judge(case, {"logits": got}, {"logits": want}, self.budget).passed
                  for got, want in pairs)  # fmt: skip
        peers = {name: not rule(again, self.expected, self.precision) for name, rule in PEERS.items()}
        return bad, peers, again

    def effect(self, model: onnx.ModelProto, folder: Path) -> float:
        """How far the fault alone moves the logits, in floors: the faulty graph in float64."""
        path = folder / "planted.onnx"
        onnx.save(model, path)
        made = Oracle(path).evaluate({"inputs": self.images})["logits"]
        return float(relative_errors({"l": made}, {"l": self.clean}).max()) / self.budget.floor

    def located(self, path: Path, folder: Path) -> str:
        """The first block that locality names for a faulty file; empty where it finds none."""

        def run(exposed: Path, images):
            made = onnx.load(exposed)
            names = [output.name for output in made.graph.output]
            return dict(zip(names, self.runner(made)(images, names), strict=True))

        found = explain(run, path, self.oracle, self.images, self.row, case_id="fault", scratch=folder)
        return found.node or found.first or ""


def study(bench: Bench, folder: Path, shares=SHARES, *, local: bool = False) -> list[Row]:
    """Every fault of the catalogue that the model can have."""
    rows = []
    for fault in CATALOGUE:
        for share in shares if fault.level != "runtime" else shares[:1]:
            model, where = copied(bench.model), "run"
            try:
                if fault.level == "runtime":
                    run = fault.plant(bench.runner(model))
                else:
                    where = fault.plant(model, share)
                    run = bench.runner(model)
            except LookupError:
                continue
            caught, peers, outputs = bench.caught(run)
            moved = _runtime_effect(bench, outputs) if where == "run" else bench.effect(model, folder)
            found = None if where == "run" or not local else bench.located(folder / "planted.onnx", folder)
            rows.append(Row(fault.name, fault.level, bench.precision, where, moved, caught, found, peers))
    return rows


def _runtime_effect(bench: Bench, outputs: object) -> float:
    clean = bench.runner(bench.model)(bench.images).astype(np.float64)
    return float(relative_errors({"l": outputs}, {"l": clean}).max()) / bench.budget.floor


def false_alarms(bench: Bench) -> dict[str, int]:
    """How often each rule accuses the clean model at every optimisation level and thread count."""
    levels = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
    found = [bench.caught(bench.runner(bench.model, level, threads)) for level in levels for threads in (1, 2)]
    accused = {name: sum(peers[name] for _, peers, _ in found) for name in PEERS}
    return {"ours": sum(ours for ours, _, _ in found), "of": len(found), **accused}


def table(rows: list[Row], alarms: dict[str, dict[str, int]]) -> str:
    """Markdown; behind a peer's count stands how many of the clean runs it accuses."""
    head = [
        "precision",
        "planted",
        "visible",
        "visible and caught",
        "caught",
        "by locality",
        "by either",
        "false alarms",
        *PEERS,
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(row.precision for row in rows):
        of = [row for row in rows if row.precision == name]
        visible = [row for row in of if not row.logits_floors < VISIBLE]
        cells = [name, len(of), len(visible), sum(row.caught for row in visible), sum(row.caught for row in of),
                 sum(bool(row.located) for row in of), sum(row.caught or bool(row.located) for row in of),
                 f"{alarms[name]['ours']} of {alarms[name]['of']}",
                 *(f"{sum(row.by_peer[peer] for row in of)} ({alarms[name][peer]})" for peer in PEERS)]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """From a shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--precision", default="all", choices=["all", *BY_NAME])
    parser.add_argument("--quick", action="store_true", help="one place a fault")
    parser.add_argument("--local", action="store_true", help="ask locality too")
    given = parser.parse_args()
    names = ("fp32", "fp16", "bf16") if given.precision == "all" else (given.precision,)
    spec = ModelSpec(given.variant, None, (given.image_size, given.image_size))
    folder = cache_folder()
    rows, alarms = [], {}
    with Laboratory(folder) as laboratory, tempfile.TemporaryDirectory() as scratch:
        for name in names:
            bench = Bench(laboratory, spec, name)
            alarms[name] = false_alarms(bench)
            rows += study(bench, Path(scratch), SHARES[1:2] if given.quick else SHARES, local=given.local)
    path = folder / f"power-{spec.label}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    for row in rows:
        if not row.caught:
            print(f"missed {row.precision} {row.fault} at {row.where}: {row.logits_floors:.2f} floors at the logits")
    print(table(rows, alarms))
    print(f"rows: {path}")


if __name__ == "__main__":
    main()
