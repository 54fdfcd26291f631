"""The recommendation of a rollout, from what its guards say now."""

from collections.abc import Iterable

from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.recommendation import Heard, Recommendation, recommend
from rollout_console.rollouts.states import RolloutState
from signals.guards.selectors import VerdictRow


def recommendation_of(
    rollout: Rollout, verdicts: Iterable[VerdictRow], *, stages: int
) -> Recommendation | None:
    """Return what to do with a rollout of so many stages; None where nothing is exposed."""
    return recommend(
        [
            Heard(
                guard=row.guard,
                is_trigger=row.kind == "trigger",
                signal=row.signal,
                word=row.verdict,
                severity=row.severity,
                sentence=row.sentence,
                response=row.response,
                e_value=float(row.evidence.get("e_value") or 1.0),
            )
            for row in verdicts
        ],
        state=RolloutState(rollout.state),
        lowest_stage=rollout.stage <= 1,
        widest_stage=rollout.stage >= stages,
    )
