"""Two sessions never measure on one device at once."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fixtures.speed.exclusive import RUNTIME, alone_on, device_name

ROOT = Path(__file__).parents[2]
ASK = """
import sys, time
from fixtures.speed.exclusive import alone_on
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
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    with alone_on("migraphx:cpu"):
        other = subprocess.Popen([sys.executable, "-c", ASK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True)  # fmt: skip
        assert other.stdout.readline() == "asks\n"
        assert other.stderr.readline() == f"waiting for another process: {tmp_path}/nfnet-migraphx/cpu\n"
        freed = time.monotonic()
    said, _ = other.communicate(timeout=60)
    assert float(said) > freed


def test_without_a_lock_there_is_no_waiting(tmp_path, monkeypatch):
    """A measurement does not fail for it."""
    monkeypatch.setenv(RUNTIME, str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with alone_on("onnxruntime:cpu"), alone_on("onnxruntime:cpu"):
        pass


def test_a_place_for_everybody_is_not_trusted(tmp_path, monkeypatch):
    """The folder there is the user's alone; what another has put in its place is left alone, and nothing is locked."""
    monkeypatch.delenv(RUNTIME, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"nfnet-migraphx-{os.getuid()}"
    with alone_on("onnxruntime:cpu"):
        assert (folder / "cpu.lock").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with alone_on("onnxruntime:cpu"):
        assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("words", [("test_latency.py",), ("test_ab.py", f"--ab={sys.executable}")], ids=lambda x: x[0])
def test_a_session_waits_until_the_device_is_free(runner, tmp_path, monkeypatch, words):
    """For a benchmark, and for two installations in turns."""
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    inside, over = threading.Event(), threading.Event()

    def measure():
        with alone_on("onnxruntime:cpu"):
            inside.set()
            over.wait(60)

    other = threading.Thread(target=measure)
    other.start()
    inside.wait(60)
    threading.Timer(8, over.set).start()
    words = (f"tests/performance/{words[0]}", *words[1:], "--speed-seconds", "0.5", "--precision", "fp32")
    done = runner.small(*words, "--batch", "1", env={RUNTIME: str(tmp_path)})
    other.join()
    assert f"waiting for another process: {tmp_path}/nfnet-migraphx/cpu" in done.text
