"""What a run selects: names that select nothing say so, and counts are true."""

import re

import pytest

from fixtures.plugin.main import META_TESTS_TIME
from fixtures.plugin.selection import LIST_TESTS, NOT_RUN, OTHER_CASE

ROOT_TESTS = re.compile(r"^(tests/(?:conformance|performance|meta)/\S+?)::", re.MULTILINE)
AGREEMENT = "tests/conformance/test_agreement.py"
NO_TESTS, USAGE = 5, 4


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((AGREEMENT, "-k", "nothing"), LIST_TESTS),
        (("tests/conformance/test_batching.py", "--batch", "1"), "they need --batch 2 or more"),
    ],
)
def test_run_that_selects_no_test_says_why(runner, words, hint):
    """Nothing is skipped under a name such as [NOTSET]."""
    done = runner.small(*words, "--precision", "fp32", code=NO_TESTS)
    collected = re.search(r"collected (\d+) items / \1 deselected", done.out)[1]
    assert f"ERROR: {NOT_RUN.format(collected=collected, deselected=collected, hint=hint)}" in done.out


def test_tests_that_fit_no_case_are_deselected_with_what_they_need(runner):
    places = ("tests/conformance", "tests/performance")
    done = runner.small(*places, "--batch", "1", "--precision", "fp32", "-k", "test_flat")
    collected, deselected, selected = map(
        int, re.search(r"collected (\d+) items / (\d+) deselected / (\d+) selected", done.out).groups()
    )
    assert collected - deselected == selected == 5
    needs = dict(re.findall(r"^deselected, (\w+): \d+, needs (.*)$", done.out, re.MULTILINE))
    assert {"batched", "calibrated", "cached", "labelled", "device", "ab_comparison"} == set(needs)
    assert "NOTSET" not in done.text
    assert "empty parameter set" not in done.text


def test_node_id_of_another_case_names_the_options_that_it_needs(runner):
    case = "onnxruntime:cpu-test_nfnet@64-fp32-b3"
    node = f"{AGREEMENT}::test_logits_match_onnxruntime[{case}]"
    done = runner.pytest(node, code=USAGE)
    (options,) = re.findall(re.escape(OTHER_CASE.format(case=case, options="")) + "(.*)", done.err)
    runner.pytest(node, *options.split())


def test_path_of_the_project_selects_what_plain_pytest_selects(runner, pytestconfig, tmp_path):
    """From any folder; tests/ adds the meta tests, and says how long they take."""
    words = ("--collect-only", "-q", "--engine", "onnxruntime:cpu", "--precision", "fp32", "--batch", "1")
    root = pytestconfig.rootpath
    plain = runner.pytest(*words)
    assert set(ROOT_TESTS.findall(plain.out)) >= {AGREEMENT, "tests/performance/test_latency.py"}
    assert "tests/meta" not in plain.out
    for done in (runner.pytest(*words, root, cwd=tmp_path), runner.pytest(*words, ".")):
        assert ROOT_TESTS.findall(done.out) == ROOT_TESTS.findall(plain.out)
    assert META_TESTS_TIME in runner.pytest("tests", "--ignore-glob=*/test_*", code=NO_TESTS).out
