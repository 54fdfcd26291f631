"""What an evidence block brought, by place. Pure: no Django."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from signals.buckets.measures import Measures
from signals.buckets.scopes import Scope


class Place(NamedTuple):
    """Where a row of a block belongs: on which path, in whose scope, under which condition."""

    path_id: int
    scope: Scope
    input_condition: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What one block brought of one place.

    Histograms are by the ledger's buckets, values of 0 in bucket None.
    """

    place: Place
    measures: Measures
    latency: Mapping[int | None, int]
    cost: Mapping[int | None, int]
    failures: Mapping[str, int]
