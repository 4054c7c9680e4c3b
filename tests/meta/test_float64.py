"""Float64 outputs and noise floors of a model, and how near to them a real engine is."""

import numpy as np
import pytest

from fixtures import precisions
from fixtures.onnx_file import inspect
from fixtures.precisions import precision
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.arithmetic import alternatives, arithmetic
from fixtures.reference.float64 import Float64Reference, relative_errors
from fixtures.run.compare import attribute, judge_outputs
from fixtures.verdict.attribution import NEITHER
from fixtures.verdict.verdict import ERROR
from tests.meta.tiny_models import saved

SPEC = ModelSpec("test_nfnet", None, (64, 64))


def noise_floor(context, row, count=1):
    """Return the largest noise floor of a few images."""
    return context.tolerances.float64(SPEC).noise_floors(context.model_store.images(SPEC, count), row).max()


@pytest.mark.parametrize(
    ("name", "rounding", "least", "most"),
    [
        ("fp32", precisions.NEAREST, 2, 10),
        ("fp16", precisions.NEAREST, 1, 3),
        ("bf16", precisions.NEAREST, 1, 3),
        ("fp16", precisions.TRUNCATED_CONSTANTS, 4, 12),
        ("fp16", precisions.TRUNCATED, 20, 60),
        ("bf16", precisions.TRUNCATED, 20, 60),
        ("fp16", precisions.GPU, 4, 14),
        ("fp16", precisions.GPU_FILE_CONSTANTS, 1, 4),
        ("fp16", precisions.GPU_HALF_SUMS, 4, 14),
        ("bf16", precisions.GPU, 4, 14),
    ],
)
def test_noise_floors_are_a_few_unit_roundoffs(context, name, rounding, least, most):
    """Rounding to nearest averages out; truncation has the same sign in every layer."""
    floor = noise_floor(context, arithmetic(name, rounding), count=2)
    assert least < floor / precision(name).unit_roundoff < most


@pytest.mark.parametrize("rounding", precisions.ROUNDINGS, ids=lambda row: row.name)
def test_fp32_is_rounded_to_nearest_by_every_engine(rounding):
    """Engines differ in narrower formats only."""
    assert arithmetic("fp32", rounding) == arithmetic("fp32")
    assert (arithmetic("fp16", rounding) == arithmetic("fp16")) == (rounding is precisions.NEAREST)


@pytest.mark.parametrize(
    ("spec", "name", "level"),
    [(SPEC, "fp32", "disable"), (SPEC, "fp16", "all"), (ModelSpec("eca_nfnet_l0", None, (32, 32), 3), "fp32", "all")],
)
def test_a_real_engine_is_near_its_noise_floor(context, spec, name, level):
    """ONNX Runtime is within a factor of two of direct convolution, as its CPU kernels have no Winograd.

    What Winograd adds to the noise floor is less than a factor of three.
    """
    case = Case("onnxruntime:cpu", spec, name, 2, EngineOptions(graph_optimization=level))
    images, exact = context.model_store.images(spec, 2), context.tolerances.exact(case)
    found = judge_outputs(case, context, actual=context.program_pool.run(case, images), expected=exact)
    row = arithmetic(name)
    direct = relative_errors(context.tolerances.float64(spec).outputs(images, row), exact).max()
    assert 0.5 < found.worst.relative_l2 / direct < 2
    assert found.worst.relative_l2 < 2 * found.tolerance.noise_floor < 6 * direct
    assert alternatives(row) or 0.5 * found.tolerance.noise_floor < found.worst.relative_l2


def test_noise_floor_of_tf32_is_far_above_that_of_fp32(context):
    """An engine that uses it without being asked exceeds the tolerance of fp32."""
    assert noise_floor(context, arithmetic("tf32")) > 100 * noise_floor(context, arithmetic("fp32"))


def model_of(folder, *nodes, weights, size):
    """Write a classifier of square images whose nodes lead from ``x`` and ``w`` to ``y``."""
    path = saved(folder / "small.onnx", *nodes, shape=["batch", 3, size, size], weights={"w": weights})
    return ModelSpec(None, path, (size, size))


@pytest.mark.parametrize("seed", range(6))
def test_a_noise_floor_that_is_low_by_chance_fails_no_engine(context, tmp_path, seed):
    """A softmax near one has few numbers, whose rounding errors vary by a factor of ten; ten times more is wrong."""
    gemm = ("Gemm", ["flat", "w"], ["scores"], {"transB": 1})
    nodes = [("Flatten", "x", ["flat"], {}), gemm, ("Softmax", ["scores"], "y", {})]
    weights = np.random.default_rng(seed).standard_normal((10, 192)).astype(np.float32)
    spec = model_of(tmp_path, *nodes, weights=weights, size=8)
    case = Case("onnxruntime:cpu", spec, "fp32", 1)
    images = np.zeros((1, 3, 8, 8), np.float32) + np.arange(8, dtype=np.float32) % 2 * 2 - 1
    float64, tolerance = context.tolerances.float64(spec), context.tolerances.tolerance(case, images)
    exact, actual = float64.outputs(images), context.program_pool.run(case, images)
    given = {"expected": exact, "tolerance": tolerance, "images": images}
    assert judge_outputs(case, context, actual=actual, **given).passed
    (own,) = float64.typical_noise_floors(images, arithmetic("fp32"), 9)
    assert own >= precision("fp32").unit_roundoff
    wrong = {name: values * (1 + 10 * max(own, tolerance.noise_floor)) for name, values in exact.items()}
    assert judge_outputs(case, context, actual=wrong, **given).failed_check == ERROR


@pytest.fixture
def averaging(tmp_path):
    """A convolution and the average of each of its channels."""
    average = ("GlobalAveragePool", ["made"], ["means"], {})
    nodes = [("Conv", ["x", "w"], ["made"], {}), average, ("Flatten", ["means"], "y", {})]
    weights = np.random.default_rng(0).standard_normal((32, 3, 3, 3)).astype(np.float32) / 5
    return model_of(tmp_path, *nodes, weights=weights, size=16)


RED = np.array([2.2489, -2.0357, -1.8044], np.float32).reshape(1, 3, 1, 1) * np.ones((1, 3, 16, 16), np.float32)


def test_sequential_averaging_is_within_the_noise_floor(context, averaging):
    """Over a flat image its rounding errors have one sign; ONNX Runtime averages so. Ten times more is wrong."""
    case, row = Case("onnxruntime:cpu", averaging, "fp32", 1), arithmetic("fp32")
    float64 = context.tolerances.float64(averaging)
    exact, rounded = float64.outputs(RED), float64.outputs(RED, row)
    for actual in (rounded, context.program_pool.run(case, RED), context.reference.outputs(averaging, RED)):
        assert judge_outputs(case, context, actual=actual, expected=exact, images=RED).passed
    assert attribute(case, context, images=RED, actual=rounded, expected=exact).faulty_side == NEITHER
    (own,) = float64.typical_noise_floors(RED, row, 9)
    wrong = {name: values * (1 + 10 * own) for name, values in exact.items()}
    assert judge_outputs(case, context, actual=wrong, expected=exact, images=RED).failed_check == ERROR


def test_the_noise_floor_of_one_image_excuses_no_other(context, averaging):
    """Nor does it count where the model's own is enough."""
    case, float64 = Case("onnxruntime:cpu", averaging, "fp32", 2), context.tolerances.float64(averaging)
    images = np.concatenate([RED, context.model_store.images(averaging, 1)])
    exact = float64.outputs(images)
    floors = float64.typical_noise_floors(images, arithmetic("fp32"), 16)
    assert floors[1] * 4 < floors[0]
    moved = {name: np.stack([values[0], values[1] * (1 + floors[0] * 3)]) for name, values in exact.items()}
    found = judge_outputs(case, context, actual=moved, expected=exact, images=images)
    assert found.failing_images == (1,)
    plain = judge_outputs(case, context, actual=exact, expected=exact, images=images)
    assert plain.tolerance == context.tolerances.tolerance(case)


def test_input_rounding_error_tells_cancellation_from_a_stable_network(tmp_path, context):
    """Differences of nearly equal numbers change much when their inputs change by one rounding."""
    nodes = [("Sub", ["x", "far"], ["small"], {}), ("Flatten", ["small"], "y", {})]
    path = saved(tmp_path / "close.onnx", *nodes, shape=[1, 1, 2, 2], weights={"far": np.ones(1, np.float32)})
    float64 = Float64Reference(inspect(path), tmp_path)
    assert float64.input_rounding_error(np.full((1, 1, 2, 2), 1.00001)) > 1e-3
    assert float64.input_rounding_error(np.full((1, 1, 2, 2), 3.0)) < 1e-6
    assert context.tolerances.float64(SPEC).input_rounding_error(context.model_store.images(SPEC, 1)) < 1e-6
