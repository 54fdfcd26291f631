"""A level that both arms share, followed through time: what the baseline's past is worth.

The exact test of `rates` knows nothing of a path but the block before it. Where the level of a
path wanders slowly, or jumps for both arms at once, its past says much of what the candidate
should do now. Here the level is a hidden Markov chain that both arms are draws from; the evidence
is the likelihood of a candidate that is worse by some odds ratio from some start on, over the
likelihood of one that is not, each summed over every course that the level may have taken.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from signals.engine.effects import Floats, spent_weight

Rows = NDArray[np.intp]
# Single precision: half the memory, twice the speed, and far finer than the model itself.
Singles = NDArray[np.float32]

# Levels, in log odds from the usual one: fine around it, coarse where outages are.
_NEAR: Final[Floats] = np.asarray(np.arange(-12, 13) / 10.0, dtype=np.float64)
_FAR: Final[Floats] = np.asarray(1.6 + 0.6 * np.arange(10), dtype=np.float64)
OFFSETS: Final[Floats] = np.concatenate([_NEAR, _FAR])
# Odds ratios of a worse candidate.
LOG_EFFECTS: Final[Floats] = np.array([0.06, 0.10, 0.17, 0.28, 0.45, 0.75, 1.2, 2.0])
# How far a level wanders in a minute (standard deviation, log odds). The data chooses.
PACES: Final = (0.004, 0.03, 0.06)
# A wandering level returns by so much of its distance each minute.
RETURN: Final = 0.02
# An outage of both arms begins so often a minute, and lasts so many minutes. More often than a
# release turns bad: what could be either is not blamed on the release.
JUMP: Final = 0.01
OUTAGE_MINUTES: Final = 30.0
_OUT: Final = OFFSETS > 1.45
_MINUTE_S: Final = 60.0
_LONGEST: Final = 240
_CEILING: Final = 1e30
_MOST_LOG: Final = 60.0
_MOST: Final = 1e300
_LEAST: Final = 1e-30
# Guards that fit a core's cache together.
_AT_ONCE: Final = 128


class LevelFilter:
    """Evidence with a shared level, for many guards at once.

    Hidden Markov models: Rabiner 1989, Proceedings of the IEEE 77 (the forward recursion). The
    ratio of two marginal likelihoods is an e-process where the level moves as the model says
    (Ramdas, Grunwald, Vovk and Shafer 2023, Statistical Science 38, section 3); that a level moves
    otherwise costs what the benchmarks measure, and its weight beside the exact test is bounded.

    Shapes: paces R, guards G, effects K, levels J.
    """

    def __init__(self, expected_s: Floats, *, spread: Floats, steady: bool = False) -> None:
        """Begin.

        Args:
            expected_s: how long the rollout is expected to be watched, seconds, [G].
            spread: how far the level may lie from the usual one at first, log odds, [G].
            steady: no pace and no jump: the level of a day, which only the candidate shows.
        """
        guards = len(expected_s)
        self.expected_s = expected_s
        self.spread = spread
        self.steady = steady
        paces = (0.0,) if steady else PACES
        begin = _normal(spread) / len(paces)
        self.calm: Singles = np.stack([begin] * len(paces)).astype(np.float32)
        size = (len(paces), guards, len(LOG_EFFECTS), len(OFFSETS))
        self.worse: Singles = np.zeros(size, dtype=np.float32)
        self.spent: Floats = np.zeros(guards)
        self.minute: NDArray[np.int64] = np.zeros(guards, dtype=np.int64)

    def step(self, rows: Rows, counts: Floats, usual: Floats, *, elapsed_s: Floats) -> Floats:
        """Take in a block of arrivals of the guards `rows`; return its log factors, [R, K].

        A factor is what a candidate worse by that effect since some start would have made of the
        block, as far as the past tells, over what one that is not worse would have.

        Args:
            rows: distinct guards that have data, [R].
            counts: tasks and bad ones, possibly weighted, [R, (n_c, x_c, n_b, x_b)].
            usual: the usual level at this time, log odds, [R].
            elapsed_s: seconds since each guard's evidence began, [R].
        """
        factors = np.empty((len(rows), len(LOG_EFFECTS)))
        for few in range(0, len(rows), _AT_ONCE):
            part = slice(few, few + _AT_ONCE)
            factors[part] = self._step(rows[part], counts[part], usual[part], elapsed_s[part])
        return factors

    def _step(self, rows: Rows, counts: Floats, usual: Floats, elapsed_s: Floats) -> Floats:
        spent = spent_weight(elapsed_s, self.expected_s[rows])
        fresh = (spent - self.spent[rows]).astype(np.float32)
        self.spent[rows] = spent
        calm = self.calm[:, rows]
        worse = self.worse[:, rows]
        worse += fresh[:, None, None] * calm[:, :, None, :]
        if not self.steady:
            self._move(rows, calm, worse, elapsed_s)
        n_c, x_c, n_b, x_b = counts.T[:, :, None]
        level = usual[:, None] + OFFSETS
        tail = _softplus(level)
        both = (x_c + x_b) * level - (n_c + n_b) * tail
        with np.errstate(divide="ignore"):
            top = (both + np.log(calm.sum(axis=0))).max(axis=1)
        shifted = level[:, None, :] + LOG_EFFECTS[None, :, None]
        split = (x_b * level - n_b * tail - top[:, None])[:, None, :]
        split = split + x_c[:, None] * shifted - n_c[:, None] * _softplus(shifted)
        begun = worse.sum(axis=(0, 3), dtype=np.float64)
        calm *= np.exp(np.minimum(both - top[:, None], _MOST_LOG)).astype(np.float32)
        with np.errstate(over="ignore"):
            worse *= np.exp(np.minimum(split, _MOST_LOG)).astype(np.float32)
        told = worse.sum(axis=(0, 3), dtype=np.float64)
        scale = calm.sum(axis=(0, 2))
        calm /= scale[:, None]
        worse /= scale[:, None, None]
        np.minimum(worse, _CEILING, out=worse)
        self.calm[:, rows] = calm
        self.worse[:, rows] = worse
        told = np.clip(told, _LEAST, _MOST) / np.maximum(begun, _LEAST)
        return np.asarray(np.log(told) - np.log(scale.astype(np.float64))[:, None])

    def _move(self, rows: Rows, calm: Singles, worse: Singles, elapsed_s: Floats) -> None:
        """Let levels wander for the whole minutes since they were last seen, in place."""
        minute = (elapsed_s // _MINUTE_S).astype(np.int64)
        passed = np.minimum(minute - self.minute[rows], _LONGEST)
        self.minute[rows] = minute
        for minutes in np.unique(passed[passed > 0]):
            kernels = _kernels(int(minutes))
            these = np.flatnonzero(passed == minutes)
            moved = worse if len(these) == len(rows) else worse[:, these]
            flat = moved.reshape(len(moved), -1, len(OFFSETS))
            worse[:, these] = np.matmul(flat, kernels).reshape(moved.shape)
            calm[:, these] = np.matmul(calm[:, these], kernels)

    def new_day(self, rows: Rows) -> None:
        """Let another day's level begin, as far from the usual one as any: of steady levels."""
        begin = _normal(self.spread[rows]).astype(np.float32)
        self.calm[:, rows] = begin
        whole = self.worse[:, rows].sum(axis=3, keepdims=True)
        self.worse[:, rows] = whole * begin[:, None, :]

    def log_evidence(self) -> Floats:
        mixed = self.worse.sum(axis=(0, 3), dtype=np.float64).mean(axis=1)
        return np.asarray(np.log(mixed + 1.0 - self.spent))


def _softplus(x: Floats) -> Floats:
    """Return log(1 + e^x); no level is so high that e^x overflows."""
    return np.asarray(np.log(1.0 + np.exp(x)))


def _normal(spread: Floats) -> Floats:
    """Return a normal prior over `OFFSETS` around the usual level, [G, J]."""
    widths = np.gradient(OFFSETS)
    shape = np.exp(-0.5 * (OFFSETS / np.maximum(spread, 0.05)[:, None]) ** 2) * widths
    return np.asarray(shape / shape.sum(axis=1, keepdims=True))


@lru_cache(maxsize=512)
def _kernels(minutes: int) -> Floats:
    """Return where a level goes in so many minutes, by pace: [R, from, to]."""
    if minutes == 1:
        return np.stack([_kernel(pace) for pace in PACES]).astype(np.float32)
    half = _kernels(minutes // 2)
    whole = half @ half
    return whole @ _kernels(1) if minutes % 2 else whole


def _kernel(pace: float) -> Floats:
    size = len(OFFSETS)
    kept = 1.0 - (RETURN if pace > 0.01 else RETURN / 40)
    walk = np.eye(size)
    for i in range(1, size - 1):
        if _OUT[i]:
            continue
        at = OFFSETS[i - 1 : i + 2]
        mean = kept * OFFSETS[i]
        moments = np.stack([np.ones(3), at, (at - mean) ** 2])
        chances = np.clip(np.linalg.solve(moments, [1.0, mean, pace * pace]), 0.0, 1.0)
        walk[i, i - 1 : i + 2] = chances / chances.sum()
    calm = _normal(np.array([0.25]))[0]
    out = _OUT / _OUT.sum()
    begun = 0.7 * out + 0.3 * calm
    ends = 1.0 / OUTAGE_MINUTES
    jumps = np.where(_OUT[:, None], calm, begun)
    often = np.where(_OUT, ends, JUMP)[:, None]
    return np.asarray((1.0 - often) * walk + often * jumps)
