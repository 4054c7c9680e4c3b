"""Real TLS on this machine: who is not trusted gives nothing, who is named in either variable is trusted everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.assets.address import CERTIFICATES, share_certificates
from fixtures.assets.download import Patience, download
from fixtures.errors import FetchError
from tests.meta.leftovers import left

ROOT = Path(__file__).parents[3]
BODY = bytes(range(256)) * 4000
QUICK = Patience(connect_seconds=2, stall_seconds=0.3, attempts=1, pause_seconds=0.01)
HUB = """
import sys
from pathlib import Path
from fixtures.assets import hub
from fixtures.errors import SuiteError
try:
    print("good", hub.fetched(hub.offer("timm/test_nfnet.r160_in1k"), Path(sys.argv[1])))
except SuiteError as error:
    print(type(error).__name__, error)
"""
HINT = "-> name the file of certificates that your network uses with $REQUESTS_CA_BUNDLE or $SSL_CERT_FILE"


@pytest.fixture(autouse=True)
def nobody_trusted(monkeypatch):
    """The variables as a user has them who never heard of them; what a test or the suite sets is undone."""
    for name in CERTIFICATES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def url(safe_site):
    """Address of a file of 1 MB."""
    return safe_site.put("/models/net.onnx", BODY)


def test_an_address_that_is_not_trusted(safe_site, url, tmp_path):
    """One line, asked once, nothing left."""
    with pytest.raises(FetchError) as error:
        download(url, tmp_path, patience=QUICK)
    assert "no safe connection ([SSL: CERTIFICATE_VERIFY_FAILED]" in str(error.value)
    assert HINT in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert left(tmp_path) == []
    assert safe_site.asked == []


@pytest.mark.parametrize("variable", CERTIFICATES)
def test_an_address_that_is_trusted(url, certificate, tmp_path, monkeypatch, variable):
    """Whichever variable says so."""
    monkeypatch.setenv(variable, str(certificate))
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY
    assert left(tmp_path) == ["net.onnx"]


def test_what_came_before_stays(safe_site, url, certificate, tmp_path, monkeypatch):
    """A part from a trusted server is not touched by one that is not, and is continued later."""
    safe_site.moods = ["cut"]
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(FetchError, match="are kept and the next try goes on from there"):
        download(url, tmp_path, patience=Patience(**{**vars(QUICK), "attempts": 0}))
    before = left(tmp_path)
    assert before == ["net.onnx.part", "net.onnx.part.json"]
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FetchError, match="no safe connection"):
        download(url, tmp_path, patience=QUICK)
    assert left(tmp_path) == before
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY
    assert safe_site.asked[-1][2].startswith("bytes=")


@pytest.mark.parametrize("variable", [None, *CERTIFICATES])
def test_a_hub_behind_tls(safe_hub, certificate, weights, tmp_path, variable):
    """Refused in one line with an empty cache, or trusted."""
    env = {"PATH": os.environ["PATH"], **safe_hub.env, **({variable: str(certificate)} if variable else {})}
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    if variable:
        assert line.startswith("good ")
        assert Path(line.removeprefix("good ")).read_bytes() == weights
        return
    assert line.startswith(
        f"FetchError {safe_hub.root}/timm/test_nfnet.r160_in1k: no safe connection to the hub ([SSL: "
    )
    assert HINT in line
    assert "hf download timm/test_nfnet.r160_in1k model.safetensors" in line
    assert left(tmp_path) == []


@pytest.mark.parametrize("variable", [None, *CERTIFICATES])
def test_a_model_from_a_shell(safe_site, certificate, runner, tmp_path, variable):
    """Not judged and why, or what the file is."""
    url = safe_site.put("/models/none.onnx", b"no model")
    done = runner.compare(
        "--engine",
        "onnxruntime:cpu",
        f"--model={url}",
        f"--cache-dir={tmp_path}",
        env={variable: str(certificate)} if variable else {},
    )
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert ("not an ONNX file" if variable else "no safe connection ([SSL: CERTIFICATE_VERIFY_FAILED]") in line


@pytest.mark.parametrize("variable", CERTIFICATES)
def test_certificates_that_are_not_there(tmp_path, monkeypatch, variable):
    """Said of the variable, before anybody is asked."""
    monkeypatch.setenv(variable, str(tmp_path / "none.pem"))
    with pytest.raises(FetchError, match=rf"none.pem: the certificates that \${variable} names are not there -> name"):
        download("https://127.0.0.1:9/net.onnx", tmp_path, patience=QUICK)


def test_each_variable_keeps_what_it_says(tmp_path, monkeypatch):
    """Nothing is changed that the user has set, and a folder is no file."""
    first, second = tmp_path / "a.pem", tmp_path / "b.pem"
    for name, path in zip(CERTIFICATES, (first, second), strict=True):
        path.touch()
        monkeypatch.setenv(name, str(path))
    share_certificates()
    assert [os.environ[name] for name in CERTIFICATES] == [str(first), str(second)]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    monkeypatch.delenv("SSL_CERT_FILE")
    share_certificates()
    assert "SSL_CERT_FILE" not in os.environ
