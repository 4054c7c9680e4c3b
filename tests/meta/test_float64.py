"""Truth and floors of a model: kept on disk by content, and near where real engines lie."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from fixtures.errors import UsageError
from fixtures.onnx_file import inspect
from fixtures.precisions import BY_NAME as PRECISIONS
from fixtures.precisions import precision
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference import kept as keeping
from fixtures.reference.float64 import Truth
from fixtures.reference.kept import kept, key_of
from fixtures.reference.noise_floors import (
    ARITHMETICS,
    CUT,
    CUT_CONSTANTS,
    NEAREST,
    arithmetic,
    other_ways,
    poorest_order,
    relative_errors,
)
from fixtures.run.compare import attribute, judge_outputs
from fixtures.verdict.attribution import NEITHER
from fixtures.verdict.verdict import ERROR

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec("test_nfnet", None, (64, 64))


def floor_units(context, name, kind, spec=SPEC):
    """A floor in u."""
    floor = context.tolerances.float64(spec).floor(context.model_store.images(spec, 2), arithmetic(name, kind))
    return floor / precision(name).unit_roundoff


@pytest.mark.parametrize(
    ("name", "kind", "least", "most"),
    [
        ("fp32", NEAREST, 2, 10),
        ("fp16", NEAREST, 1, 3),
        ("bf16", NEAREST, 1, 3),
        ("fp16", CUT_CONSTANTS, 4, 12),
        ("fp16", CUT, 20, 60),
        ("bf16", CUT, 20, 60),
    ],
)
def test_floors_are_a_few_roundings(context, name, kind, least, most):
    """Rounding to nearest averages out; cutting errs to one side in every layer."""
    assert least < floor_units(context, name, kind) < most


@pytest.mark.parametrize("spec", [SPEC, ModelSpec("eca_nfnet_l0", None, (64, 64), 3)], ids=lambda spec: spec.label)
@pytest.mark.parametrize("name", ["fp32", "fp16"])
@pytest.mark.parametrize("level", ["disable", "all"])
def test_a_real_engine_lies_near_its_floor(context, spec, name, level):
    """ONNX Runtime is neither far above nor far below the floor of the way that it computes.

    That is the plain way, for its kernels for processors have no Winograd. What is allowed to engines that have it is
    more, but less than three times as much: the floor is neither too strict nor a licence. Where there is no other way,
    the floor is that of this one.
    """
    case = Case("onnxruntime:cpu", spec, name, 2, EngineOptions(graph_optimization=level))
    images, exact = context.model_store.images(spec, 2), context.tolerances.exact(spec, 2)
    found = judge_outputs(case, context, actual=context.program_pool.run(case, images), expected=exact)
    row = arithmetic(name, NEAREST)
    plain = relative_errors(context.tolerances.float64(spec).outputs(images, row), exact).max()
    assert 0.5 < found.worst.relative_l2 / plain < 2
    assert found.worst.relative_l2 < 2 * found.tolerance.floor < 6 * plain
    assert other_ways(row) or 0.5 * found.tolerance.floor < found.worst.relative_l2


def test_tf32_is_not_strict_fp32(context):
    """Its floor lies orders of magnitude above: an engine that takes it in secret is found."""
    images = context.model_store.images(SPEC, 1)
    truth = context.tolerances.float64(SPEC)
    strict, fast = (truth.floor(images, arithmetic(name, NEAREST)) for name in ("fp32", "tf32"))
    assert fast > 100 * strict


@pytest.mark.slow
def test_fast_math_has_a_floor_of_its_own(context):
    """The tanh GELU is no rounding error of fp32."""
    spec = ModelSpec("nfnet_f0", None, (32, 32))
    images, truth = context.model_store.images(spec, 1), context.tolerances.float64(spec)
    strict, fast = (truth.floor(images, arithmetic("fp32", NEAREST, fast_math=on)) for on in (False, True))
    assert fast > 100 * strict


@pytest.fixture(params=range(6))
def probabilities(request, tmp_path):
    """A classifier of ten classes whose softmax is nearly one: few numbers, and errors that vary by tens."""
    weights = np.random.default_rng(request.param).standard_normal((10, 192)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["inputs"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    ends = [("inputs", ["batch", 3, 8, 8]), ("probabilities", ["batch", 10])]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "softmax", [given], [made], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, tmp_path / "softmax.onnx")
    return ModelSpec(None, tmp_path / "softmax.onnx", (8, 8))


def test_a_lucky_floor_accuses_no_engine(context, probabilities):
    """A result that an ideal engine has right by luck is not asked of a real one; ten times as much is a fault."""
    case = Case("onnxruntime:cpu", probabilities, "fp32", 1)
    images = np.zeros((1, 3, 8, 8), np.float32) + np.arange(8, dtype=np.float32) % 2 * 2 - 1
    exact, actual = context.tolerances.float64(probabilities).outputs(images), context.program_pool.run(case, images)
    tolerance = context.tolerances.tolerance(case, images)
    assert judge_outputs(case, context, actual=actual, expected=exact, tolerance=tolerance, images=images).passed
    (own,) = context.tolerances.float64(probabilities).usual_floors(images, arithmetic("fp32", NEAREST), 9)
    assert own >= precision("fp32").unit_roundoff
    wrong = {name: values * (1 + 10 * max(own, tolerance.floor)) for name, values in exact.items()}
    assert (
        judge_outputs(case, context, actual=wrong, expected=exact, tolerance=tolerance, images=images).failed_check
        == ERROR
    )
    assert not context.tolerances.float64(probabilities).averages


@pytest.fixture
def averaging(tmp_path):
    """A convolution and the average of each of its channels, of a size that ONNX Runtime has in blocks of its own."""
    weights = np.random.default_rng(0).standard_normal((32, 3, 3, 3)).astype(np.float32) / 5
    nodes = [
        helper.make_node("Conv", ["inputs", "w"], ["made"]),
        helper.make_node("GlobalAveragePool", ["made"], ["means"]),
        helper.make_node("Flatten", ["means"], ["answers"]),
    ]
    ends = [("inputs", ["batch", 3, 16, 16]), ("answers", ["batch", 32])]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "averages", [given], [made], [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "means.onnx")
    return ModelSpec(None, tmp_path / "means.onnx", (16, 16))


RED = np.array([2.2489, -2.0357, -1.8044], np.float32).reshape(1, 3, 1, 1) * np.ones((1, 3, 16, 16), np.float32)


def test_no_engine_is_accused_of_the_order_of_an_average(context, averaging):
    """Value after value errs to one side where all are alike: right, and ONNX Runtime does so; wrong is wrong still."""
    case, truth, row = (
        Case("onnxruntime:cpu", averaging, "fp32", 1),
        context.tolerances.float64(averaging),
        arithmetic("fp32", NEAREST),
    )
    exact, running = truth.outputs(RED), truth.outputs(RED, poorest_order(row))
    poorest = judge_outputs(case, context, actual=running, expected=exact, images=RED)
    assert poorest.passed
    assert poorest.units > poorest.tolerance.units  # so that nothing else excuses it
    assert judge_outputs(
        case,
        context,
        actual=context.program_pool.run(case, RED),
        expected=context.reference.outputs(averaging, RED),
        images=RED,
    ).passed
    assert attribute(case, context, images=RED, actual=running, expected=exact).faulty_side == NEITHER
    (own,) = truth.usual_floors(RED, row, 9, poorest=True)
    wrong = {name: values * (1 + 10 * own) for name, values in exact.items()}
    assert judge_outputs(case, context, actual=wrong, expected=exact, images=RED).failed_check == ERROR


def test_the_order_of_an_average_excuses_nothing_else(context, averaging):
    """Not another image of the batch by as much, and nothing where numbers pass."""
    case, truth = Case("onnxruntime:cpu", averaging, "fp32", 2), context.tolerances.float64(averaging)
    images = np.concatenate([RED, context.model_store.images(averaging, 1)])
    exact, running = truth.outputs(images), truth.outputs(images, poorest_order(arithmetic("fp32", NEAREST)))
    found = judge_outputs(case, context, actual=running, expected=exact, images=images)
    assert found.passed
    red, other = (found.tolerance.of_image(image) for image in range(2))
    assert other < red
    between = 1 + (red + other) / 2
    moved = {name: np.stack([running[name][0], values[1] * between]) for name, values in exact.items()}
    assert judge_outputs(case, context, actual=moved, expected=exact, images=images).failing_images == (1,)
    assert judge_outputs(
        case, context, actual=exact, expected=exact, images=images
    ).tolerance == context.tolerances.tolerance(case)


def test_every_precision_has_every_arithmetic():
    """And an unknown one is refused with those that there are."""
    assert {(name, kind) for name in PRECISIONS for kind in (NEAREST, CUT, CUT_CONSTANTS)} <= set(ARITHMETICS)
    with pytest.raises(UsageError, match="no arithmetic 'up' at fp32 -> add a row; there are fp32/nearest"):
        arithmetic("fp32", "up")


def test_a_batch_is_evaluated_in_parts(context):
    """With the same result."""
    images, truth = context.model_store.images(SPEC, 6), context.tolerances.float64(SPEC)
    whole = truth.outputs(images)["logits"]
    assert whole.shape == (6, 1000)
    assert np.allclose(whole[5:], truth.outputs(images[5:])["logits"], rtol=1e-12)


def test_an_unstable_input_is_told_from_a_stable_one(tmp_path, context):
    """Differences of nearly equal numbers move far when their inputs move by a rounding."""
    nodes = [helper.make_node("Sub", ["x", "far"], ["small"]), helper.make_node("Flatten", ["small"], ["y"])]
    far = helper.make_tensor("far", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(
        nodes,
        "unstable",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [far],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    save(model, tmp_path / "unstable.onnx")
    truth = Truth(inspect(tmp_path / "unstable.onnx"), tmp_path)
    assert truth.sensitivity(np.full((1, 1, 2, 2), 1.00001)) > 1e-3
    assert truth.sensitivity(np.full((1, 1, 2, 2), 3.0)) < 1e-6
    assert context.tolerances.float64(SPEC).sensitivity(context.model_store.images(SPEC, 1)) < 1e-6


def test_results_are_computed_once(tmp_path):
    """The second time they come from disk, the same bits."""
    calls = []

    def compute():
        calls.append(1)
        return {"logits": np.array([[1 / 3, np.nan]])}

    first, second = (kept(tmp_path, "key", compute) for _ in range(2))
    assert len(calls) == 1
    assert np.array_equal(first["logits"], second["logits"], equal_nan=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"something else"])
def test_a_damaged_result_is_computed_again(tmp_path, content):
    """It is only a copy."""
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "key.npz").write_bytes(content)
    assert kept(tmp_path, "key", lambda: {"y": np.ones(1)})["y"] == 1
    assert kept(tmp_path, "key", lambda: {"y": np.zeros(1)})["y"] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, error):
    """Neither a result nor half a file."""

    def interrupted(file, **_):
        file.write(b"half")
        raise error

    monkeypatch.setattr(keeping.np, "savez", interrupted)
    with pytest.raises(error):
        kept(tmp_path, "key", lambda: {"y": np.ones(1)})
    assert not list((tmp_path / "truth").iterdir())


def test_a_result_that_cannot_be_kept_is_not_lost(tmp_path):
    """It took minutes; only the next one takes them again."""
    (tmp_path / "truth").touch()
    for value in (1, 2):
        assert kept(tmp_path, "key", lambda value=value: {"y": np.full(1, value)})["y"] == value


def test_a_full_disk_loses_no_result(tmp_path):
    """Nor does it leave half a file."""
    code = (
        "import resource, signal, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from fixtures.reference.kept import kept\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "print(kept(Path(sys.argv[1]), 'key', lambda: {'y': np.ones(10**5)})['y'].sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "100000.0\n", done.stderr
    assert not list((tmp_path / "truth").iterdir())


def test_a_key_depends_on_everything(tmp_path):
    """File, numbers, their type and shape, words."""
    path = tmp_path / "model"
    path.write_bytes(b"one")
    ones = np.ones((2, 2), np.float32)
    keys = [
        key_of([path], [ones], "exact"),
        key_of([path], [ones], "fp16"),
        key_of([path], [ones * 2], "exact"),
        key_of([path], [ones.astype(np.float64)], "exact"),
        key_of([path], [ones.reshape(4)], "exact"),
        key_of([], [ones], "exact"),
    ]
    path.write_bytes(b"another")
    keys.append(key_of([path], [ones], "exact"))
    assert len(set(keys)) == len(keys)
    assert key_of([path], [ones], "exact") == keys[-1]
