"""Cached programs in runs of pytest and of ort_comparison.py."""

import json
import re

import pytest

from fixtures.plugin.results import PROGRAM_SOURCES, Results
from fixtures.plugin.terminal import program_lines
from fixtures.programs.program_cache import COMPILED, LOADED, NOT_CACHED
from tests.meta.caching_engine import CACHING_PLUGIN
from tests.meta.conftest import SMALL

AGREEMENT = "tests/conformance/test_agreement.py"
ONE = ("--precision", "fp32", "--batch", "1")


@pytest.fixture
def without_programs(tmp_path, runner):
    """Option for a cache with the session's models and no programs."""
    runner.small(AGREEMENT, *ONE)
    place = tmp_path / "cache"
    place.mkdir()
    for path in runner.cache.iterdir():
        if path.name != "programs":
            (place / path.name).symlink_to(path)
    return f"--cache-dir={place}"


def counts(done):
    """(loaded, all) as the summary reports them."""
    return [tuple(map(int, row)) for row in re.findall(r"^(\d) of (\d) from the cache", done.out, re.MULTILINE)]


def test_second_run_loads_programs_and_gives_the_same_verdicts(runner, without_programs):
    """In one process or several; without the cache nothing is loaded."""
    arguments = (AGREEMENT, *ONE, "--batch", "2", without_programs)
    runs = [
        runner.small(*arguments, *more, plugin=CACHING_PLUGIN)
        for more in ((), (), ("-n", "2"), ("--no-program-cache",))
    ]
    assert list(map(counts, runs)) == [[(0, 2)], [(2, 2)], [(2, 2)], []]
    verdicts = [sorted(re.findall(r"^pass .* comparisons$", done.out, re.MULTILINE)) for done in runs]
    assert verdicts == [verdicts[0]] * 4
    assert len(verdicts[0]) == 2


def test_benchmark_of_a_loaded_program_has_the_costs_of_its_compilation(runner, without_programs, tmp_path):
    """It is marked as cached; the facts that baselines compare are the same."""
    rows = []
    for name in ("first", "second"):
        place = tmp_path / f"{name}.json"
        arguments = (*ONE, "--speed-seconds", "0.1", f"--benchmark-json={place}", without_programs)
        runner.small("tests/performance", *arguments, plugin=CACHING_PLUGIN)
        rows.append(json.loads(place.read_text())["benchmarks"][0]["extra_info"])
    first, second = (row["costs"] for row in rows)
    assert (first["cached"], first["load_seconds"]) == (False, None)
    assert (second["cached"], second["load_seconds"] > 0) == (True, True)
    assert first["compile_seconds"] == second["compile_seconds"] > 0
    assert rows[0]["facts"] == rows[1]["facts"]


def test_summary_counts_programs_and_names_those_not_cached():
    """A case that one test compiled and the next one loaded was compiled."""
    not_cached = f"{NOT_CACHED}: full"
    results = Results()
    for rows in ({"a": COMPILED, "b": LOADED}, {"a": LOADED, "c": not_cached}):
        report = pytest.TestReport(
            str(rows), ("x", 0, "x"), {}, "passed", None, "teardown", records=[(PROGRAM_SOURCES, rows)]
        )
        results.pytest_runtest_logreport(report)
    first, second = program_lines(results.program_sources())
    assert first.startswith("1 of 3 ")
    assert second == f"c: {not_cached}"


def test_comparison_command_loads_programs(runner, without_programs):
    words = (*SMALL, "--inputs", "2", without_programs)
    runs = [runner.compare(*words, *more, patch=CACHING_PLUGIN) for more in ((), (), ("--no-program-cache",))]
    assert [re.findall(r"^program +(.*)$", done.out, re.MULTILINE) for done in runs] == [[COMPILED], [LOADED], []]
    answers = [re.findall(r"^ +\d.*$", done.out, re.MULTILINE) for done in runs]
    assert answers == [answers[0]] * 3
    assert len(answers[0]) == 2
