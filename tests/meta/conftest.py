"""The suite and ort_comparison.py as a user runs them: in a process of their own, with models built once."""

import os
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import onnx.parser
import pytest

from fixtures.engines.registry import open_engine
from fixtures.errors import EngineUnavailable
from fixtures.nfnet.store import built_model
from fixtures.plugin.failures import unavailable
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from fixtures.run.context import RunContext
from tests.meta import forking
from tests.meta.faulty_comparison import patched_comparison

ROOT = Path(__file__).parents[2]
SMALL = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")
IN_PARENT = ("--no-isolation",)  # plugins and patches reach no worker, and a worker takes half a second to start


@dataclass(frozen=True)
class Done:
    """A finished run."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err

    def expecting(self, code):
        """Return this run, which ended with a code."""
        assert code in {None, self.code}, f"exit code {self.code} instead of {code}\n{self.text}"
        return self


@dataclass(frozen=True)
class Runner:
    """Runs commands of this repository with one cache folder."""

    cache: Path

    def environment(self, more=None):
        """Return the environment of a command."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTEST", "NFNET", "PYTHONDONT", "GITHUB_"))
        }
        own = {"NFNET_CACHE_DIR": self.cache, "TMPDIR": self.cache}
        own |= {"HF_HUB_OFFLINE": 1, "HF_HUB_CACHE": self.cache / "hub", "PYTHONPYCACHEPREFIX": self.cache / "bytecode"}
        return inherited | {key: str(value) for key, value in own.items()} | (more or {})

    def python(self, *words, env=None, cwd=ROOT, timeout=300, code=0):
        """Run a new Python with ``words``. It must end with ``code``, unless that is None."""
        options = {"cwd": cwd, "env": self.environment(env), "timeout": timeout}
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, **options, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr).expecting(code)

    def forked(self, name, *words, env=None, cwd=ROOT, timeout=300, code=0):
        """Run a module or a script likewise; large packages are imported already."""
        return Done(*forking.run(name, words, env=self.environment(env), cwd=cwd, timeout=timeout)).expecting(code)

    def text_file(self, text):
        """Return a Python file with a text."""
        path = self.cache / f"text_{zlib.crc32(text.encode())}.py"
        path.write_text(text)
        return path

    def pytest(self, *words, plugin=None, env=None, fresh=False, isolated=False, **options):
        """Run pytest with a ``plugin``, which is a file with hooks or their text; ``fresh``: in a new Python.

        ``isolated``: engines run in workers, as by default.
        """
        more = () if isolated else IN_PARENT
        if isinstance(plugin, str):
            plugin = self.text_file(plugin)
        if plugin:
            env = {**(env or {}), "PYTHONPATH": str(plugin.parent)}
            more += ("-p", plugin.stem)
        # The last two import their packages in every run.
        unused = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio")
        command = ("pytest", *unused, *more, *words)
        return self.python("-m", *command, env=env, **options) if fresh else self.forked(*command, env=env, **options)

    def small(self, *words, **options):
        """The suite on ONNX Runtime with a small network, without the benchmarks unless they are named."""
        return self.pytest(*SMALL, *words, **options)

    def compare(self, *words, patch="", isolated=False, **options):
        """ort_comparison.py, with some Python in front."""
        words = words if isolated else (*words, *IN_PARENT)
        script = self.text_file(patched_comparison(patch)) if patch else ROOT / "ort_comparison.py"
        return self.forked(script, *words, **options)

    def notebook(self, place, settings, env=None, timeout=300):
        """Execute the notebook in a folder with some of its settings changed; return it with its outputs."""
        notebook = nbformat.read(ROOT / "nfnet_inference.ipynb", as_version=4)
        cell = next(cell for cell in notebook.cells if cell.id == "settings")
        for name, value in settings.items():
            assert f"{name} = None" in cell.source
            cell.source = cell.source.replace(f"{name} = None", f"{name} = {value!r}")
        path = place / "executed.ipynb"
        nbformat.write(notebook, path)
        own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR"), str(place))  # not the user's kernels
        own |= {"NFNET_ROOT": str(ROOT), **(env or {})}
        words = ("-c", "from nbclient.cli import main; main()", path, "--inplace", f"--timeout={timeout}")
        self.python(*words, env=own, timeout=timeout)
        return nbformat.read(path, as_version=4)


@pytest.fixture(scope="session")
def runner(tmp_path_factory):
    """Commands with a cache of this session."""
    return Runner(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """Engines, models and results of a module, with a cache of its own."""
    with RunContext.create(tmp_path_factory.mktemp("context"), isolation=None) as made:
        yield made


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder for built models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def ref_engine(pytestconfig):
    """MIGraphX with its ref target; tests are skipped if it is missing."""
    try:
        return open_engine("migraphx:ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A classifier that is no NFNet: other names, a fixed batch and size, probabilities."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        other (float[4, 3, 8, 8] pixels) => (float[4, 10] probabilities) {
            flat = Flatten(pixels)
            scores = Gemm <transB = 1> (flat, w)
            probabilities = Softmax(scores)
        }""")
    weights = np.random.default_rng(0).standard_normal((10, 3 * 8 * 8)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """A small network whose file is in half precision, as users have them."""
    return built_model(ModelSpec("test_nfnet", size=(64, 64)), precision("fp16"), tmp_path_factory.mktemp("half"))


@pytest.fixture
def public_folder():
    """A folder that other users may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def write(tmp_path):
    """Write a model or bytes to a file of its own folder and return the path."""

    def writer(content, name="model.onnx"):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return writer
