"""How much sooner is a program there that was kept? On the bare engine, and with all that the cache checks.

    python tests/studies/program_cache.py                            # migraphx:ref, two variants, fp32 and fp16
    python tests/studies/program_cache.py --engine migraphx:gpu --precision fp16 --rounds 1 dm_nfnet_f3

Each round compiles and keeps a program, then loads it, so that a busy machine slows both. Ratios are medians over the
rounds: *engine* parses, quantises and compiles over the engine's own loading; *cache* is all that a run waits for,
facts, hashes, record and the proof of treatment included.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.cache import cache_folder
from fixtures.engines.registry import engine_info
from fixtures.nfnet.variants import variant
from fixtures.programs.programs import KEPT, LOADED, Programs
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext

STAGES = ("parse_seconds", "quantize_seconds", "compile_seconds")


def timed(context, case, how):
    """Seconds until the program is there, its costs."""
    context.program_pool.sources.clear()
    start = time.perf_counter()
    program = context.program_pool.load_or_compile(case)
    taken = time.perf_counter() - start
    assert context.program_pool.sources[case.id] == how, context.program_pool.sources
    program.close()
    return taken, program.costs


def measured(context, case, rounds):
    """The ratios of the median round, and the size of the program."""
    rows = []
    for _ in range(rounds):
        shutil.rmtree(context.program_pool.cache.folder, ignore_errors=True)
        first, made = timed(context, case, KEPT)
        second, kept = timed(context, case, LOADED)
        bare = sum(getattr(made, stage) or 0.0 for stage in STAGES)
        rows.append((bare / kept.load_seconds, bare / second, first / bare))
    return [statistics.median(column) for column in zip(*rows, strict=True)], made.program_bytes


def main():
    """A line a variant and precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="migraphx:ref")
    parser.add_argument("--migraphx")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("variants", nargs="*", default=["digits_nfnet", "dm_nfnet_f0"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext.create(
            cache_folder(None), migraphx=options.migraphx, programs=Programs(Path(folder) / "programs")
        )
        print(f"{'program':<44} {'MB':>6}  compile/load: {'engine':>6} {'cache':>6}   keeping costs")
        with context:
            for name in options.variants:
                spec = ModelSpec(
                    name, size=engine_info(options.engine).workload.image_size(name, variant(name).train_size)
                )
                for precision in options.precision or ("fp32", "fp16"):
                    case = Case(options.engine, spec, precision, 1)
                    (engine, cache, first), size = measured(context, case, options.rounds)
                    ratios = f"{engine:>6.1f} {cache:>6.1f}   {first - 1:.0%} more"
                    print(f"{case.id:<44} {size / 1e6:>6.1f}  {'':>13} {ratios}", flush=True)


if __name__ == "__main__":
    main()
