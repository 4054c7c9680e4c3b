"""Facts that identify a MIGraphX installation in the key of a cached program."""

import os
from pathlib import Path

import pytest

from fixtures.engines.migraphx.identity import PREFIXES, libraries, surroundings
from fixtures.errors import CacheError
from tests.meta.caching_engine import request_of
from tests.meta.kernel_files import use_machine, write_files

NODE = "sys/class/kfd/kfd/topology/nodes/1/properties"
PROPERTIES = "gfx_target_version 90402\nvendor_id 4098\ndevice_id 29857\nsimd_count 1216\nsimd_per_cu 4\n"
BINDING = "libmigraphx_c.so.3"
OWN = [f"migraphx/lib/libmigraphx{name}.so.2" for name in ("", "_ref", "_gpu", "_device")]
OTHERS = ["libMIOpen.so.1", "libamd_comgr.so.3", "libdnnl.so.3", "libother.so", "migraphx.txt"]


@pytest.fixture
def installation(tmp_path):
    """MIGraphX as Debian installs it, with a link to a library."""
    write_files(tmp_path / "lib", {name: name for name in (BINDING, *OWN, *OTHERS)})
    for name in (BINDING, *OWN, *OTHERS):
        os.utime(tmp_path / "lib" / name, ns=(0, 0))
    (tmp_path / "lib" / "libmigraphx_c.so").symlink_to(BINDING)
    return tmp_path / "lib"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Files of a kernel with one GPU."""
    use_machine(monkeypatch, tmp_path)
    texts = {NODE: PROPERTIES, "sys/module/amdgpu/version": "6.8.5\n", "opt/rocm/.info/version": "6.4.0-1\n"}
    write_files(tmp_path, texts)
    return tmp_path


def files_in(fact):
    """Names of the files that a fact lists."""
    return [part.split()[0] for part in fact.split(", ") if part]


def test_other_software_does_not_count(installation):
    facts = libraries(installation / BINDING)
    assert sorted(files_in(facts["libraries"])) == sorted([BINDING, *(Path(name).name for name in OWN)])
    assert sorted(files_in(facts["companions"])) == ["libMIOpen.so.1", "libamd_comgr.so.3", "libdnnl.so.3"]


def test_libraries_count_by_content_and_companions_by_size_and_time(installation):
    """Another build may have the same size and time."""
    before = libraries(installation / BINDING)
    library, companion = installation / "migraphx/lib/libmigraphx.so.2", installation / "libMIOpen.so.1"
    library.write_text(library.read_text().upper())
    os.utime(library, ns=(0, 0))
    os.utime(companion, ns=(1, 1))
    after = libraries(installation / BINDING)
    assert before["libraries"] != after["libraries"]
    assert before["companions"] != after["companions"]


def test_missing_or_unreadable_library_is_an_error(installation):
    """Without its hash a program of another build could be loaded."""
    library = installation / "migraphx/lib/libmigraphx.so.2"
    library.unlink()
    with pytest.raises(CacheError, match=r"libmigraphx\.so was not found"):
        libraries(installation / BINDING)
    library.mkdir()
    with pytest.raises(CacheError, match="Is a directory"):
        libraries(installation / BINDING)


def test_gpu_counts_for_the_gpu_target_only(machine):
    """Architecture, units, driver and ROCm; the processor counts for every target."""
    facts = surroundings("gpu")
    of_processor = surroundings("ref")
    assert of_processor["processor"]
    assert of_processor["libc"]
    of_gpu = {"gpus": "gfx942 0x74a1, 304 units", "driver": "6.8.5", "rocm": "6.4.0-1"}
    assert facts == of_processor | of_gpu
    (machine / NODE).write_text(PROPERTIES.replace("90402", "90500"))
    assert surroundings("gpu")["gpus"].startswith("gfx950 ")


def test_unknown_gpu_is_an_error(tmp_path, monkeypatch):
    """A program of one architecture must not run on another."""
    use_machine(monkeypatch, tmp_path)
    with pytest.raises(CacheError, match="GPU"):
        surroundings("gpu")


def test_environment_variables_count_with_the_files_they_name(tmp_path, monkeypatch):
    """By prefix; other variables do not count."""
    tuned = tmp_path / "tuned.json"
    tuned.write_text("{}")
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)
    environment = {"MIGRAPHX_PROBLEM_CACHE": str(tuned), "HSA_OVERRIDE_GFX_VERSION": "9.4.2", "LANG": "C"}
    use_machine(monkeypatch, tmp_path, **environment)
    before = surroundings("ref")["variables"]
    assert before.startswith("HSA_OVERRIDE_GFX_VERSION=9.4.2, MIGRAPHX_PROBLEM_CACHE=")
    assert "LANG" not in before
    tuned.write_text("{ }")
    assert surroundings("ref")["variables"] != before
    for value in ("x" * 5000, "a\nb", ""):
        monkeypatch.setenv("MIGRAPHX_X", value)
        assert surroundings("ref")["variables"].endswith(f"MIGRAPHX_X={value}")


@pytest.mark.migraphx
def test_identity_of_an_installed_migraphx_is_stable(ref_engine, tmp_path, monkeypatch):
    """A compilation does not change it, a variable of MIGraphX does."""
    request = request_of(tmp_path)
    before = ref_engine.identity(request.options)
    names = {name.split(".")[0] for name in files_in(before["libraries"])}
    assert {"libmigraphx_c", "libmigraphx", "libmigraphx_ref"} <= names
    assert (before["engine"], before["version"]) == ("migraphx:ref", ref_engine.version)
    ref_engine.prepare(request).close()
    assert ref_engine.identity(request.options) == before
    monkeypatch.setenv("MIGRAPHX_DISABLE_POINTWISE_FUSION", "1")
    after = ref_engine.identity(request.options)
    assert [name for name in before if before[name] != after[name]] == ["variables"]
