"""The worker of an engine: what crosses, how it ends, what is reported, and that nothing is left."""

import os
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import psutil
import pytest

from fixtures.engines import worker_process
from fixtures.engines.base import CompileRequest
from fixtures.engines.isolated import IsolatedEngine
from fixtures.engines.messages import Channel
from fixtures.engines.registry import open_engine
from fixtures.engines.worker_process import IDLE, LATE, OUT_OF_MEMORY, Installation, Isolation, WorkerRaised
from fixtures.errors import (
    CompileError,
    CrashError,
    EngineUnavailable,
    ModelError,
    NotTriedAgainError,
    RunError,
)
from fixtures.precisions import QUANTIZED_TYPES, QuantizationRule
from fixtures.records import Costs, EngineOptions, TensorInfo
from tests.meta import crashing
from tests.meta.leftovers import still_running
from tests.meta.tiny_models import doubling

SHAPE = (2, 3, 8, 8)
IMAGES = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def request_of(model, shape=SHAPE):
    """A request for a program of a model."""
    return CompileRequest(model, shape, "fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that doubles its input."""
    return doubling(tmp_path_factory.mktemp("model") / "double.onnx")


@pytest.fixture
def opened(tmp_path):
    """A function that opens ONNX Runtime in a worker, in an environment and with isolation."""
    engines = []

    def opener(environment=None, **isolation):
        installation = Installation(sys.executable, environment or {})
        engines.append(IsolatedEngine("onnxruntime:cpu", None, tmp_path, Isolation(**isolation), installation))
        return engines[-1]

    yield opener
    for engine in engines:
        engine.close()


def faulty(opened, folder, *, isolation=None, **faults):
    """Open an engine that goes wrong."""
    return opened(crashing.environment(folder, **faults), **(isolation or {}))


@pytest.fixture
def through_a_channel():
    """A function from a message to what arrives of it."""
    ours, theirs = Pipe()
    files = os.memfd_create("one"), os.memfd_create("other")
    sender, receiver = Channel(ours, *files), Channel(theirs, *map(os.dup, files[::-1]))

    def pass_on(message):
        sending = threading.Thread(target=sender.send, args=(message,))  # a long text waits for its reader
        sending.start()
        found = receiver.receive()
        sending.join()
        return found

    yield pass_on
    sender.close()
    receiver.close()


@pytest.mark.parametrize(
    "array",
    [
        IMAGES,
        IMAGES[:, :, ::-1, ::2],
        np.array(3, np.int64),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
        np.array([1.5, -2], ml_dtypes.bfloat16),
        np.array([1, 2], ">i4"),
        np.array([["a", "ü"]], object),
        np.zeros(1 << 20),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_every_kind_arrive(through_a_channel, array):
    found = through_a_channel({"several": [array, array]})["several"]
    for one in found:
        assert one.shape == array.shape
        assert one.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(one, array)


def test_records_arrive_as_they_are(through_a_channel):
    """Tuples, None, numbers that are not finite, names that are no text, and records within records."""
    message = {
        "tensors": (TensorInfo("x", "float32", ("N", 3)), Costs(parse_seconds=0.5)),
        "rule": QuantizationRule(QUANTIZED_TYPES["float8e4m3fn"], inverse=True),
        "limit": float("inf"),
        "name": "\udcff\n",
        "nothing": None,
    }
    assert through_a_channel(message) == message


def test_messages_of_any_size_arrive_one_after_the_other(through_a_channel):
    """Text that is too long for a packet, arrays that are larger than before, and again small ones."""
    for size in (3, 10**5, 10, 10**6, 2, 2 * 10**6, 5):
        message = through_a_channel({"text": size * "ü", "array": np.arange(size)})
        assert message["text"] == size * "ü"
        np.testing.assert_array_equal(message["array"], np.arange(size))
        assert through_a_channel({"text": size * "ü"}) == {"text": size * "ü"}


def test_proxy_answers_as_the_engine(opened, model, tmp_path):
    proxy, engine = opened(), open_engine("onnxruntime:cpu")
    for name in ("name", "version", "target"):
        assert getattr(proxy, name) == getattr(engine, name)
    assert proxy.identity(EngineOptions()) == engine.identity(EngineOptions())
    program, expected = (each.prepare(request_of(model)) for each in (proxy, engine))
    for name in ("inputs", "outputs", "quantization", "facts"):
        assert getattr(program, name) == getattr(expected, name)
    outputs = program.run({"x": IMAGES})
    np.testing.assert_array_equal(outputs["y"], 2 * IMAGES)
    program.run({"x": 0 * IMAGES})
    np.testing.assert_array_equal(outputs["y"], 2 * IMAGES)  # they belong to the caller
    assert program.costs.first_run_seconds > 0
    with pytest.raises(RunError, match="x"):
        program.run({})
    with pytest.raises(ModelError, match="no such model file"):
        proxy.prepare(request_of(tmp_path / "none.onnx"))
    program.close()
    program.close()
    with pytest.raises(RunError, match="closed"):
        program.run({"x": IMAGES})


ENDINGS = {
    "abort at run": ({"at_run": crashing.ABORT}, RunError, "SIGABRT", "run"),
    "segmentation fault at compile": (
        {"at_compile": "import ctypes; ctypes.string_at(0)"},
        CompileError,
        "SIGSEGV",
        "compile",
    ),
    "exit": ({"at_run": "os._exit(3)"}, RunError, "exit code 3", "run"),
    "exit of Python": ({"at_run": "os._exit(1)"}, CrashError, "exit code 1", "run"),
    "kill": ({"at_run": "os.kill(os.getpid(), signal.SIGKILL)"}, CrashError, OUT_OF_MEMORY, "run"),
    "late at run": ({"at_run": "time.sleep(99)", "isolation": {"run": 0.2}}, CrashError, f"{LATE} 0.2 s", "run"),
    "late at compile": (
        {"at_compile": "time.sleep(99)", "condition": "False", "isolation": {"compile": 5}},
        CrashError,
        f"{LATE} 5 s",
        "compile",
    ),
}


@pytest.mark.parametrize(("faults", "kind", "ending", "stage"), ENDINGS.values(), ids=ENDINGS)
def test_every_ending_is_one_error_and_not_tried_again(opened, model, tmp_path, faults, kind, ending, stage):
    engine = faulty(opened, tmp_path, **faults)
    before = engine.worker.pid
    with pytest.raises((RunError, CompileError, CrashError)) as error:
        engine.prepare(request_of(model)).run({"x": IMAGES})
    assert type(error.value) is kind
    assert error.value.crashed
    assert ending in error.value.what
    assert f" at {stage}: " in error.value.what
    assert not psutil.pid_exists(before)
    with pytest.raises(NotTriedAgainError):
        engine.prepare(request_of(model))
    assert engine.identity(EngineOptions())
    assert engine.worker.pid != before


def test_end_between_two_requests_is_an_error(opened, model):
    """It flags no program as wrong; the next request gets a fresh worker."""
    engine = opened()
    program = engine.prepare(request_of(model))
    os.kill(program.pid, signal.SIGABRT)
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(CrashError, match=f"at {IDLE}: SIGABRT"):
        program.run({"x": IMAGES})
    assert engine.identity(EngineOptions())


def test_process_that_neither_answers_nor_ends_is_killed(opened, model, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "ENDING_SECONDS", 0.2)
    engine = faulty(opened, tmp_path, at_run="os.close(int(sys.argv[1])); time.sleep(99)")
    with pytest.raises(CrashError, match=worker_process.STUCK):
        engine.prepare(request_of(model)).run({"x": IMAGES})


def test_last_output_is_quoted_and_the_report_shows_the_crash_again(opened, model, tmp_path):
    """Model, inputs and a script that ends with the same signal."""
    engine = faulty(opened, tmp_path, at_run=crashing.ABORT, condition="batch == 2")
    program = engine.prepare(request_of(model))
    with pytest.raises(RunError) as error:
        program.run({"x": IMAGES})
    assert "Assertion `axis < rank` failed." in error.value.what
    script = Path(error.value.hint.rpartition(" ")[2])
    done = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT, done.stderr
    np.testing.assert_array_equal(np.load(script.with_name("data.npz"))["input/x"], IMAGES)


def test_crash_on_an_invalid_model_does_not_prove_the_engine_wrong(opened, model, tmp_path):
    """ONNX's checker decides."""
    broken = onnx.load(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(broken, tmp_path / "broken.onnx")
    with pytest.raises(CrashError, match="SIGABRT"):
        faulty(opened, tmp_path, at_compile="os.abort()").prepare(request_of(tmp_path / "broken.onnx"))


def test_other_programs_are_made_again_after_a_crash(opened, model, tmp_path):
    engine = faulty(opened, tmp_path, at_run=crashing.ABORT, condition="batch == 2")
    single = engine.prepare(request_of(model, (1, *SHAPE[1:])))
    single.run({"x": IMAGES[:1]})
    with pytest.raises(RunError):
        engine.prepare(request_of(model)).run({"x": IMAGES})
    np.testing.assert_array_equal(single.run({"x": IMAGES[:1]})["y"], 2 * IMAGES[:1])


def test_report_that_cannot_be_written_does_not_hide_the_crash(opened, model, tmp_path):
    (tmp_path / "failures").touch()
    with pytest.raises(RunError, match="SIGABRT") as error:
        faulty(opened, tmp_path, at_run=crashing.ABORT).prepare(request_of(model)).run({"x": IMAGES})
    assert "no bug report" in error.value.hint


def test_a_model_that_changed_is_tried_again(opened, model, tmp_path):
    """Copies of a model have one name after the other."""
    engine = faulty(opened, tmp_path, at_run=crashing.ABORT, condition="batch == 2")
    path = tmp_path / "copy.onnx"
    path.write_bytes(model.read_bytes())
    for when in (1, 2):
        os.utime(path, ns=(when, when))
        with pytest.raises(RunError):
            engine.prepare(request_of(path)).run({"x": IMAGES})


def test_output_of_the_engine_is_shown_and_disturbs_nothing(opened, model, tmp_path, capfd):
    engine = faulty(opened, tmp_path, at_run="os.write(1, b'to one '); os.write(2, b'to two')")
    np.testing.assert_array_equal(engine.prepare(request_of(model)).run({"x": IMAGES})["y"], 2 * IMAGES)
    assert "to one to two" in capfd.readouterr().err


def test_worker_that_ends_while_it_opens_the_engine_is_an_error(opened, tmp_path):
    """The engine is there, so this is no reason to skip."""
    (tmp_path / "sitecustomize.py").write_text("import os; os.abort()")
    with pytest.raises(CrashError, match="at open: SIGABRT"):
        opened({"PYTHONPATH": str(tmp_path)})


def test_engine_that_cannot_be_opened_again_is_an_error(opened, model, tmp_path):
    """It is not missing, and must not be skipped."""
    engine = faulty(opened, tmp_path, at_run=crashing.ABORT)
    with pytest.raises(RunError):
        engine.prepare(request_of(model)).run({"x": IMAGES})
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(5)")
    with pytest.raises(CrashError, match="exit code 5"):
        engine.identity(EngineOptions())


def test_missing_interpreter_makes_the_engine_unavailable(tmp_path):
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        IsolatedEngine("onnxruntime:cpu", None, tmp_path, Isolation(), Installation(str(tmp_path / "python")))


def test_error_of_the_suite_in_a_worker_keeps_its_traceback(opened, capfd):
    with pytest.raises(WorkerRaised, match="no_such_method"):
        opened().worker.request("no_such_method")
    assert "Traceback" in capfd.readouterr().err


PARENT = """
import sys, time
from pathlib import Path
from fixtures.engines.isolated import IsolatedEngine
from fixtures.engines.worker_process import Isolation
engine = IsolatedEngine("onnxruntime:cpu", None, Path(sys.argv[1]), Isolation())
if sys.argv[2] == "paused":
    engine.worker.pause()
print(engine.worker.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("state", ["idle", "paused"])
def test_worker_ends_with_a_killed_parent(tmp_path, state):
    words = [sys.executable, "-c", PARENT, str(tmp_path), state]
    parent = subprocess.Popen(words, cwd=worker_process.ROOT, stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert not still_running([worker])
