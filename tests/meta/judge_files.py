"""Judge model files as pytest does: ENGINE CACHE FILE...; print the outcome and the seconds of each as JSON.

MIGraphX runs in a worker, which some files end. ONNX Runtime runs in this process: no file may end it.
"""

import json
import sys
import time
from pathlib import Path

from fixtures.engines.registry import descriptor_of
from fixtures.errors import NotJudgedError, SuiteError
from fixtures.onnx_file import inspect
from fixtures.records import Case, ModelSpec
from fixtures.run.compare import compare
from fixtures.run.context import DEFAULT_ISOLATION, RunContext


def outcome(context, engine, path):
    """Return the stage of an error and its text, or a word of the verdict."""
    try:
        file = inspect(path)
        size = None if all(isinstance(length, int) for length in file.input.shape[2:]) else (8, 8)
        case = Case(engine, ModelSpec(path=path, size=size), file.precision, file.fixed_batch or 2)
        try:
            verdict = compare(case, context)
        except NotJudgedError:
            context.program_pool.try_unjudged(case)
            raise
    except SuiteError as error:
        return error.stage, str(error)
    return "agrees" if verdict.passed else verdict.failed_check, ""


engine, cache, *names = sys.argv[1:]
isolation = DEFAULT_ISOLATION if descriptor_of(engine).caches_programs else None
with RunContext.create(Path(cache), isolation=isolation) as context:
    for name in names:
        begin = time.perf_counter()
        found = outcome(context, engine, Path(name))
        print(json.dumps([name, *found, time.perf_counter() - begin]), flush=True)
