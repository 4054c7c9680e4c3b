"""The doctor's checks, on made-up machines, and its command."""

import json
import re
from importlib import metadata

import pytest

from fixtures import hardware, health
from fixtures.health import NOTE, OK, PROBLEM, check_machine
from tests.meta.kernel_files import use_machine, write_files

GPU = "gfx_target_version 90402\nunique_id 7\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write a kernel's files; return the state and text of a check of that machine."""
    use_machine(monkeypatch, tmp_path / "root")

    def check(name, files):
        write_files(tmp_path / "root", files)
        checks = check_machine(str(tmp_path / "cache"), thorough=name == "migraphx")
        return next((check.state, check.text) for check in checks if check.name == name)

    return check


ON_BUS = {"sys/bus/pci/devices/0000:03:00.0/vendor": "0x1002", "sys/bus/pci/devices/0000:03:00.0/class": "0x120000"}
LISTED = {**ON_BUS, f"{hardware.NODES}/1/properties": GPU}


@pytest.mark.parametrize(
    ("name", "files", "state", "text"),
    [
        ("gpu", {}, OK, "no AMD GPU"),
        ("gpu", ON_BUS, PROBLEM, "AMD GPU at 0000:03:00.0, but the compute driver lists none"),
        ("gpu", LISTED, OK, "gfx942; 1 of 1 visible"),
        ("rocm", {}, OK, "not found"),
        ("rocm", LISTED, NOTE, "not found"),
        ("driver", {**LISTED, "sys/module/amdgpu/version": "6.8.5"}, OK, "amdgpu 6.8.5"),
        ("processors", {"sys/fs/cgroup/cpu.max": "max 100000"}, OK, "CPUs"),
        ("processors", {"sys/fs/cgroup/cpu.max": "50000 100000"}, NOTE, "the container may use 0.5"),
        ("processors", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, OK, "CPUs"),
        ("processors", {"proc/cpuinfo": "model name\t: AMD EPYC 9654\n"}, OK, "AMD EPYC 9654"),
        ("permission", {**LISTED, "dev/dri/renderD128": ""}, OK, "1 GPU devices can be opened"),
    ],
)
def test_machine_is_checked(machine, name, files, state, text):
    """GPU, driver, ROCm, permissions, and processors of a container."""
    found = machine(name, files)
    assert found[0] == state
    assert text in found[1]


def test_closed_device_and_hidden_gpus_are_problems(machine, monkeypatch):
    monkeypatch.setattr(health.os, "access", lambda *_: False)
    assert machine("permission", {**LISTED, "dev/kfd": ""})[0] == PROBLEM
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")
    assert machine("gpu", LISTED) == (PROBLEM, "1 GPUs, all hidden")


def test_missing_migraphx_is_a_problem_with_a_gpu_only(machine, monkeypatch):
    """Without a GPU, ONNX Runtime can be judged alone."""
    monkeypatch.setenv("NFNET_MIGRAPHX", "/nonexistent")
    assert machine("migraphx", {})[0] == NOTE
    assert machine("migraphx", LISTED)[0] == PROBLEM


def test_small_disk_memory_and_closed_cache_are_told(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(health, "FREE_BYTES", 10**18)
    monkeypatch.setattr(health, "LEAST_MEMORY", 10**18)
    assert machine("cache", {})[0] == NOTE
    assert machine("memory", {})[0] == NOTE
    (tmp_path / "file").touch()
    checks = check_machine(str(tmp_path / "file"))
    assert [(check.state, "--cache-dir" in check.hint) for check in checks if check.name == "cache"] == [
        (PROBLEM, True)
    ]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install packages in a folder of their own: versions, and the text of their module."""

    def install(versions, text=""):
        for name, version in versions.items():
            folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir(parents=True)
            (folder / "top_level.txt").write_text("broken_package\n")
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "broken_package.py").write_text(text)
        requirements = tmp_path / "requirements.txt"
        requirements.write_text("broken-package>=2  # a comment\nabsent>=1; python_version < '3'\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.setattr(health, "REQUIREMENTS", requirements)
        return {check.name: check for check in check_machine(str(tmp_path / "cache"), thorough=True)}

    return install


@pytest.mark.parametrize(
    ("version", "text", "fault"),
    [
        ("1.9", "", "broken-package 1.9 does not fit >=2"),
        (
            "2.0",
            "import no_such_module",
            "2.0 cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("2.0", "raise OSError('libx.so: cannot open')", "2.0 cannot be imported: OSError: libx.so: cannot open"),
    ],
)
def test_broken_package_is_a_problem(packages, version, text, fault):
    """Too old, or installed and not importable; the command that repairs it is given."""
    check = packages({"broken-package": version}, text)["package"]
    assert check.state == PROBLEM
    assert fault in check.text
    assert "pip install -r" in check.hint


def test_missing_package_is_a_problem(packages):
    """One that this Python does not need is none."""
    assert packages({})["package"].text == "broken-package is not installed"
    assert "absent" not in str(packages)


def test_two_builds_of_onnxruntime_are_a_problem(packages):
    """They overwrite each other's files."""
    assert any(metadata.distributions(name="onnxruntime"))
    check = packages({"broken-package": "2.0", "onnxruntime-gpu": "1.20"})["onnxruntime"]
    assert (check.state, check.text.endswith("onnxruntime, onnxruntime-gpu")) == (PROBLEM, True)
    assert check.hint.startswith("pip uninstall onnxruntime onnxruntime-gpu")


def test_placeholder_of_migraphx_is_told(packages, monkeypatch):
    """PyPI's package of that name has no code."""
    monkeypatch.delenv("NFNET_MIGRAPHX", raising=False)
    monkeypatch.setattr(health.find, "SYSTEM_FOLDERS", ())
    check = packages({"broken-package": "2.0", "migraphx": "0.0.1"})["migraphx"]
    assert "placeholder" in check.text or check.state == OK  # a real one is installed, too


def test_doctor_prints_a_line_a_check_or_json(runner):
    done = runner.compare("doctor", isolated=True, code=None)
    lines = done.out.splitlines()
    states = [line.split()[0] for line in lines]
    assert set(states) <= {OK, NOTE, PROBLEM}
    assert done.code == (2 if PROBLEM in states else 0), done.text
    told = json.loads(runner.compare("doctor", "--json", isolated=True, code=None).out)
    assert [check["name"] for check in told["checks"]] == [line.split()[1] for line in lines]
    assert {"python", "cpu", "gpus", "rocm", "onnxruntime", "variables"} <= set(told["facts"])
    broken = runner.compare("doctor", "--migraphx=/nonexistent", isolated=True, code=2)
    assert re.search(r"^PROBLEM migraphx +there is no MIGraphX in the given location", broken.out, re.MULTILINE)


def test_header_and_junit_have_the_facts_and_the_problems(runner, tmp_path):
    env, words = {"MIOPEN_FIND_MODE": "2"}, ("tests/conformance/test_engines.py", f"--junit-xml={tmp_path / 'x.xml'}")
    done = runner.small(*words, env=env, plugin="from fixtures import health\nhealth.LEAST_MEMORY = 10**18")
    assert re.search(r"^machine: python 3\S+, .*MIOPEN_FIND_MODE=2", done.out, re.MULTILINE)
    assert re.search(r"^note +memory ", done.out, re.MULTILINE)
    xml = (tmp_path / "x.xml").read_text()
    assert re.search(r'<property name="variables" value="[^"]*MIOPEN_FIND_MODE=2', xml)
