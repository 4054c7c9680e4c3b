"""What machine this is, from the kernel's files; a machine that tells less has less to say."""

import pytest

from fixtures import hardware
from fixtures.benchmark import environment

NODE = "sys/class/kfd/kfd/topology/nodes/1/properties"
CARD = "sys/class/drm/renderD128/device"
PROPERTIES = (
    "gfx_target_version 90402\ndevice_id 29857\nsimd_count 1216\nsimd_per_cu 4\ndrm_render_minor 128\n"
    "max_engine_clk_fcompute 2100\n"
)


@pytest.fixture
def machine(tmp_path):
    """Files of a kernel with one GPU, as AMD's driver writes them."""
    for name, text in {
        "proc/cpuinfo": "processor : 0\nmodel name\t: AMD EPYC 9654\n",
        "proc/meminfo": "MemTotal:       16777216 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 96\ngfx_target_version 0\n",
        NODE: PROPERTIES,
        f"{CARD}/power_dpm_force_performance_level": "auto\n",
        f"{CARD}/mem_info_vram_total": "206141652992\n",
        f"{CARD}/mem_info_vram_used": "1048576\n",
        "sys/module/amdgpu/version": "6.8.5\n",
        "opt/rocm/.info/version": "6.4.0-1\n",
        "opt/other/.info/version": "7.0.0\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_machine_is_read_from_the_kernels_files(machine, monkeypatch):
    """No tool is run; what is not there stays empty."""
    monkeypatch.delenv("ROCM_PATH", raising=False)
    facts = environment.facts(machine)
    assert (facts["cpu"], facts["governor"], facts["cpu_clock"]) == ("AMD EPYC 9654", "performance", "")
    assert (facts["gpus"], facts["gpu_clocks"], facts["gpu_driver"]) == ("gfx942", "2100 MHz", "6.8.5")
    assert (facts["gpu_names"], facts["gpu_level"]) == ("Instinct MI300X (304 units)", "auto")
    assert (facts["gpu_memory"], facts["memory"]) == ("192 GiB", "16 GiB")
    assert facts["rocm"] == "6.4.0-1"
    assert "numpy" in facts
    assert environment.device_key({**facts, "cores": "96"}) == "amd-epyc-9654-96-gfx942-instinct-mi300x-304-units"


def test_only_gpus_that_this_process_is_given_count(machine, monkeypatch):
    """So that two of them have two folders of saved runs."""
    node = machine / "sys/class/kfd/kfd/topology/nodes/2/properties"
    node.parent.mkdir()
    node.write_text("gfx_target_version 110000\n")
    monkeypatch.delenv("ROCR_VISIBLE_DEVICES", raising=False)
    keys = set()
    for number, name in (("0", "gfx942"), ("1", "gfx1100"), ("0,1", "gfx942, gfx1100"), ("-1", "none")):
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", number)
        facts = environment.facts(machine)
        assert facts["gpus"] == name
        keys.add(environment.device_key(facts))
    assert len(keys) == 4


def test_others_count_on_the_processors_that_this_process_may_use(tmp_path, monkeypatch):
    """Busy neighbours elsewhere do not disturb; on ours they do, however many processors are idle."""
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: {1, 3})
    (tmp_path / "proc").mkdir()
    tick = environment.os.sysconf("SC_CLK_TCK")
    busy = {0: 900_000, 1: 1_000_000, 2: 900_000, 3: 3_000_000}  # beside which this process is nothing
    rows = [f"cpu{number} {seconds * tick} 0 0 7 7 0 0 0 0 0" for number, seconds in busy.items()]
    (tmp_path / "proc/stat").write_text("\n".join(["cpu 1 0 0 7 7 0 0 0 0 0", *rows, "intr 1"]))
    assert environment.foreign_seconds(tmp_path) == pytest.approx(2_000_000, rel=0.05)
    assert environment.facts(tmp_path)["cores"] == "2"


def test_gpus_are_in_the_kernels_order(machine):
    """Node 2 comes before node 10."""
    for number, version in ((10, 110000), (2, 90402)):
        node = machine / f"sys/class/kfd/kfd/topology/nodes/{number}/properties"
        node.parent.mkdir()
        node.write_text(f"gfx_target_version {version}\n")
    assert [hardware.architecture(node) for node in hardware.gpu_nodes(machine)] == ["gfx942", "gfx942", "gfx1100"]


def test_rocm_and_the_gpus_that_are_seen_may_be_told_by_variables(machine, monkeypatch):
    """Both decide what runs."""
    monkeypatch.setenv("ROCM_PATH", "/opt/other")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    facts = environment.facts(machine)
    assert (facts["rocm"], facts["gpus_seen"]) == ("7.0.0", "HIP_VISIBLE_DEVICES=1")


def test_equal_gpus_are_counted(machine):
    """Eight cards still make the name of a folder; another card of the same architecture is other hardware."""
    one = environment.facts(machine)
    for at in range(2, 9):
        path = machine / NODE.replace("/1/", f"/{at}/")
        path.parent.mkdir()
        path.write_text(PROPERTIES)
    eight = environment.facts(machine)
    assert (eight["gpus"], eight["gpu_names"]) == ("8 x gfx942", "8 x Instinct MI300X (304 units)")
    other = {**one, "gpu_names": "Instinct MI325X (304 units)"}
    assert environment.differences(one, other, environment.HARDWARE) == [
        "gpu_names: Instinct MI325X (304 units) there, Instinct MI300X (304 units) here"
    ]


def test_memory_of_the_device_is_amdgpus_word(machine):
    """Bytes in use a GPU; None where the driver does not tell, nothing without a GPU."""
    assert environment.device_memory(machine) == [1 << 20]
    (machine / CARD / "mem_info_vram_used").unlink()
    assert environment.device_memory(machine) == [None]
    assert environment.device_memory(machine / "elsewhere") == []


def test_a_machine_that_tells_nothing(tmp_path):
    """Has a key all the same, and no GPU."""
    facts = environment.facts(tmp_path)
    assert facts["gpus"] == environment.NO_GPU
    assert environment.device_key(facts)
    assert environment.versions(["no-such-package"]) == {}


@pytest.mark.parametrize(("version", "name"), [("90402", "gfx942"), ("90010", "gfx90a"), ("110001", "gfx1101")])
def test_architectures_have_their_usual_names(machine, version, name):
    """Minor and stepping are hexadecimal."""
    (machine / NODE).write_text(f"gfx_target_version {version}\n")
    facts = environment.facts(machine)
    assert (facts["gpus"], facts["gpu_names"]) == (name, "device 0x0000 (? units)")
