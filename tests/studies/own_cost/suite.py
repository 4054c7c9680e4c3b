"""The default suite on this machine, twice: where its time goes, and what the second run is spared."""

import json
import sys
import tempfile
from pathlib import Path

from accounting import INSIDE, RESULT
from paired import HERE, told, wall

SHARE, SECOND = 0.85, 1 / 3


def suite(options):
    """The first run with an empty cache, the second with what the first has left."""
    runs, holds = [], []
    with tempfile.TemporaryDirectory() as cache:
        for title in ("first", "second"):
            runs.append(_run(Path(cache), options.words))
            seconds, accounts = runs[-1]
            print(f"{title} run")
            for kind, part in sorted(accounts.items(), key=lambda row: -row[1]):
                print(f"  {kind:<58} {part / seconds:7.1%}")
            share = sum(accounts.get(kind, 0.0) for kind in INSIDE) / seconds
            holds.append(told(f"{title} run: inside engines and oracle / wall time", [share], SHARE, least=True))
    (one, before), (two, after) = runs
    holds.append(told("second run / first run, wall time", [two / one], SECOND, least=False))
    for title, kinds in {"engines and oracle": INSIDE, "all else": {*before, *after} - {*INSIDE}}.items():
        above, below = (sum(accounts.get(kind, 0.0) for kind in kinds) for accounts in (after, before))
        print(f"{f'  {title} alone, second / first run':<60} {above / max(below, 1e-9):6.3g}")
    return holds


def _run(cache, words):
    """Wall time of the process, and the accounts, with what is outside pytest's session among them."""
    result = cache / "accounts.json"
    seconds = wall(
        [sys.executable, "-m", "pytest", "-p", "accounting", "-p", "no:cacheprovider", "-q", *words],
        NFNET_CACHE_DIR=str(cache / "cache"),
        PYTHONPATH=str(HERE),
        HF_HUB_OFFLINE="1",
        **{RESULT: str(result)},
    )
    found = json.loads(result.read_text())
    accounts = found["spent"]
    accounts["pytest: start and collection"] += seconds - found["whole"]
    accounts["the rest: tests, fixtures, reports"] = seconds - sum(accounts.values())
    return seconds, accounts
