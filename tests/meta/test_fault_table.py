"""The README's table of faults is the one that the tests make; ``python -m tests.meta.test_fault_table`` writes it.

Each fault is tried by the test that is named beside it, which fails unless the fault ends as the table says.
"""

from pathlib import Path

from tests.meta import test_audit, test_migraphx_crash, test_worker, test_worker_run
from tests.meta.bad_files import ERRORS, damaged

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- faults: written by test_fault_table.py -->", "<!-- end of faults -->"


def table():
    """Return the table in Markdown: a row for each group of faults, with how they end."""
    endings = {
        kind: [name for name, (_, error, *_) in test_worker.ENDINGS.items() if error.__name__ == kind]
        for kind in ("RunError", "CompileError", "CrashError")
    }
    files = [name for name, _ in damaged()]
    cut = sum(name.startswith("truncated") for name in files)
    crash = "the case failed with the stage and the signal"
    rows = [
        ("`test_worker.py`", [*endings["RunError"], *endings["CompileError"]], crash),
        ("`test_worker.py`", endings["CrashError"], "the case ended in an error: it proves nothing about the engine"),
        ("`test_migraphx_crash.py`", [*test_migraphx_crash.CRASHES], crash),
        ("`test_worker_run.py`", [*test_worker_run.SIGNALS], "the run ends within two seconds, its results are saved"),
        ("`test_audit.py`", [*test_audit.FINDINGS], "the audit names the test; the exit code is 1 or 6"),
        ("`test_bad_files.py`", [*ERRORS], "an error of one line"),
        ("`test_bad_files.py`", [f"{cut} truncated files"], "an error of one line"),
        ("`test_bad_files.py`", [f"{len(files) - cut} flipped bits"], "an error of one line, or both sides agree"),
    ]
    lines = ["| Tried by | Faults | How each ends |", "|---|---|---|"]
    lines += [f"| {test} | {', '.join(names)} | {ending} |" for test, names, ending in rows]
    count = sum(len(names) for _, names, _ in rows[:-2]) + len(files)
    return "\n".join([*lines, "", f"{count} faults. No run ended, and no other result was lost."])


def written(text):
    """Return the README with the table of these tests."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def test_table_of_the_readme_has_every_fault():
    text = README.read_text(encoding="utf-8")
    assert BEGIN in text
    assert text == written(text)


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
