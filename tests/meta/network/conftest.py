"""Servers with and without TLS, as a plain web site and as the hub."""

import shutil
import ssl
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save

from fixtures.nfnet.weights import SeededWeights
from tests.meta.network.server import serving

REPOSITORY = "timm/test_nfnet.r160_in1k"


@pytest.fixture
def site():
    """A server without files."""
    with serving() as site:
        yield site


@pytest.fixture
def tls_site(certificate):
    """The same with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with serving(context) as site:
        yield site


@pytest.fixture
def hub(site, weights, tmp_path):
    """The server with test_nfnet's weights, and the environment that points to it."""
    return as_hub(site, weights, tmp_path)


@pytest.fixture
def tls_hub(tls_site, weights, tmp_path):
    """The same with TLS."""
    return as_hub(tls_site, weights, tmp_path)


@pytest.fixture(scope="session")
def weights():
    """A safetensors file of test_nfnet."""
    return save({name: np.ascontiguousarray(value) for name, value in SeededWeights("test_nfnet", 7).items()})


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate of this machine, with its key beside it."""
    folder, openssl = tmp_path_factory.mktemp("certificate"), shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which makes certificates, is not installed")
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out certificate.pem -subj /CN=test"
    extensions = ("subjectAltName=IP:127.0.0.1,IP:127.0.0.2", "keyUsage=critical,digitalSignature,keyCertSign")
    command = [openssl, *options.split(), *(word for text in extensions for word in ("-addext", text))]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


def as_hub(site, weights, tmp_path):
    """Add the files and the environment of a hub to a server."""
    site.put(f"/{REPOSITORY}/resolve/main/model.safetensors", weights)
    site.put(f"/cdn/{REPOSITORY}/main/model.safetensors", weights)
    site.env = {
        "HF_ENDPOINT": site.root,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hf" / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "3",  # enough for a busy machine
        "HF_HUB_ETAG_TIMEOUT": "3",
    }
    return site
