"""Which cases a run has by default, and how many programs it compiles for them."""

import re
from dataclasses import replace

import pytest

from fixtures.engines.registry import target_of
from fixtures.options import PYTEST, options_of
from fixtures.plugin import cases
from fixtures.plugin.cases import describe, make_plan, smallest_cases
from fixtures.records import Case, EngineStatus, ModelSpec
from fixtures.settings import Settings
from fixtures.weight_sources import SEEDED
from tests.meta.caching_engine import CACHING_PLUGIN

SMALL, LARGE = (ModelSpec("digits_nfnet", None, (size, size)) for size in (32, 64))


@pytest.mark.parametrize(
    ("engine", "sizes"),
    [
        ("migraphx:gpu", (4, 10, 60)),
        ("onnxruntime:migraphx", (4, 4, 24)),
        ("onnxruntime:cpu", (4, 12, 12)),
        ("migraphx:ref", (4, 5, 5)),
    ],
)
def test_default_matrix_of_a_gpu_is_a_part_of_the_full_one(engine, sizes):
    """Other engines are faster, so both are the same."""
    info = target_of(engine)
    workloads = [info.matrix(name) for name in ("smoke", "default", "full")]
    assert tuple(sum(len(w.models) * len(w.batches) * len(w.precisions) for w in rows) for rows in workloads) == sizes


def planned(tmp_path, monkeypatch, lacking, missing=None, **given):
    """Plan a run on a GPU that lacks these precisions, with some options."""
    status = EngineStatus("migraphx:gpu", missing=missing, not_supported=dict.fromkeys(lacking, "no unit"))
    monkeypatch.setattr(cases, "engine_status", lambda *_: status)
    options = {option.dest: () if option.many is not None else option.default for option in options_of(PYTEST)}
    options |= {"engine": ("migraphx:gpu",), "weights": SEEDED, "cache_dir": str(tmp_path), "may_fetch": False}
    return make_plan(Settings(**options | given, named_engines={"migraphx:gpu"}), {})


@pytest.mark.parametrize(
    ("given", "lacking", "count"),
    [
        ({}, (), 10),
        ({"matrix": "full"}, (), 60),
        ({"matrix": "smoke"}, (), 4),
        ({}, ("fp8",), 8),
        ({"precision": ("bf16",)}, (), 4),
        ({"variant": ("digits_nfnet",)}, ("bf16", "fp8"), 6),
        ({"batch": (8,)}, (), 5),
    ],
)
def test_options_replace_parts_of_the_matrix(tmp_path, monkeypatch, given, lacking, count):
    """Each model at each precision of the option; a case that several parts have is one."""
    plan = planned(tmp_path, monkeypatch, lacking, **given)
    assert len(plan.cases) == len(set(plan.cases)) == count
    assert not {case.precision for case in plan.cases}.intersection(lacking)


def test_missing_engine_is_reported_before_the_precisions_of_its_gpu(tmp_path, monkeypatch):
    """Without a GPU nothing is known of them."""
    assert planned(tmp_path, monkeypatch, ("bf16",), missing="no GPU", precision=("bf16",)).cases
    with pytest.raises(pytest.UsageError, match="migraphx:gpu does not support bf16: no unit -> leave bf16 out"):
        planned(tmp_path, monkeypatch, ("bf16",), precision=("bf16",))


def test_smallest_case_has_the_fewest_pixels_of_its_precision():
    """Of each engine and options; the first one where several are as small."""
    case = Case("migraphx:gpu", LARGE, "fp16", 1)
    smaller, fp32, other = (
        replace(case, model=SMALL, batch=2),
        replace(case, precision="fp32", batch=8),
        replace(case, engine="migraphx:ref"),
    )
    assert set(smallest_cases([case, replace(case, batch=2), smaller, fp32, other])) == {smaller, fp32, other}


def test_header_lists_models_with_the_same_cases_together():
    specs = [SMALL, LARGE, ModelSpec("dm_nfnet_f0", None, (192, 192))]
    rows = zip(specs, [("fp32", "fp16"), ("fp32", "fp16"), ("bf16",)], strict=True)
    planned = [Case("migraphx:gpu", spec, name, batch) for spec, names in rows for name in names for batch in (1, 16)]
    assert describe(tuple(planned)) == [
        "digits_nfnet at 32, digits_nfnet at 64 | fp32, fp16 | batch 1, 16",
        "dm_nfnet_f0 at 192 | bf16 | batch 1, 16",
    ]
    assert describe(()) == []


def compiled(done):
    """(cases, programs, compiled programs) of a run."""
    cases = int(re.search(r"^cases: (\d+)", done.out, re.MULTILINE)[1])
    loaded, programs = map(int, re.search(r"^(\d+) of (\d+) from the cache", done.out, re.MULTILINE).groups())
    return cases, programs, programs - loaded


def test_each_program_is_compiled_once(runner, tmp_path):
    """One for each case and one with exposed tensors; with a full cache one of each precision, to compare."""
    words = ("tests/conformance", "--precision", "fp32", "--batch", "1,2", f"--cache-dir={tmp_path}")
    first, second = (runner.small(*words, plugin=CACHING_PLUGIN) for _ in range(2))
    assert compiled(first) == (2, 3, 3)
    assert compiled(second) == (2, 4, 1)
