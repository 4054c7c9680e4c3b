"""Locks of the cache: who has to wait is told."""

import threading
import time

from filelock import FileLock

from fixtures import cache
from fixtures.cache import locked


def busy(path, seconds=0.5):
    """Hold the lock of ``path`` so long, as another process does."""
    held = threading.Event()

    def hold():
        with FileLock(f"{path}.lock"):
            held.set()
            time.sleep(seconds)

    threading.Thread(target=hold).start()
    held.wait()


def test_who_waits_for_a_lock_is_told_once(tmp_path, monkeypatch, capsys):
    """What for; who does not wait hears nothing."""
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(cache, "_tellers", cache._tellers[:1])  # the plugin of this very run has its own
    with locked(tmp_path / "model"):
        pass
    busy(tmp_path / "model")
    with locked(tmp_path / "model"):
        pass
    assert capsys.readouterr().err == f"waiting for another process: {tmp_path / 'model'}\n"


def test_pytests_capture_does_not_hide_that_a_lock_is_waited_for(runner, tmp_path):
    """In a run that passes, too."""
    plugin = tmp_path / "waiting.py"
    plugin.write_text(
        "from pathlib import Path\nfrom fixtures import cache\nfrom tests.harness.test_cache_locks import busy\n"
        f"place = Path({str(tmp_path / 'model')!r})\ncache.SILENT_SECONDS = 0.1\n"
        "def pytest_runtest_call(item):\n    busy(place)\n    with cache.locked(place):\n        pass\n"
    )
    done = runner.pytest("tests/harness/test_variants.py", "-k", "unknown", plugin=plugin)
    assert done.code == 0, done.text
    assert f"waiting for another process: {tmp_path / 'model'}\n" in done.err
