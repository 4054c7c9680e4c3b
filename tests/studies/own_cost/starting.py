"""What happens before the first test: import and collection."""

import sys
import tempfile
from pathlib import Path

from paired import in_turns, ratios, told, wall

ALLOWED = 1.0  # seconds
COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]


def start(options):
    """Collection of the whole suite, beside that of one empty test by the same pytest with the same plugins."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_nothing.py"
        path.write_text("def test_nothing(): pass\n", encoding="ascii")
        sides = {
            "suite": lambda: wall(COLLECT, HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE=""),
            "nothing": lambda: wall([*COLLECT, "-c", "/dev/null", path], PYTHONDONTWRITEBYTECODE=""),
        }
        in_turns(sides, 1)  # bytecode is written
        found = in_turns(sides, options.rounds)
    whole = ratios(found["suite"], found["nothing"])
    print(f"{'  with the start of Python and pytest / that of an empty test':<60} {min(whole):6.3g}")
    own = [one - other for one, other in zip(found["suite"], found["nothing"], strict=True)]
    return [told("imports and collection, of the second allowed", own, ALLOWED, least=False)]
