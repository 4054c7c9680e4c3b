"""Seconds and memory of compiling a program."""

import pytest

from fixtures.engines import meter
from fixtures.engines.meter import Meter


def test_stages_are_timed_by_name():
    """Also one that fails; a stage that did not happen has no time."""
    measured = Meter()
    with measured.stage("parse"):
        pass
    with pytest.raises(ValueError, match="mine"), measured.stage("compile"):
        raise ValueError("mine")
    costs = measured.costs()
    assert costs.parse_seconds > 0
    assert costs.compile_seconds > 0
    assert (costs.quantize_seconds, costs.load_seconds, costs.cached) == (None, None, False)


def test_peak_memory_is_known_only_if_it_rises(monkeypatch):
    """An older peak is not reported as the peak of this compilation."""
    peaks = iter((3000, 3000, 4000))
    monkeypatch.setattr(meter, "_peak_bytes", lambda: next(peaks))
    measured = Meter()
    assert measured.costs().host_bytes_peak is None
    assert measured.costs().host_bytes_peak == 4000


def test_peak_memory_includes_freed_blocks():
    """A block larger than everything before it raises the peak."""
    measured = Meter()
    block = bytearray(meter._peak_bytes() + (64 << 20))
    block[:] = b"1" * len(block)
    del block
    costs = measured.costs()
    assert costs.host_bytes_peak > costs.host_bytes_before + (32 << 20)
