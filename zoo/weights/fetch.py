"""Get a file of weights: from its package, or downloaded once, kept under `ZOO_HOME`, and verified at every use.

Three environment variables have a say:

- `ZOO_HOME`: where files are kept; `~/.cache/keras-model-zoo` by default. Weights are in its folder
`weights`.
- `ZOO_OFFLINE`: anything but empty or `0` forbids downloads. What is there already is used.
- `ZOO_MIRROR`: replaces scheme and host of every address. With `http://mirror.example/zoo`, the file at
  `https://host/a/b.h5` is taken from `http://mirror.example/zoo/a/b.h5`. A mirror may be `https://`,
  `http://` or `file://`; without one only `https://` is used.
"""

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from zoo.errors import InputError
from zoo.weights.checksum import md5_of, sha256_of
from zoo.weights.packages import locate_package_file
from zoo.weights.weight_file import Download, WeightFile

Progress: TypeAlias = Callable[[int, int | None], None]

_BLOCK = 1 << 20  # bytes read at a time
_TIMEOUT = 60  # seconds without a byte


def zoo_home() -> Path:
    """Return the folder that holds what the zoo downloads: `ZOO_HOME`, or `~/.cache/keras-model-zoo`."""
    return Path(os.environ.get("ZOO_HOME") or "~/.cache/keras-model-zoo").expanduser()


def fetch(entry: WeightFile, *, progress: Progress | None = None) -> Path:
    """Return the path of a file of the manifest, downloaded if it is not there, and verified in any case.

    If the publisher of a download gives no SHA-256, the one of the first copy is kept in `{file_name}.json`
    beside the file, and every later copy must have it. The record says how far that can be trusted: `published`
    if that first copy had the publisher's MD5, `first-use` if there was nothing to compare it with; the SHA-256
    is then printed.

    Args:
        entry: What the manifest says of the file.
        progress: Called with the bytes read so far and their total, if known. By default a bar is shown if
            the error stream is a terminal.

    Returns:
        The path.

    Raises:
        InputError: If the file cannot be had or kept, or is not the one that the checksum belongs to.

    Example:
        ```python
        path = fetch(find_keras_file("MobileNet", include_top=True))
        ```
    """
    if not isinstance(entry.source, Download):
        return locate_package_file(entry)
    path = zoo_home() / "weights" / entry.file_name
    try:
        if path.exists():
            _verify(path, path, entry.source.url, entry)
        else:
            _download(entry, entry.source.url, path, progress)
    except OSError as error:  # of this machine: those of the network are told by `_download`
        raise InputError(
            f"{path} cannot be read or written: {error}. Set ZOO_HOME to a folder that can, with room for the file."
        ) from None
    return path


def _download(entry: WeightFile, url: str, path: Path, progress: Progress | None) -> None:
    """Download beside the final place, verify, then rename: the final name never holds part of a file."""
    by_hand = f"or put the file at {path} yourself"
    if os.environ.get("ZOO_OFFLINE", "0") not in {"", "0"}:
        raise InputError(
            f"{path.name}{_published(entry)} is not here, and ZOO_OFFLINE forbids to download it from {url}. "
            f"Unset ZOO_OFFLINE, {by_hand}."
        )
    address = _address(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two processes that download the same file do not write into one another.
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file, _shown(path.name, progress) as report:
            for block, total in _blocks(address):
                file.write(block)
                report(file.tell(), total)
        _verify(part, path, address, entry)
        part.replace(path)
    except _DownloadError as error:
        raise InputError(
            f"{path.name}{_published(entry)} could not be downloaded from {address}: {error}. "
            f"Try again, set ZOO_MIRROR, {by_hand}."
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _published(entry: WeightFile) -> str:
    """The publisher's checksum in brackets, so that a file from elsewhere can be compared with it."""
    if entry.sha256:
        return f" (SHA-256 {entry.sha256})"
    return f" (MD5 {entry.md5})" if entry.md5 else ""


class _DownloadError(Exception):
    """The file could not be had, or not all of it."""


def _address(url: str) -> str:
    """Where to download from: `url`, or the same path under `ZOO_MIRROR`."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise InputError(f"Weights are downloaded over https only. Received: {url}")
    mirror = os.environ.get("ZOO_MIRROR")
    if not mirror:
        return url
    if urlsplit(mirror).scheme not in {"https", "http", "file"}:
        raise InputError(f"ZOO_MIRROR must start with https://, http:// or file://. Received: {mirror!r}")
    return mirror.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


class _KeepHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to something weaker."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _blocks(address: str) -> Iterator[tuple[bytes, int | None]]:
    """Yield the file block by block, each with the size of the whole, if known; fail if it ends early."""
    received, total = 0, None
    try:
        with urllib.request.build_opener(_KeepHttps).open(address, timeout=_TIMEOUT) as response:
            if length := response.headers.get("Content-Length"):
                total = int(length)
            while block := response.read(_BLOCK):
                received += len(block)
                yield block, total
    except urllib.error.HTTPError as error:
        error.close()
        raise _DownloadError(error) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that is none
        raise _DownloadError(error) from None
    if total is not None and received != total:
        raise _DownloadError(f"it ended after {received} of {total} bytes")


@contextmanager
def _shown(file_name: str, progress: Progress | None) -> Iterator[Progress]:
    """Yield where to report progress: the caller's function, a bar on a terminal, or nothing."""
    if progress is not None:
        yield progress
    elif not sys.stderr.isatty():
        yield lambda received, total: None
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(file_name, total=None)
            yield lambda received, total: bar.update(task, completed=received, total=total)


def _verify(file: Path, path: Path, source: str, entry: WeightFile) -> None:
    """Compare a file with the publisher's SHA-256, or with the recorded one; record that of the first copy.

    Args:
        file: What to verify: the stored file, or a download that is to become it.
        path: The stored file.
        source: Where the file came from or comes from, for messages.
        entry: What the manifest says of the file.
    """
    record_path = path.with_name(f"{path.name}.json")
    expected = entry.sha256 or _recorded_sha256(record_path, entry.md5)
    found = sha256_of(file)
    if expected is None:
        if entry.md5 and (found_md5 := md5_of(file)) != entry.md5:
            raise _mismatch("MD5", found_md5, entry.md5, file, path, source)
        _record_sha256(record_path, found, entry, source)
    elif found != expected:
        error = _mismatch("SHA-256", found, expected, file, path, source)
        if not entry.sha256:
            error = InputError(f"{error} If you trust the new file, delete {record_path}.")
        raise error


def _mismatch(kind: str, found: str, expected: str, file: Path, path: Path, source: str) -> InputError:
    if file == path:
        remedy = f"Delete {path} to download it again from {source}."
    else:
        remedy = f"It came from {source}: try again, or look into ZOO_MIRROR if it is set."
    return InputError(f"{path} is damaged or another file: its {kind} is {found}, expected {expected}. {remedy}")


def _recorded_sha256(record_path: Path, md5: str | None) -> str | None:
    """Return the SHA-256 of the first copy, unless that was never compared with the publisher's MD5."""
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        sha256, recorded_md5 = record["sha256"], record["md5"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{record_path} is damaged. Delete it, and the checksum is recorded anew.") from None
    return None if md5 and md5 != recorded_md5 else str(sha256)


def _record_sha256(record_path: Path, sha256: str, entry: WeightFile, source: str) -> None:
    record = {"checksum": entry.checksum, "sha256": sha256, "md5": entry.md5, "source": source}
    part = record_path.with_name(f"{record_path.name}.{uuid.uuid4().hex}.part")
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    part.replace(record_path)
    if entry.checksum == "first-use":
        print(
            f"{record_path.stem}: its publisher gives no checksum. The SHA-256 of this copy is {sha256}; "
            f"it is kept as first-use in {record_path} and expected from now on.",
            file=sys.stderr,
        )
