"""The one door for the observations that a mapping finds in a trace."""

from typing import Any, Final

from signals.ingest.framing import JSON, items_split
from signals.ingest.ids import uuid7
from signals.ingest.runs import ItemError
from signals.ingest.services import BatchReceipt

NOT_TAKEN: Final = "observations are not taken yet"


def observations_store(*, body: bytes, **_: Any) -> BatchReceipt:
    """Answer as `batch_store` would: this console has no place for any of them.

    Args:
        body: a JSON array of observations.
    """
    errors = [ItemError(index, "", NOT_TAKEN) for index, _ in enumerate(items_split(body, JSON))]
    return BatchReceipt(uuid7(), accepted=0, rejected=len(errors), errors=errors)
