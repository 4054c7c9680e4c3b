"""The HTML report in a headless Chromium: it loads nothing, is accessible, and answers what its reader asks."""

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from fixtures.cache import cache_folder
from fixtures.report.page import html
from fixtures.report.results_file import read_results
from tests.meta.example_run import example_run, faster
from tests.meta.faulty_comparison import fault

NAMED = "NFNET_BROWSER"  # a Chromium that must be used
AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-component-update", "--disable-sync"]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
FOCUSABLE = "a, summary, [tabindex='0']"
VISIBLE = f"""() => [...document.querySelectorAll("{FOCUSABLE}")].filter(one => one.checkVisibility()).length"""
FOCUSED = f"""() => {{
    const one = document.activeElement, style = getComputedStyle(one);
    return [[...document.querySelectorAll("{FOCUSABLE}")].indexOf(one), style.outlineStyle];
}}"""


def chromium():
    """The program that $NFNET_BROWSER names, or one of the path."""
    return os.environ.get(NAMED) or shutil.which("chromium") or shutil.which("chromium-headless-shell")


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    there = {"playwright": find_spec("playwright"), "Chromium": chromium(), "axe-core": AXE.is_file()}
    if missing := [name for name, found in there.items() if not found]:
        end = pytest.fail if NAMED in os.environ else pytest.skip
        end(f"not found: {', '.join(missing)} -> tests/meta/browser/README.md")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  not a requirement

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(browser, runner, tmp_path_factory):
    """Two pages: of an example that has everything and became slower, and of a real run with a fault."""
    del browser  # not made where it is missing
    folder = tmp_path_factory.mktemp("pages")
    tests = ("tests/conformance/test_agreement.py", "tests/conformance/test_blocks.py")
    words = (*tests, "--precision", "fp16", "--batch", "1,2", f"--results={folder / 'real.json'}")
    runner.small(
        *words,
        plugin=fault("if len(results['logits']) > 1: results['logits'][1] *= 1.5"),
        code=1,
    )
    example = example_run()
    pages = {"example": html(example, faster(example)), "real": html(read_results(folder / "real.json"))}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture
def show(browser, files):
    """A function that opens a page. At the end there must have been no request and no message in the console."""
    contexts, seen = [], []

    def opened(name, scheme="light", size="desktop"):
        contexts.append(browser.new_context(color_scheme=scheme, viewport=SIZES[size], offline=True))
        page = contexts[-1].new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(files[name].as_uri())
        return page

    yield opened
    loaded = [text for text in seen if text not in {path.as_uri() for path in files.values()}]
    for context in contexts:
        context.close()
    assert not loaded


@pytest.fixture
def page(show):
    """The example page, which compares with the run before."""
    return show("example")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["example", "real"])
def test_page_is_accessible_and_fits(show, name, scheme, size):
    """Nothing that axe-core finds, and no horizontal scrolling; with a screenshot for people."""
    page = show(name, scheme, size)
    folder = cache_folder() / "screenshots"
    page.screenshot(path=folder / f"{name}-{scheme}-{size}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({preload: false})")
    assert found["passes"]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []


@pytest.mark.parametrize("name", ["example", "real"])
def test_keyboard_reaches_everything(show, name):
    """In the order of the page, with a visible focus; Enter opens what is closed."""
    page = show(name)
    expected = page.evaluate(VISIBLE)
    reached = []
    for _ in range(expected):
        page.keyboard.press("Tab")
        place, outline = page.evaluate(FOCUSED)
        assert outline == "solid"
        reached.append(place)
    assert reached == sorted(set(reached))
    assert min(reached) >= 0
    page.locator("details:not([open]) > summary").last.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").last.get_by_text("pytest").is_visible()


def table(page, heading):
    """The cells of the rows of the section with a heading."""
    rows = page.locator("section", has=page.get_by_role("heading", name=heading)).get_by_role("row")
    return [row.get_by_role("cell").all_inner_texts() for row in rows.all()[1:]]


def test_reader_learns_which_cases_are_close_to_failing(page):
    assert table(page, "Closest")[0][:2] == ["migraphx:gpu-net-fp16-b1", "90%"]
    row = page.get_by_role("region", name="Matrix of migraphx:gpu net").get_by_role("row").nth(1)
    assert row.get_by_role("rowheader").inner_text() == "fp16"
    assert row.get_by_role("cell").first.inner_text() == "90%"


def test_reader_learns_the_gpu_and_the_versions(page):
    facts = dict(table(page, "Environment"))
    assert facts["gpus"].startswith("gfx942")
    assert (facts["gpu_driver"], facts["rocm"], facts["migraphx:gpu"]) == ("6.14", "7.1.0", "2.16")


def test_reader_learns_what_became_slower(page):
    assert page.get_by_role("heading", level=2).first.inner_text().startswith("Changed since")
    slower = [row for row in table(page, "Changed since") if row[:2] == ["worse", "latency"]]
    assert slower[0][2:] == ["migraphx:gpu-net-fp32 b1", "0.500 ms", "1.000 ms (+100%, noise ±5%)"]


def test_reader_learns_how_to_repeat_a_case(page):
    """Of any case in the list of commands, and of a failure where it is shown."""
    commands = page.locator("section", has=page.get_by_role("heading", name="Commands"))
    case = commands.get_by_role("group").filter(has_text="migraphx:gpu-net-fp32-b2")
    case.locator("summary").click()
    assert case.locator("pre").inner_text() == "pytest migraphx:gpu-net-fp32-b2"
    failure = page.locator("section", has=page.get_by_role("heading", name="Failures")).get_by_role("group").first
    assert failure.get_by_text(re.compile("^pytest migraphx:gpu-net-fp16-b2$")).is_visible()


def test_reader_learns_what_the_bug_report_says(show):
    """Of a real run: the machine, the table of blocks and the script; the model and the data are not on the page."""
    page = show("real", size="phone")
    report = page.get_by_role("group").filter(has_text="Bug report").last
    report.locator("summary").click()
    text = report.inner_text()
    assert all(word in text for word in ("python:", "WRONG", "onnxruntime.InferenceSession", "data.npz ("))


def test_missing_browser_fails_where_it_is_named(runner):
    """CI never skips these tests in silence."""
    runner.pytest(__file__, "-k", "slower", env={NAMED: "/nowhere/chromium"}, code=1)
