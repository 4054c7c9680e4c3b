"""Which sessions of ONNX Runtime are worth keeping, and what decides that a kept one is the one that is wanted."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from fixtures.engines.onnxruntime import engine as onnxruntime_engine
from fixtures.engines.onnxruntime import identity as onnxruntime_identity
from fixtures.engines.onnxruntime.identity import SETTINGS, facts
from fixtures.errors import CacheError
from fixtures.hardware import cpu_features
from fixtures.inputs import synthetic_images
from fixtures.nfnet import store
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.programs import KEPT, LOADED, Programs
from fixtures.programs.request import CompileRequest
from fixtures.records import EngineOptions
from tests.meta.keeping import SPEC

SHAPE = (2, 3, 32, 32)


@pytest.fixture
def model(tmp_path):
    """A small network."""
    return built_model(SPEC, precision("fp32"), tmp_path)


@pytest.fixture
def worthwhile(monkeypatch):
    """Even a small model is."""
    monkeypatch.setattr(onnxruntime_engine, "KEPT_ABOVE", 0)


@pytest.fixture
def runtime(tmp_path):
    """A package of ONNX Runtime with a library of a few bytes."""
    library = tmp_path / "capi" / "onnxruntime_pybind11_state.so"
    library.parent.mkdir()
    library.write_bytes(b"library")
    return SimpleNamespace(__file__=str(tmp_path / "__init__.py"), __version__="1.2", get_build_info=lambda: "commit 3")


@pytest.fixture
def machine(tmp_path):
    """Files of a kernel."""
    path = tmp_path / "root" / "proc" / "cpuinfo"
    path.parent.mkdir(parents=True)
    path.write_text("model name\t: A processor\nflags\t\t: fpu avx2\n")
    return tmp_path / "root"


def test_small_models_and_plain_graphs_are_not_kept(model, monkeypatch):
    """Nor what a provider keeps itself."""
    engine = onnxruntime_engine.open_engine("cpu")
    assert not engine.should_cache(model, EngineOptions())
    monkeypatch.setattr(onnxruntime_engine, "KEPT_ABOVE", 0)
    assert engine.should_cache(model, EngineOptions())
    assert not engine.should_cache(model, EngineOptions(graph_optimization="extended"))
    other = onnxruntime_engine.OnnxRuntimeEngine(onnxruntime, "cuda", "CUDAExecutionProvider")
    assert not other.should_cache(model, EngineOptions())


def test_the_number_of_threads_decides():
    """Also where nobody named one: what is kept for two cores is not had on one."""
    engine = onnxruntime_engine.open_engine("cpu")
    plain = engine.identity(EngineOptions())
    assert plain["version"] == onnxruntime.__version__
    assert plain["threads"] == str(onnxruntime_engine.physical_cores())
    assert engine.identity(EngineOptions(threads=7)) == {**plain, "threads": "7"}


@pytest.mark.usefixtures("worthwhile")
def test_a_model_without_its_weights_cannot_be_told(model, monkeypatch):
    """The reason is the system's."""
    monkeypatch.setattr(onnxruntime_identity, "model_files", lambda path: (path, path.with_name("gone")))
    with pytest.raises(CacheError, match="the model cannot be read: No such file"):
        onnxruntime_engine.open_engine("cpu").should_cache(model, EngineOptions())


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
@pytest.mark.usefixtures("worthwhile")
def test_a_kept_session_gives_the_same_bits(tmp_path, monkeypatch, name, beside):
    """At each precision, from another engine of the same build, for another batch, wherever the model's weights lie."""
    if beside:
        monkeypatch.setattr(store, "MAPPED_ABOVE", 0)
    engine = onnxruntime_engine.open_engine("cpu", tmp_path)
    model = built_model(SPEC, precision(engine.wants_file_precision(name)), tmp_path)
    images = synthetic_images("kept", SHAPE)
    calibration = (images,) if name == "int8" else ()
    programs, answers, hows = Programs.of_cache(tmp_path), [], []
    for batch in (2, 1):
        again = onnxruntime_engine.open_engine("cpu", tmp_path)
        parts = tuple(np.split(images, 2 // batch)) if calibration else ()
        program, how = programs.program(CompileRequest(again, model, (batch, *SHAPE[1:]), name, EngineOptions(), parts))
        hows.append(how)
        answers.append(program.run({"inputs": images})["logits"])
        assert program.facts["graph_optimization"] == "all"
    assert hows == [KEPT, LOADED]
    assert np.array_equal(*answers)
    assert np.array_equal(
        answers[0],
        engine.prepare(model, shape=SHAPE, precision=name, options=EngineOptions(), calibration=calibration).run(
            {"inputs": images}
        )["logits"],
    )


def changed_library(runtime, machine):
    """Another build under the same version."""
    del machine
    (Path(runtime.__file__).parent / "capi" / "onnxruntime_pybind11_state.so").write_bytes(b"another")


def changed_flags(runtime, machine):
    """The same processor, of which a guest may use less."""
    del runtime
    (machine / "proc" / "cpuinfo").write_text("model name\t: A processor\nflags\t\t: fpu\n")


def changed_processor(runtime, machine):
    """Another machine on the same cache."""
    del runtime
    (machine / "proc" / "cpuinfo").write_text("model name\t: Another\nflags\t\t: fpu avx2\n")


def changed_build(runtime, machine):
    """Told by the library."""
    del machine
    runtime.get_build_info = lambda: "commit 4"


CHANGES = {
    "libraries": changed_library,
    "instructions": changed_flags,
    "processor": changed_processor,
    "build": changed_build,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_is_told(runtime, machine, name):
    """Each by its own fact; nothing else moves."""
    before = facts(runtime, None, machine, {})
    CHANGES[name](runtime, machine)
    after = facts(runtime, None, machine, {})
    assert [key for key in before if before[key] != after[key]] == [name]


@pytest.mark.parametrize("prefix", SETTINGS)
def test_settings_of_the_environment_count(runtime, machine, prefix):
    """Its own only."""
    plain = facts(runtime, None, machine, {"HOME": "/"})
    assert plain == facts(runtime, None, machine, {})
    assert facts(runtime, None, machine, {f"{prefix}X": "1"}) == {**plain, "settings": f"{prefix}X=1"}


def test_a_file_that_a_setting_names_counts(runtime, machine, tmp_path):
    """Results of tuning are other kernels under the same name."""
    tuned = tmp_path / "tuned"
    tuned.write_text("a")
    named = {"MIOPEN_FIND_DB": str(tuned)}
    before = facts(runtime, None, machine, named, provider="migraphx")["settings"]
    tuned.write_text("b")
    assert facts(runtime, None, machine, named, provider="migraphx")["settings"] != before


def test_of_a_gpus_provider_more_decides(runtime, machine):
    """Its own library, not another provider's; the GPU, and the settings of the libraries below it."""
    folder = Path(runtime.__file__).parent / "capi"
    for provider in ("migraphx", "rocm"):
        (folder / f"libonnxruntime_providers_{provider}.so").write_bytes(b"library")
    found = facts(runtime, None, machine, {"MIOPEN_X": "1"}, provider="migraphx")
    assert [part.split()[0] for part in found["libraries"].split(", ")] == [
        "libonnxruntime_providers_migraphx.so",
        "onnxruntime_pybind11_state.so",
    ]
    assert found["settings"] == "MIOPEN_X=1"
    assert found["gpus"] == ""
    node = machine / "sys/class/kfd/kfd/topology/nodes/1/properties"
    node.parent.mkdir(parents=True)
    node.write_text("gfx_target_version 90402\ndevice_id 29857\n")
    assert facts(runtime, None, machine, {}, provider="migraphx")["gpus"].startswith("gfx942 ? 29857")


def test_a_runtime_without_libraries_is_not_kept(runtime, machine):
    """None where it should be, or one that cannot be read."""
    library = Path(runtime.__file__).parent / "capi" / "onnxruntime_pybind11_state.so"
    library.unlink()
    library.mkdir()
    with pytest.raises(CacheError, match="the libraries of ONNX Runtime cannot be read: Is a directory"):
        facts(runtime, None, machine, {})
    shutil.rmtree(library.parent)
    with pytest.raises(CacheError, match="there is no library of ONNX Runtime in "):
        facts(runtime, None, machine, {})


def test_features_are_x86s_flags_and_arms_features(tmp_path):
    """Nothing where the kernel lists none."""
    path = tmp_path / "proc" / "cpuinfo"
    path.parent.mkdir()
    found = []
    for text in ("flags\t: fpu sse\n", "Features\t: fp asimd\n", "processor\t: 0\n"):
        path.write_text(text)
        found.append(cpu_features(tmp_path))
    assert found == ["fpu sse", "fp asimd", ""]
