"""Finding MIGraphX in made-up trees: where it is looked for, in which order, and every reason why it is not there."""

import os
import subprocess
import sys
import textwrap
from importlib import machinery
from pathlib import Path

import pytest

from fixtures.engines.migraphx.find import LOCATION_VARIABLE, REASONS, Places, locate, status
from fixtures.errors import EngineUnavailable

SUFFIX = machinery.EXTENSION_SUFFIXES[0]
MODULE = f"migraphx{SUFFIX}"
FOREIGN = "migraphx.cpython-27-x86_64-linux-gnu.so"
LIBRARY = "libmigraphx_c.so.3"


def lay(folder, *names):
    """Make empty files and return the folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def places(tmp_path):
    """Make places below ``tmp_path``, all of them empty unless a test fills them; a GPU is there."""
    (tmp_path / "kfd").touch()

    def make(**changes):
        usual = {
            "environment": {},
            "python_path": (str(tmp_path / "site"),),
            "rocm": (tmp_path / "opt",),
            "system": (tmp_path / "usr",),
            "device": tmp_path / "kfd",
        }
        return Places(**(usual | changes))

    return make


def placeholder(site):
    """PyPI's package as pip leaves it: metadata without a module."""
    info = lay(site, "migraphx-0.0.1.dist-info/RECORD") / "migraphx-0.0.1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: migraphx\nVersion: 0.0.1\n", encoding="utf-8")


# ---- why it is not there


def absent(_, places, __):
    """Nothing anywhere."""
    return status("gpu", None, places())


def only_placeholder(tmp_path, places, _):
    """Only PyPI's package."""
    placeholder(tmp_path / "site")
    return status("gpu", None, places())


def foreign_module(tmp_path, places, _):
    """Only a module of another Python, beside a placeholder."""
    placeholder(tmp_path / "site")
    lay(tmp_path / "opt/rocm/lib", FOREIGN)
    return status("gpu", None, places())


def wrong_name(tmp_path, places, _):
    """The named place has none, another place has one."""
    lay(tmp_path / "usr", LIBRARY)
    return status("ref", str(tmp_path / "nowhere"), places())


def no_target(tmp_path, places, _):
    """Other targets than this one."""
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_ref.so.2014000", "libmigraphx_cpu.so.2014000")
    return status("gpu", None, places())


def no_device(tmp_path, places, _):
    """No GPU."""
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_gpu.so.2014000")
    return status("gpu", None, places(device=tmp_path / "no-kfd"))


def no_permission(tmp_path, places, monkeypatch):
    """A GPU that this user may not open; root may open all, so the system's answer is replaced."""
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_gpu.so.2014000")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path / "kfd")
    return status("gpu", None, places())


TREES = {
    "absent": (absent, ""),
    "placeholder": (only_placeholder, ""),
    "python": (foreign_module, FOREIGN),
    "named": (wrong_name, "{tmp_path}/nowhere"),
    "target": (no_target, f"{{tmp_path}}/usr/{LIBRARY}"),
    "device": (no_device, "{tmp_path}/no-kfd"),
    "permission": (no_permission, "{tmp_path}/kfd"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_reached(tmp_path, places, monkeypatch, reason):
    """Each row of the table has a tree that leads to it, with its detail filled in and its hint."""
    tree, detail = TREES[reason]
    found = tree(tmp_path, places, monkeypatch)
    text, hint = REASONS[reason]
    assert found.missing == text.format(detail=detail.format(tmp_path=tmp_path))
    assert (found.hint, found.usable) == (hint, False)
    assert "\n" not in found.missing + found.hint


@pytest.mark.parametrize("target", ["ref", "cpu"])
def test_only_the_gpu_target_needs_a_gpu(tmp_path, places, target):
    """The other targets are usable on a machine without the device."""
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_ref.so.2014000", "libmigraphx_cpu.so.2014000")
    assert status(target, None, places(device=tmp_path / "no-kfd")).usable


def test_a_target_whose_library_cannot_be_seen_is_given_the_benefit_of_the_doubt(tmp_path, places):
    """Where no target's library lies beside it, as in a static build, loading has the last word."""
    lay(tmp_path / "site", MODULE)
    assert status("ref", None, places()).usable


def test_a_status_says_what_was_found(tmp_path, places):
    """Name, version and file."""
    lay(tmp_path / "usr", LIBRARY, "libmigraphx.so.2014000.0", "libmigraphx_ref.so.2014000.0")
    found = status("ref", None, places())
    assert (found.name, found.version) == ("migraphx:ref", "2.14.0")
    assert found.detail == f"c library {tmp_path}/usr/{LIBRARY}"


# ---- where it is, and which one is taken


def places_in_order(tmp_path):
    """Every place of the search, first to last: (what makes it a place, the library's or module's path)."""
    opt, env = tmp_path / "opt", "environment"
    return [
        ({}, tmp_path / "explicit" / LIBRARY),
        ({env: {LOCATION_VARIABLE: str(tmp_path / "variable")}}, tmp_path / "variable" / LIBRARY),
        ({"python_path": (str(tmp_path / "site"), str(tmp_path / "site2"))}, tmp_path / "site" / MODULE),
        ({}, tmp_path / "site2" / MODULE),
        ({env: {"ROCM_PATH": str(tmp_path / "path")}}, tmp_path / "path/lib" / LIBRARY),
        ({env: {"ROCM_HOME": str(tmp_path / "home")}}, tmp_path / "home/lib" / LIBRARY),
        ({}, opt / "rocm/lib" / MODULE),
        ({}, opt / "rocm/lib64" / MODULE),
        ({}, opt / "rocm/lib/migraphx/lib" / LIBRARY),
        ({}, opt / "rocm-10.0.0/lib" / LIBRARY),
        ({}, opt / "rocm-6.10.1/lib" / LIBRARY),
        ({}, opt / "rocm-6.10/lib" / LIBRARY),
        ({}, opt / "rocm-6.9.2/lib" / LIBRARY),
        ({env: {"LD_LIBRARY_PATH": f":{tmp_path / 'ld'}::{tmp_path / 'ld2'}"}}, tmp_path / "ld" / LIBRARY),
        ({}, tmp_path / "ld2" / LIBRARY),
        ({"system": (tmp_path / "usr", tmp_path / "usr2")}, tmp_path / "usr" / LIBRARY),
        ({}, tmp_path / "usr2" / LIBRARY),
    ]


def test_places_are_searched_in_order(tmp_path, places):
    """With all of them filled the first wins; with that one taken away, the second, and so on to the last."""
    rows = places_in_order(tmp_path)
    changes = {"environment": {}}
    for change, path in rows:
        lay(path.parent, path.name)
        environment = changes["environment"] | change.get("environment", {})
        changes |= change | {"environment": environment}
    explicit = str(rows[0][1].parent)
    for _, path in rows:
        assert locate(explicit, places(**changes)).path == path
        path.unlink()
        if path == rows[0][1]:
            explicit = None
        if path == rows[1][1]:
            del changes["environment"][LOCATION_VARIABLE]
    with pytest.raises(EngineUnavailable, match="not installed"):
        locate(None, places(**changes))


def test_the_module_goes_before_the_c_library_of_the_same_place(tmp_path, places):
    """The module is MIGraphX's own interface; the library stands in for it."""
    lay(tmp_path / "opt/rocm/lib", MODULE, LIBRARY)
    assert locate(None, places()).kind == "python module"


@pytest.mark.parametrize("library", ["opt/rocm/lib", "usr"])
def test_the_c_library_stands_in_for_a_module_of_another_python(tmp_path, places, library):
    """It is taken from the same place, or from a later one."""
    lay(tmp_path / "opt/rocm/lib", FOREIGN)
    lay(tmp_path / library, LIBRARY)
    assert locate(None, places()).path == tmp_path / library / LIBRARY


def test_the_module_of_this_python_is_taken_among_several(tmp_path, places):
    """ROCm ships one module a Python; other files of that beginning are none."""
    names = ("migraphx.cpython-27-x.so", MODULE, "migraphx.cpython-99-x.so", "migraphx_private.so", "migraphx.py")
    lay(tmp_path / "site", *names)
    assert locate(None, places()).path.name == MODULE


@pytest.mark.parametrize("names", [("migraphx.py",), ("migraphx/__init__.py",), ("migraphx_private.so",)])
def test_other_files_of_that_name_are_no_migraphx(tmp_path, places, names):
    """A folder of sources, a helper library or a script is neither taken nor blamed on another Python."""
    lay(tmp_path / "site", *names)
    with pytest.raises(EngineUnavailable, match="MIGraphX is not installed"):
        locate(None, places())


@pytest.mark.parametrize("names", [(MODULE,), ("__init__.py", MODULE)], ids=["bare", "package"])
def test_a_wheel_with_the_module_in_a_package_folder_is_found(tmp_path, places, names):
    """AMD's wheels put the module into a folder ``migraphx``; its metadata does not make it the placeholder."""
    placeholder(tmp_path / "site")
    lay(tmp_path / "site/migraphx", *names, "lib/libmigraphx_gpu.so.2014000", "libmigraphx.so.2014000")
    found = locate(None, places())
    assert (found.kind, found.path) == ("python module", tmp_path / "site/migraphx" / MODULE)
    assert found.version == "2.14.0"


def test_debians_layout_is_understood(tmp_path, places):
    """The C library lies in the multi-arch folder, all others in ``migraphx/lib`` below."""
    folder = lay(
        tmp_path / "usr",
        "libmigraphx_c.so.3.0",
        "migraphx/lib/libmigraphx.so.2014000.0",
        "migraphx/lib/libmigraphx_ref.so.2014000.0",
        "migraphx/lib/libmigraphx_gpu.so.2014000.0",
    )
    (folder / LIBRARY).symlink_to("libmigraphx_c.so.3.0")
    found = locate(None, places())
    assert (found.path, found.version) == (folder / LIBRARY, "2.14.0")
    assert found.targets == {"ref", "gpu"}


def test_a_link_into_rocm_leads_to_its_targets(tmp_path, places):
    """A module that a site folder only links to is described by the libraries beside the real file."""
    real = lay(tmp_path / "elsewhere/lib", MODULE, "libmigraphx_cpu.so.2013000.0", "libmigraphx.so.2013001.0.60300")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MODULE).symlink_to(real / MODULE)
    found = locate(None, places())
    assert (found.version, found.targets) == ("2.13.1", {"cpu"})


def test_helper_libraries_are_no_targets(tmp_path, places):
    """Only the libraries of targets count, with or without a version."""
    names = ("onnx", "tf", "device", "all_targets", "c", "fpga")
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_ref.so", *(f"libmigraphx_{name}.so.2014000" for name in names))
    assert locate(None, places()).targets == {"ref", "fpga"}


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
def test_the_version_is_read_from_the_librarys_name(tmp_path, places, name, version):
    """The number packs major, minor and patch; other names tell none."""
    lay(tmp_path / "usr", LIBRARY, name)
    assert locate(None, places()).version == version


# ---- the place that was named


@pytest.mark.parametrize(
    ("named", "file"),
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
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_named_place_is_a_folder_a_prefix_or_the_file(tmp_path, places, named, file, way):
    """By option or by variable; the kind follows from the file's name."""
    lay(tmp_path, file)
    place = str(tmp_path / named)
    found = locate(place, places()) if way == "option" else locate(None, places(environment={LOCATION_VARIABLE: place}))
    assert found.path == tmp_path / file
    assert found.kind == ("python module" if file.endswith(SUFFIX) else "c library")


def test_the_option_goes_before_the_variable(tmp_path, places):
    """And neither falls back: what was named is judged, not another one."""
    lay(tmp_path / "a", LIBRARY)
    lay(tmp_path / "b", LIBRARY)
    environment = {LOCATION_VARIABLE: str(tmp_path / "b")}
    assert locate(str(tmp_path / "a"), places(environment=environment)).path.parent == tmp_path / "a"
    with pytest.raises(EngineUnavailable, match=f"no MIGraphX in the place that was named, {tmp_path}/c"):
        locate(str(tmp_path / "c"), places(environment=environment))


def test_a_home_folder_is_expanded(tmp_path, places, monkeypatch):
    """A variable's value is not expanded by the shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    lay(tmp_path / "build", LIBRARY)
    assert locate("~/build", places()).path == tmp_path / "build" / LIBRARY


@pytest.mark.parametrize("named", ["place", f"place/{FOREIGN}"])
def test_a_named_module_of_another_python_is_told(tmp_path, places, named):
    """That there is nothing would be wrong: there is one, for another Python."""
    lay(tmp_path / "place", FOREIGN)
    assert FOREIGN in status("gpu", str(tmp_path / named), places()).missing


@pytest.mark.parametrize("named", ["notes.txt", "libmigraphx_gpu.so", "~nobody-of-that-name/x", "x" * 5000])
def test_a_named_place_that_is_none_is_told(tmp_path, places, named):
    """Another file, somebody's home that is not there, or a name that no file can have."""
    lay(tmp_path, "notes.txt", "libmigraphx_gpu.so")
    place = named if named.startswith("~") else str(tmp_path / named)
    assert "place that was named" in status("gpu", place, places()).missing


# ---- what else may lie about


def test_garbage_in_the_search_path_is_passed_over(tmp_path, places):
    """Programs leave anything in sys.path: files, what is not there, bytes, names that cannot be."""
    file = lay(tmp_path, "archive.zip") / "archive.zip"
    garbage = ("", str(file), str(tmp_path / "gone"), "x" * 5000, "nul\0byte", b"bytes", tmp_path, None)
    environment = {"ROCM_PATH": "", "LD_LIBRARY_PATH": f"{file}:{'x' * 5000}:", LOCATION_VARIABLE: ""}
    found = status("ref", None, places(python_path=garbage, environment=environment))
    assert found.missing == REASONS["absent"][0]
    lay(tmp_path / "usr", LIBRARY)
    assert status("ref", None, places(python_path=garbage, environment=environment)).usable


def test_empty_variables_do_not_mean_the_current_folder(tmp_path, places, monkeypatch):
    """An empty ROCM_PATH or an empty entry of LD_LIBRARY_PATH names no place."""
    lay(tmp_path / "here", LIBRARY, f"lib/{LIBRARY}")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(EngineUnavailable, match="not installed"):
        locate(
            None,
            places(environment={"ROCM_PATH": "", "LD_LIBRARY_PATH": ":", LOCATION_VARIABLE: ""}, python_path=("",)),
        )


def test_links_to_nothing_and_folders_are_no_libraries(tmp_path, places):
    """What an uninstalled package leaves behind is not taken for it."""
    (tmp_path / "usr" / LIBRARY).mkdir(parents=True)
    (tmp_path / "usr/libmigraphx_c.so").symlink_to("libmigraphx_c.so.99")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MODULE).symlink_to("gone.so")
    with pytest.raises(EngineUnavailable, match="not installed"):
        locate(None, places())


def test_a_status_loads_nothing(tmp_path):
    """Neither Python's import nor the dynamic loader is asked, though both a module and a library are there."""
    lay(tmp_path / "site", MODULE)
    lay(tmp_path / "usr", LIBRARY, "libmigraphx_ref.so.2014000")
    script = """
        import sys
        from pathlib import Path
        from fixtures.engines.migraphx.find import Places, locate, status
        seen = []
        sys.addaudithook(lambda event, args: seen.append((event, args)) if event in ("import", "ctypes.dlopen") else 0)
        root = Path(sys.argv[1])
        for path in ((str(root / "site"),), ()):
            places = Places({}, path, (), (root / "usr",))
            assert status("ref", None, places).usable
            print(locate(None, places).kind)
        assert "migraphx" not in sys.modules
        assert not seen, seen
        print("watched", len(seen))
    """
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        cwd=root,
        text=True,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n")[:3] == ["python module", "c library", "watched 0"]
