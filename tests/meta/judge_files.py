"""Judge model files as a run does: ENGINE CACHE FILE...; print the outcome and the seconds of each as JSON.

MIGraphX runs in a worker, which some files end. ONNX Runtime runs in this process: no file may end it.
"""

import json
import sys
import time
from pathlib import Path

from fixtures.engines.registry import engine_info
from fixtures.errors import SuiteError
from fixtures.onnx_file import inspect
from fixtures.records import Case, ModelSpec
from fixtures.run.compare import compare
from fixtures.run.context import DEFAULT_ISOLATION, RunContext


def outcome(engine, cache, path):
    """Return the stage of an error and its text, or a word of the verdict."""
    isolation = DEFAULT_ISOLATION if engine_info(engine).caches_programs else None
    with RunContext.create(Path(cache), isolation=isolation) as context:
        try:
            file = inspect(path)
            size = None if all(isinstance(length, int) for length in file.input.shape[2:]) else (8, 8)
            case = Case(engine, ModelSpec(path=path, size=size), file.precision, file.fixed_batch or 2)
            verdict = compare(case, context)
        except SuiteError as error:
            return error.stage, str(error)
    return "agrees" if verdict.passed else verdict.failed_check, ""


for name in sys.argv[3:]:
    begin = time.perf_counter()
    found = outcome(*sys.argv[1:3], Path(name))
    print(json.dumps([name, *found, time.perf_counter() - begin]), flush=True)
