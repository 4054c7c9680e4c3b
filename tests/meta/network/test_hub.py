"""Published weights from a hub on this machine: into a running case, once, and each fault in one clear line."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib import util
from pathlib import Path

import pytest
from PIL import Image

from fixtures.assets.hub import cached
from fixtures.assets.hub import check as check_file
from fixtures.errors import CacheError, SuiteError
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from tests.meta.unprivileged import unprivileged_user

ROOT = Path(__file__).parents[3]
REPOSITORY = "timm/test_nfnet.r160_in1k"
FILE, CONTENTS = f"/{REPOSITORY}/resolve/main/model.safetensors", f"/cdn/{REPOSITORY}/main/model.safetensors"
BY_HAND = f"hf download {REPOSITORY} model.safetensors"
CASE = "onnxruntime:cpu-test_nfnet@64+pretrained-fp32-b1"
JUDGE = (
    "tests/conformance/test_agreement.py",
    "--engine",
    "onnxruntime:cpu",
    "--variant",
    "test_nfnet",
    "--image-size",
    "64",
    "--precision",
    "fp32",
    "--batch",
    "1",
)
USAGE = 4
TRY = """
import sys, resource
from pathlib import Path
from fixtures.assets import hub
from fixtures.errors import SuiteError
for _ in range({times}):
    try:
        print("good", hub.fetched(hub.offer({repository!r}), Path({notes!r})), flush=True)
    except SuiteError as error:
        print(type(error).__name__, error, flush=True)
"""


def fetching(hub, notes, *, times=1, before=""):
    """A process that wants the file, so many times."""
    code = before + TRY.format(times=times, repository=REPOSITORY, notes=str(notes))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **hub.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(hub, notes, **settings):
    """What such a process says."""
    out, err = fetching(hub, notes, **settings).communicate(timeout=60)
    assert "Traceback" not in err
    return out.splitlines()


def blobs(hub):
    """Files of the hub's cache that hold contents, whole or not."""
    return [path for path in Path(hub.env["HF_HUB_CACHE"]).rglob("blobs/*") if path.is_file()]


def test_into_a_running_case(hub, runner, tmp_path):
    """Fetched, checked, built and judged; then from the cache without network, by default."""
    env = {**hub.env, "NFNET_CACHE_DIR": str(tmp_path / "cache")}
    done = runner.pytest(*JUDGE, "--weights", "pretrained", env=env)
    assert done.code == 0, done.text
    assert f"\npass {CASE} " in done.out
    assert f"weights of test_nfnet: pretrained ({REPOSITORY}, fetched now)" in done.out
    assert len(hub.bodies_sent()) == 1
    asked = len(hub.asked)
    again = runner.pytest(*JUDGE, env={**env, "HF_HUB_OFFLINE": "1"})
    assert again.code == 0, again.text
    assert f"weights of test_nfnet: pretrained ({REPOSITORY}, in the hub's cache)" in again.out
    assert f"\npass {CASE} " in again.out
    assert len(hub.asked) == asked


@pytest.mark.parametrize("photographs", [False, True])
def test_from_a_shell(hub, runner, tmp_path, photographs):
    """ort_comparison.py takes them too, and says so; it asks for no other network than the one that was named."""
    words = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")
    Image.new("RGB", (80, 70)).save(tmp_path / "black.png")
    what = ("--images", tmp_path / "black.png") if photographs else ("--inputs", "1")
    done = runner.compare(*words, *what, env={**hub.env, "NFNET_CACHE_DIR": str(tmp_path)})
    assert done.code == 0, done.text
    assert f"weights    pretrained ({REPOSITORY}, fetched now)" in done.out
    assert "test_nfnet@64+pretrained" in done.out
    assert all(REPOSITORY in path for _, path, _ in hub.asked)


@pytest.mark.skipif(util.find_spec("xdist") is None, reason="pytest-xdist is not installed: pip install pytest-xdist")
def test_side_by_side_processes_fetch_once(hub, runner, tmp_path):
    """The main process decides and fetches; its workers are told."""
    done = runner.pytest(*JUDGE, "-n", "2", env={**hub.env, "NFNET_CACHE_DIR": str(tmp_path)})
    assert done.code == 0, done.text
    assert f"\npass {CASE} " in done.out
    assert len(hub.bodies_sent()) == 1
    assert len(hub.asked) <= 5


@pytest.mark.parametrize(
    "words",
    [
        (*JUDGE, "--collect-only", "--weights", "pretrained"),
        ("tests/meta/test_variants.py", *JUDGE[1:]),
        (JUDGE[0], "--collect-only", "--model=https://127.0.0.2:9/net.onnx"),
        (*JUDGE, "--markers"),
        (*JUDGE, "--fixtures"),
        (*JUDGE, "--fixtures-per-test"),
    ],
    ids=["collecting", "tests of the suite", "collecting an address", "markers", "fixtures", "fixtures of tests"],
)
def test_where_nothing_is_judged_nothing_is_asked(hub, runner, words):
    """Neither to collect nor for tests of the suite itself."""
    done = runner.pytest(*words, env=hub.env)
    assert done.code == 0, done.text
    assert hub.asked == []


@pytest.mark.parametrize(
    ("moods", "words"),
    [
        (["silent"], "no pretrained ones: the hub (did not answer within|cannot be used)"),
        ([(500,)], "no pretrained ones: the hub answered with status 500"),
        ([], "the pretrained ones have 5.0 GB; --weights pretrained fetches them"),
    ],
    ids=["silent", "500", "too large"],
)
def test_by_default_a_bad_hub_costs_little(hub, runner, moods, words):
    """The run goes on with seeded weights, and the header says why."""
    hub.moods = moods or [
        (
            302,
            {
                "Location": hub.store + CONTENTS,
                "X-Repo-Commit": "0" * 40,
                "X-Linked-Etag": '"x"',
                "X-Linked-Size": "5000000000",
            },
        )
    ]
    begun = time.monotonic()
    done = runner.pytest(*JUDGE, env=hub.env)
    assert done.code == 0, done.text
    assert re.search(rf"weights of test_nfnet: seeded \({words}", done.out), done.out
    assert "\npass onnxruntime:cpu-test_nfnet@64-fp32-b1 " in done.out
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("mood", "asked"),
    [((404,), True), ((401,), True), ((429, {"Retry-After": "60"}), False), ((500,), False)],
    ids=lambda value: str(value[0] if isinstance(value, tuple) else value),
)
def test_one_file_that_is_refused_says_nothing_of_others(hub, runner, tmp_path, mood, asked):
    """By default the next network is asked for too; a hub that is busy or broken is asked once a run."""
    hub.moods = [mood]
    code = f"""
from pathlib import Path
from fixtures.weight_sources import Origins
origins = Origins("auto", Path({str(tmp_path)!r}))
print(*(origins.of(name).why for name in ("nf_regnet_b1", "test_nfnet")), sep="\\n")
"""
    done = runner.python("-c", code, env=hub.env)
    first, second = done.out.splitlines()
    assert first.startswith("no pretrained ones: ")
    assert second == (f"{REPOSITORY}, fetched now" if asked else first.partition(": ")[2])
    assert any(REPOSITORY in path for _, path, _ in hub.asked) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (JUDGE[3:5], f"HF_HUB_OFFLINE is set, and .* -> on a machine with network: {BY_HAND} .* then --weights=FILE"),
        ((*JUDGE[3:5], "--seed", "3"), "--seed makes seeded weights, not pretrained -> leave one of them out"),
        (("--model=x.onnx",), "--weights says how a model is built, but --model gives one -> leave one of them out"),
    ],
    ids=["offline", "seed", "model"],
)
def test_weights_that_cannot_be_had(runner, words, message):
    """Asked for, they are a usage error of one line, which says how to get the file by hand."""
    done = runner.pytest(*JUDGE[:3], *words, "--weights", "pretrained")
    assert done.code == USAGE, done.text
    (line,) = [line for line in done.err.splitlines() if line.startswith("ERROR: ")]
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("http://127.0.0.1:9", "the hub cannot be used (ConnectError"),
        ("http://mirror.example", "plain http can be changed on its way -> use https"),
    ],
)
def test_mirrors_that_are_none(hub, tmp_path, mirror, words):
    """Nobody there; one that anybody could change."""
    hub.env["HF_ENDPOINT"] = mirror
    (line,) = lines(hub, tmp_path)
    assert line.startswith(f"FetchError {mirror}/{REPOSITORY}")
    assert words in line


def test_refusals_of_the_hub(hub, tmp_path):
    """Each says what it means and what to do; afterwards the file can be had."""
    elsewhere = (307, {"Location": "http://x.example/"})
    hub.moods = [(401,), (403,), (404,), (429, {"Retry-After": "60"}), (500,), (502,), elsewhere]
    texts = [
        "is not there, or is for members only (status 401) -> make a token on the hub's site, then: hf auth login",
        "is for members only (status 403) -> accept its terms",
        "is not there (status 404) -> check the mirror",
        "too many requests (status 429) -> wait, or use a token",
        "the hub answered with status 500",
        "the hub answered with status 502",
        "http://x.example/: plain http can be changed on its way",
    ]
    said = lines(hub, tmp_path, times=len(texts) + 1)
    for line, text in zip(said, texts, strict=False):
        assert line.startswith(("FetchError ", "FileRefused "))
        assert text in line
    assert all(BY_HAND in line for line in said[:6])
    assert said[-1].startswith("good ")
    assert len(said) == len(texts) + 1


@pytest.mark.parametrize("mood", ["cut", "stall", (429, {"Retry-After": "0"})], ids=str)
def test_a_download_that_breaks_off_goes_on(hub, weights, tmp_path, mood):
    """The hub's library continues where the connection broke."""
    hub.moods = ["good", "good", mood]
    (line,) = lines(hub, tmp_path)
    kind, _, path = line.partition(" ")
    assert kind == "good", line
    assert Path(path).read_bytes() == weights
    assert len(blobs(hub)) == 1


def test_a_download_that_fails_leaves_nothing(hub, weights, tmp_path):
    """Refused, changed on its way, too large for the disk: one line each, and the next try has the right file."""
    hub.moods = ["good", "good", (500,)]
    changed = weights[:-4] + bytes(4)
    hub.files[CONTENTS] = (changed, hub.files[FILE][1])
    said = lines(hub, tmp_path, times=2)
    assert "the hub answered with status 500" in said[0]
    assert "the file has the checksum" in said[1]
    assert "it was removed -> try again" in said[1]
    assert blobs(hub) == []
    hub.files[CONTENTS] = (weights, "")
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))\n"
    (full,) = lines(hub, tmp_path, before=limit)
    assert full.startswith("CacheError ")
    assert "the disk is full -> free space, or name another folder with $HF_HOME" in full
    (good,) = lines(hub, tmp_path)
    assert Path(good.partition(" ")[2]).read_bytes() == weights
    assert len(blobs(hub)) == 1


def test_a_cache_that_cannot_be_written(hub, tmp_path):
    """A file in the way: that is not the hub's fault."""
    Path(hub.env["HF_HOME"]).mkdir()
    Path(hub.env["HF_HUB_CACHE"]).touch()
    (line,) = lines(hub, tmp_path)
    assert line.startswith(f"CacheError {hub.env['HF_HUB_CACHE']}")
    assert "the hub's cache cannot be written: Not a directory -> name another folder with $HF_HOME" in line


def test_a_token_is_shown_to_the_hub_only(hub, tmp_path):
    """Not to where it keeps its files, nor in an error."""
    hub.env["HF_TOKEN"] = "hf_secret"  # noqa: S105 - no token at all
    hub.moods = [(401,)]
    refused, good = lines(hub, tmp_path, times=2)
    assert "(status 401)" in refused
    assert "secret" not in refused
    assert good.startswith("good ")
    assert {("/cdn/" in path, token) for path, token in hub.tokens} == {(False, "Bearer hf_secret"), (True, None)}


@pytest.mark.parametrize("which", ["auto", "pretrained"])
def test_a_cached_file_that_is_none(hub, runner, which):
    """By default the run goes on with seeded weights and says why; who asked for pretrained ones gets an error."""
    hub.put(FILE, b"no weights")
    hub.put(CONTENTS, b"no weights")
    hub_cache = Path(hub.env["HF_HUB_CACHE"]) / f"models--{REPOSITORY.replace('/', '--')}"
    (hub_cache / "snapshots" / "0").mkdir(parents=True)
    (hub_cache / "refs").mkdir()
    (hub_cache / "refs" / "main").write_text("0")
    (hub_cache / "snapshots" / "0" / "model.safetensors").write_bytes(b"no weights")
    done = runner.pytest(*JUDGE, "--weights", which, env=hub.env | {"HF_HUB_OFFLINE": "1"})
    if which == "pretrained":
        assert done.code == 4, done.text
        assert "model.safetensors" in done.err
        return
    assert done.code == 0, done.text
    assert "weights of test_nfnet: seeded (the pretrained ones in the hub's cache cannot be used: " in done.out


def test_a_model_by_its_address(site, runner, tmp_path):
    """Fetched once, judged, and then taken from the cache."""
    url = site.put("/models/net.onnx", _net())
    env = {"NFNET_CACHE_DIR": str(tmp_path / "cache")}
    words = (JUDGE[0], "--engine", "onnxruntime:cpu", "--precision", "fp32", "--batch", "1")
    for _ in range(2):
        done = runner.pytest(*words, f"--model={url}", env=env)
        assert done.code == 0, done.text
        assert "pass onnxruntime:cpu-net-fp32-b1 " in done.out
    assert len(site.asked) == 1


def _net():
    """A small network of this suite as an ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        spec = ModelSpec("test_nfnet", None, (64, 64))
        return built_model(spec, precision("fp32"), Path(folder)).read_bytes()


def test_a_file_that_changes_in_the_cache(hub, tmp_path):
    """It is checked once, and again when it has changed; then it is removed."""
    (good,) = lines(hub, tmp_path)
    path = Path(good.partition(" ")[2])
    (note,) = (tmp_path / "checked").glob("*.json")
    note.write_text("{")
    assert lines(hub, tmp_path)[0].startswith("good")
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    assert "it was removed" in lines(hub, tmp_path)[0]
    assert not path.exists()


def of_the_cache(folder, body=b"weights", name=None):
    """A file as the hub's cache has it: a link to contents that are named by their checksum."""
    blob = folder / (name or hashlib.sha256(body).hexdigest())
    blob.write_bytes(body)
    link = folder / "model.safetensors"
    link.symlink_to(blob)
    return link


def test_a_note_that_cannot_be_written_is_only_slower(tmp_path):
    """A file where notes should be."""
    path = of_the_cache(tmp_path)
    (tmp_path / "checked").touch()
    for _ in range(2):
        check_file(path, tmp_path)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("closed", ["blob", "folder"])
def test_a_file_that_may_not_be_read_or_removed_is_named(closed):
    """As in a cache that users share."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o555)
        path = of_the_cache(folder, name="0" * 64)
        path.chmod(0o000 if closed == "blob" else 0o444)
        words = {
            "blob": ("CacheError", "cannot be read: Permission denied -> mend its permissions"),
            "folder": ("FileRefused", "it cannot be removed: Permission denied -> try again"),
        }
        with unprivileged_user(), pytest.raises(SuiteError) as caught:
            check_file(path, folder / "notes")
        kind, text = words[closed]
        assert type(caught.value).__name__ == kind
        assert text in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_cache_that_may_not_be_read_is_no_crash(monkeypatch):
    """To some versions of Python it is empty, to others closed."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", name)
        (Path(name) / f"models--{REPOSITORY.replace('/', '--')}").mkdir()
        Path(name).chmod(0o000)
        with unprivileged_user(), contextlib.suppress(CacheError):
            assert cached(REPOSITORY) is None


def test_a_killed_download_leaves_an_intact_cache(hub, weights, tmp_path):
    """After SIGKILL in the middle the next try has the whole file."""
    hub.moods = ["good", "good", "stall"]
    process = fetching(hub, tmp_path)
    deadline = time.monotonic() + 20
    while not hub.bodies_sent() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.let_go.set()
    (line,) = lines(hub, tmp_path)
    assert Path(line.partition(" ")[2]).read_bytes() == weights


def test_two_processes_at_once(hub, weights, tmp_path):
    """One fetches, the other waits."""
    hub.moods = ["good"] * 4 + ["half a second"]
    both = [fetching(hub, tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert all(line.startswith("good ") for line in said)
    assert Path(said[0].split()[1]).read_bytes() == weights
    assert len(hub.bodies_sent()) == 1
