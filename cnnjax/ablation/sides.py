"""The sides of a claim, and their differences seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax.ablation import statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.example_values import ExampleValues
from cnnjax.ablation.population import Population, population
from cnnjax.ablation.results import Arm, Run
from cnnjax.ablation.statistics import Paired
from cnnjax.metric import UNBOUNDED, Ends, Metric


@dataclass(frozen=True)
class Comparison:
    """The paired differences of two sides; positive where the first is better (higher accuracy,
    lower loss).

    Attributes:
      names: the first and the second side as text.
      paired: over all seeds, diverged runs at chance; None without a shared seed.
      finished: over the seeds in which all runs finished, if those are fewer.
      population: for other images too, if values of examples were kept.
    """

    names: tuple[str, str]
    paired: Paired | None
    finished: Paired | None = None
    population: Population | None = None

    @property
    def differences(self) -> Sequence[float]:
        """The paired differences; none without a shared seed."""
        return self.paired.differences if self.paired else ()


@dataclass(frozen=True)
class Sides:
    """The arms of each side of a claim, and the metric by which they are compared on a split."""

    names: Sequence[str]
    arms: Sequence[Sequence[Arm]]
    example_values: ExampleValues
    split: str
    metric: Metric

    def scores(
        self, side: int, *, observed_only: bool = False, log_odds: bool = False
    ) -> dict[int, float]:
        """{seed: mean over the arms of a side} for the seeds that all of them have, signed so that
        larger is better."""
        by_arm = [
            arm.scores(self.metric, self.split, observed_only=observed_only)
            for arm in self.arms[side]
        ]
        if log_odds:
            counts = [run.examples(self.split) for arm in self.arms[side] for run in arm.runs]
            num_examples = max((count for count in counts if count), default=1)
            by_arm = [
                {seed: statistics.log_odds(score, num_examples) for seed, score in scores.items()}
                for scores in by_arm
            ]
        seeds = sorted(set.intersection(*(set(scores) for scores in by_arm)))
        sign = self.metric.sign
        return {seed: sign * float(np.mean([scores[seed] for scores in by_arm])) for seed in seeds}

    def compare(self, first: int, second: int, family: int = 1) -> Comparison:
        """Compares two sides; `family`: see `statistics.t_interval`."""
        a, b = self.scores(first), self.scores(second)
        a_finished, b_finished = (self.scores(side, observed_only=True) for side in (first, second))
        ends = self._difference_ends(2)
        paired = statistics.compare(a, b, family, ends)
        return Comparison(
            (self.names[first], self.names[second]),
            paired,
            if_fewer(statistics.compare(a_finished, b_finished, family, ends), paired),
            self._population(first, second, sorted(a.keys() & b.keys())),
        )

    def contrast(self, *, observed_only: bool = False, log_odds: bool = False) -> Paired | None:
        """Of four sides: the effect of the first factor at the second level of the second factor,
        compared with its effect at the first level, seed by seed."""
        y = [self.scores(side, observed_only=observed_only, log_odds=log_odds) for side in range(4)]
        seeds = set.intersection(*(set(scores) for scores in y))
        at_second = {seed: y[3][seed] - y[2][seed] for seed in seeds}
        at_first = {seed: y[1][seed] - y[0][seed] for seed in seeds}
        ends = UNBOUNDED if log_odds else self._difference_ends(4)
        return statistics.compare(at_second, at_first, ends=ends)

    @property
    def runs(self) -> list[Run]:
        """The runs that count in comparisons."""
        return [run for arms in self.arms for arm in arms for run in arm.runs if run.scored]

    @property
    def shares(self) -> bool:
        """Whether the scores are shares of examples."""
        return self.metric.kind == "share" and self._in_range

    @property
    def _in_range(self) -> bool:
        """Whether all scores are possible values of the metric."""
        low, high = self.metric.ends
        scores = [run.score(self.metric, self.split) for run in self.runs]
        return all(low <= score <= high for score in scores if score is not None)

    def _difference_ends(self, num_values: int) -> Ends:
        return self.metric.difference_ends(num_values) if self._in_range else UNBOUNDED

    def margin(self, claim: Claim) -> float:
        """The margin of a claim on the scale of the scores."""
        return claim.margin / self.metric.scale

    def imputed_ahead(self, first: int, second: int) -> bool:
        """Whether an imputed score (see `Run.score`) of the first side is ahead of an observed one
        of the second with the same seed."""
        imputed = self._signed_scores(first, imputed=True)
        observed = self._signed_scores(second, imputed=False)
        return any(a == b and score > other for a, score in imputed for b, other in observed)

    def both_imputed(self, first: int, second: int) -> bool:
        """Whether the scores of a run of the first side and of one of the second with the same seed
        are imputed."""
        a, b = (dict(self._signed_scores(side, imputed=True)) for side in (first, second))
        return bool(a.keys() & b.keys())

    def _signed_scores(self, side: int, *, imputed: bool) -> list[tuple[int, float]]:
        """(seed, score) of the runs of a side whose score is imputed, or observed, signed so that
        larger is better."""
        return [
            (run.seed, self.metric.sign * score)
            for arm in self.arms[side]
            for run in arm.runs
            if run.is_imputed(self.metric) == imputed
            and (score := run.score(self.metric, self.split)) is not None
        ]

    def _population(self, first: int, second: int, seeds: Sequence[int]) -> Population | None:
        if len(seeds) < 2:
            return None
        a, b = (self.example_values.mean(self.arms[side], seeds) for side in (first, second))
        if a is None or b is None or a[1] != b[1]:
            return None
        return population(self.metric.sign * (a[0] - b[0]), ends=self._difference_ends(2))


def if_fewer(finished: Paired | None, all_pairs: Paired | None) -> Paired | None:
    """The comparison of finished runs if it has fewer pairs than that of all runs, else None."""
    return finished if finished and all_pairs and finished.n < all_pairs.n else None
