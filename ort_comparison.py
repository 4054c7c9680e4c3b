#!/usr/bin/env python3
"""Compare MIGraphX with ONNX Runtime from a shell; ``--help`` lists the options.

Instead of options: ``doctor`` checks the machine, ``operators`` lists what can be judged, ``report`` shows results.

Exit code 0: they agree; 1: they differ, or the engine failed; 2: not judged, and the last line says what to do;
130: Ctrl-C; 143: SIGTERM.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

COMMANDS = ("doctor", "operators", "report")
ROOT = Path(__file__).resolve().parent
NOT_JUDGED, INTERRUPTED = 2, 130
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison, or what the first word names; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] and words[0] in COMMANDS:
            command: int = import_module(f"fixtures.cli.{words[0]}").main(words[1:])
            sys.stdout.flush()
            return command
        from fixtures.cli import comparison
    except ImportError as error:
        print(f"a package is missing: {error} -> pip install -r {ROOT / 'requirements_nfnet.txt'}", file=sys.stderr)
        return NOT_JUDGED
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_JUDGED
    except KeyboardInterrupt:  # importing takes longest
        return INTERRUPTED
    return comparison.main(words)


if __name__ == "__main__":
    sys.exit(main())
