"""What this machine is, read from a made-up kernel's files."""

import time

import pytest

from fixtures.benchmark import sampling
from fixtures.benchmark.sampling import external_cpu_seconds
from fixtures.machine import machine_facts
from fixtures.plugin.benchmark_baseline import HARDWARE, differences
from tests.meta.kernel_files import use_machine, write_files

NODES = "sys/class/kfd/kfd/topology/nodes"
CARD = "sys/class/drm/renderD128/device"
MI300X = "gfx_target_version 90402\ndevice_id 29857\nsimd_count 1216\nsimd_per_cu 4\ndrm_render_minor 128\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Files of a kernel with one GPU, as AMD's driver writes them."""
    use_machine(monkeypatch, tmp_path)
    texts = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        f"{NODES}/0/properties": "cpu_cores_count 96\ngfx_target_version 0\n",
        f"{NODES}/1/properties": MI300X,
        f"{CARD}/power_dpm_force_performance_level": "auto\n",
        "sys/module/amdgpu/version": "6.8.5\n",
        "opt/rocm/.info/version": "6.4.0-1\n",
    }
    write_files(tmp_path, texts)
    return tmp_path


@pytest.mark.usefixtures("machine")
def test_machine_facts_are_read_from_the_kernel():
    facts = machine_facts("AMD EPYC 9654")
    assert (facts["cpu"], facts["cpu_governor"]) == ("AMD EPYC 9654", "performance")
    assert (facts["gpus"], facts["gpu_performance_level"]) == ("gfx942 0x74a1, 304 units", "auto")
    assert (facts["gpu_driver"], facts["rocm"]) == ("6.8.5", "6.4.0-1")
    assert {*HARDWARE, "numpy", "onnxruntime"} <= set(facts)


def nvidia(root, *models):
    """Write what NVIDIA's driver does about some GPUs."""
    for number, model in enumerate(models):
        text = f"Model: \t\t {model}\nIRQ:   \t\t 97\nGPU UUID: \t GPU-0{number}ab-cd\n"
        write_files(root, {f"proc/driver/nvidia/gpus/0000:{number:02x}:00.0/information": text})
    version = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12\n"
    )
    (root / "proc/driver/nvidia/version").write_text(version)


def test_another_nvidia_gpu_is_other_hardware(tmp_path, monkeypatch):
    """The model counts, with the driver's version as a fact that may differ."""
    facts = []
    for name in ("NVIDIA H200", "NVIDIA A100-SXM4-40GB"):
        nvidia(tmp_path / name, name)
        use_machine(monkeypatch, tmp_path / name)
        facts.append(machine_facts())
    here, there = facts
    assert (here["gpus"], here["gpu_driver"]) == ("NVIDIA H200", "550.54.15")
    assert differences(here, there, HARDWARE) == ["gpus: NVIDIA A100-SXM4-40GB there, NVIDIA H200 here"]


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, "H200, L4"), ("1", "L4"), ("gpu-00ab-cd", "H200"), ("", "none"), ("-1", "none"), ("MIG-x", "H200, L4")],
)
def test_only_nvidia_gpus_that_this_process_may_use_count(tmp_path, monkeypatch, visible, gpus):
    """By index or UUID; of a MIG device the model is not known."""
    nvidia(tmp_path, "H200", "L4")
    use_machine(monkeypatch, tmp_path, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert machine_facts()["gpus"] == gpus


def test_difference_of_hardware_is_named(machine):
    """The same architecture with fewer compute units is other hardware; another version is not."""
    here = machine_facts()
    (machine / f"{NODES}/1/properties").write_text(MI300X.replace("1216", "304"))
    there = {**machine_facts(), "rocm": "7.0"}
    assert differences(here, there, HARDWARE) == ["gpus: gfx942 0x74a1, 76 units there, gfx942 0x74a1, 304 units here"]
    assert differences(here, there, ["rocm"]) == ["rocm: 7.0 there, 6.4.0-1 here"]


def test_machine_without_information_has_facts_and_no_gpu(tmp_path, monkeypatch):
    """Empty text stands for what is unknown."""
    use_machine(monkeypatch, tmp_path)
    facts = machine_facts()
    assert (facts["gpus"], facts["gpu_driver"], facts["cpu_governor"]) == ("none", "", "")


def test_external_load_counts_others_on_the_cpus_of_this_process(monkeypatch):
    """CPU 0 and 2 may be as busy as they like; this process's own time is no external load."""
    row = sampling.psutil.cpu_times()._replace(user=0, nice=0, system=0, irq=0, softirq=0, steal=0)
    rows = [row._replace(user=user, steal=1.0) for user in (900.0, 100.0, 900.0, 300.0)]
    monkeypatch.setattr(sampling.os, "sched_getaffinity", lambda _: {1, 3})
    monkeypatch.setattr(sampling.psutil, "cpu_times", lambda **_: rows)
    monkeypatch.setattr(time, "process_time", lambda: 50.0)
    assert external_cpu_seconds() == (101 + 301 - 50) / 2
