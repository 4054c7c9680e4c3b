"""The table of engines: names, static facts, and status without loading anything."""

import textwrap

import pytest

from fixtures import hardware, precisions
from fixtures.engines.descriptor import MATRICES
from fixtures.engines.plugins import check
from fixtures.engines.registry import (
    BEST_FIRST,
    OWN,
    OWN_NAMES,
    REFERENCE,
    default_engines,
    engine_status,
    open_engine,
    required_engines,
    target_of,
)
from fixtures.errors import EngineUnavailable, UsageError


@pytest.mark.parametrize("name", ["", "onnxruntime", "onnxruntime:nosuch", "ONNXRUNTIME:cpu", "migraphx:ref\n"])
@pytest.mark.parametrize("action", [target_of, engine_status, open_engine])
def test_unknown_name_is_usage_error_that_lists_the_choices(action, name):
    with pytest.raises(UsageError) as caught:
        action(name)
    assert repr(name) in caught.value.what
    assert all(choice in caught.value.hint for choice in OWN_NAMES)


@pytest.mark.parametrize("name", OWN_NAMES)
@pytest.mark.parametrize("location", [None, "nowhere"])
def test_status_is_usable_or_has_reason_and_hint(name, location):
    status = engine_status(name, location)
    assert status.name == name
    assert status.usable or (status.missing and status.hint)
    assert "\n" not in f"{status.missing}{status.hint}{status.detail}"
    if name == REFERENCE:  # one of the requirements
        assert status.usable
        assert status.detail


@pytest.mark.parametrize("name", BEST_FIRST)
def test_opening_a_missing_engine_raises_what_its_status_says(name):
    status = engine_status(name, "nowhere")
    with pytest.raises(EngineUnavailable) as caught:
        open_engine(name, "nowhere")
    assert (caught.value.where, caught.value.what, caught.value.hint) == (name, status.missing, status.hint)


def test_default_is_the_reference_and_the_best_usable_target(tmp_path):
    """With only the library of ref, that target is chosen; without MIGraphX, the missing gpu target is reported."""
    for name in ("libmigraphx_c.so.3", "libmigraphx_ref.so.2014000"):
        (tmp_path / name).touch()
    assert [status.name for status in default_engines(str(tmp_path))] == [REFERENCE, "migraphx:ref"]
    reference, missing = default_engines(str(tmp_path / "nowhere"))
    assert (reference.name, missing.name, missing.usable) == (REFERENCE, BEST_FIRST[0], False)


def test_rows_of_the_table_are_consistent():
    """Defaults are listed, plug-ins' checks pass, and workloads have precisions of their target."""
    assert {REFERENCE, *BEST_FIRST} <= set(OWN_NAMES)
    for row in OWN:
        check(row, None)
    for target in (target for row in OWN for target in row.targets):
        assert set(target.precisions) <= set(precisions.BY_NAME)
        for workload in (workload for matrix in MATRICES for workload in target.matrix(matrix)):
            assert set(workload.precisions) <= set(target.precisions)
            assert workload.image_size("dm_nfnet_f3") == target.workload.image_size("dm_nfnet_f3")


@pytest.mark.parametrize(
    ("engine", "variant", "pixels"),
    [
        ("migraphx:gpu", "dm_nfnet_f0", 192),
        ("migraphx:gpu", "dm_nfnet_f3", 320),
        ("migraphx:ref", "digits_nfnet", 32),
        ("migraphx:ref", "dm_nfnet_f3", 32),
    ],
)
def test_default_image_size_is_small_on_a_slow_engine(engine, variant, pixels):
    """Other engines use the variant's own size or its train size."""
    size = target_of(engine).workload.image_size(variant)
    assert size == (pixels, pixels)


def test_status_of_all_engines_loads_no_runtime(runner):
    """Collection stays fast and safe: nothing is imported, no library is opened."""
    script = """
        import sys
        from fixtures.engines.registry import OWN_NAMES, engine_status
        opened = []
        sys.addaudithook(lambda event, args: opened.append(args) if event == "ctypes.dlopen" else None)
        for name in OWN_NAMES:
            engine_status(name)
        assert not {"onnxruntime", "migraphx"} & set(sys.modules)
        assert not opened, opened
        print("done")
    """
    done = runner.python("-c", textwrap.dedent(script))
    assert done.out == "done\n"


@pytest.mark.parametrize(
    ("on_bus", "listed", "override", "required"),
    [
        (0, (), "", False),
        (1, (90402,), "", True),
        (1, (100300,), "", True),
        (1, (130000,), "", True),  # newer than the table
        (1, (100306,), "", False),  # integrated in a Ryzen
        (1, (90012,), "", False),
        (2, (110003, 110000), "", True),
        (1, (), "", True),  # no driver says which one
        (2, (100306,), "", True),
        (1, (100306,), "10.3.0", True),
    ],
)
def test_a_gpu_that_rocm_supports_must_be_judged(monkeypatch, on_bus, listed, override, required):
    """Integrated GPUs that it does not support need not be."""
    monkeypatch.setattr(hardware, "amd_gpus", lambda *_: ["0000:03:00.0"] * on_bus)
    monkeypatch.setattr(hardware, "gpu_nodes", lambda *_: [{"gfx_target_version": str(version)} for version in listed])
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", override)
    assert required_engines() == (("migraphx:gpu",) if required else ())
