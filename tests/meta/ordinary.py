"""Tests of permissions as a user who has to mind them."""

import contextlib
import os

NOBODY = 65534


@contextlib.contextmanager
def ordinary_user():
    """Root may read and write everywhere: give that up for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
