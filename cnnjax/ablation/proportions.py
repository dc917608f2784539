"""Shares of runs and of examples: exact bounds, chance level, log-odds. Pure functions."""

import math
from dataclasses import dataclass

import scipy.stats


@dataclass(frozen=True)
class Share:
    """`count` of `n` with 95% Clopper-Pearson bounds; of none they are 0 and 1."""

    count: float
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself. Raises ZeroDivisionError where `n` is 0."""
        return self.count / self.n


def share(count: float, n: int, confidence: float = 0.95) -> Share:
    """`count` of `n` with two-sided exact bounds. Half counts (ties) widen them to both sides.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits".
    """
    tail = (1 - confidence) / 2
    below, above = math.floor(count), math.ceil(count)
    low = float(scipy.stats.beta.ppf(tail, below, n - below + 1)) if below else 0.0
    high = float(scipy.stats.beta.isf(tail, above + 1, n - above)) if above < n else 1.0
    return Share(count, n, low, high)


def p_more(count: int, n: int, share: float) -> float:
    """Exact one-sided binomial p against "at most `share` of such runs do"."""
    return float(scipy.stats.binom.sf(count - 1, n, share)) if n else 1.0


def p_fewer(count: int, n: int, share: float) -> float:
    """Exact one-sided binomial p against "at least `share` of such runs do"."""
    return float(scipy.stats.binom.cdf(count, n, share)) if n else 1.0


def at_chance(accuracy: float, examples: int, chance: float) -> bool:
    """Whether an accuracy on so many examples is no better than `chance`: the exact one-sided
    binomial p is 0.05 or more."""
    return p_more(round(accuracy * examples), examples, chance) >= 0.05


def log_odds(accuracy: float, examples: int) -> float:
    """log(right / wrong), with half an example added to both so that 0 and 1 have one.

    Source: Haldane 1956, Anscombe 1956 (the empirical logit).
    """
    right = accuracy * examples
    return math.log((right + 0.5) / (examples - right + 0.5))
