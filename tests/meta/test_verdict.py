"""The verdict on two sets of outputs, its attribution, its hints and its message."""

import math

import numpy as np
import pytest

from fixtures.verdict import attribution, message, patterns
from fixtures.verdict.attribution import Attribution, attribute_mismatch
from fixtures.verdict.message import failure_message
from fixtures.verdict.patterns import recognise
from fixtures.verdict.tolerances import Tolerance
from fixtures.verdict.verdict import ERROR, NONFINITE, STRUCTURE, TOP1, compare_outputs

RNG = np.random.default_rng(5)
IMAGES, CLASSES = 32, 1000
LOGITS = RNG.standard_normal((IMAGES, CLASSES))
TOLERANCE = Tolerance("fp32", "fp32", 5 * 2.0**-24)


def verdict(actual, expected=LOGITS, aux=({}, {}), tolerance=TOLERANCE):
    """Judge one output, or also the outputs ``aux`` (actual, expected)."""
    return compare_outputs(
        case_id="engine-model-fp32-b32",
        actual={"logits": np.asarray(actual), **aux[0]},
        expected={"logits": np.asarray(expected), **aux[1]},
        precision="fp32",
        tolerance=tolerance,
    )


def with_error(relative, images=slice(None)):
    """Logits with a relative L2 error in some images."""
    noise = RNG.standard_normal(LOGITS.shape)
    noise *= np.linalg.norm(LOGITS, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    result = LOGITS.copy()
    result[images] += relative * noise[images]
    return result


def only(image, changed, other=LOGITS):
    """``changed`` for one image, ``other`` for the rest."""
    return np.where(np.arange(len(other))[:, None] == image, changed, other)


@pytest.mark.parametrize(("ratio", "check"), [(0.0, ""), (0.99, ""), (1.01, ERROR), (100, ERROR)])
def test_verdict_fails_above_the_tolerance(ratio, check):
    """Just below passes, just above fails; the error is reported in units of u."""
    found = verdict(with_error(ratio * TOLERANCE.relative_error))
    assert (found.passed, found.failed_check) == (not check, check)
    assert found.units == pytest.approx(ratio * TOLERANCE.units)


def test_infinite_tolerance_allows_nothing():
    """Otherwise it would allow anything."""
    assert verdict(-7 * LOGITS, tolerance=Tolerance("fp32", "fp32", math.inf)).failed_check == ERROR


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_nonfinite_value_fails_unless_both_sides_have_it(value):
    """As a masked class has it; the other values are still compared."""
    last = IMAGES - 1
    actual = LOGITS.copy()
    actual[last, -1] = value
    found = verdict(actual)
    assert (found.failed_check, found.failing_images) == (NONFINITE, (last,))
    assert found.problems[0].endswith(f"first at [{last}, {CLASSES - 1}]")
    assert found.hints == (patterns.SOME_IMAGES.format(images=f"image {last} is", others=last, count=IMAGES),)
    masked = LOGITS.copy()
    masked[:, 3] = value
    assert verdict(masked, masked).passed
    found = verdict(np.where(np.arange(CLASSES) == 3, masked, 1.7 * masked), masked)
    assert (found.failed_check, found.failing_images) == (ERROR, tuple(range(IMAGES)))


def test_one_wrong_image_of_a_batch_fails_although_the_average_is_within_the_tolerance():
    """Each image has its own verdict."""
    actual = with_error(1.5 * TOLERANCE.relative_error, images=[17])
    found = verdict(actual)
    assert np.linalg.norm(actual - LOGITS) / np.linalg.norm(LOGITS) < TOLERANCE.relative_error / 3
    assert (found.passed, found.failing_images, found.worst.image) == (False, (17,), 17)


def test_worst_output_decides():
    found = verdict(LOGITS, aux=({"aux": with_error(1.0)}, {"aux": LOGITS}))
    assert (found.passed, found.output) == (False, "aux")


def test_failing_images_are_counted_over_all_outputs_and_checks():
    expected = np.tile([1.0, 0.0, 0.0], (IMAGES, 1))
    flipped, nan = only(5, [0.0, 1.0, 0.0], expected), expected.copy()
    nan[6, 2] = np.nan
    actual = with_error(2 * TOLERANCE.relative_error, images=[3])
    assert verdict(actual, aux=({"aux": flipped}, {"aux": expected})).failing_images == (3, 5)
    assert verdict(actual, aux=({"aux": nan}, {"aux": expected})).failing_images == (3, 6)


def test_output_with_a_flip_decides_although_another_has_the_larger_error():
    expected = np.zeros((IMAGES, CLASSES))
    expected[:, 0], expected[:, 1] = 1, 1 - 2 * TOLERANCE.noise_floor
    flipped = expected.copy()
    flipped[4, :2] = expected[4, 1::-1]
    aux = with_error(0.99 * TOLERANCE.relative_error)
    found = verdict(flipped, expected, aux=({"aux": aux}, {"aux": LOGITS}))
    assert (found.failed_check, found.output, found.failing_images) == (TOP1, "logits", (4,))


def test_structure_is_checked_before_values():
    found = verdict(np.full((IMAGES, CLASSES - 1), np.nan))
    assert (found.failed_check, found.images, found.worst) == (STRUCTURE, (), None)
    assert math.isnan(found.units)
    assert found.problems[0] in failure_message(found, reference="the reference")


def close_top_two(margin, values=CLASSES):
    """One image whose top two differ by ``margin`` of the norm, and the same with both exchanged."""
    expected = np.zeros((1, values))
    expected[0, :2] = [1.0, 1.0 - margin * math.sqrt(2)]
    actual = expected.copy()
    actual[0, :2] = expected[0, [1, 0]]
    return actual, expected


@pytest.mark.parametrize(("floors", "check"), [(0.9, ""), (1.8, TOP1)])
def test_flip_passes_only_within_the_noise_floor(floors, check):
    """Errors of one noise floor change a difference of two logits by at most sqrt(2) floors."""
    margin = floors * math.sqrt(2) * TOLERANCE.noise_floor
    assert verdict(*close_top_two(margin, values=10)).passed  # ten values: each has a larger share of the error
    found = verdict(*close_top_two(margin))
    assert found.worst.relative_l2 < TOLERANCE.relative_error
    assert (found.failed_check, found.failing_images) == (check, (0,) if check else ())
    assert len(found.problems) == len(found.failing_images)


def test_image_with_a_higher_noise_floor_has_a_higher_tolerance():
    own = [0.0] * IMAGES
    own[4] = 4 * TOLERANCE.noise_floor
    actual = with_error(3 * TOLERANCE.relative_error, images=[4, 9])
    found = verdict(actual, tolerance=Tolerance("fp32", "fp32", TOLERANCE.noise_floor, image_noise_floors=tuple(own)))
    assert (found.failing_images, found.worst.image) == ((9,), 9)
    assert found.allowed_units == pytest.approx(TOLERANCE.units)


@pytest.mark.parametrize(
    ("engine", "onnxruntime", "input_rounding_error", "side"),
    [
        (1.0, 0.0, 0.0, attribution.ENGINE),
        (0.0, 1.0, 0.0, attribution.ONNXRUNTIME),
        (1.0, 1.0, 0.0, attribution.BOTH),
        (0.0, 0.0, 0.0, attribution.NEITHER),
        (1.0, 0.0, 1.0, attribution.INPUT),
    ],
)
def test_faulty_side_is_the_one_that_differs_from_the_float64_reference(
    engine, onnxruntime, input_rounding_error, side
):
    """For an ill-conditioned input neither side is."""
    sides = {"engine": verdict(with_error(engine)), "onnxruntime": verdict(with_error(onnxruntime))}
    assert attribute_mismatch(**sides, input_rounding_error=input_rounding_error).faulty_side == side


@pytest.mark.parametrize("actual", [LOGITS[:, 1:], LOGITS * np.nan])
def test_attribution_has_evidence_where_no_error_can_be_computed(actual):
    """A wrong shape, or NaN throughout."""
    found = verdict(actual)
    result = attribute_mismatch(engine=found, onnxruntime=verdict(LOGITS), input_rounding_error=0.0)
    assert result.faulty_side == attribution.ENGINE
    assert (found.problems[0] if found.failed_check == STRUCTURE else "NaN") in result.evidence


def test_message_has_its_parts_in_order():
    """Case, values, pattern, faulty side, block, command, files; empty parts are left out."""
    found = verdict(np.roll(LOGITS, 1, axis=0))
    given = {
        "attribution": Attribution(attribution.ENGINE, "evidence"),
        "block": "stages.1.0",
        "command": "pytest x",
        "saved": "x.npz",
    }
    text = failure_message(found, reference="ONNX Runtime at fp32", **given)
    parts = [
        f"{found.case_id}: {message.DISAGREES} ONNX Runtime at fp32",
        "got     allowed",
        f"{found.units:.4g}",
        "worst values:",
        f"{message.PATTERN}:",
        f"{message.FAULTY_SIDE}:",
        f"{message.FIRST_WRONG_BLOCK}:",
        f"{message.REPRODUCE}:",
        f"{message.SAVED}:",
    ]
    at = [text.index(part) for part in parts]
    assert at == sorted(at)
    assert max(map(len, text.splitlines())) <= 120
    assert message.FAULTY_SIDE not in failure_message(found, reference="x")


@pytest.mark.parametrize(
    ("actual", "hint"),
    [
        (LOGITS[[1, 0, *range(2, IMAGES)]], patterns.PERMUTED.format(image=0, other=1)),
        (np.roll(LOGITS, 1, axis=0), patterns.PERMUTED.format(image=0, other=31)),
        (LOGITS * 0, patterns.ZEROS.format(images="images 0, 1, 2, 3, 4, 5, ... are")),
        (only(4, 0), patterns.ZEROS.format(images="image 4 is")),
        (only(4, np.nan), patterns.NAN.format(images="image 4 is")),
        (np.repeat(LOGITS[:1], IMAGES, axis=0), patterns.CONSTANT),
        (LOGITS * 1.7, patterns.SCALED.format(image=0, factor="1.7")),
        (LOGITS + (np.arange(CLASSES) == 7), patterns.FEW_VALUES.format(count=1, total=CLASSES, image=0)),
        (only(9, LOGITS + 1), patterns.SOME_IMAGES.format(images="image 9 is", others=31, count=IMAGES)),
    ],
)
def test_common_failure_patterns_are_recognised(actual, hint):
    assert hint in recognise(actual=actual, expected=LOGITS, allowed=1e-5)


@pytest.mark.parametrize("allowed", [1e-6, 1e-2])
def test_noise_and_unrelated_outputs_have_no_hint(allowed):
    for actual in (LOGITS, with_error(3 * allowed), RNG.standard_normal(LOGITS.shape)):
        assert recognise(actual=actual, expected=LOGITS, allowed=allowed) == []


@pytest.mark.parametrize("factor", [1.0001, 1.00001])
def test_gain_near_one_is_recognised_only_if_it_explains_the_error(factor):
    hints = recognise(actual=factor * LOGITS, expected=LOGITS, allowed=1e-7)
    assert hints == [patterns.SCALED.format(image=0, factor=factor)]
    assert recognise(actual=np.float64(np.float16(LOGITS)), expected=LOGITS, allowed=1e-7) == []
