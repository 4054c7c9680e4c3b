"""Judge every ONNX file of a folder: python tests/studies/judge_models.py FOLDER [OPTIONS of ort_comparison.py]

Prints the exit code, the largest error and the last line of each, and counts.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "ort_comparison.py"
MEANINGS = {0: "agree", 1: "differ", 2: "not judged"}
ROW = re.compile(r"^ +\d+ +(\S+) +\S+ +\d+ ", re.MULTILINE)


def main(folder, options):
    """Return whether none differs."""
    codes = Counter()
    for path in sorted(folder.glob("*.onnx")):
        command = [sys.executable, str(SCRIPT), f"--model={path}", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        largest = max(map(float, ROW.findall(done.stdout)), default=float("nan"))
        print(f"{done.returncode} {path.stem:<46} {largest:>8.3g} u  {last}", flush=True)
        codes[done.returncode] += 1
    print(", ".join(f"{MEANINGS.get(code, code)}: {count}" for code, count in sorted(codes.items())))
    return codes[1] == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    known, others = parser.parse_known_args()
    sys.exit(not main(known.folder, others))
