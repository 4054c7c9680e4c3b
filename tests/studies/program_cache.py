"""How much faster is loading a cached program than compiling it?

    python tests/studies/program_cache.py                            # migraphx:ref, two variants, fp32 and fp16
    python tests/studies/program_cache.py --engine migraphx:gpu --precision fp16 --rounds 1 dm_nfnet_f3

Each round compiles and caches a program, then loads it, so that a busy machine slows down both. Ratios are medians
over the rounds. *engine*: parse, quantise and compile, over the engine's own loading. *cache*: the same over all that
a run waits for, with key, checksums, record and precision check.
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
from fixtures.engines.registry import target_of
from fixtures.programs.program_cache import COMPILED, FOLDER, LOADED, ProgramCache
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext

STAGES = ("parse_seconds", "quantize_seconds", "compile_seconds")


def timed(context, case, source):
    """Return the seconds until the program is there, and its costs."""
    context.program_pool.sources.clear()
    start = time.perf_counter()
    program = context.program_pool.load_or_compile(case)
    seconds = time.perf_counter() - start
    assert context.program_pool.sources[case.id] == source, context.program_pool.sources
    program.close()
    return seconds, program.costs


def measured(context, case, rounds):
    """Return the ratios of the median round, and the size of the program."""
    rows = []
    for _ in range(rounds):
        shutil.rmtree(context.model_store.cache / FOLDER, ignore_errors=True)
        compiling, compiled = timed(context, case, COMPILED)
        loading, loaded = timed(context, case, LOADED)
        engine = sum(getattr(compiled, stage) or 0.0 for stage in STAGES)
        rows.append((engine / loaded.load_seconds, engine / loading, compiling / engine))
    return [statistics.median(column) for column in zip(*rows, strict=True)], compiled.program_bytes


def main():
    """Print a line for each variant and precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="migraphx:ref")
    parser.add_argument("--migraphx")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("variants", nargs="*", default=["digits_nfnet", "dm_nfnet_f0"])
    options = parser.parse_args()
    workload = target_of(options.engine).workload
    with tempfile.TemporaryDirectory() as folder:
        programs = ProgramCache(Path(folder))
        print(f"{'program':<44} {'MB':>6}  compile/load: {'engine':>6} {'cache':>6}   writing costs")
        with RunContext.create(cache_folder(None), migraphx=options.migraphx, programs=programs) as context:
            for name in options.variants:
                spec = ModelSpec(name, size=workload.image_size(name))
                for precision in options.precision or ("fp32", "fp16"):
                    case = Case(options.engine, spec, precision, 1)
                    (engine, cache, writing), size = measured(context, case, options.rounds)
                    ratios = f"{engine:>6.1f} {cache:>6.1f}   {writing - 1:.0%} more"
                    print(f"{case.id:<44} {size / 1e6:>6.1f}  {'':>13} {ratios}", flush=True)


if __name__ == "__main__":
    main()
