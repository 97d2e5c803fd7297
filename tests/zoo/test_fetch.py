"""Downloads, from a server on this machine and from a folder, when all goes well and when it does not."""

import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo import InputError
from zoo.weights import fetch as fetch_module
from zoo.weights.fetch import fetch, zoo_home
from zoo.weights.manifest import WEIGHTS, Download, WeightFile, find_keras_file
from zoo.weights.packages import locate_package_file

CONTENT = bytes(range(256)) * 20_000  # more than the blocks that are read at a time
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
URL = "https://storage.example/models/net.h5"


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with what the test says, and counts."""

    content = CONTENT
    claimed_length: int | None = len(CONTENT)
    status = 200
    location = ""
    meeting: threading.Barrier | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that hang up, as interrupted downloads do."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.meeting:
            self.server.meeting.wait(timeout=30)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        if self.server.claimed_length is not None:
            self.send_header("Content-Length", str(self.server.claimed_length))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    return tmp_path / "home"


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that stands in for every publisher."""
    with Server() as server:
        monkeypatch.setenv("ZOO_MIRROR", f"http://127.0.0.1:{server.server_port}/mirror/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def record(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "weights" / "net.h5.json").read_text()))


def files(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "weights").iterdir())


def net(url: str = URL, *, sha256: str | None = None, md5: str | None = None) -> WeightFile:
    """What a manifest would say of a file at that address, with or without a checksum."""
    mobilenet = find_keras_file("MobileNet", include_top=True)
    return dataclasses.replace(mobilenet, source=Download(url=url), sha256=sha256, md5=md5)


def error_of(**arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        fetch(net(**arguments))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("checksums", "kind"), [({"sha256": SHA256}, None), ({"md5": MD5}, "published"), ({}, "first-use")]
)
def test_downloads_once_and_verifies(
    server: Server,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    checksums: dict[str, str],
    kind: str | None,
) -> None:
    path = fetch(net(**checksums))
    assert path == home / "weights" / "net.h5"
    assert path.read_bytes() == CONTENT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (SHA256 in printed.err) == (kind == "first-use")
    if kind:
        assert (record(home)["checksum"], record(home)["sha256"]) == (kind, SHA256)
    assert fetch(net(**checksums)) == path
    assert server.requests == ["/mirror/models/net.h5"]
    assert files(home) == (["net.h5", "net.h5.json"] if kind else ["net.h5"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("checksums", [{"sha256": SHA256}, {"md5": MD5}, {}])
def test_every_use_verifies(server: Server, home: Path, checksums: dict[str, str]) -> None:
    path = fetch(net(**checksums))
    path.write_bytes(CONTENT[:-1] + b"x")
    found = hashlib.sha256(CONTENT[:-1] + b"x").hexdigest()
    message = error_of(**checksums)
    assert message.startswith(
        f"{path} is damaged or another file: its SHA-256 is {found}, expected {SHA256}. "
        f"Delete {path} to download it again from {URL}."
    )
    assert ("net.h5.json" in message) == ("sha256" not in checksums)
    path.unlink()
    assert fetch(net(**checksums)).read_bytes() == CONTENT


@pytest.mark.parametrize("checksums", [{"sha256": SHA256}, {"md5": MD5}])
def test_a_wrong_download_is_not_kept(server: Server, home: Path, checksums: dict[str, str]) -> None:
    server.content = CONTENT[:-1] + b"x"
    kind, expected = ("SHA-256", SHA256) if "sha256" in checksums else ("MD5", MD5)
    message = error_of(**checksums)
    assert f"its {kind} is " in message
    assert f"expected {expected}. It came from http://127.0.0.1:" in message
    assert files(home) == []


def test_another_file_than_at_first_use_is_not_kept(server: Server, home: Path) -> None:
    path = fetch(net())
    path.unlink()
    server.content = CONTENT[:-1] + b"x"
    message = error_of()
    assert f"expected {SHA256}. It came from http://127.0.0.1:" in message
    assert message.endswith(f"If you trust the new file, delete {path}.json.")
    assert files(home) == ["net.h5.json"]


def test_news_from_the_publisher_are_compared_with_the_first_copy(server: Server, home: Path) -> None:
    path = fetch(net())
    assert record(home)["checksum"] == "first-use"
    other = hashlib.md5(b"other").hexdigest()
    assert f"its MD5 is {MD5}, expected {other}" in error_of(md5=other)
    assert fetch(net(md5=MD5)) == path
    assert record(home)["checksum"] == "published"


@pytest.mark.parametrize("sent", [0, 1000, len(CONTENT) - 1])
def test_a_download_that_ends_early_is_not_kept(server: Server, home: Path, sent: int) -> None:
    server.content = CONTENT[:sent]
    message = error_of()
    assert "net.h5 could not be downloaded from http://127.0.0.1:" in message
    assert f"or put the file at {home}/weights/net.h5 yourself" in message
    assert files(home) == []
    server.content = CONTENT
    assert fetch(net()).read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_much(server: Server, home: Path) -> None:
    server.claimed_length = None
    seen: list[tuple[int, int | None]] = []
    fetch(net(sha256=SHA256), progress=lambda *state: seen.append(state))
    assert seen[-1] == (len(CONTENT), None)


def test_progress_is_reported(server: Server, home: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch(net(), progress=lambda *state: seen.append(state))
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_bar_on_a_terminal(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch(net(sha256=SHA256))
    assert "net.h5" in capsys.readouterr().err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_download_leaves_nothing(server: Server, home: Path, interruption: type[BaseException]) -> None:
    def interrupt(received: int, total: int | None) -> None:
        assert not (home / "weights" / "net.h5").exists()
        raise interruption

    with pytest.raises(interruption):
        fetch(net(), progress=interrupt)
    assert files(home) == []


def test_errors_of_the_server_are_told(server: Server, home: Path) -> None:
    server.status = 404
    assert "HTTP Error 404" in error_of()
    assert files(home) == []


def test_a_server_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server:
        address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("ZOO_MIRROR", address)
    assert f"could not be downloaded from {address}/models/net.h5: " in error_of()
    assert files(home) == []


def test_offline_names_the_file_the_address_and_the_place(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    path = home / "weights" / "net.h5"
    assert error_of() == (
        f"net.h5 is not here, and ZOO_OFFLINE forbids to download it from {URL}. "
        f"Unset ZOO_OFFLINE, or put the file at {path} yourself."
    )
    assert error_of(md5=MD5).startswith(f"net.h5 (MD5 {MD5}) is not here, ")
    assert error_of(sha256=SHA256).startswith(f"net.h5 (SHA-256 {SHA256}) is not here, ")
    assert server.requests == []
    # What is there is used, also if the user put it there.
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(net(md5=MD5)) == path
    assert record(home)["checksum"] == "published"


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_switched_off(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", value)
    assert fetch(net()).exists()


def test_a_folder_as_mirror(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror" / "models").mkdir(parents=True)
    (tmp_path / "mirror" / "models" / "net.h5").write_bytes(CONTENT)
    monkeypatch.setenv("ZOO_MIRROR", (tmp_path / "mirror").as_uri())
    assert fetch(net(sha256=SHA256)).read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"could not be downloaded from file://"):
        fetch(net("https://storage.example/models/other.h5"))


@pytest.mark.parametrize("mirror", ["ftp://mirror.example", "/srv/mirror", "mirror.example"])
def test_other_mirrors_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("ZOO_MIRROR", mirror)
    assert error_of() == f"ZOO_MIRROR must start with https://, http:// or file://. Received: {mirror!r}"


@pytest.mark.parametrize("url", ["http://storage.example/net.h5", "file:///etc/passwd", "net.h5"])
def test_only_https_without_a_mirror(home: Path, url: str) -> None:
    with pytest.raises(InputError, match=r"over https only\. Received: "):
        fetch(net(url))


def test_https_is_not_given_up_for_a_redirect() -> None:
    follow = fetch_module._KeepHttps().redirect_request
    secure, plain = urllib.request.Request(URL), urllib.request.Request("http://127.0.0.1/a")
    with pytest.raises(urllib.error.URLError, match=r"redirects to http://storage\.example/b, which is not"):
        follow(secure, None, 302, "Found", {}, "http://storage.example/b")
    followed = follow(secure, None, 302, "Found", {}, "https://storage.example/b")
    assert followed is not None
    assert followed.full_url == "https://storage.example/b"
    assert follow(plain, None, 302, "Found", {}, "http://storage.example/b") is not None


def test_a_redirect_from_a_mirror_to_a_local_file_is_refused(server: Server, home: Path) -> None:
    server.status, server.location = 302, "file:///etc/passwd"
    assert "could not be downloaded" in error_of()


def test_a_damaged_record_is_reported(server: Server, home: Path) -> None:
    path = fetch(net())
    for text in ("{", "[]", "{}"):
        Path(f"{path}.json").write_text(text)
        assert error_of() == f"{path}.json is damaged. Delete it, and the checksum is recorded anew."


def check_refused_by_the_disk(message: str, home: Path, reason: str) -> None:
    assert message.startswith(f"{home}/weights/net.h5 cannot be read or written: ")
    assert reason in message
    assert "Set ZOO_HOME to a folder" in message


def test_a_home_that_cannot_be_made(server: Server, home: Path) -> None:
    home.write_text("a file")
    check_refused_by_the_disk(error_of(), home, "Not a directory")


@pytest.mark.parametrize("name", ["net.h5", "net.h5.json"])
def test_a_file_that_cannot_be_read(server: Server, home: Path, name: str) -> None:
    fetch(net())
    (home / "weights" / name).unlink()
    (home / "weights" / name).mkdir()
    check_refused_by_the_disk(error_of(), home, f"Is a directory: '{home}/weights/{name}'")


def test_a_home_that_is_read_only(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    (home / "weights").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        check_refused_by_the_disk(error_of(), home, os.strerror(errno.EROFS))
    # A file that an administrator put there, whose checksum cannot be recorded.
    (home / "weights" / "net.h5").write_bytes(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        check_refused_by_the_disk(error_of(), home, os.strerror(errno.EROFS))


def test_a_full_disk(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: FullDisk(str(path), mode))
        check_refused_by_the_disk(error_of(), home, os.strerror(errno.ENOSPC))
    assert files(home) == []


def test_home_is_in_the_cache_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_HOME", "")
    assert zoo_home() == tmp_path / ".cache" / "keras-model-zoo"
    monkeypatch.setenv("ZOO_HOME", "~/zoo")
    assert zoo_home() == tmp_path / "zoo"


def test_processes_that_download_at_once_do_not_disturb_each_other(server: Server, home: Path) -> None:
    server.meeting = threading.Barrier(2)  # nobody is served before both have asked
    program = f"from zoo.weights.fetch import *; from zoo.weights.manifest import *; fetch({net()!r})"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(server.requests) == 2
    assert files(home) == ["net.h5", "net.h5.json"]
    assert (home / "weights" / "net.h5").read_bytes() == CONTENT
    assert record(home)["sha256"] == SHA256


def test_files_of_packages_are_not_downloaded(server: Server, home: Path) -> None:
    assert fetch(WEIGHTS[0]) == locate_package_file(WEIGHTS[0])
    assert server.requests == []
    with pytest.raises(TypeError, match=r"net\.h5 is in no package"):
        locate_package_file(net())
