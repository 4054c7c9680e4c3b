"""The float64 evaluator: networks against onnx's ReferenceEvaluator, operators, errors; see test_operators.py, too."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from fixtures.errors import EvaluationError
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from fixtures.reference.arithmetic import EXACT, arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.evaluator import float64_model, onnx_evaluator
from tests.meta.tiny_models import saved

ROOT = Path(__file__).parents[2]
CLOSE = 1e-12
RNG = np.random.default_rng(8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function that builds models."""
    folder = tmp_path_factory.mktemp("models")
    return lambda *spec, kind="fp32": built_model(ModelSpec(*spec), precision(kind), folder)


def distance(actual, expected):
    """Return the relative L2 distance."""
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    "spec",
    [
        ("test_nfnet", None, (64, 64)),
        ("test_nfnet", None, (45, 67), 1, 13),
    ],
    ids=lambda spec: ModelSpec(*spec).label,
)
def test_networks_agree_with_the_onnx_evaluator(models, spec):
    """Logits and a tensor in the middle; ``test_golden.py`` compares the logits of the other families."""
    assert_agree(models(*spec), synthetic_images("networks", (2, 3, *spec[2])).astype(np.float64))


def assert_agree(path, images):
    """Compare the logits and a tensor in the middle."""
    evaluator = GraphEvaluator(path)
    middle = evaluator.nodes[len(evaluator.nodes) // 2].output[0]
    got = evaluator.evaluate({"inputs": images}, ["logits", middle])
    del evaluator  # the largest weights take 4 GB, and ReferenceEvaluator copies them several times
    model = float64_model(path)
    model.graph.output.append(helper.make_tensor_value_info(middle, TensorProto.DOUBLE, None))
    want = onnx_evaluator(model).run(["logits", middle], {"inputs": images})
    for actual, expected in zip(got.values(), want, strict=True):
        assert actual.dtype == np.float64
        assert distance(actual, expected) <= CLOSE


def test_evaluation_starts_at_any_tensor_that_is_fed(models):
    evaluator = GraphEvaluator(models("test_nfnet", None, (64, 64)))
    images = synthetic_images("middle", (1, 3, 64, 64))
    whole = evaluator.evaluate({"inputs": images}, ["stages.1.0", "logits"])
    part = evaluator.evaluate({"stages.1.0": whole["stages.1.0"]})
    assert np.array_equal(part["logits"], whole["logits"])


def test_an_fp16_file_is_evaluated_without_rounding(models):
    path = models("test_nfnet", None, (64, 64), kind="fp16")
    images = synthetic_images("half", (1, 3, 64, 64)).astype(np.float16).astype(np.float64)
    (want,) = onnx_evaluator(float64_model(path)).run(None, {"inputs": images})
    assert distance(GraphEvaluator(path).evaluate({"inputs": images})["logits"], want) <= CLOSE


def test_results_do_not_depend_on_the_cache_of_rounded_constants(models, monkeypatch):
    """Whether they fit in memory or not, in any order of arithmetics."""
    path = models("test_nfnet", None, (64, 64))
    images = synthetic_images("cached", (1, 3, 64, 64))
    ways = [arithmetic(name) for name in ("fp16", "bf16", "fp32", "fp16")]
    cached = GraphEvaluator(path)
    expected = [cached.evaluate({"inputs": images}, None, way)["logits"] for way in ways]
    monkeypatch.setattr("fixtures.reference.evaluator.ROUNDED_BYTES", 100_000)
    small = GraphEvaluator(path)
    for way, want in zip(ways, expected, strict=True):
        for _ in range(2):
            assert np.array_equal(small.evaluate({"inputs": images}, None, way)["logits"], want)
    assert np.array_equal(expected[0], expected[-1])
    assert not np.array_equal(expected[0], expected[1])


def test_memory_stays_far_below_the_weights(models):
    """Of 286 MB of weights one layer at a time is in memory, and rounded ones up to a limit."""
    path = models("dm_nfnet_f0", None, (32, 32))
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from fixtures.onnx_file import inspect\n"
        "from fixtures.reference import arithmetic, evaluator\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "inspect(Path(sys.argv[1])); graph = evaluator.GraphEvaluator(Path(sys.argv[1]))\n"
        "feeds = {'inputs': np.zeros((1, 3, 32, 32))}\n"
        "before = peak(); graph.evaluate(feeds); print(peak() - before)\n"
        "evaluator.ROUNDED_BYTES = 50 * 2**20\n"
        "graph.evaluate(feeds, None, arithmetic.arithmetic('fp16')); print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    exact, rounded = map(float, done.stdout.split())
    assert exact < 100
    assert rounded < 200


def single(tmp_path, kind, arrays, attributes, opset=20, outputs=1):
    """Write a model of one node in float64; arrays after the first are constants."""
    names = ["x", *(f"c{index}" for index in range(1, len(arrays)))]
    made = [f"y{index}" for index in range(outputs)]
    weights = dict(zip(names[1:], arrays[1:], strict=True))
    facts = {"shape": arrays[0].shape, "outputs": made, "weights": weights, "kind": TensorProto.DOUBLE, "opset": opset}
    return saved(tmp_path / "one.onnx", (kind, names, made, attributes), **facts)


def real(*shape):
    """Return random numbers."""
    return RNG.standard_normal(shape)


def ints(*values):
    """Return a list of integers as ONNX has them."""
    return np.array(values, np.int64)


X = real(1, 4, 4, 4)
GROUPS = X.reshape(1, 2, 32)
SQUARES = np.pad(X**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
OTHERS = {
    "Range": ([np.array(1.5), np.array(9.0), np.array(2.5)], {}, np.array([1.5, 4.0, 6.5])),
    "GatherND": ([X, np.array([[0, 1], [0, 3]], np.int64)], {}, X[0, [1, 3]]),
    "Resize": ([X, np.array([]), np.array([1, 1, 2.0, 2])], {"mode": "nearest"}, X.repeat(2, 2).repeat(2, 3)),
    "LRN": ([X], {"size": 3}, X / (1 + 1e-4 / 3 * sum(SQUARES[:, at : at + 4] for at in range(3))) ** 0.75),
    "ArgMax": ([X], {"axis": 1, "keepdims": 0}, X.argmax(axis=1)),
    "GroupNormalization": (
        [X, np.ones(4), np.zeros(4)],
        {"num_groups": 2, "epsilon": 0.0},
        ((GROUPS - GROUPS.mean(2, keepdims=True)) / GROUPS.std(2, keepdims=True)).reshape(X.shape),
        21,
    ),
    "LpNormalization": ([X], {"axis": 1, "p": 1}, X / np.abs(X).sum(axis=1, keepdims=True)),
    "BatchNormalization": ([X, *[np.full(4, 2.0)] * 4], {"epsilon": 0.5}, (X - 2) / np.sqrt(2.5) * 2 + 2, 8),
    "HardSwish": ([X], {}, X * np.clip(np.float32(1 / 6) * X + 0.5, 0, 1)),
    "Reshape": ([np.zeros((2, 0, 4)), ints(0, 8)], {"allowzero": 1}, np.zeros((0, 8))),
    "CastLike": ([X, np.zeros(1, np.float32)], {}, X),
    "Clip": ([X], {"min": -0.5, "max": 0.5}, X.clip(-0.5, 0.5), 10),
    "Slice": ([X, ints(-9, 3), ints(-9, 1), ints(1, 3), ints(-1, -1)], {}, X[:, :1, :, 3:1:-1]),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_operators_are_evaluated_in_float64(tmp_path, kind):
    """At the model's opset, by onnx, or where it is wrong by the suite.

    Functions such as GroupNormalization keep float64 although they cast to float32.
    """
    arrays, attributes, want, *opset = OTHERS[kind]
    got = GraphEvaluator(single(tmp_path, kind, arrays, attributes, *opset)).evaluate({"x": arrays[0]})["y0"]
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert np.allclose(got, want, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("InstanceNormalization", {}), ("LayerNormalization", {}), ("GroupNormalization", {"num_groups": 1})],
)
def test_noise_floor_of_a_normalisation_has_that_of_its_mean(tmp_path, kind, more):
    """A mean of many values far from zero has an error that the small differences from it do not have.

    Of one image it may be small by chance.
    """
    x = real(16, 1, 4096)
    ones = np.ones(4096 if kind == "LayerNormalization" else 1)
    evaluator = GraphEvaluator(single(tmp_path, kind, [x, ones, 0 * ones], more, opset=21))

    def error(values):
        exact, rounded = (evaluator.evaluate({"x": values}, None, row)["y0"] for row in (EXACT, arithmetic("fp32")))
        return np.linalg.norm(rounded - exact) / np.linalg.norm(exact)

    assert error(x + 100) > 100 * error(x)


@pytest.mark.parametrize(
    ("kind", "arrays", "shape", "wanted", "named"),
    [
        ("Custom", [real(3, 3)], (3, 3), None, "Custom 'y0' of .*neither onnx nor ONNX Runtime"),
        ("MatMul", [real(3, 3), real(3, 3)], (2, 2), None, r"MatMul 'y0' of \[\[2, 2\], \[3, 3\]\]"),
        ("Relu", [real(3, 3)], (3, 3), ["z"], "'z'"),
        ("Sigmoid", [real(3)], (3,), None, "unknown"),
    ],
    ids=["unknown operator", "shapes that do not fit", "unknown tensor", "unknown attribute"],
)
def test_errors_name_the_file_the_node_and_the_tensor(tmp_path, kind, arrays, shape, wanted, named):
    """EvaluationError, whatever the operator raised."""
    path = single(tmp_path, kind, arrays, {"unknown": 1} if named == "unknown" else {})
    with pytest.raises(EvaluationError, match=rf"one\.onnx: .*{named}"):
        GraphEvaluator(path).evaluate({"x": real(*shape)}, wanted)


TRAINING = [real(3), np.array(0.5), np.array(True)]


@pytest.mark.parametrize(
    ("kind", "arrays", "attributes", "reason", "more"),
    [
        ("RandomNormalLike", [real(3)], {}, "random numbers", ()),
        ("Dropout", TRAINING, {}, "random numbers", ()),
        ("BatchNormalization", [X, *[real(4)] * 4], {}, "training mode", (9, 5)),
        ("Relu", [real(3)], {"domain": "com.example"}, "neither onnx nor ONNX Runtime", ()),
    ],
)
def test_what_cannot_be_evaluated_is_known_before_and_named(tmp_path, kind, arrays, attributes, reason, more):
    """Random numbers, training before opset 14, and operators of others."""
    path = single(tmp_path, kind, arrays, attributes, *more)
    (found,) = GraphEvaluator(path).refused.items()
    assert found[0] == f"{kind} 'y0'"
    assert reason in found[1]
    with pytest.raises(EvaluationError, match=rf"{kind} 'y0' of .*: .*{reason}"):
        GraphEvaluator(path).evaluate({"x": arrays[0]})


def test_further_outputs_of_a_pool_are_not_computed(tmp_path):
    """Onnx's indices of a maximum are wrong."""
    path = single(tmp_path, "MaxPool", [X], {"kernel_shape": [4, 4]}, outputs=2)
    assert GraphEvaluator(path).evaluate({"x": X}, ["y0"])["y0"].shape == (1, 4, 1, 1)
    with pytest.raises(EvaluationError, match=r"only the first output .* 'y1'"):
        GraphEvaluator(path).evaluate({"x": X})
