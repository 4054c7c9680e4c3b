"""The ONNX graph: valid, portable, small, and the same network however it is spelt."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fixtures.errors import CacheError, ModelError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import writer as onnxfile
from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.onnx_file import data_path
from fixtures.precisions import precision

NEWEST = onnx.defs.onnx_opset_version()


def build(path, name="test_nfnet", size=(64, 64), opset=20, kind="fp32", weights=None, **options):
    """Write a model and return its path."""
    net = network(variant(name))
    graph = build_graph(net, weights or SeededWeights(name, 0), size, opset)
    onnxfile.write_model(graph, path, precision(kind), classes=net.classes, name=name, **options)
    return path


def run(path, images):
    """Logits from ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"inputs": images})[0]


def relative(actual, expected):
    """Relative L2 error."""
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
@pytest.mark.parametrize("opset", [13, 14, 17, 19, 20, NEWEST])
@pytest.mark.parametrize("name", ["test_nfnet", "nf_resnet50", "eca_nfnet_l0"])
def test_files_pass_the_full_checker(tmp_path, name, opset, kind):
    """onnx.checker with shape inference accepts every spelling."""
    path = build(tmp_path / "model.onnx", name, opset=opset, kind=kind)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert model.opset_import[0].version == opset
    (shape,) = (onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape,)
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["batch", 1000]


@pytest.mark.parametrize("name", ["test_nfnet", "nfnet_f0"])
def test_old_and_new_opsets_are_the_same_network(tmp_path, name):
    """Erf at opset 13 and the Gelu operator compute the same."""
    images = synthetic_images("opsets", (1, 3, 64, 64))
    old = run(build(tmp_path / "old.onnx", name, opset=13), images)
    new = run(build(tmp_path / "new.onnx", name, opset=20), images)
    assert relative(old, new) < 1e-6


def test_nothing_is_left_to_fold(tmp_path):
    """dm_nfnet_f0 has 235 nodes; exports from PyTorch have 738 and more."""
    model = onnx.load(build(tmp_path / "model.onnx", "dm_nfnet_f0"))
    assert len(model.graph.node) == 235


@pytest.mark.parametrize("name", ["test_nfnet", "nf_resnet50", "eca_nfnet_l0"])
def test_dense_layers_are_plain_gemm_nodes(tmp_path, name):
    """The weight is the right factor, as PyTorch exports it: engines compile this form best, and some only this one."""
    model = onnx.load(build(tmp_path / "model.onnx", name))
    constants = {tensor.name for tensor in model.graph.initializer}
    dense = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul", "Transpose")]
    assert dense
    assert all(node.op_type == "Gemm" for node in dense)
    assert all(node.input[0] not in constants and constants.issuperset(node.input[1:]) for node in dense)


def test_batch_is_dynamic(tmp_path):
    """One file serves every batch, and every image gets the same answer in it."""
    path = build(tmp_path / "model.onnx")
    images = synthetic_images("batch", (5, 3, 64, 64))
    together = run(path, images)
    alone = np.concatenate([run(path, images[i : i + 1]) for i in range(5)])
    assert relative(together, alone) < 1e-6


def test_half_precision_files_take_and_give_half(tmp_path):
    """The fp16 file is the fp32 network rounded once."""
    images = synthetic_images("half", (2, 3, 64, 64))
    half = build(tmp_path / "half.onnx", kind="fp16")
    assert half.stat().st_size < 0.6 * build(tmp_path / "single.onnx").stat().st_size
    logits = run(half, images.astype(np.float16))
    assert logits.dtype == np.float16
    assert 1e-5 < relative(logits, run(tmp_path / "single.onnx", images)) < 8 * 2.0**-11


def test_external_data_holds_the_same_network(tmp_path):
    """Weights that an engine maps go to a file of their own, aligned for memory mapping."""
    inline = build(tmp_path / "inline.onnx", "nfnet_l0")
    outside = build(tmp_path / "outside.onnx", "nfnet_l0", beside=True)
    assert data_path(outside).stat().st_size > 100 * outside.stat().st_size
    onnx.checker.check_model(str(outside), full_check=True)
    offsets = [
        int(entry.value)
        for tensor in onnx.load(outside, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert offsets
    assert all(offset % 4096 == 0 for offset in offsets)
    images = synthetic_images("external", (1, 3, 64, 64))
    assert np.array_equal(run(inline, images), run(outside, images))


@pytest.mark.parametrize("beside", [True, False])
def test_memory_stays_far_below_the_file(tmp_path, beside):
    """Writing 284 MB of weights takes less than half of that above what the imports take."""
    code = (
        "import resource, sys; from pathlib import Path; from tests_graph import build\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "build(Path(sys.argv[1]) / 'small.onnx'); before = peak()\n"
        "build(Path(sys.argv[1]) / 'large.onnx', 'dm_nfnet_f0', beside=sys.argv[2] == 'True')\n"
        "print(peak() - before)\n"
    ).replace("from tests_graph import build", "import runpy; build = runpy.run_path(sys.argv[3])['build']")
    command = [sys.executable, "-c", code, str(tmp_path), str(beside), __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert float(done.stdout) < 142


@pytest.mark.parametrize("opset", [12, NEWEST + 1, -1])
def test_an_impossible_opset_is_refused(opset):
    """The message gives the range."""
    with pytest.raises(ModelError, match=rf"opset {opset} is not supported -> choose 13 to {NEWEST}"):
        build_graph(network(variant("test_nfnet")), {}, (64, 64), opset)


def test_there_is_no_bf16_file(tmp_path):
    """Numpy cannot write it, and the message says so."""
    with pytest.raises(ModelError, match="no ONNX file in bf16"):
        build(tmp_path / "model.onnx", kind="bf16")


class Overflowing(SeededWeights):
    """One bias too large for fp16."""

    def __getitem__(self, name):
        values = super().__getitem__(name)
        return values + np.float32(1e6) if name == "final_conv.bias" else values


def test_a_weight_that_overflows_is_named_and_nothing_is_written(tmp_path):
    """Infinity is not written silently."""
    with pytest.raises(ModelError, match=r"weight 'final_conv.bias' is not finite in float16"):
        build(tmp_path / "model.onnx", kind="fp16", weights=Overflowing("test_nfnet", 0))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """With a limit on file sizes the write fails in the middle; the message names the file and the hint."""
    code = (
        "import resource, runpy, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "build = runpy.run_path(sys.argv[2])['build']\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "build(Path(sys.argv[1]) / 'model.onnx')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert CacheError.__name__ in done.stderr
    assert "model.onnx: cannot write the model: File too large -> free space" in done.stderr
    assert list(tmp_path.iterdir()) == []
