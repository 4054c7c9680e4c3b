"""The files in engines: how long a session or a program takes to make, and one run of it."""

import sys
import time

import numpy as np
from files import OURS, exports, our_model
from paired import ROOT, in_turns, missing, ratios, told

sys.path.insert(0, str(ROOT))

from fixtures.defaults import workload
from fixtures.engines.registry import REFERENCE, open_engine
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import model_multiply_adds
from fixtures.records import EngineOptions, ModelSpec
from fixtures.speed.gate import NOT_SLOWER, SLOWER, judge_pairs
from fixtures.speed.thresholds import threshold

LOADS, COMPILES = 5, 3  # times faster
BLOCK_SECONDS = 0.4
BLOCKS = 8  # a round
LONGEST_RUN = 1.0  # seconds, by the table of workloads


def session(options):
    """ONNX Runtime with its usual optimisation."""
    return _both(options, REFERENCE, LOADS, "ONNX Runtime: session of the export")


def compiled(options):
    """MIGraphX."""
    return _both(options, options.engine, COMPILES, f"{options.engine}: program of the export")


def _both(options, name, limit, what):
    files, engine = exports(options.variant, options.image_size), open_engine(name, options.migraphx)
    files = {OURS: our_model(options.variant, options.image_size, mapped=engine.maps_weights), **files}
    shape = (1, 3, options.image_size, options.image_size)

    def prepared(path):
        return engine.prepare(path, shape=shape, precision="fp32", options=EngineOptions())

    def making(path):
        def work():
            start = time.perf_counter()
            program = prepared(path)
            seconds = time.perf_counter() - start
            program.close()
            return seconds

        return work

    found = in_turns({side: making(path) for side, path in files.items()}, options.rounds)
    holds = [told(f"{what} ({side}) / of ours, time", ratios(seconds, found[OURS]), limit, least=True)
             for side, seconds in found.items() if side != OURS]  # fmt: skip
    size = (options.image_size, options.image_size)
    seconds = model_multiply_adds(ModelSpec(options.variant, None, size)) / workload(name).multiply_adds_per_second
    if seconds > LONGEST_RUN:
        missing("a run", f"it would take about {seconds:.0f} s on {name}, name a smaller variant")
        return holds
    programs = {side: prepared(path) for side, path in files.items()}
    return _runs(programs, synthetic_images("own cost", shape), engine.name, options.rounds) + holds


def _runs(programs, images, name, rounds):
    """Blocks of runs in turns; ours must not be the slower one by the gate's own rule. Answers are held together."""
    answers = {}

    def block(side):
        program = programs[side]
        feeds = {program.inputs[0].name: images}

        def work():
            taken, begun = [], time.perf_counter()
            while not taken or time.perf_counter() - begun < BLOCK_SECONDS:
                start = time.perf_counter()
                (answers[side],) = program.run(feeds).values()
                taken.append(time.perf_counter() - start)
            return float(np.quantile(taken, 0.1))

        return work

    sides = {side: block(side) for side in programs}
    for work in sides.values():
        work()
    found = in_turns(sides, BLOCKS * rounds)
    outcomes = []
    for side in (side for side in found if side != OURS):
        judgement = judge_pairs(found[OURS], found[side], threshold(name))
        off = np.linalg.norm(answers[side] - answers[OURS]) / np.linalg.norm(answers[OURS])
        outcomes.append(judgement.outcome)
        print(f"{name}: a run of ours against the export ({side}): {judgement}; answers {off:.1e} apart")
    return [{NOT_SLOWER: True, SLOWER: False}.get(outcome) for outcome in outcomes]
