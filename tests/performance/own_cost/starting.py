"""What happens before the first test: import and collection."""

import sys
import tempfile

from paired import in_turns, ratios, told, wall

ALLOWED = 1.0  # seconds
COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]


def start(options):
    """Collection of the whole suite, beside that of one empty test by the same pytest with the same plugins."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/test_nothing.py"
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("def test_nothing(): pass\n")
        sides = {
            "suite": lambda: wall(COLLECT, HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE=""),
            "nothing": lambda: wall([*COLLECT, "-c", "/dev/null", path], PYTHONDONTWRITEBYTECODE=""),
        }
        in_turns(sides, 1)  # bytecode is written
        found = in_turns(sides, options.rounds)
    print(
        f"{'collecting the suite / collecting an empty test':<60} {min(ratios(found['suite'], found['nothing'])):6.3g}"
    )
    own = [one - other for one, other in zip(found["suite"], found["nothing"], strict=True)]
    told("of the second allowed: imports and collection of the suite", own, ALLOWED, least=False)
    return [told("the same with the start of Python and pytest", found["suite"], ALLOWED, least=False)]
