"""The next batches made ready for COPY while Postgres keeps the last ones: nothing but CPU work."""

import gzip
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Final

import msgspec
import structlog

from signals.ingest.framing import GZIP_MAGIC
from signals.ingest.rows import Names, run_line
from signals.ingest.runs import Run

log = structlog.get_logger()

# How long Python lets one thread compute before another that wants to has its turn. The usual
# five milliseconds would be lost at each answer of Postgres.
_TURN_S: Final = 0.0002

_runs_decode: Final = msgspec.json.Decoder(list[Run]).decode


@dataclass(frozen=True, slots=True)
class BatchText:
    """A batch's runs as lines of COPY text, with what they name.

    Clients and unknown segments come by workflow and path, whose ids are `places`.
    """

    text: str
    days: frozenset[date]
    slugs: frozenset[str]
    versions: frozenset[tuple[str, str]]
    unknown_segments: dict[tuple[str, str, str], int]
    clients: frozenset[tuple[str, str, str]]
    places: dict[tuple[str, str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class BatchRuns:
    """A batch's runs and the workflows and releases that they name."""

    seq: int
    runs: list[Run]
    slugs: frozenset[str]
    versions: frozenset[tuple[str, str]]

    def text(self, names: Names) -> BatchText:
        """Return the runs as text, with ids looked up in `names`."""
        unknown: dict[tuple[str, str, str], int] = {}
        lines = [
            run_line(run, drain=self.seq, names=names, unknown_segments=unknown)
            for run in self.runs
        ]
        days = {run.occurred_at.astimezone(UTC).date() for run in self.runs}
        text = "\n".join([*lines, ""])
        return BatchText(
            text=text,
            days=frozenset(days),
            slugs=self.slugs,
            versions=self.versions,
            unknown_segments=unknown,
            clients=frozenset(
                (run.workflow, run.path, run.client) for run in self.runs if run.client
            ),
            places={key: (at.workflow_id, at.path_id) for key, at in names.paths.items()},
        )

    def known(self, names: Names) -> bool:
        """Return whether `names` has every path and release of the runs."""
        places = {(run.workflow, run.path) for run in self.runs}
        if not places <= names.paths.keys():
            return False
        ids = {workflow: roles.workflow_id for (workflow, _), roles in names.paths.items()}
        return all((ids[slug], version) in names.releases for slug, version in self.versions)


def batch_runs(seq: int, body: bytes) -> BatchRuns:
    """Return what a stored batch holds."""
    runs = _runs_decode(unpacked(body))
    return BatchRuns(
        seq=seq,
        runs=runs,
        slugs=frozenset(run.workflow for run in runs),
        versions=frozenset((run.workflow, run.release) for run in runs if run.release is not None),
    )


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(GZIP_MAGIC) else zlib.decompress(body)


@dataclass(slots=True)
class ReadAhead:
    """One thread at most that makes text of batches nobody has claimed yet.

    Whoever claims a batch first drains it; the text of one that another took is thrown away. Where
    that happens to all of them the work is not done again: others drain here too.
    """

    worth: bool = True
    _thread: threading.Thread | None = None
    _made: dict[int, BatchText] = field(default_factory=dict)

    def start(self, batches: Sequence[tuple[int, bytes]], names: Names) -> None:
        """Begin with these batches, as far as `names` knows what they name."""
        if batches:
            self._thread = threading.Thread(target=self._make, args=[batches, names], daemon=True)
            self._thread.start()

    def take(self, seqs: Sequence[int]) -> dict[int, BatchText]:
        """Wait for what was begun; return the text of those of `seqs` that it has."""
        if self._thread is None:
            return {}
        self._thread.join()
        self._thread = None
        found = {seq: self._made[seq] for seq in seqs if seq in self._made}
        self.worth = bool(found)
        self._made.clear()
        return found

    def _make(self, batches: Sequence[tuple[int, bytes]], names: Names) -> None:
        for seq, body in batches:
            try:
                batch = batch_runs(seq, body)
                if batch.known(names):
                    self._made[seq] = batch.text(names)
            except Exception as error:  # noqa: BLE001  # the outer edge of a thread
                # Whoever claims it meets the same error, and sets the batch aside.
                log.info("ingest.not_read_ahead", seq=seq, error=str(error))


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns often while one of them waits for Postgres again and again."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
