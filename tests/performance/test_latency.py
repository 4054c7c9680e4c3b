"""How long does a run take?"""

import pytest

pytestmark = pytest.mark.performance


def described(context, case, program, figures):
    """What was timed, for the saved run; what takes time is asked for afterwards."""
    return {
        "engine": case.engine,
        "version": context.program_pool.engine(case.engine).version,
        "model": case.model.label,
        "variant": case.model.variant,
        "precision": case.precision,
        "batch": case.batch,
        "facts": program.facts,
        "multiply_adds": context.model_store.onnx_file(case.model).macs,
        "model_sha256": figures.model_sha256,
        "costs": lambda: figures.costs(program),
        "roofline": lambda: figures.roofline(program),
    }


def test_latency(stopwatch, figures, program, context, case):
    """Host to host: inputs and outputs in the memory of the caller, one compiled program, compile time not counted."""
    feeds = {context.model_store.onnx_file(case.model).input.name: context.model_store.images(case.model, case.batch)}
    outputs = program.run(feeds)
    stopwatch.measure(
        lambda: program.run(feeds),
        group=case.model.label,
        first_run_seconds=program.costs.first_run_seconds,
        error_units=lambda: figures.error(outputs),
        **described(context, case, program, figures),
    )


@pytest.mark.device
def test_device_latency(stopwatch, figures, program, context, case):
    """On the device: buffers stay in its memory and every run is waited for, where the engine offers that."""
    if not hasattr(program, "run_on_device"):
        pytest.skip(f"{case.engine} copies inside its run")
    feeds = {context.model_store.onnx_file(case.model).input.name: context.model_store.images(case.model, case.batch)}
    uploaded = program.upload(feeds)
    stopwatch.measure(
        lambda: program.run_on_device(uploaded),
        group=f"{case.model.label} on the device",
        **described(context, case, program, figures),
    )
