"""What a number of seeds can show: from a margin and a spread, never from an effect that was seen.

Source: Cohen 1988, "Statistical Power Analysis", chapter 2; Hoenig and Heisey 2001, "The abuse of
power", on why the effect seen is no input.
"""

import math

POWER = 0.8
ALPHA = 0.05


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p that the exact paired permutation test can give."""
    return min(1.0, 2.0 ** (1 - seeds))


def detectable(seeds: int, family: int = 1) -> float | None:
    """The mean difference, in standard deviations of the paired differences, that a one-sided
    paired t test at 0.05 over `family` claims finds with probability 0.8; None below 2 seeds."""
    from statsmodels.stats.power import TTestPower  # a second to import

    if seeds < 2:
        return None
    alpha = ALPHA / family
    solve = TTestPower().solve_power
    return float(solve(nobs=seeds, alpha=alpha, power=POWER, alternative="larger"))


def seeds_needed(margin: float, sd: float, family: int = 1, most: int = 1000) -> int | None:
    """The number of seeds with which a difference of `margin`, where the paired differences have
    this `sd`, is found with probability 0.8 (as in `detectable`); None beyond `most`."""
    if not margin > 0 or not math.isfinite(sd):
        return None
    low, high = 2, most
    if (detectable(high, family) or math.inf) * sd > margin:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = (detectable(middle, family) or math.inf) * sd <= margin
        low, high = (low, middle) if enough else (middle + 1, high)
    return low
