"""A server on this machine that behaves like the hub and, as it is told, like a bad network."""

import hashlib
import re
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

from fixtures.nfnet.weights import SeededWeights

COMMIT = "0123456789abcdef" * 2 + "01234567"
REPOSITORY = "timm/test_nfnet.r160_in1k"
FILE = f"/{REPOSITORY}/resolve/main/model.safetensors"
CONTENTS = f"/cdn/{REPOSITORY}/main/model.safetensors"


@dataclass
class Site:
    """Files by path, the moods of the next answers in order (then good ones), and what was asked."""

    files: dict = field(default_factory=dict)
    moods: list = field(default_factory=list)
    asked: list = field(default_factory=list)  # (method, path, range)
    tokens: list = field(default_factory=list)  # (path, authorization)
    version: str = '"v1"'
    port: int = 0
    scheme: str = "http"
    env: dict = field(default_factory=dict)  # that points the hub's library here
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def root(self):
        """Address of the server."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def store(self):
        """Address of the server as another host, where the hub keeps contents."""
        return f"{self.scheme}://127.0.0.2:{self.port}"

    def put(self, path, body, *, promised=None):
        """A file, and what the hub promises as its checksum."""
        self.files[path] = (body, promised or hashlib.sha256(body).hexdigest())
        return self.root + path

    def bodies_sent(self):
        """Ranges of the requests for contents."""
        return [part for method, path, part in self.asked if method == "GET" and "/resolve/" not in path]


class Handler(BaseHTTPRequestHandler):
    """Answers as the next mood says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        """Headers."""
        self._answer(body=False)

    def do_GET(self):
        """Headers and contents."""
        self._answer(body=True)

    def _answer(self, *, body):
        site = self.server.site
        site.asked.append((self.command, self.path, self.headers.get("Range")))
        site.tokens.append((self.path, self.headers.get("Authorization")))
        mood = site.moods.pop(0) if site.moods else "good"
        try:
            if mood == "silent":
                site.let_go.wait(10)
                self.close_connection = True
            elif isinstance(mood, tuple):
                self._head(mood[0], mood[1] if len(mood) > 1 else {})
            elif self.path not in site.files:
                self._head(404, {})
            elif "/resolve/" in self.path:
                self._hub(*site.files[self.path])
            else:
                self._file(site, site.files[self.path][0], mood, body=body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _hub(self, contents, promised):
        """As the hub answers for a large file: a redirection, and what stands behind it in headers."""
        place, etag = self.server.site.store + "/cdn" + self.path.replace("/resolve/", "/"), f'"{promised}"'
        self._head(
            302,
            {
                "Location": place,
                "X-Repo-Commit": COMMIT,
                "ETag": etag,
                "X-Linked-Etag": etag,
                "X-Linked-Size": str(len(contents)),
            },
        )

    def _file(self, site, contents, mood, *, body):
        start = self._start(site, mood)
        headers = {"ETag": site.version, "Content-Length": str(len(contents) - start), **EXTRA.get(mood, {})}
        if start:
            told = start + 1 if mood == "another part" else start
            headers["Content-Range"] = f"bytes {told}-{len(contents) - 1}/{len(contents)}"
        if mood in {"chunked", "endless", "cut chunks"}:
            del headers["Content-Length"]
        if "chunk" in mood:
            headers["Transfer-Encoding"] = "chunked"
        self._head(206 if start else 200, {key: value for key, value in headers.items() if value})
        if body:
            self._send(site, contents[start:], mood)

    def _start(self, site, mood):
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in {site.version, DATE} or mood == "deaf to If-Range"
        return int(found[1]) if found and unchanged and mood != "no ranges" else 0

    def _send(self, site, contents, mood):
        half = len(contents) // 2
        if "chunk" in mood:
            self.wfile.write(b"%x\r\n%s\r\n" % (half, contents[:half]))
            if mood == "chunked":
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(contents) - half, contents[half:]))
                return
        elif mood not in {"cut", "cut by date", "stall", "half a second"}:
            self.wfile.write(contents)
            return
        else:
            self.wfile.write(contents[:half])
            self.wfile.flush()
            if mood == "half a second":
                site.let_go.wait(0.5)
                self.wfile.write(contents[half:])
                return
            if mood == "stall":
                site.let_go.wait(10)
        self.close_connection = True

    def _head(self, status, headers):
        self.send_response(status)
        if status not in {200, 206}:
            headers = {"Content-Length": "0", **headers}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()


DATE = "Mon, 02 Nov 2026 10:00:00 GMT"
EXTRA = {
    "cut by date": {"ETag": 'W/"weak"', "Last-Modified": DATE},
    "web page": {"Content-Type": "text/html; charset=utf-8"},
    "compressed": {"Content-Encoding": "gzip"},
    "huge": {"Content-Length": str(2**60)},
    "endless": {"Connection": "close"},
}


class Server(ThreadingHTTPServer):
    """One that does not mind readers that leave."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing: leaving early is what the tests are about."""


@pytest.fixture
def site():
    """The server, empty, on a free port."""
    with serving() as site:
        yield site


@contextmanager
def serving(tls=None):
    """A server until the block ends; with TLS where a server's context is given."""
    with Server(("127.0.0.1", 0), Handler) as hub, Server(("127.0.0.2", hub.server_port), Handler) as store:
        store.site = hub.site = site = Site(port=hub.server_port, scheme="https" if tls else "http")
        if tls:
            for server in (hub, store):
                server.socket = tls.wrap_socket(server.socket, server_side=True)
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in (hub, store)]
        for thread in threads:
            thread.start()
        yield site
        site.let_go.set()
        for server, thread in zip((hub, store), threads, strict=True):
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def weights():
    """A safetensors file of test_nfnet as bytes."""
    return save({name: np.ascontiguousarray(value) for name, value in SeededWeights("test_nfnet", 7).items()})


@pytest.fixture
def hub(site, weights, tmp_path):
    """The server with test_nfnet's weights, and the environment that points to it."""
    return as_hub(site, weights, tmp_path)


@pytest.fixture
def safe_site(certificate):
    """The server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with serving(context) as site:
        yield site


@pytest.fixture
def safe_hub(safe_site, weights, tmp_path):
    """The hub with TLS."""
    return as_hub(safe_site, weights, tmp_path)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of this machine that nobody has signed, and its key beside it."""
    folder, openssl = tmp_path_factory.mktemp("certificate"), shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which makes certificates, is not installed")
    words = (
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=nfnet test",
        "-addext",
        "subjectAltName=IP:127.0.0.1,IP:127.0.0.2",
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
        "-keyout",
        folder / "key.pem",
        "-out",
        folder / "certificate.pem",
    )
    subprocess.run(words, check=True, capture_output=True)
    return folder / "certificate.pem"


def as_hub(site, weights, tmp_path):
    """The server's files and environment of the hub."""
    site.put(FILE, weights)
    site.put(CONTENTS, weights)
    site.env = {
        "HF_ENDPOINT": site.root,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hf" / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
    }
    return site
