"""The files in engines: how long a session or a program takes to make, and one run of it."""

import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np
from files import OURS, exports, our_model
from paired import ROOT, in_turns, missing, ratios, told

sys.path.insert(0, str(ROOT))

from fixtures.benchmark.gate import NOT_SLOWER, SLOWER, judge_pairs
from fixtures.benchmark.placement import rest
from fixtures.benchmark.sampling import SECOND, block, typical
from fixtures.benchmark.thresholds import threshold
from fixtures.cache import cache_folder
from fixtures.engines.registry import REFERENCE, engine_info, open_engine
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import model_multiply_adds
from fixtures.programs.program_cache import COMPILED, LOADED, ProgramCache
from fixtures.programs.request import CompileRequest
from fixtures.records import EngineOptions, ModelSpec

LOADS, COMPILES = 5, 3  # times faster
AGAIN, PLAIN = "ours, kept", "ours, weights as they lie in the file"
BLOCK_SECONDS = 0.4
BLOCKS = 8  # a round
LONGEST_RUN = 1.0  # seconds, by the table of workloads


def session(options):
    """ONNX Runtime with its usual optimisation: made anew, and as the suite has it from the second time on."""
    return _both(options, REFERENCE, LOADS, "ONNX Runtime: session of the export")


def compiled(options):
    """MIGraphX."""
    return _both(options, options.engine, COMPILES, f"{options.engine}: program of the export")


def _both(options, name, limit, what):
    files, engine = exports(options.variant, options.image_size), open_engine(name, options.migraphx, cache_folder())
    files = {OURS: our_model(options.variant, options.image_size, mapped=engine.maps_weights), **files}
    shape = (1, 3, options.image_size, options.image_size)
    orders = {side: CompileRequest(engine, path, shape, "fp32", EngineOptions()) for side, path in files.items()}
    ways = {side: order.compile for side, order in orders.items()} | _other_ways(orders[OURS], name)
    found = in_turns({side: _making(had) for side, had in ways.items()}, options.rounds)
    exported = [side for side in files if side != OURS]
    holds = [
        told(f"{what} ({side}) / of {ours}, time", ratios(found[side], found[ours]), limit, least=True)
        for ours in (OURS, AGAIN)
        if ours in found
        for side in exported
    ]
    if AGAIN in found:
        _told_of_ours(found, "made anew / kept, in one process", OURS, AGAIN)
    if PLAIN in found:
        _told_of_ours(found, "without / with the laying out of weights", PLAIN, OURS)
    size = (options.image_size, options.image_size)
    seconds = (
        model_multiply_adds(ModelSpec(options.variant, None, size))
        / engine_info(name).workload.multiply_adds_per_second
    )
    if seconds > LONGEST_RUN:
        missing("a run", f"it would take about {seconds:.0f} s on {name}, name a smaller variant")
        return holds
    made = {side: had() for side, had in ways.items() if side != PLAIN}
    pairs = [(OURS, side) for side in exported] + ([(AGAIN, OURS)] if AGAIN in made else [])
    return _runs(made, pairs, synthetic_images("own cost", shape), engine.name, options.rounds) + holds


def _other_ways(order, name):
    """Ours as it is had the second time, where it is kept; and without what takes ONNX Runtime longest."""
    programs, ways = ProgramCache(cache_folder()), {}
    if engine_info(name).caches_programs:
        program, source = programs.load_or_compile(order)
        program.close()
        if source in {COMPILED, LOADED}:
            ways[AGAIN] = lambda: programs.load_or_compile(order).program
    if name == REFERENCE:
        ways[PLAIN] = replace(order, options=EngineOptions(graph_optimization="extended")).compile
    return ways


def _told_of_ours(found, what, above, below):
    print(f"{f'  ours, {what}, time':<60} {median(ratios(found[above], found[below])):6.3g}")


def _making(had):
    def work():
        start = time.perf_counter()
        program = had()
        seconds = time.perf_counter() - start
        program.close()
        return seconds

    return work


def _runs(programs, pairs, images, name, rounds):
    """Blocks of runs in turns; of a pair the first must not be slower by the gate's own rule. Answers are compared."""
    answers = {}

    def blocks(side):
        program = programs[side]
        feeds = {program.inputs[0].name: images}
        (answers[side],) = program.run(feeds).values()

        def work():
            taken = typical(block(lambda: program.run(feeds), 1, int(BLOCK_SECONDS * SECOND)))
            rest()  # its threads spin beside the next side's else
            return taken

        return work

    sides = {side: blocks(side) for side in programs}
    for work in sides.values():
        work()
    found = in_turns(sides, BLOCKS * rounds)
    outcomes = []
    for one, other in pairs:
        judgement = judge_pairs(found[one], found[other], threshold(name))
        off = np.linalg.norm(answers[other] - answers[one]) / np.linalg.norm(answers[one])
        outcomes.append(judgement.outcome)
        print(f"{name}: a run of {one} against {other}: {judgement}; answers {off:.1e} apart")
    return [{NOT_SLOWER: True, SLOWER: False}.get(outcome) for outcome in outcomes]
