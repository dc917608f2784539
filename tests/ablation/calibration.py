"""How often the intervals and verdicts are right, by simulation.

    python -m tests.ablation.calibration [--studies=N]

Writes the tables of docs/statistics.md to standard output. A study has `seeds` seeds; the two arms
share a part of their luck (sd 0.5 points, which cancels) and have noise of their own with unequal
standard deviations (0.3 and 0.9 points). In `collapse` scenarios a run of an arm ends at chance (10
%) with some probability.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnjax.ablation import statistics
from cnnjax.ablation.claims import interaction
from cnnjax.ablation.evidence import on_both_scales

SEEDS = (3, 5, 10)
ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Two arms: true difference of the means of runs that do not collapse (a fraction), and the
    probability that a run of the first or the second collapses."""

    name: str
    difference: float = 0.0
    collapse: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.003, 0.009)

    @property
    def mean(self) -> float:
        """The true mean difference, collapses included."""
        kept = [1 - p for p in self.collapse]
        return kept[0] * (0.8 + self.difference) - kept[1] * 0.8

    def draw(self, random: np.random.Generator, seeds: int) -> np.ndarray:
        """The paired differences of one study."""
        luck = random.normal(0, 0.005, seeds)
        arms = []
        for level, noise, collapse in zip(
            (0.9 + self.difference, 0.9), self.noise, self.collapse, strict=True
        ):
            values = level + luck + random.normal(0, noise, seeds)
            arms.append(np.where(random.random(seeds) < collapse, 0.1, values))
        return arms[0] - arms[1]


EQUAL = Scenario("no difference, unequal variances")
SKEWED = Scenario("no difference, both arms collapse in 5 % of runs", collapse=(0.05, 0.05))
RARE = Scenario("the second arm alone collapses in 5 % of runs", collapse=(0.0, 0.05))
OFTEN = Scenario("the second arm alone collapses in 30 % of runs", collapse=(0.0, 0.3))
SHIFT = Scenario("1 point, unequal variances", difference=0.01)


def coverage(scenario: Scenario, seeds: int, studies: int) -> float:
    """How often the 95% paired t interval holds the true mean difference."""
    random = np.random.default_rng([1, seeds])
    hits = 0
    for _ in range(studies):
        values = scenario.draw(random, seeds)
        mean, sd = float(values.mean()), statistics.standard_deviation(values)
        low, high = statistics.t_interval(mean, sd, seeds) or (np.nan, np.nan)
        hits += low <= scenario.mean <= high
    return hits / studies


def rates(scenario: Scenario, seeds: int, studies: int, margin: float) -> tuple[float, float]:
    """How often `better by margin` is found supported, and contradicted, uncorrected."""
    random = np.random.default_rng([2, seeds])
    drawn = [scenario.draw(random, seeds) for _ in range(studies)]
    above = np.mean([statistics.p_above(values, margin) < ALPHA for values in drawn])
    below = np.mean([statistics.p_below(values, margin) < ALPHA for values in drawn])
    return float(above), float(below)


def equivalence(seeds: int, studies: int, within: float) -> float:
    """How often two arms that differ by just the margin are found equivalent."""
    random = np.random.default_rng([3, seeds])
    scenario = Scenario("at the margin", difference=within)
    drawn = [scenario.draw(random, seeds) for _ in range(studies)]
    return float(np.mean([statistics.p_equivalent(values, within) < ALPHA for values in drawn]))


def family(seeds: int, studies: int, arms: int = 6) -> tuple[float, float]:
    """Of six arms like the baseline: how often Holm finds one better, and how often all
    simultaneous intervals hold zero."""
    random = np.random.default_rng([4, seeds])
    wrong = covered = 0
    for _ in range(studies):
        luck = random.normal(0, 0.005, seeds)
        baseline = luck + random.normal(0, 0.003, seeds)
        noise = random.choice([0.002, 0.009], arms)
        differences = [luck + random.normal(0, sd, seeds) - baseline for sd in noise]
        ps = [statistics.p_above(values, 0.0) for values in differences]
        wrong += min(statistics.holm(ps)) < ALPHA
        ends = [
            statistics.t_interval(float(d.mean()), float(d.std(ddof=1)), seeds, family=arms)
            for d in differences
        ]
        covered += all(end is not None and end[0] <= 0 <= end[1] for end in ends)
    return wrong / studies, covered / studies


def ceiling(seeds: int, studies: int, claims: int = 6, examples: int = 10_000) -> float:
    """Of six interactions that accuracy shows because of a ceiling (from 95.3 to 98.2 %, from 50 to
    73 %: one step in log-odds): how often one is found supported."""
    random = np.random.default_rng([5, seeds])
    claim = interaction({"f": (0, 1)}, {"g": (0, 1)}, direction="negative")
    wrong = 0
    for _ in range(studies):
        odds = np.array([0.0, 1.0, 3.0, 4.0]) + random.normal(0, 0.1, (claims, seeds, 4))
        fractions = random.binomial(examples, 1 / (1 + np.exp(-odds))) / examples
        scales = [fractions, np.vectorize(statistics.log_odds)(fractions, examples)]
        contrasts = [(y[..., 3] - y[..., 2]) - (y[..., 1] - y[..., 0]) for y in scales]
        ps = [on_both_scales(*each, claim, 0.0)[0] for each in zip(*contrasts, strict=True)]
        wrong += min(statistics.holm(ps)) < ALPHA
    return wrong / studies


def main(studies: int) -> None:
    """Prints the tables."""
    _table("Coverage of the 95 % interval", ("Scenario", *_seeds()), [
        [scenario.name, *(_percent(coverage(scenario, n, studies)) for n in SEEDS)]
        for scenario in (EQUAL, SHIFT, SKEWED, RARE, OFTEN)
    ])  # fmt: skip
    _table("False positives: `better` supported where it is not so", ("Scenario", *_seeds()), [
        ["no difference, by 0", *(_percent(rates(EQUAL, n, studies, 0.0)[0]) for n in SEEDS)],
        ["1 point, by 1 point", *(_percent(rates(SHIFT, n, studies, 0.01)[0]) for n in SEEDS)],
        ["both collapse in 5 %, by 0",
         *(_percent(rates(SKEWED, n, studies, 0.0)[0]) for n in SEEDS)],
        ["equivalent, at the margin of 1 point",
         *(_percent(equivalence(n, studies, 0.01)) for n in SEEDS)],
        ["one of six claims (Holm)", *(_percent(family(n, studies)[0]) for n in SEEDS)],
        ["one of six interactions that are a ceiling (Holm)",
         *(_percent(ceiling(n, studies)) for n in SEEDS)],
    ])  # fmt: skip
    _table("Six intervals against one baseline hold together", ("", *_seeds()), [
        ["six arms like the baseline", *(_percent(family(n, studies)[1]) for n in SEEDS)],
    ])  # fmt: skip
    _table("Found: a true difference of 1 point, by 0", ("", *_seeds()), [
        ["unequal variances", *(_percent(rates(SHIFT, n, studies, 0.0)[0]) for n in SEEDS)],
        ["the second arm collapses in 30 %",
         *(_percent(rates(OFTEN, n, studies, 0.0)[0]) for n in SEEDS)],
    ])  # fmt: skip


def _seeds() -> list[str]:
    return [f"{n} seeds" for n in SEEDS]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"{title}:\n\n| {' | '.join(head)} |")
    print("|---" + "|---:" * (len(head) - 1) + "|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=10_000)
    main(parser.parse_args().studies)
