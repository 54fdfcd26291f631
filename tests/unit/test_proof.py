"""How evidence is told: to an owner at 3 a.m., and to a statistician."""

from datetime import UTC, datetime
from math import log

import pytest

from signals.guards.proof import Proof, Totals, chance_text, proof_text


@pytest.mark.parametrize(
    ("e_value", "text"),
    [
        (0.2, "likely"),
        (1.9, "likely"),
        (2.0, "less than 1 in 2"),
        (20.0, "less than 1 in 20"),
        (419.0, "less than 1 in 410"),
        (1999.0, "less than 1 in 1,900"),
        (3e9, "less than 1 in 1,000,000"),
    ],
)
def test_chance_is_rounded_towards_doubt(e_value: float, text: str) -> None:
    assert chance_text(log(e_value)) == text


def test_a_statistician_reads_the_figures() -> None:
    proof = Proof(
        method="exact",
        started_at=datetime(2026, 11, 24, 14, 5, tzinfo=UTC),
        log_worse=log(412.0),
        log_fine=None,
        candidate=Totals(412, 33),
        stable=Totals(1630, 64),
        named=True,
        shared_by=6,
        log_mean=log(70.5),
        blocks=(353000, 353200),
    )

    kept = proof.document(reference="stable", needs=None)

    assert kept["e_value"] == 412.0
    assert proof_text(kept) == (
        "e-value 412 against “not worse” (concurrent); mean of the rollout's 6 triggers 70.5;"
        " decides at 20 (budget 5 %); candidate n 412, bad 33; stable n 1,630, bad 64;"
        " evidence blocks 353000 to 353200"
    )
    assert proof_text({}) == ""
