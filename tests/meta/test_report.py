"""Reports are pure functions of saved results: sections, Markdown, page, comparison, another factor."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fixtures.errors import printable
from fixtures.report import compare, summary
from fixtures.report.figures import INK, charts
from fixtures.report.page import REPEATED, html
from fixtures.report.records import (
    ERRED,
    FAILED,
    KNOWN,
    PASSED,
    UNJUDGED,
)
from fixtures.report.rejudge import rejudge, rejudge_run
from fixtures.report.results_file import write_results
from fixtures.report.text import markdown, terminal
from fixtures.run.compare import EMULATED
from fixtures.verdict.verdict import ERROR, NONFINITE, NOT_JUDGED, STRUCTURE, Verdict
from tests.meta.example_run import (
    HOSTILE,
    LITTLE_MEMORY,
    MISSING,
    OUTCOMES,
    TOLERANCE,
    TOO_WIDE,
    case_of,
    example_run,
    faster,
    item,
    latency,
    verdict,
)

REPORT = (Path(__file__).parents[2] / "ort_comparison.py", "report")


@pytest.fixture(scope="module")
def run():
    """A run with every outcome."""
    return example_run()


def section(found, title):
    """The section with a title."""
    return next(one for one in found if one.title.startswith(title))


def test_environment_has_what_a_reader_asks(run):
    """Engines that are there, the machine, what the doctor finds, options, and the command."""
    rows = dict(section(summary.sections(run), summary.ENVIRONMENT).rows)
    assert "migraphx:cpu" not in rows
    assert {"migraphx:gpu": "2.16", "rocm": "7.1.0", "doctor": LITTLE_MEMORY, "--engine": "all"}.items() <= rows.items()
    assert rows["command"] == run.command


def test_matrix_has_each_outcome(run):
    """Precision by batch; a case that does not exist has an empty cell."""
    found = section(summary.sections(run), summary.MATRIX)
    assert found.head == ("precision", *(f"batch {batch}" for batch in OUTCOMES))
    assert found.rows == (
        ("fp16", "90%", "FAIL 200%", "not judged", "ERROR", "xfail 200%"),
        ("fp32", "25%", "25%", "", "", ""),
    )


def test_failures_are_few_lines(run, monkeypatch):
    """One for each case and cause; a comment and a job summary have a limit."""
    rows = section(summary.sections(run), summary.FAILURES).rows
    assert [row[0] for row in rows] == ["FAIL", "ERROR", "xfail", ""]
    assert rows[-1][2] == summary.MORE_FAILURES.format(count=1)
    monkeypatch.setattr(summary, "MOST_FAILURES", 1)
    rows = section(summary.sections(run), summary.FAILURES).rows
    assert [row[2] for row in rows[1:]] == [summary.MORE_FAILURES.format(count=3)]


def test_closest_and_slowest_come_first(run):
    """Only what passed can be close to failing."""
    found = summary.sections(run)
    assert section(found, summary.CLOSEST).rows[0][:2] == ("migraphx:gpu-net-fp16-b1", "90%")
    assert len(section(found, summary.CLOSEST).rows) == 3
    assert section(found, summary.LATENCIES).rows[0][:3] == ("migraphx:gpu-net-fp32", "2", "3.000")


def test_what_was_not_judged_has_its_reason(run):
    """Engines, precisions, cases, and tests of a case of which others were judged."""
    rows = dict(section(summary.sections(run), summary.NOT_JUDGED).rows)
    assert MISSING in rows["migraphx:cpu"]
    assert rows["migraphx:gpu fp8"] == "no fp8 on gfx90a"
    assert rows["migraphx:gpu-net-fp16-b4"] == "operator is not supported"
    assert rows[summary.TESTS.format(count=2, case="migraphx:gpu-net-fp16-b1")] == TOO_WIDE


@pytest.mark.parametrize(
    ("judged", "ended"),
    [
        (Verdict("case", "fp16", TOLERANCE, ""), (PASSED, summary.WORDS[PASSED], "")),
        (Verdict("case", "fp16", TOLERANCE, NOT_JUDGED, (EMULATED,)), (UNJUDGED, UNJUDGED, EMULATED)),
    ],
    ids=["integers", "emulated GPU"],
)
def test_case_without_numbers_is_not_close_to_its_tolerance(run, judged, ended):
    """Outputs that are integers are judged. Those of an emulated GPU are not, so its case has not passed."""
    found = run.items[0]
    record = replace(found.comparisons[0], units=judged.units, verdict=judged)
    only = replace(run, cases=run.cases[:1], items=(replace(found, comparisons=(record,)),))
    (one,) = summary.summarise(only)
    assert (one.outcome, one.cell, one.reason) == ended
    assert summary.CLOSEST not in [row.title for row in summary.sections(only)]


def test_cost_of_quantisation_is_shown(run):
    rows = section(summary.sections(run), summary.QUANTIZATION).rows
    assert rows == (("migraphx:gpu-net-int8-b1", "relative distance 0.1"),)


def test_case_without_a_test_is_not_judged(run):
    """An interrupted run has such cases."""
    (one,) = summary.summarise(replace(run, cases=run.cases[:1], items=()))
    assert (one.outcome, one.reason) == (UNJUDGED, summary.NO_TEST)


def test_terminal_shows_no_control_characters(run):
    lines = "\n".join(terminal(summary.sections(run)))
    assert "\x1b" not in lines
    assert "pytest migraphx:gpu-net-fp16-b2" in lines


def test_markdown_has_tables_of_equal_width(run):
    """Text of others neither ends a cell nor becomes markup."""
    text = markdown("title", summary.sections(run))
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text)


class Page(HTMLParser):
    """Elements, texts, and what would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.loaded, self.links = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note the element."""
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in {"src", "data"} and value]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        """Note the text."""
        self.texts.append(data)


def test_page_loads_nothing_and_runs_nothing(run):
    """``browser/`` tests what it shows, and that it is accessible."""
    page = Page(html(run, faster(run)))
    assert not page.loaded
    assert not {"script", "iframe", "object"} & {*page.tags}
    assert {"facts", REPEATED.format(count=1)} <= {*page.texts}
    assert page.texts.count(printable(HOSTILE)) == 2
    assert {link[0] for link in page.links} <= {"#", "d"}  # anchors, and the empty icon


def test_charts_take_the_colour_of_the_page(run):
    found = charts(run)
    assert [chart.title.split(":")[0] for chart in found] == [
        "Error of each image",
        "Error by block",
        "Latency and throughput",
    ]
    for chart in found:
        assert "currentColor" in chart.svg
        assert INK not in chart.svg


def test_run_compared_with_itself_has_no_changes(run):
    assert {change.kind for change in compare.compare_runs(run, run)} == {compare.SAME}


def test_reader_learns_that_no_latency_was_measured(run):
    """Nothing that became slower does not mean that nothing did."""
    without = replace(run, items=tuple(replace(one, latencies=()) for one in run.items))
    rows = section(compare.sections(without, without), "Changed since").rows
    assert (compare.LATENCY, compare.NOT_MEASURED) in [row[1:3] for row in rows]


def test_changes_are_found(run):
    """Of outcome, error, latency and accuracy; cases that came and went."""
    changed = {
        0: item(run.cases[0], FAILED, 0.05),
        1: item(run.cases[1], PASSED, 0.01),
        2: item(run.cases[1], PASSED, 0.01),
        6: item(run.cases[5], PASSED, 0.03),
        8: replace(run.items[8], latencies=(latency(1, 0.002), latency(4, 0.004))),
        9: replace(run.items[9], accuracy=replace(run.items[9].accuracy, top1=80)),
    }
    items = tuple(changed.get(at, one) for at, one in enumerate(run.items))
    new = case_of("bf16", 1)
    after = replace(run, items=(*items, item(new, PASSED)), cases=(*(c for c in run.cases if c.batch != 16), new))
    found = {(row.kind, row.what, row.name) for row in compare.compare_runs(run, after) if row.kind != compare.SAME}
    assert found == {
        (compare.WORSE, "outcome", "migraphx:gpu-net-fp16-b1"),
        (compare.BETTER, "outcome", "migraphx:gpu-net-fp16-b2"),
        (compare.WORSE, "error", "migraphx:gpu-net-fp32-b1"),
        (compare.WORSE, "latency", "migraphx:gpu-net-fp32 b1"),
        (compare.GONE, "latency", "migraphx:gpu-net-fp32 b2"),
        (compare.NEW, "latency", "migraphx:gpu-net-fp32 b4"),
        (compare.WORSE, "accuracy", "migraphx:gpu-net-fp32-b1"),
        (compare.GONE, "case", "migraphx:gpu-net-fp16-b16"),
        (compare.NEW, "case", "migraphx:gpu-net-bf16-b1"),
    }


def test_other_environment_is_named(run):
    """Latencies of two machines say nothing of the engine."""
    other = replace(run, environment={**run.environment, "rocm": "6.4.0"})
    assert section(compare.sections(other, run), compare.OTHER_ENVIRONMENT).rows == (("rocm", "6.4.0", "7.1.0"),)
    assert section(compare.sections(run, run), compare.OTHER_ENVIRONMENT).rows[0][0] == "none"


@pytest.mark.parametrize(("factor", "failing"), [(4.0, (1,)), (9.0, ()), (1.0, (0, 1))])
def test_factor_decides_again(factor, failing):
    found = rejudge(verdict([0.03, 0.08], failed_check=ERROR), factor)
    assert found.failing_images == failing
    assert found.passed == (not failing)


@pytest.mark.parametrize("check", [STRUCTURE, NONFINITE])
def test_no_factor_excuses_structure_and_nan(check):
    assert rejudge(verdict([0.0], failed_check=check), 100.0).failed_check == check


def test_outcomes_follow_the_factor(run):
    """A looser factor passes what failed by its error, a stricter one fails what passed; errors stay."""
    loose, strict = rejudge_run(run, 10.0), rejudge_run(run, 1.0)
    assert [one.outcome for one in summary.summarise(loose)] == [PASSED, PASSED, UNJUDGED, ERRED, KNOWN, PASSED, PASSED]
    assert [one.outcome for one in summary.summarise(strict)][:2] == [FAILED, FAILED]
    assert summary.summarise(rejudge_run(run, 100.0))[0].outcome == UNJUDGED  # any outputs would pass
    assert ("--factor", "10") in section(summary.sections(loose), summary.ENVIRONMENT).rows


def test_command_writes_and_compares(run, runner, tmp_path):
    """Exit code 0: nothing became worse; 1: something did; 2: no file of results."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_results(first, run)
    write_results(second, replace(run, items=(item(run.cases[0], FAILED, 0.05), *run.items[1:])))
    places = {name: tmp_path / f"out.{name}" for name in ("markdown", "html")}
    done = runner.forked(*REPORT, first, *(word for name in places for word in (f"--{name}", places[name])))
    assert all(str(place) in done.out and place.stat().st_size for place in places.values())
    runner.forked(*REPORT, "compare", first, first)
    runner.forked(*REPORT, "compare", first, second, code=1)
    refused = runner.forked(*REPORT, tmp_path / "none.json", code=2)
    assert refused.out == ""
    assert "none.json" in refused.err
