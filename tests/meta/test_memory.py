"""The command that measures memory, on a small network."""

from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "studies" / "memory.py"


def test_each_stage_is_a_line(runner):
    """Its peak, and the part that was of no file, beside the size of the weights."""
    done = runner.python(SCRIPT, "--variant", "test_nfnet", "--image-size", "64", "build", "look", "truth", "session")
    assert done.code == 0, done.text
    first, _, *lines = done.out.splitlines()
    assert first == "test_nfnet at 64: weights of 2 MB"
    assert [line.split()[0] for line in lines] == ["build", "look", "truth", "session"]
    for line in lines:
        _, peak, _, share, own, _, _ = line.split()
        assert float(peak) >= float(own) > 0
        assert float(share) > 1


def test_a_stage_that_fails_is_named(runner):
    """With what it printed; unknown ones are a wrong option."""
    done = runner.python(SCRIPT, "--variant", "test_nfnet", "--image-size", "1", "build")
    assert done.code == 1
    assert "build failed" in done.err
    done = runner.python(SCRIPT, "guess")
    assert done.code == 2
    assert "no stage 'guess'" in done.err
