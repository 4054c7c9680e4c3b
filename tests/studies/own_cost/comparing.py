"""Comparing two configurations of ONNX Runtime on ten inputs: whole processes, from their start to their end."""

import sys
import tempfile

from files import our_model
from paired import HERE, ROOT, NotMeasured, in_turns, missing, output, ratios, told, wall

sys.path.insert(0, str(ROOT))

from fixtures.engines.onnxruntime.engine import physical_cores

INPUTS = 10
AS_LONG = 1.05
POLYGRAPHY = "import sys; from polygraphy.tools import main; sys.exit(main())"  # the package has no __main__


def compare(options):
    """ort_comparison.py beside a bare script with the same two sessions, and beside Polygraphy.

    As it is used, with a session that was kept the time before, and with both made anew.
    """
    variant, size = options.variant, options.image_size
    model = our_model(variant, size)
    ours = [
        sys.executable,
        ROOT / "ort_comparison.py",
        "--engine",
        "onnxruntime:cpu",
        f"--model={model}",
        "--inputs",
        INPUTS,
        "--image-size",
        size,
    ]
    bare = [sys.executable, HERE / "bare.py", model, size, INPUTS, physical_cores()]
    polygraphy = [
        options.polygraphy,
        "-c",
        POLYGRAPHY,
        "run",
        model,
        "--onnxrt",
        "--onnxrt",
        "--iterations",
        INPUTS,
        "--input-shapes",
        f"inputs:[1,3,{size},{size}]",
    ]
    with tempfile.TemporaryDirectory() as cache:
        first = {"bare": lambda: wall(bare), "first": lambda: wall(ours, NFNET_CACHE_DIR=cache)}
        cold = in_turns(first, 1)
        anew = [*ours, "--no-program-cache"]
        sides = {
            "ours": lambda: wall(ours, NFNET_CACHE_DIR=cache),
            "anew": lambda: wall(anew, NFNET_CACHE_DIR=cache),
            "bare": lambda: wall(bare),
        }
        if _has(options.polygraphy):
            sides["polygraphy"] = lambda: wall(polygraphy)
        found = in_turns(sides, options.rounds)
    holds = [told("comparison / bare script, wall time", ratios(found["ours"], found["bare"]), AS_LONG, least=False)]
    pairs = ratios(found["anew"], found["bare"])
    holds.append(told("  the same with all sessions made anew", pairs, AS_LONG, least=False))
    if "polygraphy" in found:
        pairs = ratios(found["ours"], found["polygraphy"])
        holds.append(told("comparison / polygraphy run, wall time", pairs, 1.0, least=False))
    else:
        holds.append(missing("polygraphy", f"{options.polygraphy} has none (name a Python that has with --polygraphy)"))
    extra = ratios(cold["first"], cold["bare"])[0]
    print(f"{'  the first comparison of a model, which computes its floor':<60} {extra:6.3g}")
    return holds


def _has(python):
    """True where that Python can run Polygraphy on ONNX Runtime."""
    try:
        output([python, "-c", "import polygraphy, onnxruntime"])
    except (NotMeasured, OSError):
        return False
    return True
