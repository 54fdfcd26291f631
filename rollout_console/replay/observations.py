"""The one door for the observations that a mapping finds in a trace."""

from typing import Any

from signals.ingest.models import BatchKind
from signals.ingest.services import BatchReceipt, batch_store


def observations_store(**given: Any) -> BatchReceipt:
    """Keep a batch of observations; arguments and errors are those of `batch_store`."""
    return batch_store(kind=BatchKind.OBSERVATIONS, **given)
