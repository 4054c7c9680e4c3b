"""Locks of the cache: who has to wait is told."""

import threading

from filelock import FileLock

from fixtures import cache
from fixtures.cache import locked, notification_sink

LONGEST = 60  # seconds that a lock is held where nobody is told


def busy(path):
    """Hold the lock of ``path`` as another process does, until somebody is told; the event for that."""
    held, told = threading.Event(), threading.Event()

    def hold():
        with FileLock(f"{path}.lock"):
            held.set()
            told.wait(LONGEST)

    threading.Thread(target=hold).start()
    held.wait()
    return told


def test_who_waits_for_a_lock_is_told_once(tmp_path, monkeypatch):
    """What for; who does not wait hears nothing."""
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.1)
    heard = []
    with notification_sink(heard.append), locked(tmp_path / "model"):
        pass
    assert heard == []
    told = busy(tmp_path / "model")
    with notification_sink(lambda text: (heard.append(text), told.set())), locked(tmp_path / "model"):
        pass
    assert heard == [f"waiting for another process: {tmp_path / 'model'}"]


def test_usually_it_is_told_on_standard_error(capsys):
    """At once."""
    cache._tellers[0]("waiting")
    assert capsys.readouterr().err == "waiting\n"


def test_a_lock_is_waited_for_where_nobody_listens(tmp_path, monkeypatch):
    """As behind ``| head``."""
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.1)
    told = busy(tmp_path / "model")

    def tell(_):
        told.set()
        raise BrokenPipeError

    with notification_sink(tell), locked(tmp_path / "model"):
        assert told.is_set()


def test_pytests_capture_does_not_hide_that_a_lock_is_waited_for(runner, tmp_path):
    """In a run that passes, too."""
    plugin = tmp_path / "waiting.py"
    plugin.write_text(
        "from pathlib import Path\nfrom fixtures import cache\nfrom tests.meta.test_cache_locks import busy\n"
        f"place = Path({str(tmp_path / 'model')!r})\ncache.SILENT_SECONDS = 0.1\n"
        "def pytest_runtest_call(item):\n    told, real = busy(place), cache._tellers[-1]\n"
        "    with cache.notification_sink(lambda text: (real(text), told.set())), cache.locked(place):\n        pass\n"
    )
    done = runner.pytest("tests/meta/test_variants.py", "-k", "unknown", plugin=plugin)
    assert done.code == 0, done.text
    assert f"waiting for another process: {tmp_path / 'model'}\n" in done.err
