"""Run commands in forks of one process that has imported the large packages, which saves seconds each."""

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORKS = multiprocessing.get_context("forkserver")
# Neither plugins of pytest, nor packages that read the environment when they are imported.
FORKS.set_forkserver_preload(
    [
        *("asyncio", "execnet", "filelock", "ml_dtypes", "msgspec", "multiprocessing.pool", "numpy", "onnx.inliner"),
        *("onnx.reference", "onnx.shape_inference", "onnxruntime", "packaging.requirements", "PIL.Image", "pooch"),
        *("psutil", "pytest", "safetensors.numpy", "scipy.stats", "tqdm", "fixtures.accuracy.runner"),
        *("fixtures.benchmark.ab", "fixtures.report.page", "fixtures.run.quantization"),
    ]
)


def run(name, words, *, cwd, env, timeout):
    """Run a module or a script; return its exit code, standard output and standard error."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, stream) for stream in ("out", "err")]
        process = FORKS.Process(target=_become, args=(str(name), [*map(str, words)], paths, str(cwd), env))
        process.start()
        process.join(timeout)
        process.kill()
        process.join()
        return process.exitcode, *(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def _become(name, words, paths, cwd, env):
    """Do in this process what ``python`` would do in a new one."""
    gc.freeze()  # what is imported stays: collecting garbage among it takes a tenth of a second
    for descriptor, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.dont_write_bytecode, sys.pycache_prefix = False, env["PYTHONPYCACHEPREFIX"]
    sys.argv = [name, *words]
    is_script = name.endswith(".py")
    places = [str(Path(name).parent) if is_script else cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    places = [*filter(None, places)]
    if places != [str(ROOT)]:  # a copy of the suite, or a patch, which must come before it is imported
        for module in [module for module in sys.modules if module.partition(".")[0] == "fixtures"]:
            del sys.modules[module]
    sys.path[:] = [*places, *(path for path in sys.path if path not in {"", str(ROOT)})]
    if is_script:
        runpy.run_path(name, run_name="__main__")
    else:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
