"""Output of C++ is captured."""

import contextlib
import os

import pytest

from fixtures.engines import capture
from fixtures.engines.capture import captured


def test_text_is_captured_and_the_descriptor_restored_after_an_exception():
    """The text is complete after the block."""
    before = os.fstat(2)
    with contextlib.suppress(ZeroDivisionError), captured(2) as text:
        os.write(2, b"text of C++")
        raise ZeroDivisionError
    assert text.getvalue() == "text of C++"
    assert os.path.samestat(os.fstat(2), before)


@pytest.fixture
def standard_error(tmp_path, monkeypatch):
    """A file as standard error, as in a worker."""
    monkeypatch.setattr(capture, "stderr_is_file", True)
    saved = os.dup(2)
    with (tmp_path / "stderr").open("w+b") as file:
        os.dup2(file.fileno(), 2)
        yield tmp_path / "stderr"
    os.dup2(saved, 2)
    os.close(saved)


def test_a_worker_leaves_text_in_its_file_until_the_block_ends(standard_error):
    """Its parent reads there what was written before a crash."""
    os.write(2, b"before ")
    with captured(2) as text:
        os.write(2, b"captured")
        assert standard_error.read_bytes() == b"before captured"
    os.write(2, b"after")
    assert text.getvalue() == "captured"
    assert standard_error.read_bytes() == b"before after"
