"""How far a replay has come, so that one that was cut short goes on there."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from django.utils import timezone

from rollout_console.replay.models import ReplayCheckpoint

_CHUNK: Final = 1024 * 1024


class Checkpoints:
    """The notes of one replay: this workflow, this mapping, these files as they are.

    Args:
        mapping: what the mapping is called.
        mapping_text: what it says; another text makes other items, so it is another replay.
        durable: called before each note, for what stands beside the database.
    """

    def __init__(
        self,
        *,
        workflow: str,
        mapping: str,
        mapping_text: bytes,
        files: Iterable[Path],
        durable: Callable[[], object],
    ) -> None:
        self.mapping = mapping
        self._durable = durable
        digest = hashlib.sha256()
        for part in (workflow.encode(), mapping_text):
            digest.update(hashlib.sha256(part).digest())
        for path in files:
            digest.update(hashlib.sha256(path.name.encode(errors="surrogateescape")).digest())
            digest.update(_content_digest(path))
        self._digest = digest.hexdigest()

    def last(self) -> ReplayCheckpoint | None:
        """Return where the replay was cut short, None where it begins."""
        return ReplayCheckpoint.objects.filter(pk=self._digest).first()

    def note(self, **reached: Any) -> None:
        """Note that everything up to a file and row is stored; fields as `ReplayCheckpoint`."""
        self._durable()
        ReplayCheckpoint.objects.update_or_create(
            digest=self._digest, defaults={**reached, "noted_at": timezone.now()}
        )

    def forget(self) -> None:
        """The replay is through: the next one begins anew."""
        ReplayCheckpoint.objects.filter(pk=self._digest).delete()


def _content_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
