"""The end of a run: what is lost, skipped or wrongly reported at any layer is found, and the exit code says so."""

import re
from importlib import util

import pytest

from fixtures.plugin import audit
from fixtures.report.results_file import read_results
from tests.meta.faulty_comparison import fault

AGREEMENT = "tests/conformance/test_agreement.py"
FP32 = ("--precision", "fp32", "--batch", "2", "--explain", "never")
NOTHING_COMPARED = 6
WRONG = fault("results['logits'] += 1")
REPORTED_AS_PASSED = """
import pytest
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome = "passed"
    return report
"""
FLOAT64 = r"\S+::test_logits_match_the_float64_reference\S+ "
FINDINGS = {  # fault -> plugin, what is found
    "a test that is never started": (
        "def pytest_runtest_protocol(item): return 'float64' in item.nodeid or None",
        FLOAT64 + audit.NO_OUTCOME,
    ),
    "a test without a report of its call": (
        "import pytest\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_protocol(item):\n"
        "    if 'float64' in item.nodeid:\n"
        "        from _pytest.runner import call_and_report\n"
        "        call_and_report(item, 'setup')\n"
        "        call_and_report(item, 'teardown', nextitem=None)\n"
        "        return True",
        FLOAT64 + audit.NO_OUTCOME,
    ),
    "a test that was run twice": (
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    from _pytest.runner import runtestprotocol\n"
        "    runtestprotocol(item, nextitem=item)",
        FLOAT64 + audit.TWICE,
    ),
    "a report of a test that was not selected": (
        "import pytest\n@pytest.hookimpl(wrapper=True)\n"
        "def pytest_runtest_makereport(item):\n"
        "    report = yield\n"
        "    report.nodeid = report.nodeid.replace('reference[', 'reference[x')\n"
        "    return report",
        FLOAT64 + audit.NOT_SELECTED,
    ),
    "a comparison that does nothing": (
        "def pytest_collection_finish():\n"
        "    from fixtures.plugin.agreement import Agreement\n"
        "    Agreement.__call__ = lambda *_, **__: None",
        FLOAT64 + audit.NO_COMPARISON,
    ),
    "a failure that is reported as passed": (WRONG + REPORTED_AS_PASSED, FLOAT64 + audit.HIDDEN),
    "a failure that is not judged after all": (
        "def pytest_collection_finish():\n"
        "    from fixtures.errors import EvaluationError\n"
        "    from fixtures.plugin import agreement\n"
        "    def attribute(*_, **__): raise EvaluationError('a bug')\n"
        "    agreement.attribute = attribute\n" + WRONG,
        r"\S+::test_logits_match_onnxruntime\S+ " + audit.HIDDEN,
    ),
    "a verdict that contradicts its numbers": (
        "def pytest_collection_finish():\n"
        "    from fixtures.plugin import agreement\n"
        "    record = agreement.ComparisonRecord\n"
        "    agreement.ComparisonRecord = lambda *words, **more: record(*words[:-1], passed=True, **more)\n"
        + WRONG
        + REPORTED_AS_PASSED,
        FLOAT64 + audit.OUT_OF_TOLERANCE,
    ),
    "a skipped precision that was named": (
        "import pytest\ndef pytest_runtest_setup(item):\n    if 'fp16' in item.nodeid: pytest.skip('no time')",
        audit.NOT_COMPARED.format(option="--precision", value="fp16"),
    ),
    "a JUnit file without its failures": (
        WRONG + "from _pytest import junitxml\njunitxml._NodeReporter.append_failure = lambda *_: None",
        audit.JUNIT.format(there=0, outcome="failed", here=2),
    ),
    "a results file without a test": (
        "def pytest_collection_finish():\n"
        "    from dataclasses import replace\n"
        "    from fixtures.plugin import results_file\n"
        "    write = results_file.write_results\n"
        "    results_file.write_results = lambda path, run: write(path, replace(run, items=run.items[::2]))",
        FLOAT64 + audit.RESULTS_DIFFER,
    ),
    "a results file that is damaged": (
        "def pytest_collection_finish():\n"
        "    from fixtures.plugin import results_file\n"
        "    write = lambda path, run: (path.parent.mkdir(parents=True), path.write_text('{'))\n"
        "    results_file.write_results = write",
        audit.NO_RESULTS.format(reason=".*"),
    ),
    "a JUnit file that is damaged": (
        "from pathlib import Path\nfrom _pytest.junitxml import LogXML\n"
        "LogXML.pytest_sessionfinish = lambda self: Path(self.logfile).write_text('<testsuites>')",
        audit.NO_JUNIT.format(reason="no element found"),
    ),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_audit_finds(runner, tmp_path, name):
    """With one line that names the test; the exit code is not success."""
    plugin, finding = FINDINGS[name]
    more = ("--precision", "fp16") if "fp16" in plugin else ()
    done = runner.small(AGREEMENT, *FP32, *more, f"--junit-xml={tmp_path / 'junit.xml'}", plugin=plugin, code=None)
    assert done.code == (1 if re.search("^=+ [12] failed", done.out, re.MULTILINE) else NOTHING_COMPARED), done.text
    assert re.search(rf"^ERROR: {finding}", done.out, re.MULTILINE), done.text


@pytest.mark.skipif(util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_killed_process_of_xdist_is_found(runner, tmp_path):
    """Other tests of its case passed, but the case ended in an error, also in the results file; JUnit counts it."""
    kill = "import os\ndef pytest_runtest_call(item):\n    if 'float64' in item.nodeid: os.kill(os.getpid(), 9)"
    saved = tmp_path / "results.json"
    words = (AGREEMENT, *FP32, "-n", "1", f"--junit-xml={tmp_path / 'junit.xml'}", f"--results={saved}")
    done = runner.small(*words, plugin=kill, code=1)
    (finding,) = re.findall(r"^ERROR: (.*)$", done.out, re.MULTILINE)
    assert re.fullmatch(FLOAT64 + audit.ENDED, finding)
    assert re.search(r"^ERROR onnxruntime:cpu-test_nfnet@64-fp32-b2 ", done.out, re.MULTILINE), done.text
    assert {item.case for item in read_results(saved).items} == {"onnxruntime:cpu-test_nfnet@64-fp32-b2"}


def test_each_case_has_one_outcome(runner):
    """Passed, failed, not judged, or ended in an error of the suite; the summary counts them."""
    plugin = """
import pytest
def pytest_runtest_setup(item):
    if "b4" in item.nodeid: raise ValueError("a bug")
    if "b3" in item.nodeid: pytest.skip("no time")
""" + fault("if len(results['logits']) == 2: results['logits'] += 1")
    done = runner.small(AGREEMENT, *FP32, "--batch", "1,3,4", plugin=plugin, code=1)
    outcomes = dict(
        re.findall(r"^(pass|FAIL|ERROR|NOT JUDGED) onnxruntime:cpu-test_nfnet@64-fp32-b(\d)", done.out, re.MULTILINE)
    )
    assert outcomes == {"pass": "1", "FAIL": "2", "NOT JUDGED": "3", "ERROR": "4"}
    assert "\n4 cases: 1 passed, 1 not judged, 1 ended in an error, 1 failed\n" in done.out


def test_tests_that_an_early_end_left_out_are_counted(runner):
    """They are no finding: the run says that it ended early."""
    done = runner.small(AGREEMENT, *FP32, "-x", plugin=WRONG, code=1)
    assert f"\n{audit.NOT_RUN.format(count=1)}\n" in done.out
    assert audit.NO_OUTCOME not in done.out
