"""What cannot be saved is told, and all else is shown."""

import json

import pytest

FULL = """
import resource
import pytest

@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_sessionfinish():
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, usual[1]))  # files end early, as on a full disk
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)
"""
WORDS = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1", "--speed-seconds", "0.2")


@pytest.fixture
def full(tmp_path):
    """A plugin that lets no file grow when a run is saved."""
    path = tmp_path / "filling.py"
    path.write_text(FULL)
    return path


def test_a_full_disk_costs_the_saved_run_only(runner, tmp_path, full):
    """The table is shown, the run fails with one line, and no torn file is left that a gate would stumble on."""
    storage, report = tmp_path / "storage", tmp_path / "report.json"
    report.write_text("before")
    done = runner.small(
        *WORDS, f"--benchmark-storage={storage}", "--benchmark-save=x", f"--benchmark-json={report}", plugin=full
    )
    assert done.code == 1, done.text
    assert f"ERROR: this run is not saved: {report}: File too large" in done.out
    assert f"ERROR: this run is not saved: {storage}" in done.out
    assert "latency and throughput, host to host" in done.out
    assert "Traceback" not in done.text
    assert not list(storage.rglob("*.json"))
    assert not report.exists()


def test_what_was_saved_before_stays(runner, tmp_path, full):
    """A later run that cannot be saved takes nothing with it."""
    storage = f"--benchmark-storage={tmp_path}/storage"
    assert runner.small(*WORDS, storage, "--benchmark-save=x").code == 0
    assert runner.small(*WORDS, storage, "--benchmark-save=y", plugin=full).code == 1
    (kept,) = (tmp_path / "storage").rglob("*.json")
    assert kept.name == "0001_x.json"
    assert json.loads(kept.read_text())["benchmarks"]


def test_what_cannot_even_be_opened_is_told(runner, tmp_path):
    """And left as it is."""
    (tmp_path / "folder").mkdir()
    done = runner.small(*WORDS, f"--benchmark-json={tmp_path}/folder")
    assert done.code == 1, done.text
    assert f"ERROR: this run is not saved: {tmp_path}/folder: Is a directory" in done.out
    assert "latency and throughput, host to host" in done.out
    assert (tmp_path / "folder").is_dir()
