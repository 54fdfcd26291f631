"""Count what became of an action, in the key of what its context was exposed to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from signals.buckets.keys import BLOCK_S, COUNTS, HISTOGRAMS, SUMS
from signals.buckets.models import ArrivalLedger
from signals.ingest.drains import drain_open

_NOTHING: Final = dict.fromkeys((*COUNTS, *SUMS), 0)


@dataclass(frozen=True, slots=True)
class ActionKey:
    """Where an action is counted: 0 for no segment, release or known arm.

    Its result stands in the minute in which it was asked for, so that what was undone is a part
    of what was done then.
    """

    workflow_id: int
    path_id: int
    segment_id: int
    release_id: int
    arm: int
    mode: int
    requested_at: datetime


def action_result_count(
    *, key: ActionKey, ended: bool, done: bool, undone: bool, now: datetime
) -> None:
    """Append one result to the ledger. Runs in the transaction that keeps the result.

    Args:
        ended: the action was done or failed just now.
        done: it worked.
        undone: an action that had worked was taken back.
    """
    arrays: dict[str, Any] = {
        f"{name}_{part}": [] for name in HISTOGRAMS for part in ("idx", "cnt")
    }
    counts = {"actions_n": ended, "actions_done": done, "actions_undone": undone}
    ArrivalLedger.objects.create(
        **{**_NOTHING, **{name: int(said) for name, said in counts.items()}},
        **arrays,
        minute=key.requested_at.replace(second=0, microsecond=0),
        workflow_id=key.workflow_id,
        path_id=key.path_id,
        segment_id=key.segment_id,
        release_id=key.release_id,
        arm=key.arm,
        mode=key.mode,
        input_condition=0,
        risk=0,
        drain=drain_open(1, now=now),
        block=int(now.timestamp()) // BLOCK_S,
        arrived_at=now,
    )
