#!/usr/bin/env python3
"""Compare MIGraphX with ONNX Runtime on random images or on photographs, from a shell.

Exit code 0: they agree; 1: they differ; 2: it could not be judged, and the last line says what to do.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fixtures.records import Case, ModelSpec
    from fixtures.run.context import RunContext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

AGREE, DIFFER, NOT_JUDGED = 0, 1, 2
EXAMPLES = """examples:
  the best MIGraphX target there is, ten images:
    python3 ort_comparison.py
  any classification model with one image input:
    python3 ort_comparison.py --model resnet50.onnx
  half precision on a GPU:
    python3 ort_comparison.py --engine migraphx:gpu --precision fp16
  what photographs show, and whether both say so:
    python3 ort_comparison.py --images cat.jpg photographs/
  without MIGraphX, optimised against plain ONNX Runtime:
    python3 ort_comparison.py --engine onnxruntime:cpu

exit code: 0 they agree, 1 they differ, 2 it could not be judged
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; return the exit code."""
    _speak_plainly()
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("could not judge: interrupted; the lines above hold", file=sys.stderr)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - Python would end with 1, which says that they differ
        traceback.print_exc()
        print(f"could not judge: {type(error).__name__} in the suite itself -> report the lines above", file=sys.stderr)
    return NOT_JUDGED


def _run(arguments: list[str] | None) -> int:
    try:
        from fixtures.errors import SuiteError

        options = _parser().parse_args(arguments)
        importlib.import_module("fixtures.run.context")
    except ImportError as error:
        print(f"a package is missing: {error} -> pip install -r {ROOT / 'requirements_nfnet.txt'}", file=sys.stderr)
        return NOT_JUDGED
    try:
        return _compare(options)
    except SuiteError as error:
        print(f"could not judge: {error}", file=sys.stderr)
        return NOT_JUDGED


def _speak_plainly() -> None:
    """No name of a file stops the output; what Pillow warns of is an error of ours, or costs no image."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _parser() -> argparse.ArgumentParser:
    from fixtures import arguments
    from fixtures.engines.registry import ENGINE_NAMES, ENGINES
    from fixtures.engines.workloads import REAL, TRAINED
    from fixtures.precisions import BY_NAME

    parser = argparse.ArgumentParser(
        description="Compare MIGraphX with ONNX Runtime on random images or on photographs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    slow = ", ".join(name for name, info in ENGINES.items() if info.workload.is_slow)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--model",
        metavar="FILE|URL",
        type=arguments.model_source,
        help="ONNX classification model, or an https address that is fetched once",
    )
    what.add_argument(
        "--variant",
        metavar="NAME",
        type=arguments.one_variant,
        help=f"NFNet to build (default: {REAL[0]}; {TRAINED[0]} on {slow})",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--inputs",
        metavar="N",
        type=arguments.whole(1, "inputs"),
        default=10,
        help="number of random images (default: 10)",
    )
    which.add_argument(
        "--images",
        metavar="PATH",
        nargs="+",
        type=arguments.path,
        help="photographs or folders of them instead: the five likeliest names of each",
    )
    rows: dict[str, dict[str, Any]] = {
        "--engine": {
            "metavar": "NAME",
            "help": f"engine to judge: {', '.join(ENGINE_NAMES)} (default: the best MIGraphX target there is)",
        },
        "--precision": {
            "metavar": "NAME",
            "type": arguments.one_precision,
            "help": f"{', '.join(BY_NAME)} (default: fp32, or fp16 where the model's file is in that)",
        },
        "--batch": {
            "metavar": "N",
            "type": arguments.whole(1, "batch"),
            "default": 1,
            "help": "images a run (default: 1)",
        },
        "--image-size": {
            "metavar": "N|HxW",
            "type": arguments.image_size,
            "help": "pixels, square or height x width (default: what fits the engine or the model)",
        },
        "--weights": {
            "metavar": "WHICH",
            "type": arguments.weights,
            "default": "auto",
            "help": "weights of a built model: auto, pretrained, trained, seeded or a safetensors file "
            "(default: auto, the best that can be had at once)",
        },
        "--calibration": {
            "metavar": "FOLDER",
            "type": arguments.path,
            "help": "photographs that int8 and fp8 take their scales from (default: digits for the "
            "trained network, else synthetic images)",
        },
        "--seed": {
            "metavar": "N",
            "type": arguments.whole(0, "seed"),
            "default": 0,
            "help": "seed of the weights of a built model (default: 0)",
        },
        "--fast-math": {"action": "store_true", "help": "let MIGraphX trade accuracy for speed"},
        "--exhaustive-tune": {"action": "store_true", "help": "let MIGraphX try every kernel; slow to compile"},
        "--explain": {
            "action": "store_true",
            "help": "name the first wrong block and write a bug report; show the table of blocks",
        },
        "--threads": {
            "metavar": "N",
            "type": arguments.whole(0, "threads"),
            "default": 0,
            "help": "ONNX Runtime's threads (default: 0, one a physical core)",
        },
        "--migraphx": {"metavar": "PATH", "help": "folder or library file of MIGraphX (default: it is looked for)"},
        "--cache-dir": {
            "metavar": "DIR",
            "help": "folder for built models and compiled programs (default: $NFNET_CACHE_DIR or "
            "~/.cache/nfnet-migraphx)",
        },
        "--no-program-cache": {
            "action": "store_true",
            "help": "compile the program now: load none from the cache, keep none",
        },
    }
    for name, settings in rows.items():
        parser.add_argument(name, **settings)
    return parser


def _compare(options: argparse.Namespace) -> int:
    from fixtures.accuracy.calibration import Calibration
    from fixtures.cache import cache_folder
    from fixtures.programs.program_cache import ProgramCache
    from fixtures.run.context import RunContext

    case, cache = _case(options), cache_folder(options.cache_dir)
    programs = None if options.no_program_cache else ProgramCache(cache)
    calibrating, threads = Calibration(options.calibration), options.threads
    with RunContext.create(
        cache, migraphx=options.migraphx, calibration=calibrating, programs=programs, threads=threads
    ) as context:
        engine = context.program_pool.engine(case.engine)
        reason = context.program_pool.unsupported(case)
        if reason:
            from fixtures.errors import UsageError

            raise UsageError(reason, where=case.id)
        for line in _introduction(context, case, engine.version):
            print(line)
        compare, what = (_recognise, options.images) if options.images else (_compare_images, options.inputs)
        failed, count = compare(context, case, what, explain=options.explain)
    if failed:
        print(f"DIFFER: {failed} of {count} images are further apart than {case.precision} explains")
        return DIFFER
    print(f"AGREE: {case.engine} and ONNX Runtime on {count} images at {case.precision}")
    return AGREE


def _case(options: argparse.Namespace) -> Case:
    from fixtures.arguments import check_building
    from fixtures.engines.registry import default_engines, engine_status
    from fixtures.errors import EngineUnavailable
    from fixtures.records import Case, EngineOptions

    check_building(model=options.model, weights=options.weights, seed=options.seed)
    named = options.engine is not None
    status = engine_status(options.engine, options.migraphx) if named else default_engines(options.migraphx)[-1]
    if status.missing:  # before weights are fetched for it
        hint = status.hint if named else f"{status.hint}; or judge ONNX Runtime alone: --engine onnxruntime:cpu"
        raise EngineUnavailable(status.missing, where=status.name, hint=hint)
    settings = EngineOptions(options.fast_math, options.exhaustive_tune, threads=options.threads)
    model = _model(options, status.name)
    return Case(status.name, model, options.precision or _file_precision(model), options.batch, settings)


def _file_precision(model: ModelSpec) -> str:
    from fixtures.onnx_file import inspect

    return inspect(model.path).precision if model.path else "fp32"


def _model(options: argparse.Namespace, engine: str) -> ModelSpec:
    from fixtures.cache import cache_folder
    from fixtures.records import ModelSpec
    from fixtures.weight_sources import model_file

    cache = cache_folder(options.cache_dir)
    if options.model:
        return ModelSpec(path=model_file(options.model, cache), size=options.image_size)
    return _built(options, engine, cache)


def _built(options: argparse.Namespace, engine: str, cache: Path) -> ModelSpec:
    from fixtures.accuracy.digits import VARIANT
    from fixtures.cli.recognition import instead, usual_variant
    from fixtures.engines.registry import engine_info
    from fixtures.nfnet.variants import variant
    from fixtures.records import ModelSpec
    from fixtures.weight_sources import AUTO, Origins

    because = "--seed is given" if options.seed else ""
    origins = Origins(options.weights, cache, seeded_because=because)
    photographs = options.images and options.weights == AUTO and not options.variant
    workload = engine_info(engine).workload
    usual = usual_variant(engine, origins) if photographs else workload.models[0][0]
    name = options.variant or origins.variants([usual])[0]
    origin = origins.of(name)
    print(f"weights    {origin.weights} ({origin.why})")
    if photographs and name == VARIANT:
        print(f"           {name} reads handwritten digits; {instead(engine, origins)}")
    size = options.image_size or workload.image_size(name, variant(name).train_size)
    return ModelSpec(name, None, size, options.seed, None, origin.weights, origin.path)


def _introduction(context: RunContext, case: Case, version: str) -> Iterator[str]:
    from fixtures.engines.registry import REFERENCE
    from fixtures.precisions import precision

    model, program = context.program_pool.onnx_file(case), context.program_pool.program(case)
    yield f"model      {model.label} ({model.path})"
    yield f"input      {model.input}"
    yield from (f"output     {output}" for output in model.outputs)
    yield f"engine     {case.engine} {version} at {case.precision}, batch {case.batch}"
    yield f"           {', '.join(f'{key}={value}' for key, value in program.facts.items())}"
    if how := context.program_pool.sources.get(case.id):
        yield f"program    {how}"
    if precision(case.precision).calibrated:
        yield f"calibrated {context.model_store.calibration.describe(case.model)}"
    version, own = context.program_pool.engine(REFERENCE).version, context.model_store.file_precision(case.model)
    yield f"reference  {REFERENCE} {version} at {own}, no graph optimisation"


def _explain(context: RunContext, case: Case, images: Any, failing: tuple[int, ...]) -> None:
    """Print where it goes wrong; that it cannot be said changes no answer."""
    from fixtures.run.localize import explain_case

    try:
        found = explain_case(context, case, images, failing=failing)
    except Exception as error:  # noqa: BLE001 - the comparison itself is what must be told
        print(f"first wrong block: could not be explained: {error or type(error).__name__}")
        return
    print(found.table(), f"first wrong block: {found.summary}", sep="\n")
    if found.folder:
        print(f"bug report: {found.folder}")


def _recognise(context: RunContext, case: Case, places: list[Path], *, explain: bool) -> tuple[int, int]:
    """Print the names of each photograph; return how many are off, and of how many."""
    from fixtures.cli.recognition import recognise
    from fixtures.run.compare import attribute

    failed, count, first, images = 0, 0, None, None
    for part in recognise(context, case, places):
        print(*(f"skipped: {skipped.error}" for skipped in part.skipped), *part.lines, sep="\n", flush=True)
        failed, count = failed + part.failed, count + len(part.recognitions)
        images = part.images if images is None else images
        if not (part.verdict.passed or first):
            first, images = part, part.images
    if first:
        print(
            first.message(attribute(case, context, images=first.images, actual=first.actual, expected=first.expected))
        )
    if explain:
        _explain(context, case, images, first.verdict.failing_images if first else ())
    return failed, count


def _compare_images(context: RunContext, case: Case, count: int, *, explain: bool) -> tuple[int, int]:
    """Print a line for each random image; return how many are off, and of how many."""
    from fixtures.run.compare import attribute, judge_outputs
    from fixtures.verdict.message import failure_message

    failed, first, attribution, suspect = 0, None, None, None
    print(f"{'image':>5}  {'error in u':>10}  {'allowed':>7}  {'top-1':>5}  {'expected':>8}  {'margin':>7}")
    for start in range(0, count, case.batch):
        part = context.model_store.images(case.model, case.batch, first=start)
        suspect = part if suspect is None else suspect
        actual, expected = context.program_pool.run(case, part), context.reference.outputs(case.model, part)
        verdict = judge_outputs(case, context, actual=actual, expected=expected, images=part)
        if not (verdict.passed or first):
            first, suspect, attribution = (
                verdict,
                part,
                attribute(case, context, images=part, actual=actual, expected=expected),
            )
        rows = verdict.images[: count - start]
        off = sum(row.image in verdict.failing_images for row in rows) if rows else min(case.batch, count - start)
        failed += max(off, not verdict.passed)  # what only fills the batch may not be wrong either
        for row in rows:
            allowed = verdict.tolerance.of_image(row.image) / verdict.unit
            print(
                f"{start + row.image:>5}  {row.relative_l2 / verdict.unit:>10.3g}  {allowed:>7.3g}  "
                f"{row.top1_actual:>5}  {row.top1_expected:>8}  {row.margin:>7.1e}  "
                f"{'DIFFERS' if row.image in verdict.failing_images else ''}",
                flush=True,
            )
    if first:
        print(failure_message(first, reference=context.reference.name(case.model), attribution=attribution))
    if explain:
        _explain(context, case, suspect, first.failing_images if first else ())
    return failed, count


if __name__ == "__main__":
    sys.exit(main())
