#!/usr/bin/env python3
"""Compare MIGraphX with ONNX Runtime on random images, from a shell.

Exit code 0: they agree; 1: they differ; 2: it could not be judged, and the last line says what to do.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fixtures.pipeline import Laboratory
    from fixtures.records import Case

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

AGREE, DIFFER, NOT_JUDGED = 0, 1, 2
EXAMPLES = """examples:
  python3 ort_comparison.py                                    the best MIGraphX target there is, ten images
  python3 ort_comparison.py --model resnet50.onnx              any classification model with one image input
  python3 ort_comparison.py --engine migraphx:gpu --precision fp16 --variant dm_nfnet_f3
  python3 ort_comparison.py --engine onnxruntime:cpu           without MIGraphX: optimised against plain ONNX Runtime

exit code: 0 they agree, 1 they differ, 2 it could not be judged
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; return the exit code."""
    try:
        from fixtures.errors import SuiteError

        options = _parser().parse_args(arguments)
        importlib.import_module("fixtures.pipeline")
    except ImportError as error:
        print(f"a package is missing: {error} -> pip install -r {ROOT / 'requirements_nfnet.txt'}", file=sys.stderr)
        return NOT_JUDGED
    try:
        return _compare(options)
    except SuiteError as error:
        print(f"could not judge: {error}", file=sys.stderr)
        return NOT_JUDGED
    except KeyboardInterrupt:
        print("could not judge: interrupted; the lines above hold", file=sys.stderr)
        return NOT_JUDGED
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_JUDGED


def _parser() -> argparse.ArgumentParser:
    from fixtures import arguments
    from fixtures.engines.registry import KNOWN

    parser = argparse.ArgumentParser(
        description="Compare MIGraphX with ONNX Runtime on random images.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="FILE", type=arguments.existing_file, help="ONNX classification model")
    what.add_argument(
        "--variant",
        metavar="NAME",
        type=arguments.one_variant,
        help="NFNet to build with seeded weights (default: dm_nfnet_f0; test_nfnet on migraphx:ref)",
    )
    rows: dict[str, dict[str, Any]] = {
        "--engine": {"metavar": "NAME",
                     "help": f"engine to judge: {', '.join(KNOWN)} (default: the best MIGraphX target there is)"},
        "--precision": {"metavar": "NAME", "type": arguments.one_precision, "default": "fp32",
                        "help": "fp32, fp16 or bf16 (default: fp32)"},
        "--inputs": {"metavar": "N", "type": arguments.whole(1, "inputs"), "default": 10,
                     "help": "number of images (default: 10)"},
        "--batch": {"metavar": "N", "type": arguments.whole(1, "batch"), "default": 1,
                    "help": "images a run (default: 1)"},
        "--image-size": {"metavar": "N|HxW", "type": arguments.image_size,
                         "help": "pixels, square or height x width (default: what fits the engine or the model)"},
        "--seed": {"metavar": "N", "type": arguments.whole(0, "seed"), "default": 0,
                   "help": "seed of the weights of a built model (default: 0)"},
        "--fast-math": {"action": "store_true", "help": "let MIGraphX trade accuracy for speed"},
        "--exhaustive-tune": {"action": "store_true", "help": "let MIGraphX try every kernel; slow to compile"},
        "--explain": {"action": "store_true",
                      "help": "name the first wrong block and write a bug report; show the table of blocks"},
        "--threads": {"metavar": "N", "type": arguments.whole(0, "threads"), "default": 0,
                      "help": "ONNX Runtime's threads (default: 0, one a physical core)"},
        "--migraphx": {"metavar": "PATH", "help": "folder or library file of MIGraphX (default: it is looked for)"},
        "--cache-dir": {"metavar": "DIR",
                        "help": "folder for built models (default: $NFNET_CACHE_DIR or ~/.cache/nfnet-migraphx)"},
    }  # fmt: skip
    for name, settings in rows.items():
        parser.add_argument(name, **settings)
    return parser


def _compare(options: argparse.Namespace) -> int:
    from fixtures.cache import cache_folder
    from fixtures.pipeline import Laboratory

    case = _case(options)
    with Laboratory(cache_folder(options.cache_dir), options.migraphx) as laboratory:
        engine = laboratory.engine(case.engine)
        reason = laboratory.unsupported(case)
        if reason:
            from fixtures.errors import UsageError

            raise UsageError(reason, where=case.id)
        for line in _introduction(laboratory, case, engine.version):
            print(line)
        failed = _compare_images(laboratory, case, options.inputs, explain=options.explain)
    if failed:
        print(f"DIFFER: {failed} of {options.inputs} images are further apart than {case.precision} explains")
        return DIFFER
    print(f"AGREE: {case.engine} and ONNX Runtime on {options.inputs} images at {case.precision}")
    return AGREE


def _case(options: argparse.Namespace) -> Case:
    from fixtures.defaults import fitting_size, workload
    from fixtures.engines.registry import default_engines
    from fixtures.errors import EngineUnavailable
    from fixtures.records import Case, EngineOptions, ModelSpec

    engine = options.engine
    if engine is None:
        best = default_engines(options.migraphx)[-1]
        if not best.usable:
            raise EngineUnavailable(best.missing or "", where=best.name, cure=best.cure)
        engine = best.name
    if options.model:
        model = ModelSpec(path=options.model, size=options.image_size)
    else:
        variant = options.variant or workload(engine).models[0][0]
        model = ModelSpec(variant, None, options.image_size or fitting_size(variant, engine), options.seed)
    settings = EngineOptions(options.fast_math, options.exhaustive_tune, threads=options.threads)
    return Case(engine, model, options.precision, options.batch, settings)


def _introduction(laboratory: Laboratory, case: Case, version: str) -> Iterator[str]:
    from fixtures.engines.registry import REFERENCE

    model = laboratory.model(case.model)
    program = laboratory.program(case)
    yield f"model      {model.label} ({model.path})"
    yield f"input      {model.input}"
    yield from (f"output     {output}" for output in model.outputs)
    yield f"engine     {case.engine} {version} at {case.precision}, batch {case.batch}"
    yield f"           {', '.join(f'{key}={value}' for key, value in program.facts.items())}"
    yield f"reference  {REFERENCE} {laboratory.engine(REFERENCE).version} at fp32, no graph optimisation"


def _explain(laboratory: Laboratory, case: Case, images: Any) -> None:
    """Print where it goes wrong; that it cannot be said changes no answer."""
    from fixtures.errors import SuiteError
    from fixtures.explaining import explain_case

    try:
        found = explain_case(laboratory, case, images)
    except SuiteError as error:
        print(f"first wrong block: could not be explained: {error}")
        return
    print(found.table(), f"first wrong block: {found.summary}", sep="\n")
    if found.folder:
        print(f"bug report: {found.folder}")


def _compare_images(laboratory: Laboratory, case: Case, count: int, *, explain: bool) -> int:
    """Print a line for each image; return how many are off."""
    import numpy as np

    from fixtures.verdict.message import failure_message

    images = laboratory.images(case.model, case.batch, -(-count // case.batch) * case.batch)
    failed, first, fault, suspect = 0, None, "", images[: case.batch]
    print(f"{'image':>5}  {'error in u':>10}  {'allowed':>7}  {'top-1':>5}  {'expected':>8}  {'margin':>7}")
    for start in range(0, count, case.batch):
        part = np.ascontiguousarray(images[start : start + case.batch])
        actual, expected = laboratory.run(case, part), laboratory.reference(case.model, part)
        verdict = laboratory.judge(case, actual, expected)
        if not (verdict.passed or first):
            first, suspect, fault = verdict, part, laboratory.blame(case, part, actual, expected)
        if not verdict.images:
            failed += min(case.batch, count - start)
            continue
        for row in verdict.images[: count - start]:
            good = verdict.stage != "nonfinite" and row.relative_l2 <= verdict.budget.relative_error
            failed += not good
            print(f"{start + row.image:>5}  {row.relative_l2 / verdict.unit:>10.3g}  {verdict.budget.units:>7.3g}  "
                  f"{row.top1_actual:>5}  {row.top1_expected:>8}  {row.margin:>7.1e}  {'' if good else 'DIFFERS'}",
                  flush=True)  # fmt: skip
    if first:
        print(failure_message(first, reference="ONNX Runtime at fp32", fault=fault))
    if explain:
        _explain(laboratory, case, suspect)
    return failed


if __name__ == "__main__":
    sys.exit(main())
