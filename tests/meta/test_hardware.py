"""CPU and GPUs of this machine."""

import pytest

from fixtures import hardware
from tests.meta.kernel_files import use_machine, write_files, write_nodes


@pytest.mark.parametrize(("version", "name"), [(90402, "gfx942"), (90010, "gfx90a"), (100300, "gfx1030")])
def test_architecture_is_decoded(version, name):
    """Minor and stepping are hexadecimal."""
    assert hardware.architecture({"gfx_target_version": str(version)}) == name


def test_gpus_are_in_the_kernels_numeric_order(tmp_path, monkeypatch):
    """Node 2 comes before node 10; nodes without a GPU do not count."""
    write_nodes(tmp_path, *({"gfx_target_version": 90402, "unique_id": number} for number in range(1, 12)))
    use_machine(monkeypatch, tmp_path)
    assert [int(node["unique_id"]) for node in hardware.gpu_nodes()] == list(range(1, 12))


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, [0, 1, 2]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-000000000000000b"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "0,7,1"}, [0]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_variables_choose_the_visible_gpus(tmp_path, monkeypatch, environment, seen):
    """By index or unique id, one variable after the other, up to the first invalid entry."""
    write_nodes(tmp_path, *({"gfx_target_version": 90402, "unique_id": 10 + number} for number in range(3)))
    use_machine(monkeypatch, tmp_path, **environment)
    nodes = hardware.gpu_nodes()
    assert hardware.visible_gpus() == [nodes[number] for number in seen]


@pytest.mark.parametrize(
    ("environment", "variable", "values"),
    [
        ({}, "HIP_VISIBLE_DEVICES", ["0", "1", "2", "0"]),
        ({"HIP_VISIBLE_DEVICES": "2, 0"}, "HIP_VISIBLE_DEVICES", ["2", "0", "2"]),
        ({"HIP_VISIBLE_DEVICES": "2,0", "CUDA_VISIBLE_DEVICES": "1"}, "HIP_VISIBLE_DEVICES", ["2", "0"]),
        ({"CUDA_VISIBLE_DEVICES": "1,2"}, "CUDA_VISIBLE_DEVICES", ["1", "2"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-000000000000000b,2"}, "ROCR_VISIBLE_DEVICES", ["GPU-000000000000000b", "2"]),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "1,0"}, "HIP_VISIBLE_DEVICES", ["1", "0"]),
    ],
)
def test_each_process_gets_one_gpu(tmp_path, monkeypatch, environment, variable, values):
    """One after the other, of those that the user left visible; the variable that narrows last is narrowed."""
    write_nodes(tmp_path, *({"gfx_target_version": 90402, "unique_id": 10 + number} for number in range(3)))
    for number, value in enumerate(values):
        use_machine(monkeypatch, tmp_path, **environment)
        before, pinned = hardware.visible_gpus(), hardware.one_gpu(number)
        assert pinned == {variable: value}
        use_machine(monkeypatch, tmp_path, **environment | pinned)
        (seen,) = hardware.visible_gpus()
        assert seen == before[number % len(before)]


def test_a_machine_without_a_gpu_pins_none(tmp_path, monkeypatch):
    use_machine(monkeypatch, tmp_path)
    assert hardware.one_gpu(0) == {}
    write_nodes(tmp_path, {"gfx_target_version": 90402})
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")
    assert hardware.one_gpu(0) == {}


@pytest.mark.parametrize(
    ("nodes", "environment", "name"),
    [
        ((90402, 110000), {}, "gfx942"),
        ((90402, 110000), {"ROCR_VISIBLE_DEVICES": "1"}, "gfx1100"),
        ((100301,), {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, "gfx1030"),
        ((90010,), {"HSA_OVERRIDE_GFX_VERSION": "9.0.10"}, "gfx90a"),
        ((90010,), {"HSA_OVERRIDE_GFX_VERSION": "gfx1030"}, "gfx90a"),
        ((), {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, ""),
    ],
)
def test_architecture_is_that_of_device_0(tmp_path, monkeypatch, nodes, environment, name):
    """Or the one that the user tells the ROCR runtime to take it for."""
    write_nodes(tmp_path, *({"gfx_target_version": version} for version in nodes))
    use_machine(monkeypatch, tmp_path, **environment)
    assert hardware.gpu_architecture() == name


def test_amd_gpus_are_found_without_their_driver(tmp_path, monkeypatch):
    """Displays and accelerators on the PCI bus; neither the chipset of an AMD processor nor another vendor's GPU."""
    devices = {"a": ("0x1002", "0x120000"), "b": ("0x1022", "0x060000"), "c": ("0x10de", "0x030200")}
    for address, (vendor, kind) in (devices | {"d": ("0x1002", "0x030000"), "e": ("0x1002", "0x040300")}).items():
        place = f"sys/bus/pci/devices/{address}"
        write_files(tmp_path, {f"{place}/vendor": f"{vendor}\n", f"{place}/class": f"{kind}\n"})
    use_machine(monkeypatch, tmp_path)
    assert hardware.amd_gpus() == ["a", "d"]
    use_machine(monkeypatch, tmp_path / "no sysfs")
    assert hardware.amd_gpus() == []
