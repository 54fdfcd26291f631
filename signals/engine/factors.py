"""Evidence of one block: how much likelier its outcomes are if the candidate is worse."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from signals.engine.effects import Floats

Ints = NDArray[np.int64]

_MOST_TERMS: Final = 20_000


@lru_cache(maxsize=1)
def _log_factorials(size: int) -> Floats:
    table = np.zeros(size + 1)
    np.cumsum(np.log(np.arange(1, size + 1)), out=table[1:])
    return table


def log_factorials(largest: int) -> Floats:
    """Return log 0! ... log m! with m at least `largest`."""
    size = 1 << max(12, int(largest).bit_length())
    return _log_factorials(size)


def two_arm_factors(
    n_c: Ints, x_c: Ints, n_b: Ints, x_b: Ints, log_odds: Floats, log_null: Floats
) -> Floats:
    """Return log e of blocks of two arms, shape [R, K], exact whatever rate they share.

    Given a block's bad outcomes X in both arms, the candidate's share of them is hypergeometric
    where the odds are equal and Fisher's noncentral hypergeometric at odds ratio exp(l), so

        log e = l x_c - log sum_i h(i) e^(l i) - (the same at the null's odds ratio).

    Conditioning on X takes the level of the block out: seasons, outages of both arms and a
    change of share cancel. (Wald 1947, Sequential Analysis; Hao, Grunwald, Lardy, Long and Adams
    2024, Sankhya A 86; Turner, Ly and Grunwald 2024, J. Statistical Planning and Inference 230.)

    Args:
        n_c, x_c, n_b, x_b: tasks and bad ones of candidate and baseline, shape [R].
        log_odds: log odds ratios of the alternatives, shape [R, K].
        log_null: log odds ratio on the edge of the null hypothesis, shape [R].
    """
    levels = np.concatenate([log_odds, log_null[:, None]], axis=1)
    total = x_c + x_b
    out: Floats = levels * x_c[:, None].astype(np.float64)
    some = np.flatnonzero(total)
    if len(some):
        out[some] -= _log_mean_tilt(n_c[some], n_b[some], total[some], levels[some])
    return out[:, :-1] - out[:, -1:]


def _log_mean_tilt(n_c: Ints, n_b: Ints, total: Ints, levels: Floats) -> Floats:
    """Return log sum_i h(i) e^(l i) over the hypergeometric h, shape of `levels`."""
    least = np.maximum(total - n_b, 0)
    most = np.minimum(total, n_c)
    terms = most - least + 1
    result = np.empty_like(levels)
    bounded = terms > _MOST_TERMS
    if bounded.any():
        # Never less than the sum (Hoeffding 1963, JASA 58, theorem 4), so still an e-value.
        share = (n_c / (n_c + n_b))[bounded, None]
        result[bounded] = total[bounded, None] * np.log1p(share * np.expm1(levels[bounded]))
    exact = np.flatnonzero(~bounded)
    for few in np.array_split(exact, max(1, int(terms[exact].sum()) // 200_000)):
        if len(few) == 0:
            continue
        lengths = terms[few]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        owner = np.repeat(np.arange(len(few)), lengths)
        i = np.arange(int(lengths.sum())) - starts[owner] + least[few][owner]
        c, b, x = n_c[few][owner], n_b[few][owner], total[few][owner]
        lf = log_factorials(int((n_c[few] + n_b[few]).max()))
        log_h = (
            lf[c]
            - lf[i]
            - lf[c - i]
            + lf[b]
            - lf[x - i]
            - lf[b - x + i]
            - lf[c + b]
            + lf[x]
            + lf[c + b - x]
        )
        logs = log_h[:, None] + i[:, None] * levels[few][owner]
        top = np.maximum.reduceat(logs, starts, axis=0)
        sums = np.add.reduceat(np.exp(logs - top[owner]), starts, axis=0)
        result[few] = top + np.log(sums)
    return result


def one_arm_factors(n: Ints, x: Ints, null_rate: Floats, log_odds: Floats) -> Floats:
    """Return log e of `x` bad ones in `n` tasks against rates up to `null_rate`, shape [R, K].

    The likelihood ratio of odds e^l times those of `null_rate`; for lesser rates its mean is
    below 1 where l > 0, for greater ones where l < 0. (Wald 1947; as a bet: Waudby-Smith and
    Ramdas 2024, JRSS B 86.)
    """
    tilt = np.log1p(null_rate[:, None] * np.expm1(log_odds))
    return x[:, None] * log_odds - n[:, None] * tilt
