"""What decides a program of MIGraphX besides what is asked: its libraries, the machine, the settings."""

import os

import pytest

from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.migraphx.identity import libraries, surroundings
from fixtures.errors import CacheError, EngineUnavailable
from fixtures.plugin.policy import absent
from tests.meta.keeping import order

NODE = "sys/class/kfd/kfd/topology/nodes/1/properties"
PROPERTIES = "gfx_target_version 90402\nvendor_id 4098\ndevice_id 29857\nsimd_count 1216\nnum_xcc 8\n"
LOADED = (
    "libmigraphx_c.so.3",
    "libmigraphx.so.2",
    "libmigraphx_ref.so.2",
    "libmigraphx_gpu.so.2",
    "libm.so.6",
    "libMIOpen.so.1",
    "libother.so",
)


@pytest.fixture
def maps(tmp_path):
    """What the kernel says is mapped: libraries, and memory of no file."""
    for name in (*LOADED, "libamd_comgr.so.3"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(0, 0))
    lines = [f"7f00-7f01 r-xp 00000000 08:01 42    {tmp_path / name}\n" for name in (*LOADED, *LOADED)]
    path = tmp_path / "maps"
    path.write_text("".join([*lines, "7f02-7f03 rw-p 00000000 00:00 0 \n", "7f04-7f05 rw-p 00000000 00:00 0 [heap]\n"]))
    return path


@pytest.fixture
def machine(tmp_path):
    """Files of a kernel with one GPU."""
    texts = {
        "proc/cpuinfo": "model name\t: AMD EPYC 9654\n",
        NODE: PROPERTIES,
        "sys/module/amdgpu/version": "6.8.5\n",
        "opt/rocm/.info/version": "6.4.0-1\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "own", "companions"),
    [
        ("ref", "libmigraphx_ref.so.2", "libm.so.6"),
        ("gpu", "libmigraphx_gpu.so.2", "libMIOpen.so.1 libamd_comgr.so.3 libm.so.6"),
        ("cpu", "", "libm.so.6"),
    ],
)
def test_a_target_has_libraries_of_its_own(maps, target, own, companions):
    """Another target's parts do not count, nor does what is no part of it; the compiler does before it is loaded."""
    facts = libraries(target, maps)
    assert [part.split()[0] for part in facts["libraries"].split(", ")] == [
        "libmigraphx.so.2",
        "libmigraphx_c.so.3",
        *own.split(),
    ]
    assert [part.split()[0] for part in facts["companions"].split(", ")] == companions.split()


def test_libraries_count_by_content_companions_by_size_and_time(maps):
    """A build of the same size and time is another build."""
    before = libraries("gpu", maps)
    library, companion = maps.with_name("libmigraphx.so.2"), maps.with_name("libMIOpen.so.1")
    library.write_text("libmigraphx.so.3")
    os.utime(library, ns=(1, 1))
    os.utime(companion, ns=(1, 1))
    after = libraries("gpu", maps)
    assert before["libraries"] != after["libraries"]
    assert before["companions"] != after["companions"]


def test_a_migraphx_that_is_not_told_is_an_error(maps):
    """Nothing is mapped, a library was replaced on the disk, or the kernel is another one."""
    library = maps.with_name("libmigraphx.so.2")
    library.unlink()
    with pytest.raises(CacheError, match="the libraries of MIGraphX cannot be read: No such file or directory"):
        libraries("ref", maps)
    maps.write_text("")
    with pytest.raises(CacheError, match="the kernel does not tell which MIGraphX is loaded"):
        libraries("ref", maps)
    maps.unlink()
    with pytest.raises(CacheError, match="the libraries of MIGraphX cannot be read: No such file or directory"):
        libraries("ref", maps)


def test_the_gpu_counts_where_it_compiles(machine):
    """Architecture, units, driver and ROCm; for other targets the processor is enough."""
    facts = surroundings("gpu", machine, {})
    assert facts == {
        "processor": "AMD EPYC 9654",
        "settings": "",
        "gpus": "gfx942 4098 29857 1216 ? 8 ? ?",
        "driver": "6.8.5",
        "rocm": "6.4.0-1",
    }
    assert surroundings("ref", machine, {}) == {"processor": "AMD EPYC 9654", "settings": ""}
    (machine / NODE).write_text(PROPERTIES.replace("90402", "90500"))
    assert surroundings("gpu", machine, {})["gpus"].startswith("gfx950 ")


def test_a_gpu_that_is_not_told_is_an_error(tmp_path):
    """A program of one architecture must not reach another."""
    with pytest.raises(CacheError, match="the kernel does not tell which GPU this is"):
        surroundings("gpu", tmp_path, {})


def test_settings_count_with_the_files_they_name(tmp_path):
    """Whole families of variables; others do not."""
    tuned = tmp_path / "tuned.json"
    tuned.write_text("{}")
    settings = {"MIGRAPHX_PROBLEM_CACHE": str(tuned), "HSA_OVERRIDE_GFX_VERSION": "9.4.2", "LANG": "C"}
    before = surroundings("ref", tmp_path, settings)["settings"]
    assert before.startswith("HSA_OVERRIDE_GFX_VERSION=9.4.2, MIGRAPHX_PROBLEM_CACHE=")
    assert "LANG" not in before
    tuned.write_text("{ }")
    assert surroundings("ref", tmp_path, settings)["settings"] != before
    for value in ("x" * 5000, "a\nb", ""):
        assert surroundings("ref", tmp_path, {"MIGRAPHX_X": value})["settings"] == f"MIGRAPHX_X={value}"


@pytest.mark.migraphx
def test_the_real_one_says_what_it_is(pytestconfig, tmp_path, monkeypatch):
    """The same before and after a compilation; a variable of its own changes it."""
    try:
        engine = migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        absent(pytestconfig, "migraphx:ref", error)
    wanted = order(engine, tmp_path)
    before = engine.identity(wanted.options)
    assert {"libmigraphx_c", "libmigraphx_ref"} <= {part.split(".")[0] for part in before["libraries"].split(", ")}
    assert "libm.so" in before["companions"]
    assert (before["engine"], before["version"]) == ("migraphx:ref", engine.version)
    wanted.compiled().close()
    assert engine.identity(wanted.options) == before
    monkeypatch.setenv("MIGRAPHX_DISABLE_POINTWISE_FUSION", "1")
    after = engine.identity(wanted.options)
    assert [name for name in before if before[name] != after[name]] == ["settings"]
