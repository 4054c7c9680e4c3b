"""MIGraphX with inputs and outputs in device memory, on a stand-in for a GPU build."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.engines.migraphx.program import DeviceProgram
from fixtures.errors import RunError
from fixtures.records import Costs, ModelFile, TensorInfo

INPUT, OUTPUT = TensorInfo("inputs", "float32", (2,)), TensorInfo("logits", "float32", (2,))
MODEL = ModelFile(Path("model.onnx"), "model", INPUT, (OUTPUT,))


class DeviceApi:
    """The documented device functions of the Python module; device arrays are tagged."""

    def __init__(self):
        self.synchronised = 0

    argument = staticmethod(np.asarray)
    to_gpu = staticmethod(lambda array: ("device", array.copy()))
    allocate_gpu = staticmethod(lambda shape: ("device", np.empty(shape.lens(), np.float32)))
    from_gpu = staticmethod(lambda tagged: tagged[1])

    def gpu_sync(self):
        """Count the calls."""
        self.synchronised += 1


VECTOR = SimpleNamespace(type_string=lambda: "float_type", lens=lambda: [2])


class DoublingProgram:
    """Doubles its input on the device; rejects host memory and missing output buffers."""

    closed = False

    def get_parameter_shapes(self):
        """Of a program compiled with offload_copy=False."""
        return {"inputs": VECTOR, "main:#output_0": VECTOR}

    def get_output_shapes(self):
        """One output."""
        return [VECTOR]

    def run(self, parameters):
        """Write to the output buffer."""
        assert set(parameters) == {"inputs", "main:#output_0"}
        assert all(place == "device" for place, _ in parameters.values())
        parameters["main:#output_0"][1][:] = 2 * parameters["inputs"][1]
        return [parameters["main:#output_0"]]

    def close(self):
        """As in the binding."""
        self.closed = True


def test_device_program_uploads_runs_synchronises_and_downloads():
    """Results are copies on the host, and closing frees the program."""
    api, doubling = DeviceApi(), DoublingProgram()
    program = DeviceProgram("migraphx:gpu", api, doubling, MODEL, {}, Costs())
    first = program.run({"inputs": np.array([1.0, 2.0])})["logits"]
    second = program.run({"inputs": np.array([3.0, 4.0])})["logits"]
    assert (first.tolist(), second.tolist()) == ([2, 4], [6, 8])
    assert api.synchronised == 2
    program.close()
    assert doubling.closed


def test_closed_device_program_holds_no_reference_and_refuses_to_run():
    """The module frees a program when its last reference is gone."""
    doubling = DoublingProgram()
    program, reference = DeviceProgram("migraphx:gpu", DeviceApi(), doubling, MODEL, {}, Costs()), weakref.ref(doubling)
    uploaded = program.upload({"inputs": np.array([1.0, 2.0])})
    del doubling
    program.close()
    program.close()
    gc.collect()
    assert reference() is None
    with pytest.raises(RunError, match="closed"):
        program.run_on_device(uploaded)
