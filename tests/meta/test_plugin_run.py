"""A run of the suite: header, cases, summary, failures and exit codes."""

import itertools
import math
import re

import numpy as np
import pytest

from fixtures.options import PYTEST, options_of
from fixtures.report.records import ComparisonRecord as Comparison
from fixtures.report.records import worst_of
from fixtures.report.results_file import read_results
from fixtures.verdict.attribution import ENGINE
from fixtures.verdict.message import DISAGREES, FAULTY_SIDE, FIRST_WRONG_BLOCK, REPRODUCE, message_line
from fixtures.verdict.patterns import PERMUTED
from tests.meta.faulty_comparison import PRINT_THREADS, fault

CONFORMANCE = "tests/conformance"
AGREEMENT = f"{CONFORMANCE}/test_agreement.py"
FP32 = ("--precision", "fp32", "--explain", "never")  # test_localize_run.py has runs that localise
SWAPPED = fault("results = {name: array[::-1].copy() for name, array in results.items()}")
KNOWN = """
from fixtures.verdict import known_failures
known_failures.KNOWN_FAILURES = (known_failures.KnownFailure(
    "onnxruntime:*", {stage!r}, "rows are mixed up", "issue 7", batch=2),)
"""


@pytest.fixture(scope="module")
def good(runner):
    """Two precisions, two batches."""
    return runner.small(CONFORMANCE, "--precision", "fp32,fp16", "--batch", "1", "--batch", "2", "-v")


def test_clean_engine_passes(good):
    """Nothing is skipped; tests of other networks and precisions are deselected. A file gets no colours."""
    assert re.search(r"\b50 passed, 4 deselected in", good.out), good.out
    assert "\x1b" not in good.text


def test_header_shows_engines_cases_and_cache(good):
    """Engine with version, models, precisions, batches, seed, cache."""
    assert re.search(r"^  onnxruntime:cpu: \d+\.\d+", good.out, re.MULTILINE)
    assert "    test_nfnet at 64 | fp32, fp16 | batch 1, 2\n" in good.out
    assert re.search(r"^cases: 4, seed 0$", good.out, re.MULTILINE)
    assert re.search(r"^cache: /", good.out, re.MULTILINE)


def test_case_ids_are_stable(good):
    """Users put them into -k, scripts and saved benchmarks. A batch of one has no rows to permute."""
    ids = re.findall(r"test_agreement\.py::test_logits_match_onnxruntime\[(\S+)\] PASSED", good.out)
    assert sorted(ids) == [
        "onnxruntime:cpu-test_nfnet@64-fp16-b1",
        "onnxruntime:cpu-test_nfnet@64-fp16-b2",
        "onnxruntime:cpu-test_nfnet@64-fp32-b1",
        "onnxruntime:cpu-test_nfnet@64-fp32-b2",
    ]
    assert set(re.findall(r"test_batching\.py::\w+\[\S+-b(\d+)\]", good.out)) == {"2"}


def test_summary_has_one_line_per_case(good):
    """With the worst error, the tolerance and the number of comparisons."""
    lines = re.findall(r"^pass (\S+) +([\d.]+) of [\d.]+ (?:u|floors)  (\d+) comparisons$", good.out, re.MULTILINE)
    counts = {case[-7:]: int(count) for case, _, count in lines}
    assert len(lines) == 4
    assert counts == {"fp32-b1": 14, "fp32-b2": 12, "fp16-b1": 14, "fp16-b2": 12}
    assert all(0 < float(units) < 48 for _, units, _ in lines)


WORST_FIRST = {
    "failed without numbers": (math.nan, 40.0, False),
    "failed by its numbers": (80.0, 40.0, False),
    "failed by its top-1": (1.0, 40.0, False),
    "passed, close to the tolerance": (30.0, 40.0, True),
    "passed": (2.0, 40.0, True),
}


def test_summary_line_shows_the_worst_comparison():
    """In any order: failed first, then those without numbers, then the error closest to the tolerance."""
    comparisons = [Comparison("engine", "case", *row) for row in WORST_FIRST.values()]
    for order in itertools.permutations(comparisons, 3):
        assert worst_of(order) is min(order, key=comparisons.index)


def test_model_with_a_fixed_batch_is_judged_at_that_batch(runner, classifier):
    """No test uses another batch, and the user need not give it."""
    engine = ("--engine", "onnxruntime:cpu", "--precision", "fp32")
    done = runner.pytest(CONFORMANCE, *engine, f"--model={classifier}")
    assert " | fp32 | batch 4\n" in done.out
    assert re.search(r"\b\d+ passed, 4 deselected in", done.out)
    refused = runner.pytest(AGREEMENT, *engine, f"--model={classifier}", "--batch", "2", code=1)
    assert "takes batches of 4 only, not 2 -> use --batch 4, or export it with a dynamic batch" in refused.out


def test_half_precision_file_is_judged_at_fp16(runner, half):
    """Against both references; other precisions that the user names are skipped."""
    words = (AGREEMENT, "--engine", "onnxruntime:cpu", f"--model={half}", "--batch", "1")
    assert " | fp16 | batch 1\n" in runner.pytest(*words, "--collect-only").out
    named = runner.pytest(*words, "--precision", "fp32,fp16,int8", code=6)
    assert re.search(r"\b2 passed, 4 skipped in", named.out)
    assert "runs int8 from a file in fp32, and this model's file is in fp16 -> use --precision fp16" in named.out


@pytest.fixture(scope="module")
def bad(runner):
    """A run with an engine that permutes the rows of a batch."""
    return runner.small(CONFORMANCE, *FP32, "--batch", "2", plugin=SWAPPED, code=1)


def test_permuted_rows_fail_with_their_pattern(bad):
    """The message has the case, the pattern and the faulty side; the summary has a FAIL line."""
    assert FIRST_WRONG_BLOCK not in bad.out
    assert f"onnxruntime:cpu-test_nfnet@64-fp32-b2: {DISAGREES} ONNX Runtime at fp32" in bad.out
    assert PERMUTED.format(image=0, other=1) in bad.out
    assert message_line(FAULTY_SIDE, ENGINE) in bad.out
    assert re.search(r"^FAIL onnxruntime:cpu-test_nfnet@64-fp32-b2 ", bad.out, re.MULTILINE)
    assert "Traceback" not in bad.text


def test_case_with_failed_tests_has_not_passed(runner):
    plugin = """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    yield
    if "repeating" in pyfuncitem.nodeid or "b3" in pyfuncitem.nodeid: pytest.fail("boom")
@pytest.hookimpl
def pytest_runtest_setup(item):
    if "b4" in item.nodeid: pytest.fail("bang")
"""
    places = (f"{CONFORMANCE}/test_repeating.py", AGREEMENT)
    done = runner.small(*places, *FP32, "--batch", "1,3,4", plugin=plugin, code=1)
    verdicts = dict(re.findall(r"^FAIL onnxruntime:cpu-test_nfnet@64-fp32-b(\d) .*  (.*)$", done.out, re.MULTILINE))
    counts = {"1": (3, 1), "3": (3, 3), "4": (0, 3)}  # batch: comparisons, failed tests
    assert verdicts == {batch: f"{made} comparisons, tests failed: {bad}" for batch, (made, bad) in counts.items()}


def test_reproduce_command_fails_in_the_same_way(bad, runner):
    (command,) = set(re.findall(rf"{REPRODUCE}: +(pytest .*test_logits_match_onnxruntime.*)$", bad.out, re.MULTILINE))
    words = command.split()
    assert words[0] == "pytest"
    again = runner.pytest(*words[1:], plugin=SWAPPED, code=1)
    assert "1 failed" in again.out


def test_images_and_outputs_of_a_failure_are_saved(bad):
    paths = re.findall(r"saved: +(\S+logits_match_onnxruntime\S*\.npz)$", bad.out, re.MULTILINE)
    with np.load(paths[0]) as saved:
        assert set(saved) == {"images", "actual/logits", "expected/logits"}
        assert saved["images"].shape == (2, 3, 64, 64)
        assert np.allclose(saved["actual/logits"], saved["expected/logits"][::-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("faulty", "stage", "words"),
    [
        (SWAPPED, "run", "(rows are mixed up, issue 7), but failed at 'accuracy'"),
        ("", "accuracy", "remove its row from the known failures"),
    ],
)
def test_known_failures_are_strict(runner, faulty, stage, words):
    """The run fails if they fail at another stage than that of their row, or pass."""
    done = runner.small(AGREEMENT, *FP32, "--batch", "2", plugin=KNOWN.format(stage=stage) + faulty, code=1)
    assert words in done.out


def test_xdist_workers_count_together(runner, tmp_path):
    """Summary, exit code and file of results include the comparisons of every worker."""
    results = tmp_path / "results.json"
    places = (AGREEMENT, f"{CONFORMANCE}/test_repeating.py")
    done = runner.small(*places, "--precision", "fp32", "--batch", "1,2", "-n", "2", f"--results={results}")
    run = read_results(results)
    assert {row.case for row in run.comparisons} == {case.id for case in run.cases}
    assert len(run.items) == int(re.findall(r"(\d+) passed", done.out)[-1])
    assert len(re.findall(r"^pass ", done.out, re.MULTILINE)) == 2


def test_threads_apply_to_both_sides(runner):
    """The reference uses no more threads than given."""
    words = ("--precision", "fp32", "--batch", "1", "--threads", "3", "-s")
    done = runner.small(AGREEMENT, "-k", "onnxruntime", *words, plugin=PRINT_THREADS)
    assert sorted(re.findall(r"session (\w+ \d+)$", done.out, re.MULTILINE)) == ["all 3", "disable 3"]


def test_collecting_loads_no_engine(runner):
    plugin = (
        "import sys\n"
        "def pytest_collection_finish(session):\n"
        "    print('LOADED', sorted({'onnxruntime', 'migraphx', 'torch', 'scipy.stats'} & set(sys.modules)))\n"
    )
    done = runner.pytest("--collect-only", "-q", plugin=plugin, fresh=True)
    assert "LOADED []" in done.out


def test_help_shows_every_option(runner):
    done = runner.pytest("--help")
    group = " ".join(done.out.partition("NFNet on MIGraphX:")[2].split())
    for option in options_of(PYTEST):
        assert option.name in group
        assert "(default: " in option.help or option.default in {None, False}
