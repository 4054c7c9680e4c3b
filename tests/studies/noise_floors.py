"""Compare the errors of the installed engines with their noise floors, and draw fixtures/assets/floors.svg.

    python tests/studies/noise_floors.py measure rows.json                      # the models of the README's picture
    python tests/studies/noise_floors.py measure rows.json --model eca_nfnet_l0@64
    .ci/with-migraphx python tests/studies/noise_floors.py measure ref.json     # the same with MIGraphX
    python tests/studies/noise_floors.py draw fixtures/assets/floors.svg rows.json ref.json

ONNX Runtime runs at every optimisation level with one and two threads.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.cache import cache_folder
from fixtures.engines.onnxruntime.engine import LEVELS
from fixtures.engines.registry import OWN_NAMES, REFERENCE, engine_status, target_of
from fixtures.precisions import BY_NAME, precision
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.float64 import relative_errors
from fixtures.run.context import RunContext
from fixtures.verdict.tolerances import DEFAULT

MODELS = ("test_nfnet@64", "dm_nfnet_f0@192")
SLOW_ENGINE_PIXELS = 64  # largest image of a slow engine
IMAGES = 2
REFERENCE_OPTIONS = [EngineOptions(graph_optimization=level, threads=count) for level in LEVELS for count in (1, 2)]


def cases(context, spec):
    """Yield everything that the installed engines support."""
    for engine in OWN_NAMES:
        slow = target_of(engine).workload.is_slow and spec.size[0] > SLOW_ENGINE_PIXELS
        if slow or not engine_status(engine).usable:
            continue
        for name in BY_NAME:
            for options in REFERENCE_OPTIONS if engine == REFERENCE else [EngineOptions()]:
                case = Case(engine, spec, name, IMAGES, options)
                if not context.program_pool.unsupported(case):
                    yield case


def measure(context, text):
    """Yield the error and the noise floor of each case of a model, in u."""
    variant, _, pixels = text.partition("@")
    spec = ModelSpec(variant, None, (int(pixels), int(pixels)))
    images = context.model_store.images(spec, IMAGES)
    for case in cases(context, spec):
        unit = precision(case.precision).unit_roundoff
        exact = context.tolerances.exact(case)
        error = relative_errors(context.program_pool.run(case, images), exact).max() / unit
        floor = context.tolerances.tolerance(case).noise_floor / unit
        print(
            f"{text:<18} {case.engine:<16} {case.precision:<5} {case.options.graph_optimization:<9} "
            f"{case.options.threads} threads  {error:8.2f} u, noise floor {floor:8.2f} u, ratio {error / floor:5.2f}",
            flush=True,
        )
        yield {"model": text, "engine": case.engine, "precision": case.precision, "error": error, "floor": floor}


def draw(picture, rows):
    """Draw errors in noise floors: a column for each precision, a series for each engine and model."""
    import matplotlib as mpl  # noqa: PLC0415 - measuring works without it

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "floors"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = [name for name in BY_NAME if any(row["precision"] == name for row in rows)]
    series = list(dict.fromkeys((row["engine"], row["model"]) for row in rows))
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for index, (engine, model) in enumerate(series):
        mine = [row for row in rows if (row["engine"], row["model"]) == (engine, model)]
        x = [names.index(row["precision"]) + (index - (len(series) - 1) / 2) * 0.18 for row in mine]
        axes.scatter(x, [row["error"] / row["floor"] for row in mine], s=22, alpha=0.7, label=f"{engine}, {model}")
    for value, text, color in ((DEFAULT.factor, "tolerance", "firebrick"), (1, "noise floor", "grey")):
        axes.axhline(value, color=color, linewidth=1)
        axes.text(len(names) - 0.5, value * 1.03, text, color=color, ha="right", va="bottom")
    for place, name in enumerate(names):
        floors = sorted(row["floor"] for row in rows if row["precision"] == name)
        axes.text(place, 0.13, f"{floors[0]:.2g} to {floors[-1]:.2g} u", ha="center", fontsize=8)
    axes.set(yscale="log", ylim=(0.12, 6), ylabel="error / noise floor", xlim=(-0.5, len(names) - 0.5))
    axes.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axes.set_yticks([], minor=True)
    axes.set_xticks(range(len(names)), names)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    figure.savefig(picture, metadata={"Date": None})


def main():
    """Measure or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--model", action="append")
    drawing = commands.add_parser("draw")
    drawing.add_argument("picture", type=Path)
    drawing.add_argument("file", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "draw":
        draw(options.picture, [row for file in options.file for row in json.loads(file.read_text(encoding="utf-8"))])
        return
    with RunContext.create(cache_folder(), isolation=None) as context:
        rows = [row for model in options.model or MODELS for row in measure(context, model)]
    options.file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
