"""How long does a run take?"""

import pytest

pytestmark = pytest.mark.performance


def test_latency(latency_benchmark, images):
    """From host to host: inputs and outputs are in the caller's memory; compilation is not counted."""
    latency_benchmark.measure(images)


@pytest.mark.device
def test_device_latency(latency_benchmark, program, images, case):
    """On the device: buffers stay in its memory, and each run is waited for."""
    if not getattr(program, "has_device_memory", False):
        pytest.skip(f"{case.engine} copies inside its run")
    latency_benchmark.measure(images, on_device=True)
