"""Does anything grow in an hour of cases: memory, descriptors, processes, files?

    python tests/studies/long_run.py --minutes 60
    .ci/with-migraphx python tests/studies/long_run.py --engine migraphx:ref --minutes 5

One run context judges new images of small models at several precisions and batches, in rounds. Its programs are closed
and loaded again all the time. Each round opens and closes another context with a fault: a worker that is killed, a
deadline, a damaged file, wrong outputs that are attributed and localised. The exit code is 1 if a line that
is fitted to the second half of the samples grows by more than ALLOWED, or if a verdict is wrong. Memory is that which a
process does not share: pages of libraries come and go with the load of the machine.

ONNX Runtime itself keeps 30 to 60 bytes of each session that was closed; without the suite:

    python - <<'END'
    import onnxruntime, psutil
    from onnx import TensorProto, helper
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    for number in range(20001):
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        if number % 4000 == 0:
            print(number, psutil.Process().memory_info().rss // 1024, "kB")
    END
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.engines.base import CompileRequest
from fixtures.engines.worker_process import Isolation
from fixtures.errors import CrashError, NotTriedAgainError, RunError, SuiteError
from fixtures.programs.program_cache import ProgramCache
from fixtures.records import Case, ModelSpec
from fixtures.run.compare import attribute, judge_outputs
from fixtures.run.context import RunContext
from fixtures.run.localize import localize_failure
from tests.meta.bad_files import healthy

MODELS, SIZE = 4, (8, 8)
BATCHES = (1, 3)
PRECISIONS = {"onnxruntime:cpu": ("fp32", "int8"), "migraphx:ref": ("fp32", "fp16", "int8")}
LATE = 0.1  # seconds
ALLOWED = {"parent MB": 0.02, "workers MB": 0.02}  # of the mean; of other columns: less than one
MEGABYTE = 2**20


def make_models(folder):
    """Write small models that differ in their weights; the last file is damaged."""
    for number in range(MODELS):
        model = healthy()
        weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer[0].raw_data = (weights * (1 + number / 8)).tobytes()
        onnx.save(model, folder / f"small{number}.onnx")
    (folder / "damaged.onnx").write_bytes((folder / "small0.onnx").read_bytes()[:-100])
    return [ModelSpec(path=folder / f"small{number}.onnx", size=SIZE) for number in range(MODELS)]


def raises(kind, call, *arguments):
    """Call what must end in an error of a kind, or of several."""
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(f"no error: {kind}")


def is_right(case, context, first):
    """Judge images that no case had before."""
    images = context.model_store.images(case.model, case.batch, first=first)
    expected = context.reference.outputs(context.program_pool.reference_model(case), images)
    actual = context.program_pool.run(case, images)
    return judge_outputs(case, context, actual=actual, expected=expected, images=images).passed


def killed(case, context):
    """Kill the worker of a case; the case is not tried again."""
    pool = context.program_pool
    images = context.model_store.images(case.model, case.batch)
    os.kill(pool.pid(case), signal.SIGABRT)
    raises((RunError, CrashError), pool.run, case, images)  # the second if it ends before the request
    raises(NotTriedAgainError, pool.run, case, images)


def damaged(case, context):
    """Compile a damaged file."""
    path = case.model.path.with_name("damaged.onnx")
    request = CompileRequest(path, (case.batch, 3, *SIZE), case.precision, case.options)
    raises(SuiteError, context.program_pool.engine(case.engine).prepare, request)


def wrong(case, context):
    """Explain wrong outputs."""
    images = context.model_store.images(case.model, case.batch)
    expected = context.reference.expected(case)
    actual = {name: array + 1 for name, array in context.program_pool.outputs(case).items()}
    found = judge_outputs(case, context, actual=actual, expected=expected, images=images)
    assert not found.passed
    attribute(case, context, images=images, actual=actual, expected=expected)
    assert not localize_failure(case, context, images).error


def late(case, context):
    """Stop the worker of a case until its deadline has passed."""
    pool = context.program_pool
    images = context.model_store.images(case.model, case.batch)
    os.kill(pool.pid(case), signal.SIGSTOP)
    raises(CrashError, pool.run, case, images)


FAULTS = ((killed, Isolation()), (damaged, Isolation()), (wrong, Isolation()), (late, Isolation(run=LATE)))
LEAST_ROUNDS = 3 * len(FAULTS)


def sample(folder):
    """Return what may grow."""
    parent = psutil.Process()
    workers = parent.children(recursive=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    own = [info.rss - info.shared for info in (process.memory_info() for process in (parent, *workers))]
    return {
        "parent MB": own[0] / MEGABYTE,
        "workers MB": sum(own[1:]) / MEGABYTE,
        "descriptors": sum(process.num_fds() for process in (parent, *workers)),
        "processes": len(workers),
        "files": len(files),
        "files kB": sum(path.stat().st_size for path in files) / 1000,
    }


def growth(seconds, values):
    """Return how much a fitted line grows over the second half of the time."""
    half = len(seconds) // 2
    slope, _ = np.polyfit(seconds[half:], values[half:], 1)
    return slope * (seconds[-1] - seconds[half])


def run(engine, minutes, folder):
    """Judge cases for some minutes, and print a line a minute; return the samples, and the number of wrong verdicts."""
    cases = [
        Case(engine, model, precision, batch)
        for model, precision, batch in product(make_models(folder), PRECISIONS[engine], BATCHES)
    ]
    samples, begun, minute, mistakes, judged = defaultdict(list), time.monotonic(), -1, 0, 0
    with RunContext.create(folder / "cache", programs=ProgramCache(folder / "cache")) as context:
        number = 0
        while len(samples["seconds"]) < LEAST_ROUNDS or samples["seconds"][-1] < 60 * minutes:
            for case in cases:
                mistakes += not is_right(case, context, first=number * max(BATCHES))
                judged += 1
            fault, isolation = FAULTS[number % len(FAULTS)]
            with RunContext.create(folder / "cache", isolation=isolation) as other:
                fault(cases[-1], other)
            samples["seconds"].append(time.monotonic() - begun)
            for name, value in sample(folder).items():
                samples[name].append(value)
            if samples["seconds"][-1] // 60 > minute:
                minute = samples["seconds"][-1] // 60
                shown = "  ".join(f"{name} {values[-1]:.1f}" for name, values in samples.items() if name != "seconds")
                print(f"minute {minute:3.0f}  rounds {number + 1}  cases {judged}  {shown}", flush=True)
            number += 1
    return samples, mistakes


def main():
    """Print the samples and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxruntime:cpu", choices=PRECISIONS)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder  # also of the workers
        samples, mistakes = run(options.engine, options.minutes, Path(folder))
    seconds, grows = samples.pop("seconds"), False
    for name, values in samples.items():
        grown, allowed = growth(seconds, values), np.mean(values) * ALLOWED[name] if name in ALLOWED else 1
        grows |= grown >= allowed
        print(f"{'GROWS' if grown >= allowed else 'ok':<6}{name:<12} {values[-1]:8.1f}, grew by {grown:.2f}")
    print(f"{len(seconds)} rounds, {mistakes} wrong verdicts")
    sys.exit(bool(grows or mistakes))


if __name__ == "__main__":
    main()
