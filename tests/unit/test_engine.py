"""What an e-value promises, checked by summing over everything that could have happened."""

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.engine.budget import chance, guilty, rollout_log_evidence
from signals.engine.categories import Categories
from signals.engine.effects import LOG_EFFECTS, spent_weight
from signals.engine.factors import one_arm_factors, two_arm_factors
from signals.engine.levels import OFFSETS, LevelFilter
from signals.engine.limits import LimitMeans, beyond, bin_floor
from signals.engine.past import past_of
from signals.engine.rates import ConcurrentRates, ExactRates, LimitRates
from signals.engine.shapes import TwoArmShapes, stretched, worse_shapes
from signals.engine.subjects import Subjects

ALL = np.arange(1)


def binomial(x: int, n: int, p: np.ndarray | float) -> np.ndarray:
    return np.asarray(comb(n, x) * np.asarray(p) ** x * (1 - np.asarray(p)) ** (n - x))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(n_c=st.integers(1, 12), n_b=st.integers(1, 12), total=st.integers(0, 24))
@settings(deadline=None, max_examples=80)
def test_an_exact_factor_has_mean_one_whatever_rate_both_arms_share(
    n_c: int, n_b: int, total: int
) -> None:
    total = min(total, n_c + n_b)
    possible = range(max(0, total - n_b), min(total, n_c) + 1)
    log_odds = np.concatenate([LOG_EFFECTS, -LOG_EFFECTS])[None, :]
    mean = np.zeros(log_odds.shape[1])
    for x_c in possible:
        chance_of = comb(n_c, x_c) * comb(n_b, total - x_c) / comb(n_c + n_b, total)
        factor = two_arm_factors(
            ints(n_c), ints(x_c), ints(n_b), ints(total - x_c), log_odds, np.zeros(1)
        )
        mean += chance_of * np.exp(factor[0])
    np.testing.assert_allclose(mean, 1.0, rtol=1e-9)


@pytest.mark.parametrize(("odds", "sign"), [(0.7, 1.0), (1.4, 1.0), (1.4, -1.0), (2.5, -1.0)])
def test_a_factor_against_a_margin_has_mean_at_most_one_inside_it(odds: float, sign: float) -> None:
    """Worse than a margin of 1.4: no evidence below it; not worse than it: none above it."""
    n_c, n_b, total, log_null = 7, 9, 6, np.log(1.4)
    weights = {
        x: comb(n_c, x) * comb(n_b, total - x) * odds**x for x in range(total + 1) if x <= n_c
    }
    whole = sum(weights.values())
    mean = sum(
        weight
        / whole
        * np.exp(
            two_arm_factors(
                ints(n_c),
                ints(x),
                ints(n_b),
                ints(total - x),
                log_null + sign * LOG_EFFECTS[None, :],
                np.array([log_null]),
            )[0]
        )
        for x, weight in weights.items()
    )
    assert (np.asarray(mean) <= 1 + 1e-9).all()


@given(n=st.integers(1, 30), limit=st.floats(0.01, 0.6), part=st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=60)
def test_a_rate_below_its_limit_earns_nothing_on_average(n: int, limit: float, part: float) -> None:
    rate = limit * part
    mean = sum(
        binomial(x, n, rate)
        * np.exp(one_arm_factors(ints(n), ints(x), np.array([limit]), LOG_EFFECTS[None, :])[0])
        for x in range(n + 1)
    )
    assert (np.asarray(mean) <= 1 + 1e-9).all()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=8)
def test_a_shape_factor_has_mean_at_most_one_for_any_shared_shape(seed: int) -> None:
    """However wrong the past is about what both arms do now."""
    rng = np.random.default_rng(seed)
    bins = 5
    past = rng.integers(0, 50, (1, bins)).astype(float)
    truth = rng.dirichlet(np.full(bins, 0.5))
    mean = np.zeros(14)
    for values in itertools.product(range(bins), repeat=4):
        panel = TwoArmShapes(np.array([3600.0]), past=past)
        counts = np.zeros((1, 2, bins), dtype=np.int64)
        # Two tasks of each arm close a block: n_c n_b / (n_c + n_b) = 1.
        for place, value in enumerate(values):
            counts[0, place // 2, value] += 1
        panel.step(ALL, counts, elapsed_s=np.zeros(1))
        # M is the factor times the weight of a start at once, a half.
        mean += np.prod(truth[list(values)]) * np.exp(panel.mixture.log_m[0, 0]) / 0.5
    assert (mean <= 1 + 1e-9).all()


def test_a_followed_level_foretells_with_chances_that_add_up_to_one() -> None:
    """Summed over all outcomes of a block, chance when calm times factor is 1 for each effect."""
    usual = np.array([np.log(0.1 / 0.9)])

    def filter_with_past() -> LevelFilter:
        panel = LevelFilter(np.array([86_400.0]), spread=np.array([0.15]))
        for minute, (x_c, x_b) in enumerate([(0, 1), (1, 0), (2, 1), (0, 0)]):
            panel.step(
                ALL,
                np.array([[4.0, x_c, 9.0, x_b]]),
                usual,
                elapsed_s=np.array([60.0 * minute * 7]),
            )
        return panel

    n_c, n_b = 3, 4
    calm = np.zeros(8)
    for x_c, x_b in itertools.product(range(n_c + 1), range(n_b + 1)):
        panel = filter_with_past()
        before = panel.calm.copy()
        # The same minute again: nothing moves, so the chance when calm can be summed by hand.
        factor = panel.step(
            ALL, np.array([[n_c, x_c, n_b, x_b]]).astype(float), usual, elapsed_s=np.array([1260.0])
        )
        p = 1 / (1 + np.exp(-(usual[0] + OFFSETS)))
        likely = binomial(x_c, n_c, p) * binomial(x_b, n_b, p)
        calm += float((before[:, 0] * likely).sum()) * np.exp(factor[0])
    np.testing.assert_allclose(calm, 1.0, rtol=1e-6)


def test_a_bet_against_a_limit_has_mean_at_most_one() -> None:
    floor = bin_floor(12)
    chances = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01])
    limit = float((chances * floor).sum())
    panel = LimitMeans(np.array([3600.0]), limit=np.array([limit]), floor=floor[None, :])
    mean = (chances[None, :] * np.exp(panel.log_gain[0])).sum(axis=1)
    np.testing.assert_allclose(mean, 1.0, rtol=1e-12)


def test_values_in_the_bin_of_a_limit_are_not_beyond_it() -> None:
    counts = ints(0, 5, 7, 2)[None, :]
    found = beyond(counts, floor=np.array([1.0, 2.0, 4.0, 8.0]), limit=np.array([5.0]))
    assert found.tolist() == [[14, 2]]


def test_weights_of_starts_never_pass_one_and_only_grow() -> None:
    at = np.linspace(0, 400, 2000)
    spent = spent_weight(at, np.full(2000, 3.0))
    assert spent[0] == 0.5
    assert (np.diff(spent) > 0).all()
    assert spent[-1] < 1


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 59))
@settings(deadline=None, max_examples=20)
def test_evidence_is_the_same_beside_other_guards_and_after_any_pause(seed: int, cut: int) -> None:
    """A guard alone, among others, and picked up again: equal as far as single precision goes."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 6, (60, 3, 2))
    counts = np.stack([n[..., 0], rng.binomial(n[..., 0], 0.2), n[..., 1]], axis=-1)
    counts = np.concatenate([counts, rng.binomial(n[..., 1], 0.1)[..., None]], axis=-1)
    expected = np.array([3600.0, 7200.0, 900.0])
    usual = np.array([-2.2, -2.0, -1.5])
    together = ConcurrentRates(expected, followed=np.array([True, True, False]))
    alone = ConcurrentRates(expected[:1], followed=np.array([True]))
    for minute in range(60):
        rows = np.flatnonzero(counts[minute][:, 0] + counts[minute][:, 2])
        at = np.full(len(rows), 60.0 * minute)
        if len(rows):
            together.step(rows, counts[minute][rows], usual[rows], elapsed_s=at)
        if 0 in rows:
            alone.step(ALL, counts[minute][:1], usual[:1], elapsed_s=np.array([60.0 * minute]))
        if minute == cut:
            # Nothing is carried but the arrays themselves.
            kept = ConcurrentRates(expected[:1], followed=np.array([True]))
            kept.exact.mixture.log_m[:] = alone.exact.mixture.log_m
            kept.exact.mixture.spent[:] = alone.exact.mixture.spent
            kept.exact.open[:] = alone.exact.open
            kept.exact.opened_s[:] = alone.exact.opened_s
            for name in ("calm", "worse", "spent", "minute"):
                getattr(kept.level, name)[:] = getattr(alone.level, name)
            alone = kept
    assert alone.log_evidence()[0] == pytest.approx(together.log_evidence()[0], rel=1e-5, abs=1e-5)


def test_a_plain_degradation_is_found_and_an_outage_of_both_arms_is_not_blamed() -> None:
    rng = np.random.default_rng(11)
    panel = ConcurrentRates(np.full(2, 86_400.0), followed=np.array([True, True]))
    usual = np.full(2, np.log(0.05 / 0.95))
    rates = np.array([[0.05, 0.05], [0.05, 0.05]])
    rows = np.arange(2)
    for minute in range(600):
        if minute == 200:
            rates = np.array([[0.2, 0.05], [0.6, 0.6]])
        x = rng.binomial(6, rates)
        counts = np.stack([np.full(2, 6), x[:, 0], np.full(2, 6), x[:, 1]], axis=1)
        panel.step(rows, counts, usual, elapsed_s=np.full(2, 60.0 * minute))
    degraded, outage = panel.log_evidence()
    assert degraded > np.log(1e6)
    assert outage < np.log(20)


def test_strata_make_no_difference_of_a_change_of_mix() -> None:
    """The candidate gets only hard cases, and fails them as often as the baseline does."""
    rng = np.random.default_rng(5)
    apart = ExactRates(np.array([86_400.0]), strata=2)
    pooled = ExactRates(np.array([86_400.0]))
    for minute in range(800):
        n = np.array([[0, 4], [4, 1]])
        x = rng.binomial(n, [[0.05, 0.05], [0.5, 0.5]])
        counts = np.stack([n[:, 0], x[:, 0], n[:, 1], x[:, 1]], axis=1)
        apart.step(ALL, counts[None], elapsed_s=np.array([60.0 * minute]))
        pooled.step(ALL, counts.sum(axis=0)[None, None], elapsed_s=np.array([60.0 * minute]))
    assert apart.log_evidence()[0] < np.log(20)
    assert pooled.log_evidence()[0] > np.log(1e6)


def test_evidence_for_holding_comes_from_a_candidate_that_is_not_worse() -> None:
    rng = np.random.default_rng(8)
    # "Worse by at least an odds ratio of 1.5" is what is to be ruled out.
    panel = ExactRates(np.full(2, 86_400.0), log_null=np.full(2, np.log(1.5)), sign=-1.0)
    for minute in range(1500):
        x = rng.binomial(5, [[0.1, 0.1], [0.16, 0.1]])
        counts = np.stack([np.full(2, 5), x[:, 0], np.full(2, 5), x[:, 1]], axis=1)
        panel.step(np.arange(2), counts[:, None, :], elapsed_s=np.full(2, 60.0 * minute))
    holds, worse = panel.log_evidence()
    assert holds > np.log(20)
    assert worse < np.log(20)


def test_nothing_seen_is_no_evidence() -> None:
    for panel in (
        ExactRates(np.array([60.0])),
        LimitRates(np.array([60.0]), limit=np.array([0.1])),
        LevelFilter(np.array([60.0]), spread=np.array([0.15])),
        TwoArmShapes(np.array([60.0]), past=np.zeros((1, 8))),
    ):
        assert panel.log_evidence()[0] == pytest.approx(0.0, abs=1e-12)
    assert Categories(60.0).log_evidence() == 0.0


def test_stretching_moves_values_and_loses_none() -> None:
    shape = np.zeros((1, 12))
    shape[0, 3] = 1.0
    np.testing.assert_allclose(stretched(shape, 2.0)[0, 7], 1.0)
    np.testing.assert_allclose(worse_shapes(shape).sum(axis=2), 1.0)


def test_categories_share_one_budget_however_many_come() -> None:
    panel = Categories(86_400.0)
    for k in range(3000):
        panel.step(1, 1, {f"kind {k}": 1}, {}, elapsed_s=float(k))
    assert sum(found.weight for found in panel.found.values()) < 1


def test_a_new_failure_pattern_is_named_and_a_shared_one_is_not() -> None:
    rng = np.random.default_rng(2)
    new, shared = Categories(86_400.0), Categories(86_400.0)
    for minute in range(600):
        usual = [{f"k{k}": 1 for k in range(20) if rng.random() < 0.01} for _ in range(2)]
        born = minute >= 200
        odd = {"timeout": 1} if born and rng.random() < 0.15 else {}
        also = {"timeout": 1} if born and rng.random() < 0.15 else {}
        new.step(4, 4, usual[0] | odd, usual[1], elapsed_s=60.0 * minute)
        shared.step(4, 4, usual[0] | odd, usual[1] | also, elapsed_s=60.0 * minute)
    assert new.log_evidence() > np.log(20)
    named = new.guiltiest()
    assert named is not None
    assert named[0] == "timeout"
    assert shared.log_evidence() < np.log(20)


def test_a_loud_person_counts_less_each_time() -> None:
    weigh = Subjects(icc=0.25)
    worth = [weigh.weighted(0, [("anna", 1, 1)])[0] for _ in range(40)]
    assert worth[0] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(worth))
    # Kish's design effect: however many, never more than 1 / icc people.
    assert sum(worth) == pytest.approx(40 / (1 + 39 * 0.25))
    assert weigh.weighted(1, [("anna", 2, 1)]) == pytest.approx((1.6, 0.8))


def test_the_past_tells_the_hours_and_how_far_days_differ() -> None:
    rng = np.random.default_rng(4)
    hours = np.arange(168)
    level = np.log(0.1 / 0.9) + 0.4 * np.sin(2 * np.pi * hours / 24)
    day = np.repeat(rng.standard_normal(7) * 0.3, 24)
    n = np.full(168, 4000)
    x = rng.binomial(n, 1 / (1 + np.exp(-(level + day))))
    past = past_of(np.stack([n, x], axis=1))
    assert past is not None
    six, eighteen = past.at(6 * 60 + 30), past.at(18 * 60 + 30)
    assert six - eighteen == pytest.approx(0.8, abs=0.1)
    assert 0.12 < past.day_spread < 0.6
    calm = past_of(np.stack([n, rng.binomial(n, 1 / (1 + np.exp(-level)))], axis=1))
    assert calm is not None
    assert calm.day_spread < 0.06
    assert past_of(np.zeros((168, 2), dtype=np.int64)) is None


def test_a_rollout_trips_on_the_mean_and_names_the_guilty() -> None:
    loud = {"slow": np.log(500.0), "cost": np.log(3.0), "quality": np.log(0.5)}
    assert rollout_log_evidence(loud) == pytest.approx(np.log((500 + 3 + 0.5) / 3))
    assert guilty(loud) == ["slow"]
    both = {"slow": np.log(40.0), "cost": np.log(35.0), "quality": np.log(0.5)}
    assert guilty(both) == ["slow", "cost"]
    assert guilty({"slow": np.log(50.0), "cost": 0.0, "quality": 0.0}) == []
    assert guilty({}) == []
    assert chance(np.log(400.0)) == pytest.approx(1 / 400)
    assert chance(-3.0) == 1.0
