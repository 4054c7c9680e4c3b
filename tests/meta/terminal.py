"""A terminal of 120 columns, and what a process shows on it."""

import contextlib
import fcntl
import os
import pty
import struct
import termios


@contextlib.contextmanager
def a_terminal():
    """Give the bytes that it shows, complete at the end, and its descriptor. It buffers 64 KB."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = bytearray()
    try:
        yield shown, follower
    finally:
        os.close(follower)
        with contextlib.suppress(OSError):  # raised at the end of the output
            while part := os.read(leader, 4096):
                shown += part
        os.close(leader)
