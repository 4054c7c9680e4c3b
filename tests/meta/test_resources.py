"""Seconds and memory of a piece of work: what is measured, and what is not claimed where the kernel does not tell."""

import pytest

from fixtures.resources import Meter

MEGA = 10**6
STATUS = "Name:\tpython\nVmHWM:\t    {peak} kB\nVmRSS:\t    {now} kB\n"


def test_stages_are_timed_by_name(tmp_path):
    """Also one that fails; what did not happen has no time."""
    meter = Meter(tmp_path)
    with meter.stage("parse"):
        pass
    with pytest.raises(ValueError, match="mine"), meter.stage("compile"):
        raise ValueError("mine")
    costs = meter.costs()
    assert costs.parse_seconds > 0
    assert costs.compile_seconds > 0
    assert (costs.quantize_seconds, costs.load_seconds, costs.cached) == (None, None, False)


def test_a_peak_is_seen_by_all_who_watch():
    """A meter inside another takes nothing from it."""
    outer = Meter()
    inner = Meter(forget=False)
    block = bytearray(64 * MEGA)
    block[:] = b"1" * len(block)
    del block
    again = Meter(forget=False)
    for meter in (outer, inner):
        costs = meter.costs()
        assert costs.host_bytes_peak > costs.host_bytes_before + 32 * MEGA
    assert again.costs().host_bytes_peak is None


def test_a_peak_that_may_be_an_older_one_is_not_claimed(tmp_path):
    """The kernel does not forget: only a higher one is known."""
    (tmp_path / "clear_refs").mkdir()
    (tmp_path / "status").write_text(STATUS.format(peak=2000, now=1000))
    meter = Meter(tmp_path)
    costs = meter.costs()
    assert (costs.host_bytes_before, costs.host_bytes_peak) == (1000 * 1024, None)
    (tmp_path / "status").write_text(STATUS.format(peak=3000, now=1000))
    assert meter.costs().host_bytes_peak == 3000 * 1024


def test_a_kernel_that_tells_nothing(tmp_path):
    """No number is made up."""
    costs = Meter(tmp_path / "gone").costs()
    assert (costs.host_bytes_before, costs.host_bytes_peak) == (None, None)
