"""Output of C++ is captured."""

import contextlib
import os

from fixtures.engines import capture
from fixtures.engines.capture import captured


def test_text_is_captured_and_the_descriptor_restored_after_an_exception():
    before = os.fstat(2)
    with contextlib.suppress(ZeroDivisionError), captured(2) as text:
        os.write(2, b"text of C++")
        raise ZeroDivisionError
    assert text.getvalue() == "text of C++"
    assert os.path.samestat(os.fstat(2), before)


@contextlib.contextmanager
def standard_error(path):
    """Make a file standard error, as in a worker; not as a fixture, since pytest captures each phase by itself."""
    saved = os.dup(2)
    with path.open("w+b") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def test_a_worker_leaves_text_in_its_file_until_the_block_ends(tmp_path, monkeypatch):
    """Its parent reads there what was written before a crash."""
    monkeypatch.setattr(capture, "stderr_is_file", True)
    path = tmp_path / "stderr"
    with standard_error(path):
        os.write(2, b"before ")
        with captured(2) as text:
            os.write(2, b"captured")
            inside = path.read_bytes()
        os.write(2, b"after")
    assert inside == b"before captured"
    assert text.getvalue() == "captured"
    assert path.read_bytes() == b"before after"
