"""Shares, seeds and images, power: against published values and other code."""

import math

import numpy as np
import pytest
import scipy.stats

from cnnjax.ablation import power, statistics
from cnnjax.ablation.population import population


def test_exact_bounds_of_a_share():
    # Clopper and Pearson: 0 of 10 has the upper bound 1 - 0.025^(1/10); 5 of 10 [0.187, 0.813].
    none = statistics.share(0, 10)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025**0.1))
    half = statistics.share(5, 10)
    assert (half.low, half.high) == (
        pytest.approx(0.1871, abs=1e-4),
        pytest.approx(0.8129, abs=1e-4),
    )
    tie = statistics.share(4.5, 10)
    assert tie.low == statistics.share(4, 10).low
    assert tie.high == statistics.share(5, 10).high
    expected = scipy.stats.binomtest(7, 9).proportion_ci(0.95, "exact")
    assert (statistics.share(7, 9).low, statistics.share(7, 9).high) == pytest.approx(expected)


def test_binomial_p_by_hand():
    assert statistics.p_more(5, 5, 0.5) == pytest.approx(1 / 32)
    assert statistics.p_fewer(0, 5, 0.5) == pytest.approx(1 / 32)
    assert statistics.p_more(0, 5, 0.5) == pytest.approx(1.0)
    assert statistics.p_more(0, 0, 0.5) == 1.0


def test_chance_level():
    # 100 of 1000 right of ten classes is chance, 116 is the first that is not (p = 0.0475).
    assert statistics.not_above_chance(0.100, 1000, 0.1)
    assert statistics.not_above_chance(0.115, 1000, 0.1)
    assert not statistics.not_above_chance(0.117, 1000, 0.1)
    assert statistics.not_above_chance(0.02, 1000, 0.1)


def test_log_odds_of_all_and_none():
    assert statistics.log_odds(0.5, 100) == 0.0
    assert statistics.log_odds(1.0, 100) == pytest.approx(math.log(201))
    assert statistics.log_odds(0.0, 100) == -statistics.log_odds(1.0, 100)


def test_parts_of_the_variance_by_hand():
    # Two seeds, three images; row means 1/3, 2/3, column means 1, 1/2, 0, mean 1/2.
    # Seeds: 3 * 2 * (1/6)^2 = 1/6; images: 2 * (1/4 + 0 + 1/4) / 2 = 1/2;
    # rest: [1/6, -1/3, 1/6] and its negative: 2 * (1/36 + 4/36 + 1/36) / 2 = 1/6.
    found = population(np.array([[1, 0, 0], [1, 1, 0]]), ends=(-1.0, 1.0))
    assert found.mean == pytest.approx(0.5)
    assert found.seed_sd == 0.0
    assert found.image_sd == pytest.approx(math.sqrt((1 / 2 - 1 / 6) / 2))
    assert found.rest_sd == pytest.approx(math.sqrt(1 / 6))
    # The interval over the two seeds alone (1 degree of freedom) is the widest, so it stays; what
    # lies beyond 1, the largest difference of two shares, is cut off.
    half = scipy.stats.t.ppf(0.975, 1) * math.sqrt(1 / 6 / 6)
    assert half > 1.5
    assert (found.low, found.high) == (-1.0, 1.0)


@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.02, 0.0), (0.0, 0.3), (0.02, 0.3)])
def test_population_covers(seed_sd, image_sd):
    """The interval is made for seeds and images both drawn anew."""
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(1500):
        seeds = seed_sd * random.normal(size=(6, 1))
        images = image_sd * random.normal(size=(1, 80))
        found = population(0.01 + seeds + images + 0.2 * random.normal(size=(6, 80)))
        covered += found.low <= 0.01 <= found.high
    assert covered / 1500 >= 0.935


def test_population_needs_two_of_each():
    assert population(np.ones((1, 5))) is None
    assert population(np.ones((5, 1))) is None


def test_power_agrees_with_the_noncentral_t():
    for seeds in (3, 5, 10):
        effect = power.detectable(seeds)
        critical = scipy.stats.t.isf(0.05, seeds - 1)
        reached = scipy.stats.nct.sf(critical, seeds - 1, effect * math.sqrt(seeds))
        assert reached == pytest.approx(0.8, abs=1e-5)
    # Cohen 1988, table 2.3.1 (one-sided 0.05, power 0.80): dz 0.5 needs 27 pairs.
    assert power.seeds_needed(0.5, 1.0) == 27
    assert power.detectable(1) is None
    assert power.seeds_needed(0.0, 1.0) is None
    assert power.seeds_needed(1e-9, 1.0) is None
    assert power.smallest_p(5) == 0.0625


def test_how_many_runs_show_a_share():
    """Half of them: p = 2^-n. A quarter: 5 of 6 has p = (18 + 1) / 4096 = 0.0046."""
    assert [power.runs_to_show(runs, 0.5) for runs in (4, 5, 6)] == [None, 5, 6]
    assert power.runs_needed(0.5) == 5
    assert power.runs_needed(0.5, family=13) == 9  # 2^-8 = 0.0039 is above 0.05 / 13 = 0.0038
    assert power.runs_to_show(6, 0.25, family=5) == 5
    assert power.runs_needed(0.05) == 2  # a p of exactly 0.05 is not below it
    assert power.runs_to_show(0, 0.5) is None
