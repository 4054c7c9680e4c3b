"""Engines by name: which names there are, and what is known of each without loading it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fixtures.engines import registry
from fixtures.engines.onnxruntime.placement import fallen_back
from fixtures.engines.registry import BEST_FIRST, KNOWN, REFERENCE, default_engines, engine_status, open_engine
from fixtures.errors import EngineUnavailable, UsageError

WEIRD = [
    "",
    ":",
    "cpu",
    "onnxruntime",
    "migraphx",
    "migraphx:",
    ":cpu",
    "onnxruntime:cpu:x",
    "ONNXRUNTIME:cpu",
    "onnxruntime: cpu",
    " onnxruntime:cpu",
    "migraphx:ref\n",
    "migraphx:../x",
    "openvino:cpu",
    "all",
    "onnxruntime:nosuch",
    "onnxruntime:cpuexecutionprovider",
    "migraphx:nosuch",
]


@pytest.mark.parametrize("name", WEIRD)
@pytest.mark.parametrize("action", [engine_status, open_engine])
def test_a_name_that_is_none_is_refused_with_the_legal_ones(action, name):
    """One line that shows the name and all that may be chosen."""
    with pytest.raises(UsageError) as caught:
        action(name)
    assert str(caught.value) == f"unknown engine {name!r} -> choose from {', '.join(KNOWN)}"


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("place", [None, "nowhere"])
def test_every_known_engine_has_a_status(name, place):
    """Usable, or with the reason and the hint; its name is the one that was asked for."""
    status = engine_status(name, place)
    assert status.name == name
    assert status.usable or (status.missing and status.hint)
    assert status.usable == (status.missing is None)
    assert "\n" not in f"{status.missing}{status.hint}{status.detail}"


def test_the_reference_is_usable_and_says_its_build():
    """ONNX Runtime is one of the suite's requirements."""
    status = engine_status(REFERENCE)
    assert status.usable
    assert status.detail


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("migraphx:")])
def test_an_engine_that_is_missing_is_not_opened(name):
    """Opening it says what its status says."""
    status = engine_status(name, "nowhere")
    with pytest.raises(EngineUnavailable) as caught:
        open_engine(name, "nowhere")
    assert (caught.value.where, caught.value.what, caught.value.hint) == (name, status.missing, status.hint)


def test_the_default_is_the_reference_and_the_best_target(tmp_path):
    """With the reference target's library only, that target is chosen; with nothing, the GPU's absence is told."""
    for name in ("libmigraphx_c.so.3", "libmigraphx_ref.so.2014000"):
        (tmp_path / name).touch()
    assert [status.name for status in default_engines(str(tmp_path))] == [REFERENCE, "migraphx:ref"]
    reference, missing = default_engines(str(tmp_path / "nowhere"))
    assert (reference.name, missing.name, missing.usable) == (REFERENCE, BEST_FIRST[0], False)


def test_the_engines_of_the_defaults_are_known():
    """Names stand in one table."""
    assert {REFERENCE, *BEST_FIRST} <= set(KNOWN)
    assert {name.partition(":")[0] for name in KNOWN} == set(registry.FAMILIES)


def test_asking_for_every_status_loads_no_engine():
    """Collection stays fast and safe: no runtime is imported and no library opened."""
    script = """
        import sys
        from fixtures.engines.registry import KNOWN, engine_status
        opened = []
        sys.addaudithook(lambda event, args: opened.append(args) if event == "ctypes.dlopen" else None)
        for name in KNOWN:
            engine_status(name)
        assert not {"onnxruntime", "migraphx"} & set(sys.modules)
        assert not opened, opened
        print("done")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr


def test_copies_between_devices_are_no_fall_back():
    """Only nodes of the model that another provider took count, each once."""
    events = """[
        {"cat": "Session", "name": "model_run"},
        {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Conv", "provider": "Own"}},
        {"cat": "Node", "name": "b_kernel_time", "args": {"op_name": "Relu", "provider": "Other"}},
        {"cat": "Node", "name": "b_kernel_time", "args": {"op_name": "Relu", "provider": "Other"}},
        {"cat": "Node", "name": "m_kernel_time", "args": {"op_name": "MemcpyToHost", "provider": "Other"}}
    ]"""

    def run(profile):
        profile.with_name(f"{profile.name}_today.json").write_text(events, encoding="utf-8")

    assert fallen_back(run, "Own") == ["b (Relu) on Other"]
