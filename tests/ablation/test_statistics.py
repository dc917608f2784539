import math

import numpy as np
import pytest
import scipy.stats

from cnnjax.ablation import statistics


def test_describe_by_hand():
    # mean 3, squared deviations 4 + 1 + 0 + 1 + 4 = 10, sd = sqrt(10 / 4); t(0.975, 4) = 2.776445
    sample = statistics.describe([1, 2, 3, 4, 5])
    assert sample is not None
    assert sample.n == 5
    assert sample.mean == 3
    assert sample.sd == pytest.approx(math.sqrt(2.5))
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)
    assert (sample.low, sample.high) == pytest.approx((3 - half, 3 + half))


def test_few_values_have_no_interval():
    assert statistics.describe([]) is None
    one = statistics.describe([0.9])
    assert one == statistics.Sample(1, 0.9, None, None, None)
    assert statistics.t_interval(0.9, None, 1) is None


def test_equal_values_have_an_interval_without_width():
    # 0.1 + 0.2 style rounding must not become a tiny spread and a huge effect.
    baseline = {0: 0.7, 1: 0.8, 2: 0.6}
    paired = statistics.compare({seed: value + 0.1 for seed, value in baseline.items()}, baseline)
    assert paired is not None
    assert paired.sd == 0
    assert paired.low == paired.high == pytest.approx(0.1)
    assert paired.dz is None
    assert not paired.separate


def test_compare_agrees_with_scipy_and_uses_shared_seeds_only():
    random = np.random.default_rng(1)
    baseline = {seed: float(value) for seed, value in enumerate(random.normal(0.9, 0.02, 9))}
    arm = {seed: value + float(random.normal(0.01, 0.01)) for seed, value in baseline.items()}
    del baseline[0], arm[8]
    seeds = range(1, 8)
    test = scipy.stats.ttest_rel([arm[s] for s in seeds], [baseline[s] for s in seeds])
    interval = test.confidence_interval(0.95)
    paired = statistics.compare(arm, baseline)
    assert paired is not None
    assert paired.n == 7
    assert (paired.low, paired.high) == pytest.approx((interval.low, interval.high))
    assert paired.dz == pytest.approx(test.statistic / math.sqrt(7))


def test_compare_without_pairs_and_with_one():
    assert statistics.compare({0: 0.9}, {1: 0.9}) is None
    one = statistics.compare({0: 0.9}, {0: 0.8, 1: 0.7})
    assert one is not None
    assert (one.n, one.low, one.p, one.dz) == (1, None, 1.0, None)
    assert one.mean == pytest.approx(0.1)


@pytest.mark.parametrize(("pairs", "smallest"), [(1, 1.0), (5, 0.0625), (6, 0.03125), (8, 2**-7)])
def test_smallest_permutation_p(pairs, smallest):
    assert statistics.sign_flip_p([0.01 * (k + 1) for k in range(pairs)]) == smallest
    assert statistics.sign_flip_p([-0.01] * pairs) == smallest


def test_permutation_p_by_hand():
    # |sum| >= 4 of ±1 ±2 ±3: 6, 4 and their mirror images: 4 of 8 patterns.
    assert statistics.sign_flip_p([3, 2, -1]) == 0.5
    assert statistics.sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    # Ties count whatever the rounding: |sum| >= 0.1 of ±0.1 ±0.2 ±0.2 is every pattern.
    assert statistics.sign_flip_p([-0.1, 0.2, -0.2]) == 1.0


def test_permutation_p_agrees_with_scipy():
    values = np.random.default_rng(2).normal(0.4, 1, 10)
    exact = scipy.stats.permutation_test(
        (values,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert statistics.sign_flip_p(values) == pytest.approx(exact.pvalue)


def test_many_pairs_use_random_patterns_that_repeat():
    values = list(np.random.default_rng(3).normal(0.3, 1, 24))
    p = statistics.sign_flip_p(values)
    assert p == statistics.sign_flip_p(values)
    assert p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_one_sided_p_by_hand_and_against_scipy():
    # 1, 2, 3, 4, 5 against 2: mean 1, sd sqrt(2.5), t = sqrt(2), 4 degrees of freedom
    assert statistics.p_above([1, 2, 3, 4, 5], 2) == pytest.approx(scipy.stats.t.sf(2**0.5, 4))
    values = np.random.default_rng(4).normal(0.01, 0.02, 7)
    for margin in (-0.01, 0.0, 0.02):
        for function, side in ((statistics.p_above, "greater"), (statistics.p_below, "less")):
            expected = scipy.stats.ttest_1samp(values, margin, alternative=side).pvalue
            assert function(values, margin) == pytest.approx(expected)


def test_p_without_a_spread_is_that_of_the_sign_test():
    assert statistics.p_above([0.1] * 5, 0.0) == 2**-5
    assert statistics.p_above([0.1] * 5, 0.1) == 1.0
    assert statistics.p_above([0.1] * 5, 0.2) == 1.0
    assert statistics.p_below([0.1] * 5, 0.2) == 2**-5
    assert statistics.p_above([0.1], 0.0) == statistics.p_below([], 0.0) == 1.0


def test_equivalence_agrees_with_statsmodels_and_with_the_interval():
    from statsmodels.stats.weightstats import DescrStatsW

    values = np.random.default_rng(5).normal(0.001, 0.004, 8)
    for within in (0.001, 0.003, 0.006):
        expected = DescrStatsW(values).ttost_mean(-within, within)[0]
        p = statistics.p_equivalent(values, within)
        assert p == pytest.approx(expected)
        low, high = statistics.t_interval(values.mean(), values.std(ddof=1), 8, 0.90)
        assert (p < 0.05) == (-within < low and high < within)
    assert statistics.p_different([0.05, 0.06, 0.07], 0.01) == pytest.approx(
        2 * statistics.p_above([0.05, 0.06, 0.07], 0.01)
    )


def test_holm_by_hand():
    # 0.01 * 4, max(., 0.02 * 3), max(., 0.03 * 2), max(., 0.04): the published step-down.
    assert statistics.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([]) == []
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]


def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    for size in (1, 2, 7, 30):
        ps = np.random.default_rng(size).random(size) ** 3
        assert statistics.holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])


def test_a_family_of_intervals_is_wider():
    low, high = statistics.t_interval(0.0, 1.0, 4, family=5)
    # t(1 - 0.05 / 10, 3) = 5.8409 (Student's table), over sqrt(4)
    assert (low, high) == pytest.approx((-5.8409 / 2, 5.8409 / 2), abs=1e-4)


def test_exact_bounds_of_a_share():
    # Clopper and Pearson: 0 of 10 has the upper bound 1 - 0.025^(1/10); 5 of 10 [0.187, 0.813].
    none = statistics.share(0, 10)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025**0.1))
    half = statistics.share(5, 10)
    assert (half.low, half.high) == (
        pytest.approx(0.1871, abs=1e-4),
        pytest.approx(0.8129, abs=1e-4),
    )
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
