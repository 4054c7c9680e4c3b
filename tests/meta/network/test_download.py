"""Files from addresses: whole or not at all, whatever the network does; each fault is one clear line."""

import fcntl
import hashlib
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from fixtures.assets.address import check_url, file_name, redirected
from fixtures.assets.download import PIECE, Patience, download, target_path
from fixtures.errors import CacheError, FetchError
from fixtures.weight_sources import model_file
from tests.meta.leftovers import left

ROOT = Path(__file__).parents[3]
BODY = bytes(range(256)) * 4000 + b"end"  # 1 MB
HASH = hashlib.sha256(BODY).hexdigest()
KEPT = len(BODY) // 2 // PIECE * PIECE  # of a file that was cut in the middle
HALF = f"bytes={KEPT}-"
QUICK = Patience(connect_seconds=2, stall_seconds=0.3, attempts=3, pause_seconds=0.01, longest_pause_seconds=1)
CODE = "import sys; from pathlib import Path; from fixtures.assets.download import *; "


@pytest.fixture
def url(site):
    """Address of a file of 1 MB."""
    return site.put("/models/net.onnx", BODY)


def test_a_file_is_fetched_once(site, url, tmp_path):
    """The second time the network is not asked."""
    for _ in range(2):
        path = download(url, tmp_path, patience=QUICK)
        assert path.read_bytes() == BODY
        assert path == target_path(url, tmp_path)
    assert len(site.asked) == 1
    assert left(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize(
    ("moods", "ranges"),
    [
        (["cut"], [None, HALF]),
        (["stall"], [None, HALF]),
        (["cut by date"], [None, HALF]),
        (["cut", "no ranges"], [None, HALF]),
        (["cut", "another part"], [None, HALF, None]),
        (["cut", (416,)], [None, HALF, None]),
        (["chunked"], [None]),
        (["cut chunks"], [None, f"bytes={len(BODY) // 2}-"]),
        (
            [(429, {"Retry-After": "0"}), (500,), "cut", (503, {"Retry-After": "Mon, 02 Nov 2020 10:00:00 GMT"})],
            [None, None, None, HALF, HALF],
        ),
        ([(302, {"Location": "../models/net.onnx"})], [None, None]),
    ],
    ids=str,
)
def test_faults_that_pass(site, url, tmp_path, moods, ranges):
    """Cut, stalled, without ranges, with a stale range, busy, redirected: the file comes whole, no byte twice."""
    site.moods = moods
    assert download(url, tmp_path, sha256=HASH, patience=QUICK).read_bytes() == BODY
    assert site.bodies_sent() == ranges
    assert left(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize("mood", ["good", "deaf to If-Range"])
def test_another_version_in_between(site, url, tmp_path, mood):
    """A part of the old version is never continued with the new one, even where the server would."""
    site.moods = ["cut", (500,), (500,), (500,)]
    with pytest.raises(FetchError):
        download(url, tmp_path, patience=QUICK)
    site.put("/models/net.onnx", BODY[::-1])
    site.version, site.moods = '"v2"', [mood]
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY[::-1]


def test_without_a_version_nothing_is_continued(site, url, tmp_path):
    """The part may be one of another file: it is fetched anew."""
    site.moods = ["cut"]
    site.version = 'W/"weak"'
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY
    assert site.bodies_sent() == [None, None]


STAYS = [
    ([(404,)], "there is no such file -> check the address", []),
    ([(410,)], "the file is gone", []),
    ([(401,)], "the server wants a login -> get the file by hand", []),
    ([(403,)], "the server refuses -> get the file by hand", []),
    ([(418,)], "the server answered 418", []),
    ([(500,)] * 3, "the server answered 500 Internal Server Error, 3 times in a row -> check the network", []),
    ([(429, {"Retry-After": "3600"})], "Too Many Requests, to come again in 3600 s", []),
    ([(302, {"Location": "http://example.com/net.onnx"})], "plain http can be changed on its way", []),
    ([(302, {"Location": "/models/net.onnx"})] * 11, "more than 10 redirections", []),
    (["web page"], "the server sent a web page, not a file", []),
    (["compressed"], "the server sent the file as gzip, unasked", []),
    (["endless"], "does not say how long the file is", []),
    (["cut", *[(503,)] * 3], f"3 times in a row; {KEPT} bytes are kept", ["net.onnx.part", "net.onnx.part.json"]),
]


@pytest.mark.parametrize(("moods", "words", "files"), STAYS, ids=lambda value: str(value)[:40])
def test_faults_that_stay(site, url, tmp_path, moods, words, files):
    """One line that says what and what to do; nothing that could be taken for the file; the next try succeeds."""
    site.moods = list(moods)
    with pytest.raises(FetchError) as error:
        download(url, tmp_path, patience=QUICK)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not target_path(url, tmp_path).exists()
    assert left(tmp_path) == files
    site.moods.clear()
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY


def test_a_server_that_never_sends(site, url, tmp_path):
    """It is told from a slow one by the time without a byte."""
    site.files["/models/net.onnx"] = (b"x", "")
    site.moods = ["stall"] * 3
    begun = time.monotonic()
    with pytest.raises(FetchError, match="the server stalled, 3 times in a row"):
        download(url, tmp_path, patience=QUICK)
    assert time.monotonic() - begun < 5


def test_progress_is_shown_on_a_terminal_only(url, tmp_path):
    """A bar where standard error is a terminal; nothing in a pipe."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = []
    for name, stream in (("terminal", follower), ("pipe", subprocess.PIPE)):
        call = f"download({url!r}, Path({str(tmp_path / name)!r}))"
        done = subprocess.run([sys.executable, "-c", CODE + call], cwd=ROOT, stderr=stream, check=True, timeout=60)
        shown.append(done.stderr)
    os.close(follower)
    assert b"net.onnx" in os.read(leader, 4096)
    os.close(leader)
    assert shown[1] == b""


def test_a_wrong_checksum(site, url, tmp_path):
    """The file is thrown away and said to be wrong."""
    site.files["/models/net.onnx"] = (BODY[::-1], "")
    with pytest.raises(FetchError, match=f"has the checksum [0-9a-f]{{64}}, not {HASH}; it was thrown away"):
        download(url, tmp_path, sha256=HASH, patience=QUICK)
    assert left(tmp_path) == []


def test_a_checksum_in_the_address(site, url, tmp_path):
    """As pip spells it; a file that is there is held against it too, and fetched again where it differs."""
    assert model_file(url, tmp_path).read_bytes() == BODY
    path = model_file(f"{url}#sha256={HASH.upper()}", tmp_path)
    assert path == target_path(url, tmp_path)
    assert len(site.asked) == 1
    path.write_bytes(BODY[::-1])
    assert model_file(f"{url}#sha256={HASH}", tmp_path).read_bytes() == BODY
    assert len(site.asked) == 2
    with pytest.raises(FetchError, match=r"has the checksum .*; it was thrown away"):
        model_file(f"{url}#sha256={64 * '0'}", tmp_path)
    assert path.read_bytes() == BODY
    for told in ("", "12", 64 * "x"):
        with pytest.raises(FetchError, match="a SHA-256 has 64 hexadecimal digits -> give all of them, or none"):
            model_file(f"{url}#sha256={told}", tmp_path)


def test_nobody_is_there(tmp_path):
    """A closed port and a server without TLS."""
    with pytest.raises(FetchError, match=r"the connection failed \(ConnectionRefusedError.*3 times in a row"):
        download("http://127.0.0.1:9/net.onnx", tmp_path, patience=QUICK)


@pytest.mark.parametrize("host", ["a..b", ".example.com", "a" * 70 + ".com", "*", "exa mple.com"])
def test_a_host_that_cannot_be(site, url, tmp_path, host):
    """Named, or led to by a server: it is said at once, not tried again."""
    site.moods = [(302, {"Location": f"https://{host}/net.onnx"})]
    for address in (f"https://{host}/net.onnx", url):
        with pytest.raises(FetchError, match=r"no address: .* -> check the address"):
            download(address, tmp_path, patience=QUICK)
    assert len(site.asked) == 1


def test_no_tls(site, tmp_path):
    """A server whose certificate cannot be checked is not asked twice."""
    with pytest.raises(FetchError, match="no safe connection"):
        download(f"https://127.0.0.1:{site.port}/net.onnx", tmp_path, patience=QUICK)


def test_a_disk_that_is_too_small(site, url, tmp_path):
    """It is seen before a byte is fetched."""
    site.moods = ["huge"]
    with pytest.raises(CacheError, match=r"the disk is full; what came is kept.*--cache-dir"):
        download(url, tmp_path, patience=QUICK)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up(url, tmp_path):
    """What came is kept, and the next try goes on from there."""
    code = CODE + "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600000, resource.RLIM_INFINITY)); "
    done = fetching(code, url, tmp_path, "print(error)")
    out, _ = done.communicate(timeout=20)
    assert "the disk is full; what came is kept" in out
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY


def test_a_folder_that_cannot_be_written(url, tmp_path):
    """A file in the way."""
    (tmp_path / "fetched").touch()
    with pytest.raises(CacheError, match="cannot be written"):
        download(url, tmp_path, patience=QUICK)
    (tmp_path / "fetched").unlink()
    blocked = target_path(url, tmp_path)
    blocked.parent.mkdir(parents=True)
    blocked.with_name(blocked.name + ".part").mkdir()
    with pytest.raises(CacheError, match="cannot write the file: Is a directory"):
        download(url, tmp_path, patience=QUICK)


def test_a_killed_download_goes_on(site, url, tmp_path):
    """After SIGKILL in the middle only the rest is fetched."""
    site.moods = ["stall"]
    process = fetching(CODE, url, tmp_path, "print(error)")
    part = target_path(url, tmp_path).with_name("net.onnx.part")
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    had = part.stat().st_size
    assert 0 < had <= len(BODY) // 2
    site.let_go.set()
    assert download(url, tmp_path, patience=QUICK).read_bytes() == BODY
    assert site.bodies_sent() == [None, f"bytes={had}-"]


def test_killed_just_before_the_end(site, url, tmp_path):
    """A whole part is only checked and named."""
    path = download(url, tmp_path, patience=QUICK)
    part = path.rename(path.with_name("net.onnx.part"))
    part.with_name("net.onnx.part.json").write_text(f'{{"validator": "\\"v1\\"", "length": {len(BODY)}}}')
    assert download(url, tmp_path, sha256=HASH, patience=QUICK).read_bytes() == BODY
    assert len(site.asked) == 1


def test_two_processes_at_once(site, url, tmp_path):
    """One fetches, the other waits and has the same file."""
    site.moods = ["half a second"]
    both = [fetching(CODE, url, tmp_path, "raise") for _ in range(2)]
    assert [process.wait(timeout=20) for process in both] == [0, 0]
    for process in both:
        process.communicate()
    assert len(site.asked) == 1
    assert target_path(url, tmp_path).read_bytes() == BODY


def fetching(code, url, folder, otherwise):
    """A process that downloads."""
    work = f"\ntry: download({url!r}, Path({str(folder)!r}))\nexcept Exception as error: {otherwise}"
    return subprocess.Popen(
        [sys.executable, "-c", code + work], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/a.onnx", "plain http can be changed on its way"),
        ("http://localhost/a.onnx", "plain http"),
        ("http://127.0.0.1.example.com/a.onnx", "plain http"),
        ("ftp://example.com/a.onnx", "no address of the web"),
        ("file:///etc/passwd", "no address of the web"),
        ("https://", "no address of the web"),
        ("https://[::1/a", "no address"),
        ("https://host:port/a", "no address"),
        ("https://me:secret@example.com/a.onnx", "host example.com: an address with a user name or password"),
    ],
)
def test_addresses_that_are_refused(url, words):
    """Only TLS, no other kinds, no passwords; the password is not repeated."""
    with pytest.raises(FetchError) as error:
        check_url(url)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["https://example.com/a", "http://127.0.0.1:80/a", "http://[::1]:80/a"])
def test_addresses_that_are_taken(url):
    """TLS anywhere, plain http on this machine by number."""
    assert check_url(url).path == "/a"


def test_no_way_from_the_network_to_this_machine():
    """A server may not send us to what listens here."""
    assert redirected("https://example.com/a/b", "../c") == "https://example.com/c"
    for target in ("https://127.0.0.1/c", "http://127.0.0.1/c", "http://[::1]/c"):
        with pytest.raises(FetchError, match="sends us to this machine itself"):
            redirected("https://example.com/a", target)


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
def test_names_stay_in_their_folder(url, name):
    """No folders, no hidden files, no endless names."""
    assert file_name(url) == name
