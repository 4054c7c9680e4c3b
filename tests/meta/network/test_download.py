"""Files from URLs: complete and checked or absent; each fault of the network is one error."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.assets import download as module
from fixtures.assets.download import download, model_file, target_path
from fixtures.cache import NOTICES
from fixtures.errors import CacheError, FetchError
from tests.meta.leftovers import left
from tests.meta.network.server import Fault
from tests.meta.terminal import a_terminal

ROOT = Path(__file__).parents[3]
BODY = bytes(range(256)) * 4000 + b"end"  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()
DOWNLOAD = """
import resource, sys
from pathlib import Path
from fixtures.assets.download import download
from fixtures.errors import SuiteError
{before}
try:
    print(download({url!r}, Path({folder!r})))
except SuiteError as error:
    print(error.stage, error)
"""


@pytest.fixture(autouse=True)
def notices(monkeypatch):
    """Notices to the user. Meanwhile there is no second attempt, no long waiting, and no certificate of the user's."""
    monkeypatch.setattr(module, "RETRIES", 0)
    monkeypatch.setattr(module, "TIMEOUT", (2, 1))
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    texts = []
    monkeypatch.setattr(NOTICES, "filters", [lambda record: texts.append(record.getMessage())])
    return texts


@pytest.fixture
def url(site):
    """URL of a file of 1 MB."""
    return site.put("/models/net.onnx", BODY)


def process(url, folder, *, before="", **streams):
    """Start a process that downloads."""
    code = DOWNLOAD.format(before=before, url=url, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **streams)


@pytest.mark.parametrize("body", ["complete", "chunked", "slow"])
def test_a_file_is_downloaded_once(site, url, tmp_path, body):
    site.faults = [Fault(body=body)]
    for _ in range(2):
        path = download(url, tmp_path)
        assert path.read_bytes() == BODY
    assert path == target_path(url, tmp_path)
    assert len(site.requests) == 1
    assert left(tmp_path) == ["net.onnx"]


def test_late_download_is_an_error(site, url, tmp_path):
    site.faults = [Fault(body="slow")]
    with pytest.raises(FetchError, match=module.LATE) as error:
        download(url, tmp_path, seconds=0.1)
    assert "--download-seconds" in error.value.hint


REDIRECT = {"Location": "http://example.com/net.onnx"}
FAULTS = {
    "401": (Fault(401), "401"),
    "404": (Fault(404), "404"),
    "429": (Fault(429), "429"),
    "500": (Fault(500), "500"),
    "no content": (Fault(204), "204"),
    "truncated": (Fault(body="truncated"), "IncompleteRead"),
    "stalled": (Fault(body="stalled"), "timed out"),
    "silent": (Fault(body="silent"), "timed out"),
    "redirect to http": (Fault(302, REDIRECT), module.NOT_HTTPS),
    "redirect loop": ([Fault(302, {"Location": "/models/net.onnx"})] * 31, "30 redirects"),
    "web page": (Fault(headers={"Content-Type": "text/html; charset=utf-8"}), module.WEB_PAGE),
    "no length": (Fault(headers={"Content-Length": "", "Connection": "close"}), module.NO_LENGTH),
}


@pytest.mark.parametrize(("faults", "text"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_and_leaves_no_file(site, url, tmp_path, faults, text):
    site.faults = list(faults) if isinstance(faults, list) else [faults]
    with pytest.raises(FetchError) as caught:
        download(url, tmp_path)
    assert text in caught.value.what
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) == 1
    assert left(tmp_path) == []
    assert download(url, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("name", ["401", "404", "429", "500", "truncated", "stalled", "redirect to http", "web page"])
def test_only_a_passing_fault_is_retried(site, url, tmp_path, monkeypatch, name):
    """Where another attempt would fail alike there is none."""
    lasts = name in {"401", "404", "redirect to http", "web page"}
    monkeypatch.setattr(module, "RETRIES", 2)
    site.faults = [FAULTS[name][0]] * 2
    with pytest.raises(FetchError) if lasts else contextlib.nullcontext():
        assert download(url, tmp_path, SHA256).read_bytes() == BODY
    assert len(site.requests) == (1 if lasts else 3)


def test_an_unreachable_server_is_a_fetch_error(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(FetchError, match="Connection refused"):
        download("https://127.0.0.1:9/net.onnx", tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchError, match="Name or service not known"):
        download("https://models.example/net.onnx", tmp_path)
    with pytest.raises(FetchError):
        download("https://a..b/net.onnx", tmp_path)
    assert left(tmp_path) == []


def test_tls_is_verified(tls_site, certificate, tmp_path, monkeypatch):
    """A server with an unknown certificate sends nothing; one that $REQUESTS_CA_BUNDLE names does."""
    url = tls_site.put("/models/net.onnx", BODY)
    with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
        download(url, tmp_path)
    assert tls_site.requests == []
    assert left(tmp_path) == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert download(url, tmp_path).read_bytes() == BODY


def test_a_checksum_in_the_url_is_verified(site, url, tmp_path):
    """A file that is there is compared too, and replaced only by the right one."""
    path = model_file(f"{url}#sha256={SHA256.upper()}", tmp_path)
    assert model_file(f"{url}#sha256={SHA256}", tmp_path) == path
    assert len(site.requests) == 1
    path.write_bytes(BODY[::-1])
    assert model_file(f"{url}#sha256={SHA256}", tmp_path).read_bytes() == BODY
    site.put("/models/net.onnx", b"changed")
    with pytest.raises(FetchError, match=hashlib.sha256(b"changed").hexdigest()):
        model_file(f"{url}#sha256={64 * '0'}", tmp_path)
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize("sha256", ["", "12", 64 * "x"])
def test_half_a_checksum_is_refused(tmp_path, sha256):
    with pytest.raises(FetchError, match=module.INVALID_CHECKSUM):
        model_file(f"https://example.com/net.onnx#sha256={sha256}", tmp_path)


def test_a_download_without_checksum_warns_with_the_one_it_got(url, tmp_path, notices):
    """Once, and not if the URL has a checksum."""
    for folder, address in (("a", url), ("a", url), ("b", f"{url}#sha256={SHA256}")):
        model_file(address, tmp_path / folder)
    assert notices == [f"{url}: {module.NO_CHECKSUM} #sha256={SHA256}"]


def test_progress_is_shown_on_a_terminal_only(url, tmp_path):
    with a_terminal() as (shown, terminal):
        assert process(url, tmp_path / "terminal", stderr=terminal).wait(60) == 0
    assert b"100%" in shown
    assert "%" not in process(url, tmp_path / "pipe", stderr=subprocess.PIPE).communicate(timeout=60)[1]


def test_a_full_disk_is_a_cache_error(url, tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (600000, resource.RLIM_INFINITY))"
    out, _ = process(url, tmp_path, before=limit, stdout=subprocess.PIPE).communicate(timeout=60)
    assert out.startswith("cache ")
    assert len(out.splitlines()) == 1
    assert left(tmp_path) == []
    assert download(url, tmp_path).read_bytes() == BODY


def test_a_folder_that_cannot_be_written_is_a_cache_error(url, tmp_path):
    (tmp_path / "fetched").touch()
    with pytest.raises(CacheError):
        download(url, tmp_path)


def test_a_killed_download_leaves_no_file(site, url, tmp_path):
    site.faults = [Fault(body="stalled")]
    killed = process(url, tmp_path)
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size for path in tmp_path.rglob("tmp*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert left(tmp_path)
    assert not target_path(url, tmp_path).exists()
    assert download(url, tmp_path).read_bytes() == BODY
    assert left(tmp_path) == ["net.onnx"]


def test_concurrent_processes_download_once(site, url, tmp_path):
    site.faults = [Fault(body="slow")]
    both = [process(url, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    paths = {started.communicate(timeout=60)[0].strip() for started in both}
    assert paths == {str(target_path(url, tmp_path))}
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://example.com/a.onnx", module.NOT_HTTPS),
        ("http://localhost/a.onnx", module.NOT_HTTPS),
        ("http://127.0.0.1.example.com/a.onnx", module.NOT_HTTPS),
        ("ftp://example.com/a.onnx", module.INVALID_URL),
        ("file:///etc/passwd", module.INVALID_URL),
        ("https://", module.INVALID_URL),
        ("https://[::1/a", module.INVALID_URL),
        ("https://host:port/a", module.INVALID_URL),
        ("https://me:secret@example.com/a.onnx", module.HAS_LOGIN),
    ],
)
def test_urls_without_tls_or_with_a_login_are_refused(url, text):
    """The password is not repeated."""
    with pytest.raises(FetchError, match=text) as caught:
        module.check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://example.com/a", "http://127.0.0.1:80/a", "http://[::1]:80/a"])
def test_https_and_loopback_urls_are_accepted(url):
    """Loopback by number only."""
    module.check_url(url)


@pytest.mark.parametrize("target", ["https://127.0.0.1/c", "http://127.0.0.1/c", "http://[::1]/c"])
def test_a_redirect_from_the_network_to_loopback_is_refused(target):
    module.check_redirect("https://example.com/a/b", "../c")
    with pytest.raises(FetchError, match=module.TO_LOOPBACK):
        module.check_redirect("https://example.com/a", target)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x/a/net.onnx?dl=1#top", "net.onnx"),
        ("https://x/a/..%2F..%2Fetc", "_2F.._2Fetc"),
        ("https://x/", "file"),
        ("https://x/.ssh", "ssh"),
        ("https://x/" + "a" * 500, "a" * 120),
    ],
)
def test_file_names_stay_in_their_folder(url, name):
    assert module.file_name(url) == name


def test_a_url_has_a_path_before_it_is_fetched(tmp_path):
    path = model_file("https://example.com/dm_nfnet_f0.onnx?dl=1", tmp_path, fetch=False)
    assert path.name == "dm_nfnet_f0.onnx"
    assert not path.exists()
    assert model_file(tmp_path, tmp_path) == tmp_path
