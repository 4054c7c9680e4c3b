"""Pretrained weights from the hub: into a case, once; each fault of the hub is one error."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fixtures.assets import download
from fixtures.assets import hub as module
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from tests.meta.leftovers import left
from tests.meta.network.conftest import REPOSITORY
from tests.meta.network.server import Fault

ROOT = Path(__file__).parents[3]
CONTENTS = f"/cdn/{REPOSITORY}/main/model.safetensors"
CASE = "onnxruntime:cpu-test_nfnet@64+pretrained-fp32-b1"
AGREEMENT = "tests/conformance/test_agreement.py"
SMALL = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")
OPTIONS = (*SMALL, "--precision", "fp32", "--batch", "1")
USAGE_ERROR = 4
FETCH = f"""
import resource, socket, sys
from pathlib import Path
from fixtures.assets import hub
from fixtures.errors import SuiteError
{{before}}
for _ in range({{times}}):
    try:
        hub.file_size({REPOSITORY!r})
        print("path", hub.fetch({REPOSITORY!r}), flush=True)
    except SuiteError as error:
        print(type(error).__name__, error, flush=True)
"""


def fetch(hub, *, times=1, before="", **env):
    """Fetch the weights so many times in a process; return pairs of "path" or the error's class, and the rest."""
    command = [sys.executable, "-c", FETCH.format(times=times, before=before)]
    env = {"PATH": "/usr/bin:/bin", **hub.env, **env}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in done.stderr
    return [tuple(line.split(" ", 1)) for line in done.stdout.splitlines()]


def blobs(hub):
    """Files of the hub's cache that hold contents, complete or not."""
    return [path for path in Path(hub.env["HF_HUB_CACHE"]).rglob("blobs/*") if path.is_file()]


def test_pretrained_weights_reach_a_case(hub, runner, tmp_path):
    """Fetched, checked, built and judged; then taken from the cache without network, by default."""
    env = {**hub.env, "NFNET_CACHE_DIR": str(tmp_path / "cache")}
    first = runner.pytest(AGREEMENT, *OPTIONS, "--weights", "pretrained", env=env)
    assert f"\npass {CASE} " in first.out
    assert f"weights of test_nfnet: pretrained ({REPOSITORY}, fetched now)" in first.out
    requests = len(hub.requests)
    second = runner.pytest(AGREEMENT, *OPTIONS, env={**env, "HF_HUB_OFFLINE": "1"})
    assert f"\npass {CASE} " in second.out
    assert f"weights of test_nfnet: pretrained ({REPOSITORY}, in the hub's cache)" in second.out
    assert len(hub.bodies_sent()) == 1
    assert len(hub.requests) == requests


def test_late_download_is_an_error(hub):
    """The library itself has no deadline for a whole file."""
    before = "from functools import partial; hub.fetch = partial(hub.fetch, seconds=1e-3)"
    ((kind, text),) = fetch(hub, before=before)
    assert kind == "FetchError"
    assert download.LATE in text


def test_pretrained_weights_reach_the_command_line(hub, runner, tmp_path):
    """Only the variant that is named is fetched."""
    Image.new("RGB", (80, 70)).save(tmp_path / "black.png")
    env = {**hub.env, "NFNET_CACHE_DIR": str(tmp_path)}
    done = runner.compare(*SMALL, "--images", tmp_path / "black.png", env=env)
    assert f"pretrained ({REPOSITORY}, fetched now)" in done.out
    assert "test_nfnet@64+pretrained" in done.out
    assert all(REPOSITORY in path for _, path, _ in hub.requests)


def test_xdist_workers_do_not_ask_the_hub(hub, runner, tmp_path):
    """The main process fetches and sends its decisions."""
    done = runner.pytest(AGREEMENT, *OPTIONS, "-n", "2", env={**hub.env, "NFNET_CACHE_DIR": str(tmp_path)})
    assert f"\npass {CASE} " in done.out
    assert len(hub.bodies_sent()) == 1
    assert len(hub.requests) <= 5


@pytest.mark.parametrize(
    "words",
    [
        (AGREEMENT, *OPTIONS, "--collect-only", "--weights", "pretrained"),
        (AGREEMENT, "--collect-only", "--model=https://127.0.0.2:9/net.onnx"),
        (AGREEMENT, *OPTIONS, "--markers"),
        ("tests/meta/test_variants.py", *OPTIONS),
    ],
    ids=["collect", "collect a URL", "markers", "meta tests"],
)
def test_a_run_without_cases_does_not_use_the_network(hub, runner, words):
    runner.pytest(*words, env=hub.env)
    assert hub.requests == []


LARGE = Fault(headers={"X-Linked-Size": "5000000000"})
AUTO = {
    "silent": (Fault(body="silent"), module.UNREACHABLE),
    "500": (Fault(500), "500"),
    "large": (LARGE, "5.0 GB; --weights pretrained"),
}


@pytest.mark.parametrize(("fault", "text"), AUTO.values(), ids=AUTO)
def test_auto_does_not_depend_on_the_hub(hub, runner, fault, text):
    """The run continues with seeded weights after a short time, and its header says why."""
    hub.faults = [fault]
    start = time.monotonic()
    done = runner.pytest(AGREEMENT, *OPTIONS, env={**hub.env, "HF_HUB_ETAG_TIMEOUT": "60"})
    (header,) = [line for line in done.out.splitlines() if line.startswith("weights of test_nfnet: seeded")]
    assert text in header
    assert "\npass onnxruntime:cpu-test_nfnet@64-fp32-b1 " in done.out
    assert time.monotonic() - start < 40
    assert hub.bodies_sent() == []


@pytest.mark.parametrize(("fault", "asked"), [(Fault(404), True), (Fault(500), False)], ids=str)
def test_auto_asks_a_hub_that_is_unavailable_only_once(hub, runner, tmp_path, fault, asked):
    """If the hub refuses one file it may still have the next."""
    hub.faults = [fault]
    code = f"""
from pathlib import Path
from fixtures.weight_sources import WeightSources
sources = WeightSources("auto", Path({str(tmp_path)!r}))
print(*(sources.of(name).weights for name in ("nf_regnet_b1", "test_nfnet")))
"""
    done = runner.python("-c", code, env=hub.env)
    assert done.out.split() == ["seeded", "pretrained" if asked else "seeded"], done.text
    assert any(REPOSITORY in path for _, path, _ in hub.requests) == asked


def test_requested_weights_without_a_network_are_a_usage_error(runner):
    done = runner.pytest(AGREEMENT, *OPTIONS, "--weights", "pretrained", code=USAGE_ERROR)
    (line,) = [line for line in done.err.splitlines() if line.startswith("ERROR: ")]
    assert "HF_HUB_OFFLINE" in line
    assert " -> " in line


GATED = Fault(403, {"X-Error-Code": "GatedRepo"})
NO_REPOSITORY = Fault(401, {"X-Error-Code": "RepoNotFound"})
FAULTS = [
    (GATED, "FetchError", module.REFUSED),
    (Fault(404), "FetchError", "404 "),
    (Fault(429), "HubUnavailable", "429 "),
    (Fault(503), "HubUnavailable", "503 "),
    (Fault(body="silent"), "HubUnavailable", module.UNREACHABLE),
    (Fault(302, {"Location": "http://x.example/"}), "FetchError", download.NOT_HTTPS),
]


def test_a_refusal_of_the_hub_is_one_line(hub):
    """It says how to get the file by hand, and the next attempt succeeds."""
    hub.faults = [fault for fault, _, _ in FAULTS]
    lines = fetch(hub, times=len(FAULTS) + 1)
    for (kind, text), (_, expected, part) in zip(lines, FAULTS, strict=False):
        assert kind == expected
        assert part in text
    assert all(module.by_hand(REPOSITORY) in text for _, text in lines[:4])
    assert lines[len(FAULTS)][0] == "path"
    assert len(lines) == len(FAULTS) + 1


UNKNOWN_HOST = """
def unknown(*_, **__):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
socket.getaddrinfo = unknown
"""
HANGING_DNS = "import time; socket.getaddrinfo = lambda *_, **__: time.sleep(100)"
ENDPOINTS = [
    ("http://127.0.0.1:9", "", "HubUnavailable", module.UNREACHABLE),
    ("https://hub.example", UNKNOWN_HOST, "HubUnavailable", module.UNREACHABLE),
    ("https://hub.example", HANGING_DNS, "HubUnavailable", module.UNREACHABLE),
    ("http://hub.example", "", "FetchError", download.NOT_HTTPS),
]


@pytest.mark.parametrize(("endpoint", "before", "kind", "text"), ENDPOINTS, ids=["port", "DNS", "hanging DNS", "http"])
def test_an_unusable_endpoint_is_one_line(hub, endpoint, before, kind, text):
    """A closed port, an unknown host, name resolution without end, and a hub without TLS."""
    ((found, line),) = fetch(hub, before=before, HF_ENDPOINT=endpoint)
    assert found == kind
    assert text in line
    assert endpoint in line


def test_tls_of_the_hub_is_verified(tls_hub, certificate, weights, tmp_path):
    """A hub with an unknown certificate gives nothing; one that $SSL_CERT_FILE names is trusted."""
    ((kind, line),) = fetch(tls_hub)
    assert kind == "HubUnavailable"
    assert "CERTIFICATE_VERIFY_FAILED" in line
    assert left(tmp_path) == []
    ((kind, path),) = fetch(tls_hub, SSL_CERT_FILE=str(certificate))
    assert kind == "path"
    assert Path(path).read_bytes() == weights


def test_a_failed_download_leaves_no_file(hub, weights):
    """A server error, a broken connection with changed contents, a full disk; the next attempt succeeds."""
    hub.faults = [Fault(), Fault(), Fault(500), Fault(), Fault(), Fault(body="truncated")]
    hub.files[CONTENTS] = weights[:-4] + bytes(4)
    (refused, line), (changed, text) = fetch(hub, times=2)
    assert (refused, changed) == ("HubUnavailable", "FetchError")
    assert "500 " in line
    assert module.WRONG_CHECKSUM in text
    assert blobs(hub) == []
    hub.files[CONTENTS] = weights
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))"
    assert [kind for kind, _ in fetch(hub, before=limit)] == ["CacheError"]
    assert blobs(hub) == []
    ((_, path),) = fetch(hub)
    assert Path(path).read_bytes() == weights


def test_a_hub_cache_that_cannot_be_written_is_a_cache_error(hub):
    Path(hub.env["HF_HOME"]).mkdir()
    Path(hub.env["HF_HUB_CACHE"]).touch()
    ((kind, line),) = fetch(hub)
    assert kind == "CacheError"
    assert line.startswith(hub.env["HF_HUB_CACHE"])


def test_a_token_is_sent_to_the_hub_only(hub):
    """Not to the host of the contents, and it is in no error."""
    hub.faults = [NO_REPOSITORY]
    (kind, line), (last, _) = fetch(hub, times=2, HF_TOKEN="hf_secret")  # noqa: S106
    assert (kind, last) == ("FetchError", "path")
    assert "secret" not in line
    tokens = {("/cdn/" in path, token) for _, path, token in hub.requests}
    assert tokens == {(False, "Bearer hf_secret"), (True, None)}


@pytest.mark.parametrize(
    ("choice", "code", "text"),
    [
        ("auto", 0, "weights of test_nfnet: seeded (no pretrained weights: "),
        ("pretrained", USAGE_ERROR, "model.safetensors: "),
    ],
)
def test_a_cached_file_that_is_not_safetensors_is_refused(hub, runner, choice, code, text):
    """By default the run continues with seeded weights; requested weights are a usage error."""
    folder = Path(hub.env["HF_HUB_CACHE"]) / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    (folder / "snapshots" / "0" / "model.safetensors").write_bytes(b"no weights")
    done = runner.pytest(AGREEMENT, *OPTIONS, "--weights", choice, env=hub.env | {"HF_HUB_OFFLINE": "1"}, code=code)
    assert text in done.text


def test_a_cached_file_that_changed_is_removed(hub):
    """Its checksum is its name."""
    ((_, name),) = fetch(hub)
    path = Path(name)
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    ((kind, line),) = fetch(hub)
    assert kind == "FetchError"
    assert module.WRONG_CHECKSUM in line
    assert not path.exists()


def test_a_model_is_judged_by_its_url(site, runner, tmp_path):
    spec = ModelSpec("test_nfnet", None, (64, 64))
    url = site.put("/models/net.onnx", built_model(spec, precision("fp32"), tmp_path / "models").read_bytes())
    words = (AGREEMENT, "--engine", "onnxruntime:cpu", "--precision", "fp32", "--batch", "1", f"--model={url}")
    for _ in range(2):
        done = runner.pytest(*words, env={"NFNET_CACHE_DIR": str(tmp_path / "cache")})
        assert "pass onnxruntime:cpu-net-fp32-b1 " in done.out
    assert len(site.requests) == 1
