"""A lock that is held until somebody is notified."""

import threading

from filelock import FileLock

LONGEST_SECONDS = 60


def hold_lock(path):
    """Hold the lock of ``path`` like another process; return the event that ends it."""
    held, notified = threading.Event(), threading.Event()

    def hold():
        with FileLock(f"{path}.lock"):
            held.set()
            notified.wait(LONGEST_SECONDS)

    threading.Thread(target=hold).start()
    held.wait()
    return notified
