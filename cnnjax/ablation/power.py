"""The power of a number of seeds, from a margin and a spread, never from an observed effect.

Source: Cohen 1988, "Statistical Power Analysis", chapter 2; Hoenig and Heisey 2001, "The abuse of
power", on why the observed effect is no input.
"""

import bisect
import math

from cnnjax.ablation.statistics import ALPHA, p_more

POWER = 0.8


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p that the exact paired permutation test can give."""
    return min(1.0, 2.0 ** (1 - seeds))


def detectable(seeds: int, family: int = 1) -> float | None:
    """The mean difference, in standard deviations of the paired differences, that a one-sided
    paired t test at 0.05 over `family` claims detects with probability 0.8; None below 2 seeds."""
    from statsmodels.stats.power import TTestPower  # takes a second to import

    if seeds < 2:
        return None
    alpha = ALPHA / family
    solve = TTestPower().solve_power
    return float(solve(nobs=seeds, alpha=alpha, power=POWER, alternative="larger"))


def seeds_needed(margin: float, sd: float, family: int = 1) -> int | None:
    """The number of seeds that detect a difference of `margin` with probability 0.8 (as in
    `detectable`) if the paired differences have standard deviation `sd`; None beyond 1000."""
    if not margin > 0 or not math.isfinite(sd):
        return None

    def enough(seeds: int) -> bool:
        return (detectable(seeds, family) or math.inf) * sd <= margin

    seeds = range(2, 1001)
    index = bisect.bisect_left(seeds, True, key=enough)
    return seeds[index] if index < len(seeds) else None


def runs_to_show(runs: int, share: float, family: int = 1) -> int | None:
    """How many of `runs` must diverge (or be at chance) to show that more than `share` of such runs
    do, by the exact binomial test at 0.05 over `family` claims; None if all are not enough."""
    counts = (n for n in range(runs + 1) if p_more(n, runs, share) < ALPHA / family)
    return next(counts, None)


def runs_needed(share: float, family: int = 1) -> int:
    """The number of runs that show it if all of them diverge (or are at chance)."""
    runs = max(1, math.ceil(math.log(ALPHA / family) / math.log(share)))
    while runs_to_show(runs, share, family) is None:  # a p of exactly 0.05 is not below it
        runs += 1
    return runs
