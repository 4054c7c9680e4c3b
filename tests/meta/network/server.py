"""A server on this machine that behaves like the hub and, on request, like a faulty network."""

import hashlib
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef" * 2 + "01234567"
SECONDS = 10  # longest wait of an answer that stalls


@dataclass(frozen=True)
class Fault:
    """One answer: an HTTP status other than 200, or how the body is sent."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: str = "complete"  # or: chunked, truncated, stalled, slow, silent (not even headers)


@dataclass
class Site:
    """Files by path, faults of the next answers in order (then none), and the requests so far."""

    files: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    requests: list = field(default_factory=list)  # (method, path, token)
    port: int = 0
    scheme: str = "http"
    env: dict = field(default_factory=dict)  # points the hub's library here
    released: threading.Event = field(default_factory=threading.Event)  # ends all waiting

    @property
    def root(self):
        """Address of the server."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def put(self, path, body):
        """Add a file and return its URL."""
        self.files[path] = body
        return self.root + path

    def bodies_sent(self):
        """Requests for contents, rather than for metadata or a redirect."""
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" not in path]


class Handler(BaseHTTPRequestHandler):
    """Answer with a file, or with the next fault."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def do_HEAD(self):
        """Send headers."""
        self._answer()

    def do_GET(self):
        """Send headers and contents."""
        self._answer()

    def _answer(self):
        site = self.server.site
        site.requests.append((self.command, self.path, self.headers.get("Authorization")))
        fault = site.faults.pop(0) if site.faults else Fault()
        try:
            if fault.body == "silent":
                site.released.wait(SECONDS)
                self.close_connection = True
            elif fault.status != 200:
                self._head(fault.status, {"Content-Length": "0", **fault.headers})
            elif self.path not in site.files:
                self._head(404, {"Content-Length": "0", "X-Error-Code": "EntryNotFound"})
            elif "/resolve/" in self.path:
                self._redirect_to_contents(site, fault)
            else:
                self._file(site, site.files[self.path], fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _redirect_to_contents(self, site, fault):
        """As the hub answers for a large file: contents are on another host, and headers describe them."""
        body = site.files[self.path]
        headers = {
            "Content-Length": "0",
            "Location": f"{site.scheme}://127.0.0.2:{site.port}/cdn{self.path.replace('/resolve/', '/')}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Linked-Size": str(len(body)),
        }
        self._head(302, {**headers, **fault.headers})

    def _file(self, site, body, fault):
        range_ = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(range_[1]) if range_ else 0
        headers = {"ETag": '"v1"', "Content-Length": str(len(body) - start), **fault.headers}
        if fault.body == "chunked":
            headers |= {"Content-Length": "", "Transfer-Encoding": "chunked"}
        if range_:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._head(206 if range_ else 200, headers)
        if self.command == "GET":
            self._send(site, body[start:], fault.body)

    def _send(self, site, body, how):
        if how == "chunked":
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if how in {"stalled", "slow"}:
            site.released.wait(SECONDS if how == "stalled" else 0.3)
        if how in {"stalled", "truncated"}:
            self.close_connection = True
        else:
            self.wfile.write(body[half:])

    def _head(self, status, headers):
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """A server whose clients may disconnect."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Print nothing."""


@contextmanager
def serving(tls=None):
    """Serve on two loopback addresses until the block ends; ``tls`` is a server's SSL context."""
    with Server(("127.0.0.1", 0), Handler) as hub, Server(("127.0.0.2", hub.server_port), Handler) as contents:
        hub.site = contents.site = site = Site(port=hub.server_port, scheme="https" if tls else "http")
        threads = []
        for server in (hub, contents):
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            threads.append(threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True))
            threads[-1].start()
        yield site
        site.released.set()
        for server, thread in zip((hub, contents), threads, strict=True):
            server.shutdown()
            thread.join()
