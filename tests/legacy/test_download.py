"""Checkpoints come whole and unchanged from a server that may be anything, and nothing is written outside the folder."""

import hashlib
import io
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from emhance.errors import WeightsError
from emhance.legacy.download import HDF5_SIGNATURE, RECORD, download_reference

pytest.importorskip("pooch", reason="pooch is not installed")

CONTENT = HDF5_SIGNATURE + bytes(range(256)) * 40
NAMES = ["deepEMhancer_highRes.hd5", "deepEMhancer_tightTarget.hd5"]


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


FOLDER = "production_checkpoints/"
GOOD = zipped([(FOLDER, b""), *((FOLDER + name, CONTENT) for name in NAMES), ("notes.txt", b"x")])


class Server(ThreadingHTTPServer):
    """Serves one payload, in ranges if asked; `cut` bytes only where it is to break off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.payload, self.cut, self.requests, self.status = GOOD, None, [], 200

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/models.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        total = len(server.payload)
        if server.status != 200 or first >= total:
            self.send_response(server.status if server.status != 200 else 416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(total - first))
        self.end_headers()
        self.wfile.write(server.payload[first : server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server, folder, **options):
    return download_reference(folder, **{"url": server.url, "size": len(GOOD), **options})


def files_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_right_archive_leaves_checkpoints_and_their_hashes(server, tmp_path):
    seen = []
    files = fetch(server, tmp_path / "models", progress=lambda done, total: seen.append((done, total)))
    assert [path.name for path in files] == NAMES
    assert all(path.read_bytes() == CONTENT for path in files)
    assert seen[-1] == (len(GOOD), len(GOOD))
    assert files_under(tmp_path / "models") == sorted([*NAMES, RECORD])
    assert hashlib.sha256(GOOD).hexdigest() in (tmp_path / "models" / RECORD).read_text()


def test_checkpoints_that_are_there_are_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    assert [path.name for path in fetch(server, tmp_path)] == NAMES
    assert len(server.requests) == 1


def test_a_broken_off_download_is_refused_then_resumed(server, tmp_path, monkeypatch):
    monkeypatch.setattr("emhance.legacy.download.CHUNK", 1000)
    server.cut = 5000
    with pytest.raises(WeightsError, match="run the command again to go on"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAMES[0]).exists()
    server.cut = None
    assert [path.name for path in fetch(server, tmp_path)] == NAMES
    assert server.requests == [None, "bytes=5000-"]
    assert files_under(tmp_path) == sorted([*NAMES, RECORD])


def test_a_truncated_archive_is_refused(server, tmp_path):
    server.payload = GOOD[:-100]
    with pytest.raises(WeightsError, match="not a whole zip archive"):
        fetch(server, tmp_path, size=None)
    assert not list(tmp_path.glob("*.hd5"))


def test_another_size_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(WeightsError, match="are expected"):
        fetch(server, tmp_path, size=2 * len(GOOD))
    assert files_under(tmp_path) == []


def test_the_hash_of_the_first_download_is_enforced(server, tmp_path):
    fetch(server, tmp_path)
    (tmp_path / NAMES[0]).unlink()
    server.payload = zipped([(name, CONTENT + b"changed") for name in NAMES])
    with pytest.raises(WeightsError, match="not the archive that is expected"):
        fetch(server, tmp_path, size=None)
    assert not (tmp_path / NAMES[0]).exists()


def test_a_given_hash_is_enforced(server, tmp_path):
    with pytest.raises(WeightsError, match="not the archive that is expected"):
        fetch(server, tmp_path, sha256="0" * 64)
    assert fetch(server, tmp_path, sha256=hashlib.sha256(GOOD).hexdigest().upper())
    with pytest.raises(WeightsError, match="from the first download"):
        fetch(server, tmp_path, sha256="0" * 64)


def test_a_checkpoint_changed_on_disk_is_noticed(server, tmp_path):
    fetch(server, tmp_path)
    (tmp_path / NAMES[1]).write_bytes(CONTENT + b"x")
    with pytest.raises(WeightsError, match="has changed"):
        fetch(server, tmp_path)


def link(name, target="/etc/passwd"):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


MALICIOUS = {
    "parent": [("../escaped.hd5", CONTENT)],
    "deep parent": [("a/../../escaped.hd5", CONTENT)],
    "absolute": [("/tmp/escaped.hd5", CONTENT)],
    "backslash": [("..\\escaped.hd5", CONTENT)],
    "drive": [("C:escaped.hd5", CONTENT)],
    "not a checkpoint": [("../../.bashrc", b"evil")],
    "symbolic link": [link("models.hd5")],
    "link to a folder": [link("models", "/tmp"), ("models/a.hd5", CONTENT)],
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_a_malicious_archive_writes_nothing(server, tmp_path, kind):
    server.payload = zipped([("good.hd5", CONTENT), *MALICIOUS[kind]])
    with pytest.raises(WeightsError, match="Do not use this archive"):
        fetch(server, tmp_path / "models", size=None)
    assert files_under(tmp_path) == []


WRONG = {
    "a page": b"<html>Not here</html>",
    "no checkpoints": zipped([("notes.txt", b"x")]),
    "checkpoints that are none": zipped([("a.hd5", b"#!/bin/sh\n")]),
    "an empty checkpoint": zipped([("a.hd5", b"")]),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", [*WRONG, "two of one name"])
def test_a_wrong_archive_is_refused(server, tmp_path, kind):
    server.payload = WRONG[kind] if kind in WRONG else zipped([("x/a.hd5", CONTENT), ("y/a.hd5", CONTENT)])
    with pytest.raises(WeightsError):
        fetch(server, tmp_path, size=None)
    assert not list(tmp_path.glob("*.hd5"))


def test_a_refused_archive_does_not_stand_in_the_way_of_the_right_one(server, tmp_path):
    server.payload = WRONG["no checkpoints"]
    with pytest.raises(WeightsError):
        fetch(server, tmp_path, size=None)
    server.payload = GOOD
    assert [path.name for path in fetch(server, tmp_path)] == NAMES


def test_a_server_that_fails_is_reported(server, tmp_path):
    server.status = 500
    with pytest.raises(WeightsError, match="500"):
        fetch(server, tmp_path)


def test_no_server_is_reported(tmp_path):
    with pytest.raises(WeightsError, match="cannot be fetched"):
        download_reference(tmp_path, url="http://127.0.0.1:9/models.zip")
