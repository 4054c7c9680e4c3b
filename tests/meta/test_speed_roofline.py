"""How far from the floor: the table of GPUs against data sheets, the processor's peak, and what is not known."""

import os
import sys

import pytest

from fixtures import hardware
from fixtures.benchmark import cpu, gpus
from fixtures.benchmark.roofline import STORED_BYTES, Peak, cpu_peak, floor, gpu_peak, peak_of, work
from fixtures.errors import BenchmarkError
from fixtures.precisions import BY_NAME as PRECISIONS

# TFLOP/s, dense, of AMD's data sheets; of MI250X one of its two dies. The table states none of these numbers.
DATA_SHEETS = [
    ("Instinct MI100", "fp32", 46.1),
    ("Instinct MI100", "fp16", 184.6),
    ("Instinct MI100", "bf16", 92.3),
    ("Instinct MI210", "fp32", 45.3),
    ("Instinct MI210", "fp16", 181.0),
    ("Instinct MI210", "int8", 181.0),
    ("Instinct MI250X", "fp32", 95.7 / 2),
    ("Instinct MI250X", "bf16", 383.0 / 2),
    ("Instinct MI300A", "fp16", 980.6),
    ("Instinct MI300A", "fp8", 1961.2),
    ("Instinct MI300X", "fp32", 163.4),
    ("Instinct MI300X", "tf32", 653.7),
    ("Instinct MI300X", "fp16", 1307.4),
    ("Instinct MI325X", "fp8", 2614.9),
    ("Instinct MI350X", "fp16", 2306.9),
    ("Instinct MI355X", "fp32", 157.3),
    ("Instinct MI355X", "bf16", 2516.6),
    ("Instinct MI355X", "int8", 5033.2),
    ("Radeon RX 7900 XTX", "fp32", 61.4),
    ("Radeon RX 7900 XTX", "fp16", 122.8),
    ("Radeon Pro W7900", "fp16", 122.6),
    ("Radeon RX 9070 XT", "fp32", 48.7),
    ("Radeon RX 9070 XT", "fp16", 194.6),
    ("Radeon RX 9070 XT", "fp8", 389.3),
]
BY_PRODUCT = {row.name: row for row in gpus.PRODUCTS}
VERSIONS = {
    "gfx908": 90008,
    "gfx90a": 90010,
    "gfx942": 90402,
    "gfx950": 90500,
    "gfx1030": 100300,
    "gfx1100": 110000,
    "gfx1101": 110001,
    "gfx1200": 120000,
    "gfx1201": 120001,
}


def kernel(root, *, version, device=0, revision=None, units=0, megahertz=0):
    """Files of a kernel with one GPU."""
    node = root / "sys/class/kfd/kfd/topology/nodes/1"
    node.mkdir(parents=True)
    rows = {
        "gfx_target_version": version,
        "device_id": device,
        "simd_count": 4 * units,
        "simd_per_cu": 4,
        "max_engine_clk_fcompute": megahertz,
        "drm_render_minor": 128,
    }
    (node / "properties").write_text("".join(f"{name} {value}\n" for name, value in rows.items()))
    if revision is not None:
        card = root / "sys/class/drm/renderD128/device"
        card.mkdir(parents=True)
        (card / "revision").write_text(f"{revision:#04x}\n")
    return root


def as_listed(root, row):
    """The kernel's files of a product."""
    return kernel(
        root,
        version=VERSIONS[row.architecture],
        device=row.devices[0],
        revision=row.revision,
        units=row.units,
        megahertz=row.megahertz,
    )


@pytest.mark.parametrize(("name", "precision", "sheet"), DATA_SHEETS)
def test_the_table_gives_what_the_data_sheets_say(tmp_path, name, precision, sheet):
    """Operations a clock times units times clock, to half a percent."""
    peak = gpu_peak(as_listed(tmp_path, BY_PRODUCT[name]))
    assert peak.operations[precision] == pytest.approx(1e12 * sheet, rel=0.005)


@pytest.mark.parametrize("row", gpus.PRODUCTS, ids=lambda row: row.name)
def test_each_product_is_known_by_its_number(tmp_path, row):
    """And by its revision, where one number serves several."""
    peak = gpu_peak(as_listed(tmp_path, row))
    assert peak.device == f"{row.name}, {row.units} units at {row.megahertz} MHz"
    assert peak.bandwidth == 1e9 * row.gigabytes
    assert all(part.startswith("https://") for part in peak.source.split())


def test_the_table_is_whole():
    """Each architecture has a product, the one with the fastest memory first; precisions are the suite's."""
    for kind in gpus.ARCHITECTURES:
        rows = [row.gigabytes for row in gpus.PRODUCTS if row.architecture == kind.name]
        assert rows[0] == max(rows)
        assert set(kind.a_clock) <= set(PRECISIONS)
    assert {row.architecture for row in gpus.PRODUCTS} == set(gpus.BY_ARCHITECTURE) == set(VERSIONS)
    assert set(STORED_BYTES) == set(PRECISIONS)


def test_an_unknown_product_is_assumed_and_said_so(tmp_path):
    """Of a known architecture; what the kernel tells of units and clock still counts."""
    peak = gpu_peak(kernel(tmp_path, version=90402, device=1, units=80, megahertz=1000))
    assert peak.device == "Instinct MI325X (assumed), 80 units at 1000 MHz"
    assert peak.operations["fp16"] == 2048 * 80 * 1e9


def test_a_part_of_a_device_has_a_part_of_its_peak(tmp_path):
    """A partition of MI300X is one of eight dies; the memory is shared, so that its floor stays one."""
    peak = gpu_peak(kernel(tmp_path, version=90402, device=0x74A1, units=38, megahertz=2100))
    assert peak.operations["fp16"] == pytest.approx(1307.4e12 / 8, rel=0.001)
    assert peak.bandwidth == 5.3e12


def test_a_kernel_that_tells_no_units_leaves_the_products_own(tmp_path):
    """As old ones do."""
    assert gpu_peak(kernel(tmp_path, version=90008, device=0x738C)).device == "Instinct MI100, 120 units at 1502 MHz"


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, [0, 1, 2]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "2"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-000000000000beef, 2"}, [1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "1,7,0"}, [1]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_a_process_sees_the_gpus_it_was_given(tmp_path, variables, seen):
    """In the order of the lists, each narrowing the one before, up to the first word that is no GPU."""
    for number in range(3):
        node = tmp_path / hardware.NODES / f"{number + 1}/properties"
        node.parent.mkdir(parents=True)
        node.write_text(f"gfx_target_version 90402\nunique_id {0xBEEF if number == 1 else number + 1}\n")
    nodes = hardware.gpu_nodes(tmp_path)
    assert hardware.visible_gpus(tmp_path, variables) == [nodes[at] for at in seen]


def test_what_has_no_peak_is_an_error(tmp_path, monkeypatch):
    """No GPU, one that the table lacks, an engine of another maker's device, a precision without units."""
    with pytest.raises(BenchmarkError, match="the kernel lists no GPU"):
        peak_of("migraphx:gpu", root=tmp_path)
    with pytest.raises(
        BenchmarkError, match=r"no peak is known of gfx1036 -> add a row to fixtures/benchmark/gpus\.py"
    ):
        peak_of("onnxruntime:migraphx", root=kernel(tmp_path, version=100306))
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    with pytest.raises(BenchmarkError, match="this process is shown none of the GPUs"):
        peak_of("migraphx:gpu", root=tmp_path)
    with pytest.raises(BenchmarkError, match="no peak is known of the device of onnxruntime:cuda"):
        peak_of("onnxruntime:cuda")
    with pytest.raises(BenchmarkError, match="here: no peak is known at int8"):
        floor(work(multiply_adds=1, weights=1, fed=1, precision="int8"), Peak({"fp32": 1.0}, 1.0, "here", ""), "int8")


def test_a_floor_is_the_longer_of_computing_and_moving():
    """Two operations a multiply-add; weights in their type, images and scores in fp32."""
    peak = Peak({"fp16": 1000.0}, 100.0, "a slow machine", "")
    small = floor(work(multiply_adds=500, weights=20, fed=5, precision="fp16"), peak, "fp16")
    assert (small.bytes, small.computing_seconds, small.moving_seconds) == (60, 1.0, 0.6)
    assert small.seconds == small.as_dict()["seconds"] == 1.0
    assert floor(work(multiply_adds=500, weights=200, fed=0, precision="fp16"), peak, "fp16").seconds == 4.0


def test_the_processors_peak_is_measured_once():
    """In a process of its own, with as many threads as the engine has; twice the same object."""
    threads = len(os.sched_getaffinity(0))
    peak = peak_of("onnxruntime:cpu", threads)
    assert peak is peak_of("migraphx:ref") is cpu_peak(threads)
    assert peak.device.startswith(f"{threads} threads, ")
    assert peak.operations["fp32"] == peak.operations["fp16"] > 1e8
    assert peak.bandwidth > 1e8
    assert "int8" not in peak.operations


@pytest.mark.parametrize(
    ("text", "deadline", "reason"),
    [
        ("echo no such library >&2; exit 1", 9, "the processor's peak was not measured: no such library"),
        ("echo hello", 9, "the processor's peak was not measured: Expecting value"),
        ("echo '{}'", 9, "the processor's peak was not measured: .*operations"),
        ("exec sleep 9", 0.1, "the processor's peak was not measured: .* timed out after 0.1 seconds"),
    ],
)
def test_a_measurement_that_fails_says_why(tmp_path, text, deadline, reason):
    """It died, it said something else, it was late."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    with pytest.raises(BenchmarkError, match=reason):
        cpu.measure(1, str(path), deadline)


def test_a_python_that_is_not_there_says_so():
    """The operating system's word."""
    with pytest.raises(BenchmarkError, match=r"was not measured: .*No such file"):
        cpu.measure(1, f"{sys.executable}-that-is-not-there")
