"""One file of activations: a header of JSON, the numbers row by row, and a checksum for each append.

    header   one line of JSON, padded with blanks to a multiple of 4096 bytes: what `Header` holds
    rows     the array in C order, little-endian; `numpy.memmap` can take it from here
    marks    16 bytes for the header and for each append: rows so far, CRC-32 of the appended bytes, and
             CRC-32 of the mark itself, which goes on from the one before (the first from that of the header)

A mark is written after its rows. So whenever a writer ends, also half way through a write, the rows up to the last
mark that holds are whole appends, and another can go on from there. CRC-32 finds what disks and interrupted writes do
to files; it is no defence against somebody who wants to deceive. Nothing here needs NumPy.
"""

import io
import itertools
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PAGE = 4096
FORMAT = 1
_LONGEST_HEADER = 1 << 20
_MARK = struct.Struct("<QI")
_LINK = struct.Struct("<I")
_MARK_BYTES = _MARK.size + _LINK.size
_BLOCK = 1 << 20  # bytes verified at a time


class Damaged(ValueError):
    """A file is not, or not completely, what it should be; the message says in a few words what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself."""

    key: Mapping[str, Any]
    """What decides the numbers: JSON."""
    shape: tuple[int, ...]
    """Of the whole array, `(n, ...)`."""
    dtype: str
    """NumPy's name for it, such as "float32"."""
    itemsize: int
    """Bytes a number."""
    about: Mapping[str, str]
    """What to call it when it is shown; decides nothing."""
    created: str
    """When it was begun, UTC, as `2026-01-31T12:00:00+00:00`."""
    made_by: str
    """Name and version of the program."""
    format: int = FORMAT

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.itemsize

    @property
    def data_bytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.row_bytes

    def encoded(self) -> bytes:
        """As it stands in the file."""
        line = json.dumps(asdict(self), allow_nan=False).encode("ascii")
        if len(line) >= _LONGEST_HEADER:
            raise ValueError(f"A key is described in less than {_LONGEST_HEADER:,} bytes. Received: {len(line):,}")
        return line.ljust(math.ceil((len(line) + 1) / PAGE) * PAGE - 1) + b"\n"


@dataclass(frozen=True)
class Mark:
    """The end of an append."""

    rows: int
    """So far, those of the append included."""
    checksum: int
    """CRC-32 of the appended bytes."""


class ActivationFile:
    """A file that is open, for reading or also for writing.

    Args:
        file: Opened without buffer.
        header: As read or written.
        header_bytes: Its length.

    Attributes:
        marks: Those that hold, in order; the first is of the header and has 0 rows.
    """

    def __init__(self, file: io.FileIO, header: Header, header_bytes: bytes) -> None:
        self.file = file
        self.header = header
        self.data_start = len(header_bytes)
        self.marks_start = self.data_start + header.data_bytes
        self.marks: list[Mark] = []
        self._links = [zlib.crc32(header_bytes)]

    @classmethod
    def create(cls, file: io.FileIO, header: Header) -> "ActivationFile":
        """Begin an empty file. It gets its whole length at once, so that others see what it will take."""
        encoded = header.encoded()
        made = cls(file, header, encoded)
        made._write(0, memoryview(encoded))
        file.truncate(made.marks_start)
        made._add_mark(Mark(0, zlib.crc32(b"")))
        return made

    @classmethod
    def open(cls, file: io.FileIO) -> "ActivationFile":
        """Read the header and the marks of a file, complete or not.

        Raises:
            Damaged: If there is no header that holds.
        """
        encoded = _read_header_line(file)
        opened = cls(file, _decoded(encoded), encoded)
        opened._read_marks()
        if not opened.marks:
            raise Damaged("its header has no checksum that holds")
        return opened

    @property
    def rows(self) -> int:
        """Rows up to the last mark."""
        return self.marks[-1].rows

    @property
    def complete(self) -> bool:
        """Whether all rows have marks and nothing else stands behind them."""
        whole = self.marks_start + len(self.marks) * _MARK_BYTES
        return self.rows == self.header.shape[0] and self.file.seek(0, io.SEEK_END) == whole

    def append(self, data: memoryview, *, rows: int) -> None:
        """Write rows behind those that are there, then their mark.

        Args:
            data: Their bytes.
            rows: How many they are.
        """
        self._write(self.data_start + self.rows * self.header.row_bytes, data)
        self._add_mark(Mark(self.rows + rows, zlib.crc32(data)))

    def verify(self, into: memoryview | None = None) -> bool:
        """Compare rows with the checksums of their marks, and forget the marks from the first that is wrong.

        Args:
            into: Where to put the bytes of all rows, if they are wanted.

        Returns:
            Whether all were right.
        """
        self.file.seek(self.data_start)
        block = memoryview(bytearray(_BLOCK))
        for index, (before, mark) in enumerate(itertools.pairwise(self.marks), 1):
            at, end = (rows * self.header.row_bytes for rows in (before.rows, mark.rows))
            checksum = 0
            while at < end:
                target = block[: end - at] if into is None else into[at : min(end, at + _BLOCK)]
                received = self.file.readinto(target)
                if not received:
                    break
                checksum = zlib.crc32(target[:received], checksum)
                at += received
            if checksum != mark.checksum or at < end:
                del self.marks[index:], self._links[index + 1 :]
                return False
        return True

    def drop_what_has_no_mark(self) -> None:
        """Make the file end with its last mark, so that a mark from before never stands behind a new one."""
        self.file.truncate(self.marks_start + len(self.marks) * _MARK_BYTES)

    def _write(self, position: int, data: memoryview) -> None:
        self.file.seek(position)
        while data:  # one call need not write everything
            data = data[self.file.write(data) :]

    def _add_mark(self, mark: Mark) -> None:
        packed = _MARK.pack(mark.rows, mark.checksum)
        link = zlib.crc32(packed, self._links[-1])
        position = self.marks_start + len(self.marks) * _MARK_BYTES
        self._write(position, memoryview(packed + _LINK.pack(link)))
        self.marks.append(mark)
        self._links.append(link)

    def _read_marks(self) -> None:
        most = (self.header.shape[0] + 1) * _MARK_BYTES
        there = self.file.seek(0, io.SEEK_END) - self.marks_start
        if there <= 0:
            return
        self.file.seek(self.marks_start)
        rest = self.file.read(min(most, there))
        for begin in range(0, len(rest) - _MARK_BYTES + 1, _MARK_BYTES):
            packed, (link,) = rest[begin : begin + _MARK.size], _LINK.unpack_from(rest, begin + _MARK.size)
            if link != zlib.crc32(packed, self._links[-1]):
                return
            mark = Mark(*_MARK.unpack(packed))
            if not (self.rows if self.marks else 0) <= mark.rows <= self.header.shape[0]:
                return
            self.marks.append(mark)
            self._links.append(link)


def _read_header_line(file: io.FileIO) -> bytes:
    file.seek(0)
    begin = b""
    while len(begin) < _LONGEST_HEADER + PAGE:
        page = file.read(PAGE)
        begin += page
        if page.endswith(b"\n") and len(page) == PAGE:
            return begin
        if len(page) < PAGE:
            break
    raise Damaged("it does not begin with a header")


def _decoded(line: bytes) -> Header:
    try:
        values = json.loads(line)
        header = Header(shape=tuple(values.pop("shape")), **values)
        numbers = (*header.shape, header.itemsize, header.format)
        texts = (header.dtype, header.created, header.made_by, *header.about, *header.about.values())
        makes_sense = (
            all(type(number) is int and number >= 0 for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and isinstance(header.key, dict)
            and header.shape
            and header.itemsize
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged("its header is not one of this version") from error
    if not makes_sense:
        raise Damaged("its header makes no sense")
    return header
