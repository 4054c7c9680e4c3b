"""What is left once a test is over: files in a folder, processes."""

import time

import psutil


def left(folder):
    """Names of the files, locks aside."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def still_running(processes, seconds=10.0):
    """Those processes that do not end within some seconds; a zombie has ended."""
    end = time.monotonic() + seconds
    while (running := [process for process in processes if is_running(process)]) and time.monotonic() < end:
        time.sleep(0.02)
    return running


def is_running(process):
    """Whether a process exists and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
