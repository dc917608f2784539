"""Means, shares, intervals and tests of a few seeds: pure functions of numbers.

All arms of an experiment share their seeds, so comparisons are paired: differences are taken seed
by seed, and what runs of one seed have in common (initial weights, order of the data) cancels.
`docs/statistics.md` has the coverage and the error rates of these methods by simulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from cnnjax.metric import UNBOUNDED, Ends

ALPHA = 0.05
"""The level of all tests."""

_EXACT_PAIRS = 20
_RANDOM_FLIPS = 100_000


@dataclass(frozen=True)
class Sample:
    """The mean of `n` values, their standard deviation (n - 1), and a 95% t interval of the mean.

    `sd`, `low` and `high` are None if n < 2.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Share:
    """`count` of `n` with 95% Clopper-Pearson bounds, which are 0 and 1 if `n` is 0."""

    count: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share as a fraction. Raises ZeroDivisionError if `n` is 0."""
        return self.count / self.n


@dataclass(frozen=True)
class Paired(Sample):
    """`n` paired differences: mean, t interval, two-sided permutation p, and Cohen's dz, the mean
    in standard deviations.

    `sd`, `low`, `high` are None if n < 2; `dz` also where the differences are all equal.
    `differences` are in the order of the seeds and lie between `ends`.
    Source of dz: Cohen 1988, "Statistical Power Analysis", section 2.3.5; named so by Lakens 2013.
    """

    p: float
    dz: float | None
    differences: tuple[float, ...] = ()
    ends: Ends = UNBOUNDED

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The interval of the mean difference, not corrected; None if n < 2."""
        return t_interval(self.mean, self.sd, self.n, confidence, ends=self.ends)

    @property
    def separate(self) -> bool:
        """Whether there is an interval that has a width and excludes zero."""
        if self.low is None or self.high is None or self.low == self.high:
            return False
        return self.low > 0 or self.high < 0


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation (divisor n - 1); None if n < 2.

    Rounding noise of equal values (below 1e-12 of their size) counts as zero.
    """
    if len(values) < 2:
        return None
    sd = float(np.std(values, ddof=1))
    return 0.0 if sd <= 1e-12 * max(abs(float(value)) for value in values) else sd


def t_interval(
    mean: float,
    sd: float | None,
    n: int,
    confidence: float = 0.95,
    family: int = 1,
    ends: Ends = UNBOUNDED,
) -> tuple[float, float] | None:
    """The interval mean ± t · sd / √n with n - 1 degrees of freedom, cut off at `ends`; None
    if n < 2.

    With `family` such intervals, all hold simultaneously with at least `confidence`, whatever their
    dependence and their variances (Bonferroni's inequality). Values that are all equal (sd 0) give
    an interval without width.
    Source: Student 1908, "The probable error of a mean"; Dunn 1961, "Multiple comparisons among
    means".
    """
    if n < 2 or sd is None:
        return None
    tail = (1 - confidence) / 2 / family
    half = float(scipy.stats.t.isf(tail, n - 1)) * sd / math.sqrt(n)
    return max(mean - half, ends[0]), min(mean + half, ends[1])


def p_above(differences: Sequence[float], margin: float) -> float:
    """One-sided p of the paired t test against "the mean difference is at most `margin`".

    1 if n < 2. Differences that are all equal have no spread: beyond the margin their p is that
    of the sign test, 2^-n.
    """
    n = len(differences)
    if n < 2:
        return 1.0
    mean, sd = float(np.mean(differences)) - margin, standard_deviation(differences)
    if not sd:  # beyond the margin by no more than rounding is not beyond it
        noise = 1e-9 * max(abs(margin), *map(abs, differences))
        return 2.0**-n if mean > noise else 1.0
    return float(scipy.stats.t.sf(mean / (sd / math.sqrt(n)), n - 1))


def p_below(differences: Sequence[float], margin: float) -> float:
    """One-sided p of the paired t test against "the mean difference is at least `margin`"."""
    return p_above([-value for value in differences], -margin)


def p_equivalent(differences: Sequence[float], within: float) -> float:
    """p of two one-sided tests against "the means differ by `within` or more".

    Below 0.05 where the 90% t interval lies inside ± `within`. Source: Schuirmann 1987, "A
    comparison of the two one-sided tests procedure and the power approach".
    """
    return max(p_above(differences, -within), p_below(differences, within))


def p_different(differences: Sequence[float], within: float) -> float:
    """p against "the means differ by at most `within`", either way (twice the smaller side's)."""
    return min(1.0, 2 * min(p_above(differences, within), p_below(differences, -within)))


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for multiple tests: with probability 0.95 or more no true null hypothesis
    is rejected at 0.05, whatever the dependence.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, float)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]


def describe(values: Sequence[float], ends: Ends = UNBOUNDED) -> Sample | None:
    """Mean, standard deviation and 95% t interval of `values`, which lie between `ends`; None if
    there are none."""
    if not len(values):
        return None
    mean, sd, n = float(np.mean(values)), standard_deviation(values), len(values)
    low, high = t_interval(mean, sd, n, ends=ends) or (None, None)
    return Sample(n, mean, sd, low, high)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p value of the paired permutation test on the mean difference.

    If the two arms of each pair are exchangeable, every difference is as likely with either sign.
    p is the share of the 2^n sign patterns whose mean is at least as far from zero as the observed
    one; its smallest value is 2^(1 - n) (0.0625 for 5 pairs, 0.03125 for 6). Exact up to 20
    pairs; beyond that 100,000 random patterns (fixed key), counted as (hits + 1) / (patterns + 1).
    Source: Fisher 1935, "The Design of Experiments", section 21; Phipson and Smyth 2010 for the
    random patterns.
    """
    values = np.asarray(differences, float)
    observed = abs(values.sum())
    observed -= 1e-9 * np.abs(values).sum()  # so that ties count in spite of rounding
    if len(values) <= _EXACT_PAIRS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        signs = random.choice([-1.0, 1.0], (_RANDOM_FLIPS // 100, len(values)))
        hits += int(np.sum(np.abs(signs @ values) >= observed))
    return (hits + 1) / (_RANDOM_FLIPS + 1)


def compare(
    values: Mapping[int, float],
    baseline: Mapping[int, float],
    family: int = 1,
    ends: Ends = UNBOUNDED,
) -> Paired | None:
    """`values` against `baseline`, both by seed, over the seeds they share, with a 95% interval;
    None if they share none. `family`, and `ends` of the differences: see `t_interval`."""
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    # Rounding errors are relative to the values: 0.9 - 0.8 and 0.8 - 0.7 must be equal.
    scale = max(abs(values[seed]) + abs(baseline[seed]) for seed in seeds)
    exact = [values[seed] - baseline[seed] for seed in seeds]
    differences = [0.0 if abs(d) <= 1e-12 * scale else d for d in exact]
    n, mean = len(differences), float(np.mean(differences))
    sd = standard_deviation(differences)
    sd = 0.0 if sd is not None and sd <= 1e-12 * scale else sd
    low, high = t_interval(mean, sd, n, family=family, ends=ends) or (None, None)
    p, dz = sign_flip_p(differences), (mean / sd if sd else None)
    return Paired(n, mean, sd, low, high, p, dz, tuple(differences), ends)


def share(count: int, n: int) -> Share:
    """`count` of `n` with two-sided exact bounds.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits".
    """
    tail = (1 - 0.95) / 2
    low = float(scipy.stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(scipy.stats.beta.isf(tail, count + 1, n - count)) if count < n else 1.0
    return Share(count, n, low, high)


def p_more(count: int, n: int, share: float) -> float:
    """Exact one-sided binomial p against "the probability is at most `share`"."""
    return float(scipy.stats.binom.sf(count - 1, n, share)) if n else 1.0


def p_fewer(count: int, n: int, share: float) -> float:
    """Exact one-sided binomial p against "the probability is at least `share`"."""
    return float(scipy.stats.binom.cdf(count, n, share)) if n else 1.0


def not_above_chance(accuracy: float, num_examples: int, chance: float) -> bool:
    """Whether an accuracy on a number of examples is not significantly above `chance`: the exact
    one-sided binomial p is 0.05 or more."""
    return p_more(round(accuracy * num_examples), num_examples, chance) >= ALPHA


def log_odds(accuracy: float, num_examples: int) -> float:
    """log(right / wrong), with half an example added to both so that it is finite for 0 and 1.

    Source: Haldane 1956, Anscombe 1956 (the empirical logit).
    """
    right = accuracy * num_examples
    return math.log((right + 0.5) / (num_examples - right + 0.5))
