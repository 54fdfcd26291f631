"""Trace files as records, one at a time: CSV, JSON lines or JSON, each plain or gzip. No Django.

Memory holds one record and a chunk, however large the file is.
"""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from rollout_console.replay.json_stream import JsonBroken, JsonItems
from rollout_console.replay.mapping import Source
from rollout_console.rollouts.plan_check import close_to

LINE_MAX: Final = 16 * 1024 * 1024
CELL_MAX: Final = 1024 * 1024
CHUNK: Final = 256 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
_TRUNCATED: Final = "The gzip data end too early."

_decode: Final = msgspec.json.Decoder().decode


class SourceRefused(Exception):
    """The file as a whole is not what the mapping reads; nothing of it was taken."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its values, or what is wrong with it; `row` counts from 1 as the file does."""

    row: int
    values: dict[str, Any] | None
    fault: str = ""


class TraceFile:
    """A file to read records from; `broken` says why reading ended before the file did."""

    def __init__(self, path: Path, source: Source, *, names: frozenset[str]) -> None:
        self.path = path
        # The same rows have the same ids, packed or not.
        self.name = os.fsencode(path.name.removesuffix(".gz")).decode(errors="replace")
        self.head: dict[str, Any] = {}
        self.broken = ""
        self._source = source
        self._names = names
        self._raw: IO[bytes] | None = None
        self._ended = False

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def position(self) -> int:
        """Return how many bytes of the file are read."""
        if self._ended:
            return self.size
        return 0 if self._raw is None or self._raw.closed else self._raw.tell()

    def check(self) -> None:
        """Read the first record, to see that the file is what the mapping reads.

        Raises:
            SourceRefused
        """
        next(self.records(), None)

    def records(self) -> Iterator[Record]:
        """Yield the file's records from its beginning.

        A break inside the file, such as gzip data that end too early, is the last record's
        fault and stands in `broken`.

        Raises:
            SourceRefused: it cannot be opened, or is something else.
        """
        self.broken = ""
        self.head = {}
        self._ended = False
        try:
            raw = self.path.open("rb")
        except OSError as error:
            raise SourceRefused(f"{self.path}: {error.strerror or error}") from error
        with raw:
            self._raw = raw
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream = io.BufferedReader(_Unpacked(raw), CHUNK) if packed else raw
            row = 0
            try:
                for record in self._by_format(stream):
                    row = record.row
                    yield record
            except EOFError:
                self.broken = _TRUNCATED
            except (gzip.BadGzipFile, zlib.error) as error:
                self.broken = f"The gzip data are broken: {error}."
            except OSError as error:
                self.broken = f"It cannot be read any further: {error.strerror or error}."
            except JsonBroken as error:
                if row == 0:
                    raise SourceRefused(f"{self.path}: {error}") from error
                self.broken = str(error)
            if self.broken:
                yield Record(row + 1, None, self.broken)
        self._ended = True

    def _by_format(self, stream: "io.BufferedReader[Any]") -> Iterator[Record]:
        if self._source.format == "csv":
            return self._csv(stream)
        return self._lines(stream) if self._source.format == "jsonl" else self._json(stream)

    def _csv(self, stream: "io.BufferedReader[Any]") -> Iterator[Record]:
        csv.field_size_limit(CELL_MAX)
        texts = _Texts(stream)
        rows = csv.reader(texts, delimiter=self._source.delimiter)
        header: list[str] | None = None
        row = 0
        while True:
            try:
                cells = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                cells = None
                texts.fault = texts.fault or f"Not CSV: {error}."
            fault, texts.fault = texts.fault, ""
            if cells == [] and not fault:
                continue
            if header is None:
                if fault or cells is None:
                    raise SourceRefused(f"{self.path}: its first line is no header. {fault}")
                header = [name.strip() for name in cells]
                self._header_check(header)
                continue
            row += 1
            if not fault and cells is not None and len(cells) != len(header):
                fault = f"The row has {len(cells)} cells, the header has {len(header)}."
            if fault or cells is None:
                yield Record(row, None, fault)
                continue
            yield Record(
                row, {name: cell or None for name, cell in zip(header, cells, strict=True)}
            )
        if header is None:
            raise SourceRefused(f"{self.path} is empty; its first line should be the header.")

    def _header_check(self, header: list[str]) -> None:
        missing = sorted(self._names - set(header))
        if missing:
            shown = ", ".join(name[:60] for name in header[:20])
            raise SourceRefused(
                f"{self.path} has no column “{missing[0]}”{close_to(missing[0], header)} "
                f"Its columns are: {shown}. Is it the file that the mapping is for?"
            )

    def _lines(self, stream: "io.BufferedReader[Any]") -> Iterator[Record]:
        for row, (line, fault) in enumerate(_lines_of(stream), start=1):
            if fault:
                yield Record(row, None, fault)
            elif line.strip():
                yield _object_of(row, line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line)

    def _json(self, stream: "io.BufferedReader[Any]") -> Iterator[Record]:
        items = JsonItems(stream.read1, steps=self._source.records, head=self._source.head)
        self.head = items.head
        for row, item in enumerate(items, start=1):
            yield _object_of(row, item)


def _object_of(row: int, text: bytes) -> Record:
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = str(error).removeprefix("JSON is malformed: ")[:200]
        return Record(row, None, f"Not JSON: {words}.")
    if not isinstance(value, dict):
        return Record(row, None, "A record must be a JSON object.")
    return Record(row, value)


def _lines_of(stream: "io.BufferedReader[Any]") -> Iterator[tuple[bytes, str]]:
    """Yield each line with what is wrong with it; of one that is too long, nothing is kept."""
    while line := stream.readline(LINE_MAX):
        if len(line) < LINE_MAX or line.endswith(b"\n"):
            yield line, ""
            continue
        while (line := stream.readline(LINE_MAX)) and not line.endswith(b"\n"):
            pass
        yield b"", f"The line is longer than {LINE_MAX:,} bytes."


class _Unpacked(io.RawIOBase):
    """The data of a gzip file, given out as they come: what precedes a break is not lost."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._gzip = gzip.GzipFile(fileobj=raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._gzip.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Texts:
    """Lines as text for the CSV reader, which has no way to be told what is wrong with one."""

    def __init__(self, stream: "io.BufferedReader[Any]") -> None:
        self.fault = ""
        self._lines = _lines_of(stream)
        self._first = True

    def __iter__(self) -> "_Texts":
        return self

    def __next__(self) -> str:
        line, fault = next(self._lines)
        self.fault = self.fault or fault
        if self._first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.fault = self.fault or f"The row is not UTF-8 at byte {error.start + 1}."
            return line.decode(errors="replace")
