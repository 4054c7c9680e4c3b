"""MIGraphX with inputs and outputs in device memory, on a stand-in for that."""

import gc
import weakref

import numpy as np
import pytest

from fixtures.engines.base import as_fed
from fixtures.engines.migraphx import device as migraphx_device
from fixtures.errors import RunError
from fixtures.records import Costs


class DeviceApi:
    """Device memory as the Python module documents it: what was not uploaded or downloaded does not mix."""

    def __init__(self):
        self.synchronised = 0

    argument = staticmethod(np.asarray)
    to_gpu = staticmethod(lambda array: ("device", array.copy()))
    allocate_gpu = staticmethod(lambda shape: ("device", np.empty(shape)))
    from_gpu = staticmethod(lambda held: held[1])

    def gpu_sync(self):
        """Count."""
        self.synchronised += 1


class DeviceModel:
    """Doubles its input on the device; refuses host memory and missing output buffers."""

    inputs = outputs = ()
    facts = {}  # noqa: RUF012
    costs = Costs()
    closed = False

    def get_parameter_shapes(self):
        """As a program compiled with offload_copy=False has them."""
        return {"inputs": (2,), "main:#output_0": (2,)}

    def run(self, parameters):
        """Only what lies on the device is taken."""
        assert set(parameters) == {"inputs", "main:#output_0"}
        assert all(held[0] == "device" for held in parameters.values())
        parameters["main:#output_0"][1][:] = 2 * parameters["inputs"][1]
        return [parameters["main:#output_0"]]

    def checked(self, feeds):
        """The host program's part."""
        return {name: as_fed(array, "float32") for name, array in feeds.items()}

    def named(self, results):
        """Likewise."""
        return {"logits": results[0]}

    def close(self):
        """Likewise."""
        self.closed = True


def test_device_program_uploads_runs_waits_and_downloads():
    """Results are copies on the host, the device is waited for once a run, everything is freed."""
    api, model = DeviceApi(), DeviceModel()
    program = migraphx_device.DeviceProgram(api, model, model)
    first = program.run({"inputs": np.array([1.0, 2.0])})["logits"]
    second = program.run({"inputs": np.array([3.0, 4.0])})["logits"]
    assert (first.tolist(), second.tolist()) == ([2, 4], [6, 8])
    assert api.synchronised == 2
    program.close()
    assert model.closed


def test_a_closed_device_program_holds_nothing_and_says_so():
    """The module frees a program when nobody holds it any more."""
    model = DeviceModel()
    program, held = migraphx_device.DeviceProgram(DeviceApi(), model, DeviceModel()), weakref.ref(model)
    uploaded = program.upload({"inputs": np.array([1.0, 2.0])})
    del model
    program.close()
    program.close()
    gc.collect()
    assert held() is None
    with pytest.raises(RunError, match="the program is closed"):
        program.run_on_device(uploaded)
