"""The arithmetic of GPU kernels: an engine that computes like them is named nowhere, and nothing wider is allowed."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from scipy.special import erf

from fixtures import precisions
from fixtures.localize.score import score_tensors
from fixtures.localize.search import Localizer
from fixtures.records import ModelSpec
from fixtures.reference.arithmetic import EXACT, arithmetic
from fixtures.reference.arithmetic_operators import ARITHMETIC_OPERATORS
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.tiny_models import saved

TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
LENGTHS = (1, 2, 5, 7, 10, 13, 18, 20, 24, 26, 32, 52, 95)  # of images of 32 to 416 pixels at strides 4 to 32
WAVE = 64
DIGITS = ModelSpec("digits_nfnet", None, (32, 32))
GPU = (precisions.GPU, precisions.GPU_FILE_CONSTANTS, precisions.GPU_HALF_SUMS)
KINDS = {"positive": lambda x: np.maximum(x, 0), "centred": lambda x: x}


def toward_zero(value, dtype):
    """Convert as MIGraphX's host does."""
    near = np.asarray(value, np.float32).astype(dtype)
    below = np.nextafter(near.astype(np.float32), np.float32(0)).astype(np.float32)
    bits = np.asarray(below).view(np.uint32) & np.uint32(0xFFFFE000 if dtype is np.float16 else 0xFFFF0000)
    return near if abs(float(near)) <= abs(value) else bits.view(np.float32).astype(dtype)


def kernel_mean(x, dtype):
    """Average as MIGraphX's reduce kernels: 1/n times x, up to 256 threads, shifts in a wave, then wave after wave."""
    rows = x.reshape(*x.shape[:2], -1)
    terms = rows * toward_zero(1 / float(toward_zero(rows.shape[-1], dtype)), dtype)
    threads = min(4 * WAVE, -(-rows.shape[-1] // WAVE) * WAVE)
    terms = np.pad(terms, ((0, 0), (0, 0), (0, -rows.shape[-1] % threads))).reshape(*rows.shape[:2], -1, threads)
    share = np.zeros((*terms.shape[:2], threads), dtype)
    for step in range(terms.shape[2]):
        share = share + terms[:, :, step]
    waves = share.reshape(*share.shape[:2], -1, WAVE)
    for shift in (1, 2, 4, 8, 16, 32):
        waves = waves + np.roll(waves, shift, axis=-1)
    total = np.zeros(waves.shape[:2], dtype)
    for wave in range(waves.shape[2]):
        total = total + waves[:, :, wave, -1]
    assert total.dtype == dtype
    return total.reshape(*x.shape[:2], 1, 1)


@pytest.fixture(scope="module")
def pooling(tmp_path_factory):
    """The evaluator of a global average."""
    path = tmp_path_factory.mktemp("pooling") / "pooling.onnx"
    return GraphEvaluator(saved(path, ("GlobalAveragePool", ("x",), ("y",), {}), shape=("batch", 32, "h", "w")))


def share_of_limit(pooling, name, kind, length):
    """Return the error of the kernel's average of length x length values, as a share of what is allowed."""
    x = np.random.default_rng(length).standard_normal((2, 32, length, length))
    x = KINDS[kind](x).astype(TYPES[name])
    actual = {"y": kernel_mean(x, TYPES[name])}
    row = arithmetic(name, precisions.GPU)
    (score,) = score_tensors(pooling, row, inputs={"x": x}, actual=actual, compared=["y"], among=200)
    return score.ratio


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TYPES)
def test_healthy_pooling_is_not_wrong(pooling, name, kind):
    """Far from it: the noise floor has the same truncated 1/n and the same rounded sums."""
    shares = {length: share_of_limit(pooling, name, kind, length) for length in LENGTHS}
    assert max(shares.values()) < 0.5, shares


@pytest.mark.parametrize(
    ("name", "rounding"), [("fp16", precisions.GPU), ("fp16", precisions.GPU_HALF_SUMS), ("bf16", precisions.GPU)]
)
def test_network_of_such_kernels_is_wrong_nowhere(context, tmp_path, name, rounding):
    """Every block and node of an engine that computes like them, with fewer threads in an average."""
    row = arithmetic(name, rounding)
    file = context.model_store.onnx_file(DIGITS)
    images = context.model_store.images(DIGITS, 1)

    def run(path, images):
        return GraphEvaluator(path).evaluate(
            {file.input.name: images}, None, replace(row, rounding=replace(row.rounding, lanes=64))
        )

    found = Localizer(run, file.path, GraphEvaluator(file.path), images, row, tmp_path).localize(deep=True)
    assert (found.first_block, found.clean) == (None, True), found.table()
    assert max(score.worst.ratio for score in (*found.blocks, *found.nodes)) < 0.8
    assert found.nodes


def test_average_of_many_values_is_summed_in_float32(pooling):
    """MIGraphX widens where n is not below a quarter of the largest half."""
    x = np.random.default_rng(0).random((1, 1, 128, 128)).astype(np.float16)
    (got,) = pooling.evaluate({"x": x}, None, arithmetic("fp16", precisions.GPU)).values()
    assert got == np.mean(x, dtype=np.float64).astype(np.float16)


@pytest.mark.parametrize("rounding", precisions.ROUNDINGS, ids=lambda row: row.name)
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "int8", "fp8"])
def test_fast_math_is_tanh_gelu_at_fp16_on_the_gpu_target_only(rounding, name):
    """So the noise floor elsewhere is the one without it."""
    slow, fast = (arithmetic(name, rounding, fast_math=given) for given in (False, True))
    differs = name == "fp16" and rounding in GPU
    assert (slow != fast, fast.gelu) == (differs, "tanh" if differs else "erf")


def half_gelu(x):
    """GELU as MIGraphX computes it at fp16: five rounded steps, with truncated constants."""
    inner = (x * toward_zero(np.sqrt(0.5), np.float16)).astype(np.float64)
    return x * np.float16(0.5) * (np.float16(1) + erf(inner).astype(np.float16))


def half_tanh_gelu(x):
    """The same with fast_math: x / (1 + exp(x (c1 x x + c0)))."""
    scale = -2 * np.sqrt(2 / np.pi)
    first, second = (toward_zero(value, np.float16) for value in (scale, 0.044715 * scale))
    exponent = (x * (x * (x * second) + first)).astype(np.float64)
    with np.errstate(over="ignore"):
        return x / (np.float16(1) + np.exp(exponent).astype(np.float16))


@pytest.mark.parametrize(("gelu", "fast_math"), [(half_gelu, False), (half_tanh_gelu, True)])
def test_gelu_is_the_steps_of_the_kernel(gelu, fast_math):
    """Bit by bit; both are near the exact one."""
    x = np.random.default_rng(3).normal(0, 3, 2000).astype(np.float16)
    row = arithmetic("fp16", precisions.GPU, fast_math=fast_math)
    got = row.store(ARITHMETIC_OPERATORS["Gelu"](row, x.astype(np.float64)))
    assert np.array_equal(got, gelu(x).astype(np.float64))
    assert np.abs(got - ARITHMETIC_OPERATORS["Gelu"](EXACT, x.astype(np.float64))).max() < 0.02


@pytest.mark.parametrize("rounding", GPU)
def test_half_sums_are_those_of_rocblas_without_its_flag(rounding):
    """Term after term, each fused multiply-add rounded; at fp16 only."""
    left, right = (np.random.default_rng(4).standard_normal(shape).astype(np.float16) for shape in ((3, 700), (700, 5)))
    total = np.zeros((3, 5), np.float16)
    for index in range(700):
        total = (total + np.outer(left[:, index].astype(np.float64), right[index])).astype(np.float16)
    row = arithmetic("fp16", rounding)
    got = row.store(row.matmul(left.astype(np.float64), right.astype(np.float64)))
    assert np.array_equal(got, total.astype(np.float64)) == (rounding is precisions.GPU_HALF_SUMS)
    assert arithmetic("bf16", rounding).rounding.half_sums is False
