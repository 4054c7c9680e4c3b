"""How long does a run take?"""

import pytest

pytestmark = pytest.mark.performance


def test_latency(latency_benchmark, program, images):
    """From host to host: inputs and outputs are in the caller's memory; compilation is not counted."""
    feeds = {program.inputs[0].name: images}
    latency_benchmark.measure(lambda: program.run(feeds))


@pytest.mark.device
def test_device_latency(latency_benchmark, program, images, case):
    """On the device: buffers stay in its memory, and each run is waited for."""
    if not hasattr(program, "run_on_device"):
        pytest.skip(f"{case.engine} copies inside its run")
    feeds = {program.inputs[0].name: images}
    uploaded = program.upload(feeds)
    latency_benchmark.measure(lambda: program.run_on_device(uploaded), where=" on the device")
