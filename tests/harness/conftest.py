"""The suite and ort_comparison.py as a user runs them: in a process of their own, with models built once."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")


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


@dataclass(frozen=True)
class Runner:
    """Runs commands of this repository with one cache folder."""

    cache: Path

    def python(self, *words, env=None, cwd=ROOT, timeout=120):
        """Run Python with ``words``."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "NFNET"))}
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(self.cache / "hub")}
        ours = {"NFNET_CACHE_DIR": str(self.cache), "PYTHONDONTWRITEBYTECODE": "1"}
        settings = {**plain, **offline, **ours, **(env or {})}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=cwd, env=settings, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def pytest(self, *words, plugin=None, **options):
        """Run pytest; ``plugin`` is a file with hooks that the run loads besides."""
        env = options.pop("env", {})
        more = ()
        if plugin:
            env = {**env, "PYTHONPATH": str(plugin.parent)}
            more = ("-p", plugin.stem)
        return self.python("-m", "pytest", "-p", "no:cacheprovider", *more, *words, env=env, **options)

    def small(self, *words, **options):
        """The suite on ONNX Runtime with a small network, without the benchmarks unless they are named."""
        return self.pytest(*SMALL, *words, **options)

    def compare(self, *words, **options):
        """ort_comparison.py."""
        return self.python(ROOT / "ort_comparison.py", *words, **options)


@pytest.fixture(scope="session")
def runner(tmp_path_factory):
    """Commands with a cache of this session."""
    return Runner(tmp_path_factory.mktemp("cache"))
