"""Two sessions with one temporary folder never measure on one device at once."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.benchmark import exclusive
from fixtures.benchmark.exclusive import alone_on, device_name
from fixtures.cache import notification_sink

ROOT = Path(__file__).parents[2]
ASK = """
import sys, time
from fixtures.benchmark.exclusive import alone_on
print("asks", flush=True)
with alone_on("onnxruntime:cpu"):
    print(time.monotonic(), flush=True)
"""


def gpus(root, count):
    """A kernel that lists a processor and so many GPUs."""
    for number in range(count + 1):
        node = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
        node.mkdir(parents=True)
        version = 90402 if number else 0
        (node / "properties").write_text(f"gfx_target_version {version}\nunique_id {number}\n")
    return root


@pytest.mark.parametrize(
    ("engine", "environment", "name"),
    [
        ("onnxruntime:cpu", {}, "cpu"),
        ("migraphx:ref", {}, "cpu"),
        ("migraphx:gpu", {}, "gpu-0"),
        ("onnxruntime:migraphx", {"HIP_VISIBLE_DEVICES": "2,1"}, "gpu-2"),
        ("migraphx:gpu", {"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, "gpu-2"),
        ("migraphx:gpu", {"HIP_VISIBLE_DEVICES": ""}, "gpu"),
    ],
)
def test_what_an_engine_is_alone_on(tmp_path, engine, environment, name):
    """A GPU has one name, whatever number a process knows it by."""
    assert device_name(engine, gpus(tmp_path, 3), environment) == name


def test_another_process_waits(tmp_path, monkeypatch):
    """It says what for, and goes on when the device is free."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with alone_on("migraphx:cpu"):
        other = subprocess.Popen(
            [sys.executable, "-c", ASK],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert other.stdout.readline() == "asks\n"
        place = tmp_path / f"nfnet-migraphx-{os.getuid()}" / "cpu"
        assert other.stderr.readline() == f"waiting for another process: {place}\n"
        freed = time.monotonic()
    said, _ = other.communicate(timeout=60)
    assert float(said) > freed


def test_without_a_lock_there_is_no_waiting(tmp_path, monkeypatch):
    """A measurement does not fail for it; it is told once."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    exclusive._unlocked.cache_clear()
    (tmp_path / f"nfnet-migraphx-{os.getuid()}").touch()
    heard = []
    with notification_sink(heard.append):
        for _ in range(2):
            with alone_on("onnxruntime:cpu"), alone_on("onnxruntime:cpu"):
                pass
    (told,) = heard
    assert told.startswith("another session may be timing at the same time: [Errno ")


def test_a_place_for_everybody_is_not_trusted(tmp_path, monkeypatch):
    """The folder there is the user's alone; what another has put in its place is left alone, and nothing is locked."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"nfnet-migraphx-{os.getuid()}"
    with alone_on("onnxruntime:cpu"):
        assert (folder / "cpu.lock").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    heard = []
    with notification_sink(heard.append), alone_on("onnxruntime:cpu"):
        assert not list((tmp_path / "elsewhere").iterdir())
    assert heard == [f"another session may be timing at the same time: {folder}: it is another user's"]


@pytest.mark.parametrize("words", [("test_latency.py",), ("test_ab.py", f"--ab={sys.executable}")], ids=lambda x: x[0])
def test_a_session_waits_until_the_device_is_free(runner, tmp_path, words):
    """For a benchmark, and for two installations in turns; then it measures."""
    plugin = tmp_path / "measuring.py"
    plugin.write_text(
        "from fixtures import cache\nfrom fixtures.benchmark.exclusive import _folder\n"
        "from tests.meta.held_lock import hold_lock\ncache.SILENT_WAIT_SECONDS = 0.1\n"
        "def pytest_runtest_call(item):\n"
        "    if 'b1' not in item.nodeid: return\n"
        "    told, real = hold_lock(_folder() / 'cpu'), cache._sinks[-1]\n"
        "    cache._sinks.append(lambda text: (real(text), told.set()))\n"
    )
    report = tmp_path / "report.xml"
    words = (f"tests/performance/{words[0]}", *words[1:], "--speed-seconds", "0.5", f"--junit-xml={report}")
    done = runner.small(*words, "--precision", "fp32", "--batch", "1", plugin=plugin)
    place = runner.cache / f"nfnet-migraphx-{os.getuid()}" / "cpu"
    assert f"waiting for another process: {place}\n" in done.err
    assert "99 % interval" in report.read_text() or done.code == 0, done.text
