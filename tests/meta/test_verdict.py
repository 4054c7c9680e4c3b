"""From two sets of outputs to passed or not, and the text that a reader gets."""

import math

import numpy as np
import pytest

from fixtures.precisions import precision
from fixtures.verdict.attribution import attribute
from fixtures.verdict.message import failure_message
from fixtures.verdict.patterns import recognise
from fixtures.verdict.tolerances import MULTIPLE, Tolerance
from fixtures.verdict.verdict import judge

RNG = np.random.default_rng(5)
LOGITS = RNG.standard_normal((32, 1000))
BUDGET = Tolerance("fp32", "fp32", 5 * 2.0**-24)


def verdict(actual, expected=LOGITS, aux=None):
    """Judge an output, or two."""
    more = aux or ({}, {})
    return judge(
        case_id="engine-model-fp32-b32",
        actual={"logits": np.asarray(actual), **more[0]},
        expected={"logits": np.asarray(expected), **more[1]},
        precision=BUDGET.precision,
        tolerance=BUDGET,
    )


def shifted(share, images=slice(None)):
    """Logits with a relative L2 error of ``share`` in some images."""
    noise = RNG.standard_normal(LOGITS.shape)
    noise *= np.linalg.norm(LOGITS, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    result = LOGITS.copy()
    result[images] += share * noise[images]
    return result


@pytest.mark.parametrize(("share", "passed"), [(0.0, True), (0.99, True), (1.01, False), (100, False)])
def test_the_budget_is_the_limit(share, passed):
    """Just below passes, just above fails."""
    found = verdict(shifted(share * BUDGET.relative_error))
    assert found.passed == passed
    assert found.units == pytest.approx(share * BUDGET.units)
    assert found.stage == ("" if passed else "numbers")


def test_a_budget_without_bounds_allows_nothing():
    """Else it would allow anything."""
    found = judge(
        case_id="x",
        actual={"logits": -7 * LOGITS},
        expected={"logits": LOGITS},
        precision="fp32",
        tolerance=Tolerance("fp32", "fp32", math.inf),
    )
    assert found.stage == "numbers"


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_value_that_is_not_finite_is_told_and_nothing_is_made_of_it(value):
    """On one side it is what failed; on both, as a masked class has it, it is no error."""
    actual, masked = LOGITS.copy(), LOGITS.copy()
    actual[-1, -1] = value
    found = verdict(actual)
    assert (found.stage, found.failing_images) == ("nonfinite", (len(LOGITS) - 1,))
    assert found.hints == (f"image {len(LOGITS) - 1} is wrong, the other {len(LOGITS) - 1} of {len(LOGITS)} agree",)
    masked[:, 3] = value
    assert verdict(masked, masked).passed
    found = verdict(np.where(np.arange(1000) == 3, masked, 1.7 * masked), masked)
    assert found.stage == "numbers"
    assert found.failing_images == tuple(range(len(LOGITS)))


def test_exactly_the_budget_passes():
    """A limit is what is allowed."""
    expected = np.zeros((1, 4))
    expected[0, 0] = 1
    actual = expected.copy()
    actual[0, 1] = BUDGET.relative_error
    assert verdict(actual, expected).passed
    actual[0, 1] = np.nextafter(BUDGET.relative_error, 1)
    assert not verdict(actual, expected).passed


def test_one_wrong_image_in_a_batch_fails():
    """An average over the batch would hide it."""
    actual = shifted(1.5 * BUDGET.relative_error, images=[17])
    found = verdict(actual)
    assert np.linalg.norm(actual - LOGITS) / np.linalg.norm(LOGITS) < BUDGET.relative_error / 3
    assert not found.passed
    assert found.failing_images == (17,)
    assert found.worst.image == 17


def test_the_worst_output_decides():
    """A second output that is off is not hidden by a first that is fine."""
    found = verdict(LOGITS, aux=({"aux": shifted(1.0)}, {"aux": LOGITS}))
    assert (found.passed, found.output) == (False, "aux")


def test_images_that_fail_in_any_output_are_counted():
    """In whichever way: numbers in one output, another answer or NaN in a second one."""
    sure = np.tile([1.0, 0.0, 0.0], (32, 1))
    turned, missing = sure.copy(), sure.copy()
    turned[5], missing[6, 2] = [0.0, 1.0, 0.0], np.nan
    actual = shifted(2 * BUDGET.relative_error, images=[3])
    assert verdict(actual, aux=({"aux": turned}, {"aux": sure})).failing_images == (3, 5)
    assert verdict(actual, aux=({"aux": missing}, {"aux": sure})).failing_images == (3, 6)


def test_the_output_with_another_answer_is_shown():
    """Though a second one, whose answer is right, has the larger error."""
    near = np.zeros((32, 1000))
    near[:, 0], near[:, 1] = 1, 1 - 2 * BUDGET.floor
    turned = near.copy()
    turned[4, :2] = near[4, 1::-1]
    aux = shifted(0.99 * BUDGET.relative_error)
    found = verdict(turned, near, aux=({"aux": aux}, {"aux": LOGITS}))
    assert (found.stage, found.output, found.failing_images) == ("decision", "logits", (4,))


def test_structure_goes_before_everything():
    """A wrong shape is not held against numbers."""
    found = verdict(np.full((32, 999), np.nan))
    assert (found.stage, found.images, found.worst) == ("structure", (), None)
    assert math.isnan(found.units)
    assert "has shape [32, 999] instead of [32, 1000]" in failure_message(found, reference="the reference")


def test_nan_goes_before_numbers():
    """One NaN fails, however small its weight in a norm."""
    actual = LOGITS.copy()
    actual[3, 14] = np.nan
    found = verdict(actual)
    assert (found.passed, found.stage) == (False, "nonfinite")
    assert "1 NaN and 0 Inf, expected 0 NaN and 0 Inf; first at [3, 14]" in found.problems[0]


def test_nan_where_nan_was_expected_passes():
    """If the rest agrees."""
    expected = LOGITS.copy()
    expected[3, 14] = np.nan
    assert verdict(expected, expected).passed
    actual = expected.copy()
    actual[3, 15] += 1
    assert not verdict(actual, expected).passed


def test_a_budget_is_a_multiple_of_the_floor():
    """The same multiple at every precision, and a reason that names the floor."""
    for name in ("fp32", "fp16", "bf16"):
        row = Tolerance(name, f"{name} cut", 0.01)
        assert row.relative_error == MULTIPLE * 0.01
        assert row.units == pytest.approx(row.relative_error / precision(name).unit_roundoff)
        assert f"{MULTIPLE:g} times the floor: the same graph in {name} cut arithmetic is" in row.why


@pytest.mark.parametrize(
    ("engine", "reference", "sensitivity", "words"),
    [
        (1.0, 0.0, 0.0, "the engine (from the float64 oracle: engine "),
        (0.0, 1.0, 0.0, "ONNX Runtime (from"),
        (1.0, 1.0, 0.0, "both, the engine and ONNX Runtime (from"),
        (0.0, 0.0, 0.0, "neither alone"),
        (1.0, 0.0, 1.0, "the input: moving each pixel"),
    ],
)
def test_the_side_at_fault_is_named(engine, reference, sensitivity, words):
    """Each side's verdict against the oracle decides; an input that nobody can compute is nobody's fault."""
    sides = {"engine": verdict(shifted(engine)), "reference": verdict(shifted(reference))}
    assert attribute(**sides, sensitivity=sensitivity).startswith(words)


def test_blame_says_what_an_engine_did_instead_of_numbers():
    """A wrong shape, NaN."""
    good = verdict(LOGITS)
    text = attribute(engine=verdict(LOGITS[:, 1:]), reference=good, sensitivity=0.0)
    assert text.startswith("the engine")
    assert "has shape [32, 999]" in text
    assert "engine NaN or Inf, " in attribute(engine=verdict(LOGITS * np.nan), reference=good, sensitivity=0.0)


def test_a_message_has_its_parts_in_order():
    """Case, got against allowed, worst values, hints, whose fault, where, how to repeat, what is saved."""
    found = verdict(np.roll(LOGITS, 1, axis=0))
    text = failure_message(
        found, reference="ONNX Runtime at fp32", fault="engine", block="stages.1.0", command="pytest x", saved="x.npz"
    )
    parts = [
        "engine-model-fp32-b32: disagrees with ONNX Runtime at fp32",
        "image",
        "got     allowed",
        "error in u",
        "relative L2 error",
        "largest |error|",
        "1 - cosine",
        "top-1",
        "worst values:",
        "index",
        "it looks like: image 0 got the answer of image 31",
        "at fault:",
        "first wrong block:",
        "see it again:",
        "saved:",
    ]
    at = [text.index(part) for part in parts]
    assert at == sorted(at)
    assert max(map(len, text.splitlines())) <= 120
    assert "at fault" not in failure_message(found, reference="x")


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (lambda x: x[[1, 0, *range(2, 32)]], "image 0 got the answer of image 1: rows of the batch are mixed up"),
        (lambda x: np.roll(x, 1, axis=0), "image 0 got the answer of image 31"),
        (lambda x: x * 0, "images 0, 1, 2, 3, 4, 5, ... are all zeros: never written?"),
        (lambda x: np.where(np.arange(32)[:, None] == 4, 0, x), "image 4 is all zeros"),
        (lambda x: np.where(np.arange(32)[:, None] == 4, np.nan, x), "image 4 is NaN throughout"),
        (lambda x: np.repeat(x[:1], 32, axis=0), "every image got the same answer"),
        (lambda x: x * 1.7, "image 0 is 1.7 times what was expected"),
        (lambda x: x + (np.arange(1000) == 7), "only 1 of 1000 values of image 0 are off"),
        (lambda x: np.where(np.arange(32)[:, None] == 9, x + 1, x), "image 9 is wrong, the other 31 of 32 agree"),
    ],
)
def test_faults_that_have_a_face(fault, hint):
    """Are called by name."""
    assert any(hint in text for text in recognise(actual=fault(LOGITS), expected=LOGITS, allowed=1e-5))


@pytest.mark.parametrize("allowed", [1e-6, 1e-2])
def test_what_looks_like_nothing_known_has_no_hint(allowed):
    """Noise and unrelated numbers are not called mixed-up rows or a wrong scale."""
    assert recognise(actual=LOGITS, expected=LOGITS, allowed=allowed) == []
    assert recognise(actual=shifted(3 * allowed), expected=LOGITS, allowed=allowed) == []
    assert recognise(actual=RNG.standard_normal(LOGITS.shape), expected=LOGITS, allowed=allowed) == []


@pytest.mark.parametrize("factor", [1.0001, 1.00001])
def test_a_factor_that_is_nearly_one_is_told_with_its_digits(factor):
    """And only where it explains the error: noise is no gain."""
    (hint,) = recognise(actual=factor * LOGITS, expected=LOGITS, allowed=1e-7)
    assert hint.startswith(f"image 0 is {factor} times what was expected")
    assert recognise(actual=np.float64(np.float16(LOGITS)), expected=LOGITS, allowed=1e-7) == []


def close_race(margin, values=1000):
    """One image whose first two answers lie ``margin`` of the norm apart, and the same with the two exchanged."""
    expected = np.zeros((1, values))
    expected[0, :3] = [1.0, 1.0 - margin * math.sqrt(2), 0.0]
    actual = expected.copy()
    actual[0, :2] = expected[0, [1, 0]]
    return actual, expected


@pytest.mark.parametrize(("floors", "passed"), [(0.9, True), (1.8, False)])
def test_another_answer_is_excused_within_the_floor_only(floors, passed):
    """Errors of one floor move a difference of two logits by sqrt(2) floors at most; ten share more of it each."""
    actual, expected = close_race(floors * math.sqrt(2) * BUDGET.floor)
    assert verdict(*close_race(floors * math.sqrt(2) * BUDGET.floor, values=10)).passed
    found = verdict(actual, expected)
    assert found.worst.relative_l2 < BUDGET.relative_error
    assert found.passed == passed
    if not passed:
        assert found.stage == "decision"
        assert found.failing_images == (0,)
        text = failure_message(found, reference="the float64 oracle")
        assert "decision: image 0: top-1 is 1 instead of 0, whose margin" in text
        assert "of the norm is more than rounding explains" in text


def test_an_image_with_a_higher_floor_of_its_own_is_not_accused():
    """Its neighbours still are."""
    actual = shifted(3 * BUDGET.relative_error, images=[4, 9])
    own = [0.0] * len(LOGITS)
    own[4] = 4 * BUDGET.floor
    found = judge(
        case_id="case",
        actual={"logits": actual},
        expected={"logits": LOGITS},
        precision="fp32",
        tolerance=Tolerance("fp32", "fp32", BUDGET.floor, own=tuple(own)),
    )
    assert found.failing_images == (9,)
    assert found.worst.image == 9
    assert found.allowed_units == pytest.approx(BUDGET.units)
