"""Precisions of MIGraphX's targets and GPUs: one that is missing is not supported, with the reason."""

from pathlib import Path

import pytest

from fixtures import precisions
from fixtures.engines.migraphx.architectures import (
    IN_FP32,
    MLIR_MARK,
    NEEDS_MLIR,
    UNKNOWN_GPU,
    find_architecture,
    not_supported,
)
from fixtures.engines.migraphx.engine import MIGraphXEngine
from fixtures.engines.migraphx.find import locate, status
from fixtures.precisions import BY_NAME
from tests.meta.kernel_files import use_machine, write_files, write_nodes

MLIR_GPUS = ("gfx940", "gfx942", "gfx950", "gfx1200", "gfx1250")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function: be on a machine with a GPU of this version, and MIGraphX built with MLIR or not."""

    def install(version, mlir=b""):
        root = tmp_path / f"{version}{mlir.hex()}"
        write_nodes(root, {"gfx_target_version": version})
        write_files(root, {"dev/kfd": "", "usr/lib/libmigraphx_c.so.3": ""})
        (root / "usr/lib/libmigraphx_gpu.so.2014000").write_bytes(b"code" + mlir)
        use_machine(monkeypatch, root, NFNET_MIGRAPHX=str(root / "usr/lib"))

    return install


@pytest.mark.parametrize(
    ("gpu", "lacking"),
    [
        *((gpu, ()) for gpu in MLIR_GPUS),
        *((gpu, ("fp8",)) for gpu in ("gfx906", "gfx908", "gfx90a", "gfx1010", "gfx1031", "gfx1100", "gfx1151")),
        ("gfx1030", ("bf16", "fp8")),
    ],
)
def test_gpu_computes_what_it_lacks_in_fp32(gpu, lacking):
    """As device_name.cpp decides, also for GPUs that nobody has listed."""
    assert not_supported("gpu", gpu, None) == dict.fromkeys(lacking, IN_FP32.format(place=gpu))


@pytest.mark.parametrize("gpu", ["gfx900", "gfx906", "gfx1030", "gfx1100", "gfx1201"])
def test_rocblas_adds_up_in_half_unless_the_flag_says_otherwise(gpu):
    """get_compute_fp32_flag: gfx908 and newer in the gfx9 line."""
    assert find_architecture(gpu).half_sums
    assert not any(find_architecture(newer).half_sums for newer in ("gfx908", "gfx90a", "gfx90c", "gfx942", "gfx950"))


def test_fp8_needs_a_build_with_mlir(installed):
    """The build is known by its gpu library; one that cannot be read is not accused."""
    without, with_mlir = (installed(90402, mark) or status("gpu") for mark in (b"", MLIR_MARK))
    assert without.not_supported == {"fp8": NEEDS_MLIR.format(place="gfx942")}
    assert (without.gpu, with_mlir.gpu, with_mlir.not_supported) == ("gfx942", "gfx942", {})
    assert not_supported("gpu", "gfx942", Path("/nonexistent")) == {}


def test_precisions_of_a_gpu_that_the_kernel_does_not_list_are_unknown(installed):
    """fp32, fp16 and int8 are the same on every GPU."""
    installed(0)
    found = status("gpu")
    assert found.gpu == ""
    assert found.not_supported == dict.fromkeys(("bf16", "fp8"), UNKNOWN_GPU)


@pytest.mark.parametrize(
    ("target", "version", "rounding"),
    [
        ("gpu", 90402, precisions.GPU),
        ("gpu", 110000, precisions.GPU_HALF_SUMS),
        ("cpu", 110000, precisions.TRUNCATED_CONSTANTS),
        ("ref", 110000, precisions.TRUNCATED),
    ],
)
def test_rounding_is_that_of_target_and_gpu(installed, target, version, rounding):
    """The architecture decides on the gpu target only."""
    installed(version)
    assert MIGraphXEngine(f"migraphx:{target}", locate(), object(), None).target.rounding == rounding


def test_engine_supports_what_its_status_says(installed):
    """One line for the reason, with all precisions that share it."""
    installed(100300)
    found = status("cpu")
    assert found.lacks == "fp16, bf16, fp8 not supported: the cpu target computes in fp32 instead"
    engine = MIGraphXEngine("migraphx:cpu", locate(), object(), None)
    assert {name for name in BY_NAME if engine.target.unsupported(name)} == {*found.not_supported, "tf32"}
    assert engine.target.unsupported("fp16") == found.not_supported["fp16"]


@pytest.mark.parametrize("target", ["ref", "cpu", "gpu"])
def test_calibrated_precisions_have_a_rule(installed, target):
    """fp8 quantises what enters any operator on ref only."""
    installed(90402)
    engine = MIGraphXEngine(f"migraphx:{target}", locate(), object(), None)
    rules = {name: engine.target.rule(name) for name in BY_NAME}
    found = {name: rule.inputs for name, rule in rules.items() if rule}
    assert found == {"int8": "products"} | {"ref": {"fp8": "all"}, "gpu": {"fp8": "products"}, "cpu": {}}[target]
