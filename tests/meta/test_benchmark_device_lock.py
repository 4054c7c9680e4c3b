"""Two sessions with one temporary folder never measure on one device at the same time."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.benchmark import device_lock as module
from fixtures.benchmark.device_lock import device_lock, device_name
from fixtures.cache import notification_sink

ROOT = Path(__file__).parents[2]
OTHER = """
import time
from fixtures.benchmark.device_lock import device_lock
print("begun", flush=True)
with device_lock("onnxruntime:cpu"):
    print(time.monotonic(), flush=True)
"""


def lock_folder(temporary):
    """Where the locks of this user are."""
    return temporary / f"nfnet-migraphx-{os.getuid()}"


def made_up_gpus(root, count):
    """A kernel that lists a CPU and so many GPUs."""
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
def test_gpu_has_one_name_whatever_number_a_process_knows_it_by(tmp_path, engine, environment, name):
    """The number is its place among all GPUs of the machine."""
    assert device_name(engine, made_up_gpus(tmp_path, 3), environment) == name


def test_other_process_waits_and_says_so(tmp_path, monkeypatch):
    """It goes on when the lock is released."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with device_lock("migraphx:cpu"):
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert other.stdout.readline() == "begun\n"
        assert str(lock_folder(tmp_path) / "cpu") in other.stderr.readline()
        released = time.monotonic()
    output, _ = other.communicate(timeout=60)
    assert float(output) > released


def test_without_a_lock_nothing_is_waited_for_and_one_message_says_so(tmp_path, monkeypatch):
    """A measurement does not fail for it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module._warn_once.cache_clear()
    lock_folder(tmp_path).touch()
    messages = []
    with notification_sink(messages.append):
        for _ in range(2):
            with device_lock("onnxruntime:cpu"), device_lock("onnxruntime:cpu"):
                pass
    assert len(messages) == 1


def test_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    """Our own folder is private; a link in its place is left alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = lock_folder(tmp_path)
    with device_lock("onnxruntime:cpu"):
        assert (folder / "cpu.lock").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    messages = []
    with notification_sink(messages.append), device_lock("onnxruntime:cpu"):
        assert not list((tmp_path / "elsewhere").iterdir())
    assert str(folder) in messages[0]


@pytest.mark.parametrize("words", [("test_latency.py",), ("test_ab.py", f"--ab={sys.executable}")], ids=lambda x: x[0])
def test_session_waits_until_the_device_is_free_and_then_measures(runner, tmp_path, words):
    """Both a latency benchmark and an A/B comparison."""
    plugin = tmp_path / "measuring.py"
    plugin.write_text(
        "from fixtures import cache\nfrom fixtures.benchmark.device_lock import _lock_folder\n"
        "from tests.meta.held_lock import hold_lock\ncache.SILENT_WAIT_SECONDS = 0.1\n"
        "def pytest_runtest_call(item):\n"
        "    if 'b1' not in item.nodeid: return\n"
        "    told, real = hold_lock(_lock_folder() / 'cpu'), cache._sinks[-1]\n"
        "    cache._sinks.append(lambda text: (real(text), told.set()))\n"
    )
    words = (f"tests/performance/{words[0]}", *words[1:], "--speed-seconds", "0.5")
    done = runner.small(*words, "--precision", "fp32", "--batch", "1", plugin=plugin)
    assert str(lock_folder(runner.cache) / "cpu") in done.err
    measured = "99 % interval" if len(words) > 3 else "images/s"
    assert measured in done.out, done.text
