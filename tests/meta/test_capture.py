"""Output of C++ is captured, and crash output is not lost."""

import contextlib
import os
import signal

import pytest

from fixtures.engines import capture
from fixtures.engines.capture import captured

CRASHES = """
import os
from fixtures.engines.capture import captured
with captured(2):
    os.write(2, b'captured as usual')
with captured(1), captured(2):
    os.write(2, b'crash output')
    {end}
"""


def test_text_is_captured_and_the_descriptor_restored_after_an_exception():
    """The text is complete after the block."""
    before = os.fstat(2)
    with contextlib.suppress(ZeroDivisionError), captured(2) as text:
        os.write(2, b"text of C++")
        raise ZeroDivisionError
    assert text.getvalue() == "text of C++"
    assert os.path.samestat(os.fstat(2), before)


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_crash_output_is_printed_when_the_process_dies(runner, tmp_path, end):
    """Debian's MIGraphX has assertions on: their text is the only reason there is. No file is left."""
    done = runner.python("-c", CRASHES.format(end=end), env={"TMPDIR": str(tmp_path)})
    assert done.code in {-signal.SIGABRT, -signal.SIGKILL, 3}
    assert done.err == "crash output"
    assert not list(tmp_path.iterdir())


def test_crash_output_is_printed_despite_pytests_own_capture(runner):
    """Which ends with the process."""
    plugin = (
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram\n"
        f"OnnxRuntimeProgram.run = lambda self, feeds: exec({CRASHES.format(end='os.abort()')!r}, {{}})\n"
    )
    words = ("tests/conformance/test_agreement.py", "--precision", "fp32", "--batch", "1")
    done = runner.small(*words, plugin=plugin, fresh=True)  # its pipe is closed when the last process has written
    assert done.code == -signal.SIGABRT
    assert "crash output" in done.err


def test_text_is_captured_without_a_shell(monkeypatch):
    """Only crash output needs the shell."""
    capture._reporter.cache_clear()
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: os.close(-1))
    with captured(2) as text:
        os.write(2, b"text")
    capture._reporter.cache_clear()
    assert text.getvalue() == "text"
