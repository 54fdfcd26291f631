"""What people say of a demo task later: reviews that it asked for, and feedback. Pure."""

import random
from datetime import datetime, timedelta
from typing import Any, Final

# A reviewer takes this long on average; somebody who complains does so sooner.
REVIEW_AFTER_S: Final = 20.0
FEEDBACK_AFTER_S: Final = 8.0
# Who says anything: few of those served well, more of those who were not.
SAYS_SOMETHING: Final = {True: 0.10, False: 0.35}
SAYS_NO: Final = {True: 0.03, False: 0.80}


def labels_drawn(
    run: dict[str, Any], rng: random.Random, *, now: datetime
) -> list[tuple[float, dict[str, Any]]]:
    """Draw the observations of a run, each with the seconds after which it is made."""
    passed = bool(run["quality"]["passed"])
    found: list[tuple[float, dict[str, Any]]] = []
    if run.get("review_requested"):
        words = ("approved", "edited", "rejected")
        verdict = rng.choices(words, (0.9, 0.09, 0.01) if passed else (0.05, 0.35, 0.6))[0]
        found.append(
            (
                rng.expovariate(1 / REVIEW_AFTER_S),
                {"kind": "review", "verdict": verdict, "reviewer": "ruben"},
            )
        )
    if rng.random() < SAYS_SOMETHING[passed]:
        values = ["down", "complaint", "undo"] if rng.random() < SAYS_NO[passed] else ["up"]
        found.append(
            (
                rng.expovariate(1 / FEEDBACK_AFTER_S),
                {"kind": "feedback", "value": rng.choice(values)},
            )
        )
    return [
        (
            after_s,
            {
                "id": f"{run['id']}-{says['kind']}",
                "workflow": run["workflow"],
                "run_id": run["id"],
                "run_occurred_at": run["occurred_at"],
                "occurred_at": (now + timedelta(seconds=after_s)).isoformat(
                    timespec="milliseconds"
                ),
                **says,
            },
        )
        for after_s, says in found
    ]
