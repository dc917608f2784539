"""The rates of docs/statistics.md, from fewer studies: three standard errors are allowed."""

import pytest

from tests.ablation import calibration

STUDIES = 2000
ALLOWED = 3 * (0.05 * 0.95 / STUDIES) ** 0.5


@pytest.mark.parametrize("seeds", calibration.SEEDS)
def test_intervals_cover_and_false_positives_are_rare(seeds):
    for scenario in (calibration.EQUAL, calibration.SKEWED):
        assert calibration.coverage(scenario, seeds, STUDIES) >= 0.95 - ALLOWED
        above, below = calibration.rates(scenario, seeds, STUDIES, 0.0)
        assert max(above, below) <= 0.05 + ALLOWED
    assert calibration.rates(calibration.SHIFT, seeds, STUDIES, 0.01)[0] <= 0.05 + ALLOWED
    assert calibration.equivalence(seeds, STUDIES, 0.01) <= 0.05 + ALLOWED
    wrong, held = calibration.family(seeds, STUDIES)
    assert wrong <= 0.05 + ALLOWED
    assert held >= 0.95 - ALLOWED
    assert calibration.ceiling(seeds, STUDIES // 4) <= 0.05 + 2 * ALLOWED


def test_intervals_from_few_seeds_miss_rare_collapses():
    """What the docs warn of: most studies see none, and their interval leaves them out."""
    assert calibration.coverage(calibration.RARE, 5, STUDIES) < 0.5
