"""Intervals over seeds and images, and power: against published values and other code."""

import math

import numpy as np
import pytest
import scipy.stats

from cnnjax.ablation import power
from cnnjax.ablation.population import population


def test_an_interval_by_variance_components_by_hand():
    # Four seeds by four images, with a part of 1 or -1 each and a rest of 3/4 or -3/4. Mean
    # squares: seeds 4 * 4 / 3 = 16/3, images the same, rest 16 * 9/16 / 9 = 1; in total 29/3.
    part, sign = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    result = population(np.add.outer(part, part) + 0.75 * np.outer(sign, sign))
    df = (29 / 3) ** 2 / ((16 / 3) ** 2 / 3 * 2 + 1 / 9)
    half = scipy.stats.t.ppf(0.975, df) * math.sqrt(29 / 3 / 16)
    assert (result.mean, result.low, result.high) == pytest.approx((0.0, -half, half))


def test_an_interval_over_seeds_alone_by_hand():
    # Two seeds, three images; row means 1/3, 2/3, mean 1/2. Seeds: 3 * 2 * (1/6)^2 = 1/6.
    result = population(np.array([[1, 0, 0], [1, 1, 0]]), ends=(-1.0, 1.0))
    assert result.mean == pytest.approx(0.5)
    # The interval over the two seeds alone (1 degree of freedom) is the widest, so it stays; what
    # lies beyond 1, the largest difference of two shares, is cut off.
    half = scipy.stats.t.ppf(0.975, 1) * math.sqrt(1 / 6 / 6)
    assert half > 1.5
    assert (result.low, result.high) == (-1.0, 1.0)


@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.02, 0.0), (0.0, 0.3), (0.02, 0.3)])
def test_coverage_over_seeds_and_images(seed_sd, image_sd):
    """The interval is made for seeds and images both drawn anew."""
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(1500):
        seeds = seed_sd * random.normal(size=(6, 1))
        images = image_sd * random.normal(size=(1, 80))
        result = population(0.01 + seeds + images + 0.2 * random.normal(size=(6, 80)))
        covered += result.low <= 0.01 <= result.high
    assert covered / 1500 >= 0.935


def test_an_interval_needs_two_seeds_and_two_images():
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


def test_how_many_runs_it_takes_to_show_a_share():
    """Half of them: p = 2^-n. A quarter: 5 of 6 has p = (18 + 1) / 4096 = 0.0046."""
    assert [power.runs_to_show(runs, 0.5) for runs in (4, 5, 6)] == [None, 5, 6]
    assert power.runs_needed(0.5) == 5
    assert power.runs_needed(0.5, family=13) == 9  # 2^-8 = 0.0039 is above 0.05 / 13 = 0.0038
    assert power.runs_to_show(6, 0.25, family=5) == 5
    assert power.runs_needed(0.05) == 2  # a p of exactly 0.05 is not below it
    assert power.runs_to_show(0, 0.5) is None
