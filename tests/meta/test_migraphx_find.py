"""Finding MIGraphX in constructed folder trees: search order, layouts, and every reason why it is missing."""

import os
import sys
from importlib import machinery
from pathlib import Path

import pytest

from fixtures.engines.migraphx.engine import MIGraphXEngine
from fixtures.engines.migraphx.find import LOCATION_VARIABLE, REASONS, locate, status
from tests.meta.kernel_files import use_machine, write_nodes

SUFFIX = machinery.EXTENSION_SUFFIXES[0]
MODULE = f"migraphx{SUFFIX}"
OTHER_PYTHON = "migraphx.cpython-27-x86_64-linux-gnu.so"
LIBRARY = "libmigraphx_c.so.3"
PLACEHOLDER = "site/migraphx-0.0.1.dist-info/METADATA"  # PyPI's package: metadata without a module


def touch(folder, *names):
    """Make empty files and return the folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Be on a machine below ``tmp_path``, empty but for a GPU device; return a function that sets its variables."""
    touch(tmp_path, "dev/kfd")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])

    def use(**variables):
        use_machine(monkeypatch, tmp_path, **{LOCATION_VARIABLE: "", **variables})

    use()
    return use


def is_missing(found, reason, detail=""):
    """True if a status has this reason and its hint."""
    text, hint = REASONS[reason]
    return (found.missing, found.hint, found.usable) == (text.format(detail=detail), hint, False)


GPU_LIBRARIES = (f"usr/lib/{LIBRARY}", "usr/lib/libmigraphx_gpu.so.2014000")
TREES = {  # reason: (files, location, detail)
    "absent": ((), None, ""),
    "placeholder": ((PLACEHOLDER,), None, ""),
    "python": ((PLACEHOLDER, f"opt/rocm/lib/{OTHER_PYTHON}"), None, OTHER_PYTHON),
    "location": (GPU_LIBRARIES, "{tmp_path}/nowhere", "{tmp_path}/nowhere"),
    "target": ((f"usr/lib/{LIBRARY}", "usr/lib/libmigraphx_ref.so.2014000"), None, f"{{tmp_path}}/usr/lib/{LIBRARY}"),
    "device": (GPU_LIBRARIES, None, "{tmp_path}/dev/kfd"),
    "permission": (GPU_LIBRARIES, None, "{tmp_path}/dev/kfd"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_reported_with_detail_and_hint(tmp_path, monkeypatch, reason):
    """Each row of the table has a tree that leads to it."""
    files, location, detail = TREES[reason]
    touch(tmp_path, *files)
    if reason == "device":
        (tmp_path / "dev/kfd").unlink()
    if reason == "permission":  # root may open everything
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path / "dev/kfd")
    found = status("gpu", location and location.format(tmp_path=tmp_path))
    assert is_missing(found, reason, detail.format(tmp_path=tmp_path))
    assert "\n" not in found.missing + found.hint


@pytest.mark.parametrize("target", ["ref", "cpu"])
def test_only_the_gpu_target_needs_a_gpu(tmp_path, target):
    """The other targets are usable without the device. The status has name, version and file."""
    names = ("libmigraphx.so.2014000.0", "libmigraphx_ref.so.2014000", "libmigraphx_cpu.so.2014000")
    touch(tmp_path / "usr/lib", LIBRARY, *names)
    (tmp_path / "dev/kfd").unlink()
    found = status(target)
    assert (found.usable, found.name, found.version) == (True, f"migraphx:{target}", "2.14.0")
    assert found.detail == f"c library {tmp_path}/usr/lib/{LIBRARY}"


def test_wsl_has_another_device(tmp_path):
    """The GPU is usable there; its architecture is unknown, which the precisions show."""
    touch(tmp_path, *GPU_LIBRARIES, "dev/dxg")
    (tmp_path / "dev/kfd").unlink()
    found = status("gpu")
    assert (found.usable, found.gpu) == (True, "")
    assert set(found.not_supported) == {"bf16", "fp8"}


@pytest.mark.parametrize(("more", "emulated"), [({}, False), ({"emulated": 1}, True)])
def test_only_a_line_that_no_kernel_writes_makes_a_gpu_an_emulated_one(tmp_path, more, emulated):
    touch(tmp_path, *GPU_LIBRARIES)
    write_nodes(tmp_path, {"gfx_target_version": 90402, **more})
    found = status("gpu")
    assert (found.usable, found.gpu) == (True, "gfx942")
    assert MIGraphXEngine("migraphx:gpu", locate(), object(), None).target.emulated == emulated
    assert ("emulated gfx942" in found.detail) == emulated


@pytest.mark.parametrize(("file", "can"), [(LIBRARY, False), (MODULE, True)])
def test_device_memory_needs_the_python_module(tmp_path, file, can):
    touch(tmp_path / "usr/lib", file, "libmigraphx_gpu.so.2014000")
    assert status("gpu").copies_inside != can
    assert status("ref").copies_inside


def places_in_order(tmp_path):
    """Every place of the search, first to last: (variables that make it a place, path of the library or module)."""
    opt = tmp_path / "opt"
    return [
        ({}, tmp_path / "option" / LIBRARY),
        ({LOCATION_VARIABLE: str(tmp_path / "variable")}, tmp_path / "variable" / LIBRARY),
        ({}, tmp_path / "site" / MODULE),
        ({}, tmp_path / "site2" / MODULE),
        ({"ROCM_PATH": str(tmp_path / "path")}, tmp_path / "path/lib" / LIBRARY),
        ({"ROCM_HOME": str(tmp_path / "home")}, tmp_path / "home/lib" / LIBRARY),
        ({}, opt / "rocm/lib" / MODULE),
        ({}, opt / "rocm/lib64" / MODULE),
        ({}, opt / "rocm/lib/migraphx/lib" / LIBRARY),
        ({}, opt / "rocm-10.0.0/lib" / LIBRARY),
        ({}, opt / "rocm-6.10.1/lib" / LIBRARY),
        ({}, opt / "rocm-6.10/lib" / LIBRARY),
        ({}, opt / "rocm-6.9.2/lib" / LIBRARY),
        ({"LD_LIBRARY_PATH": f":{tmp_path / 'ld'}::{tmp_path / 'ld2'}"}, tmp_path / "ld" / LIBRARY),
        ({}, tmp_path / "ld2" / LIBRARY),
        ({}, tmp_path / "usr/lib64" / LIBRARY),
        ({}, tmp_path / "usr/lib" / LIBRARY),
    ]


def test_places_are_searched_in_order(tmp_path, machine, monkeypatch):
    """With all of them filled the first is found; with that one removed the second, and so on to the last."""
    rows, variables = places_in_order(tmp_path), {}
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), str(tmp_path / "site2")])
    for more, path in rows:
        touch(path.parent, path.name)
        variables |= more
    option = str(rows[0][1].parent)
    for _, path in rows:
        machine(**variables)
        assert locate(option).path == path
        path.unlink()
        if path == rows[0][1]:
            option = None
        if path == rows[1][1]:
            del variables[LOCATION_VARIABLE]
    assert is_missing(status("ref", option), "absent")


DEBIAN = [f"usr/lib/migraphx/lib/libmigraphx{name}.so.2014000.0" for name in ("", "_ref", "_gpu")]
WHEEL = [
    PLACEHOLDER,
    f"site/migraphx/{MODULE}",
    "site/migraphx/lib/libmigraphx_gpu.so.2",
    "site/migraphx/libmigraphx.so.2014000",
]
HELPERS = [f"usr/lib/libmigraphx_{name}.so.2014000" for name in ("onnx", "tf", "device", "all_targets", "fpga")]
LAYOUTS = {  # name: (files, file that is found, version, targets)
    "module first": ([f"opt/rocm/lib/{MODULE}", f"opt/rocm/lib/{LIBRARY}"], 0, None, set()),
    "library of the same folder": ([f"opt/rocm/lib/{OTHER_PYTHON}", f"opt/rocm/lib/{LIBRARY}"], 1, None, set()),
    "library of a later folder": ([f"opt/rocm/lib/{OTHER_PYTHON}", f"usr/lib/{LIBRARY}"], 1, None, set()),
    "module of this Python": ([f"site/{OTHER_PYTHON}", f"site/{MODULE}", "site/migraphx_private.so"], 1, None, set()),
    "wheel": (WHEEL, 1, "2.14.0", {"gpu"}),
    "wheel with Python files": ([*WHEEL, "site/migraphx/__init__.py"], 1, "2.14.0", {"gpu"}),
    "Debian": ([f"usr/lib/{LIBRARY}", "usr/lib/libmigraphx_c.so.3.0", *DEBIAN], 0, "2.14.0", {"ref", "gpu"}),
    "helper libraries": ([f"usr/lib/{LIBRARY}", "usr/lib/libmigraphx_ref.so", *HELPERS], 0, None, {"ref", "fpga"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_understood(tmp_path, name):
    """A module of this Python is preferred, the C library replaces one of another, and helpers are not targets."""
    files, chosen, version, targets = LAYOUTS[name]
    touch(tmp_path, *files)
    found = locate()
    assert (found.path, found.version, found.targets) == (tmp_path / files[chosen], version, targets)
    assert found.kind == ("python module" if found.path.name == MODULE else "c library")


@pytest.mark.parametrize("names", [("migraphx.py",), ("migraphx/__init__.py",), ("migraphx_private.so",)])
def test_files_with_a_similar_name_are_ignored(tmp_path, names):
    """A script, a folder of sources or a helper library is not reported as a module of another Python."""
    touch(tmp_path / "site", *names)
    assert is_missing(status("ref"), "absent")


def test_symbolic_link_to_a_module_leads_to_its_targets(tmp_path):
    """A linked module is described by the libraries beside the real file."""
    real = touch(tmp_path / "elsewhere/lib", MODULE, "libmigraphx_cpu.so.2013000.0", "libmigraphx.so.2013001.0.60300")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MODULE).symlink_to(real / MODULE)
    found = locate()
    assert (found.version, found.targets) == ("2.13.1", {"cpu"})


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("libmigraphx.so.2014000.0", "2.14.0"),
        ("libmigraphx.so.2012000.0.60402", "2.12.0"),
        ("libmigraphx.so.2008002", "2.8.2"),
        ("libmigraphx.so.10001000.0", "10.1.0"),
        ("libmigraphx.so.3", None),
        ("libmigraphx.so", None),
        ("libmigraphx_ref.so.2014000.0", None),
    ],
)
def test_version_is_read_from_the_file_name(tmp_path, name, version):
    """The number packs major, minor and patch; other names have no version."""
    touch(tmp_path / "usr/lib", LIBRARY, name)
    assert locate().version == version


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("place", f"place/{MODULE}"),
        ("place", f"place/migraphx/{MODULE}"),
        ("place", f"place/lib/{MODULE}"),
        ("place", f"place/lib64/{LIBRARY}"),
        ("place", f"place/lib/migraphx/lib/{LIBRARY}"),
        ("place", f"place/lib/x86_64-linux-gnu/{LIBRARY}"),
        (f"place/{MODULE}", f"place/{MODULE}"),
        (f"place/{LIBRARY}", f"place/{LIBRARY}"),
        ("place/libmigraphx_c.so", "place/libmigraphx_c.so"),
    ],
)
def test_location_is_a_folder_a_prefix_or_the_file(tmp_path, machine, given, file):
    """By option or by variable; the kind follows from the file's name."""
    touch(tmp_path, file)
    place = str(tmp_path / given)
    by_option = locate(place)
    machine(**{LOCATION_VARIABLE: place})
    by_variable = locate()
    assert by_option == by_variable
    assert by_variable.path == tmp_path / file
    assert by_variable.kind == ("python module" if file.endswith(SUFFIX) else "c library")


@pytest.mark.parametrize("given", ["place", f"place/{OTHER_PYTHON}"])
def test_location_with_a_module_of_another_python_says_so(tmp_path, given):
    touch(tmp_path / "place", OTHER_PYTHON)
    assert is_missing(status("gpu", str(tmp_path / given)), "python", OTHER_PYTHON)


@pytest.mark.parametrize("given", ["notes.txt", "libmigraphx_gpu.so", "~unknown-user/x", "x" * 300])
def test_invalid_location_is_reported(tmp_path, given):
    """Another file, the home of an unknown user, or a name that no file can have."""
    touch(tmp_path, "notes.txt", "libmigraphx_gpu.so")
    place = given if given.startswith("~") else str(tmp_path / given)
    assert is_missing(status("gpu", place), "location", place)


def test_invalid_entries_of_search_paths_are_ignored(tmp_path, machine, monkeypatch):
    """Files, missing folders, and names that cannot exist."""
    file = touch(tmp_path, "archive.zip") / "archive.zip"
    monkeypatch.setattr(sys, "path", ["", str(file), str(tmp_path / "gone"), "x" * 5000])
    machine(ROCM_PATH="", LD_LIBRARY_PATH=f"{file}:{'x' * 5000}:")
    assert is_missing(status("ref"), "absent")
    touch(tmp_path / "usr/lib", LIBRARY)
    assert status("ref").usable


def test_empty_variables_do_not_mean_the_current_folder(tmp_path, machine, monkeypatch):
    touch(tmp_path / "here", LIBRARY, f"lib/{LIBRARY}")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [""])
    machine(ROCM_PATH="", LD_LIBRARY_PATH=":")
    assert is_missing(status("ref"), "absent")


def test_folders_and_broken_links_are_not_libraries(tmp_path):
    """An uninstalled package may leave them behind."""
    (tmp_path / "usr/lib" / LIBRARY).mkdir(parents=True)
    (tmp_path / "usr/lib/libmigraphx_c.so").symlink_to("libmigraphx_c.so.99")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MODULE).symlink_to("gone.so")
    assert is_missing(status("ref"), "absent")
