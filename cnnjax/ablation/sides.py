"""The sides of a claim, and how far they are apart seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax.ablation import proportions, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.population import Population, population
from cnnjax.ablation.results import Arm, Run
from cnnjax.ablation.statistics import Paired
from cnnjax.metric import EVERYWHERE, Ends, Metric


@dataclass(frozen=True)
class Comparison:
    """Two sides, seed by seed: how far the first is ahead (accuracy higher, loss lower).

    Attributes:
      names: what is compared, in words: first, second.
      paired: over all seeds, diverged runs at chance; None without a shared seed.
      finished: over the seeds in which all runs finished, where those are fewer.
      population: for other images too, where outcomes were kept.
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
    outcomes: Outcomes
    split: str
    metric: Metric

    def scores(
        self, side: int, *, own_only: bool = False, log_odds: bool = False
    ) -> dict[int, float]:
        """{seed: mean over the arms of a side} of the seeds that all of them have; larger is
        better, so a loss changes its sign."""
        each = [arm.scores(self.metric, self.split, own_only=own_only) for arm in self.arms[side]]
        if log_odds:
            found = [r.examples(self.split) for arm in self.arms[side] for r in arm.runs]
            size = max((count for count in found if count), default=1)
            each = [{s: proportions.log_odds(x, size) for s, x in own.items()} for own in each]
        seeds = sorted(set.intersection(*(set(own) for own in each)))
        sign = self.metric.sign
        return {seed: sign * float(np.mean([own[seed] for own in each])) for seed in seeds}

    def compare(self, first: int, second: int, family: int = 1) -> Comparison:
        """One side against another; `family`: see `statistics.t_interval`."""
        a, b = self.scores(first), self.scores(second)
        a_done, b_done = (self.scores(side, own_only=True) for side in (first, second))
        ends = self._ends(2)
        paired = statistics.compare(a, b, family, ends)
        return Comparison(
            (self.names[first], self.names[second]),
            paired,
            fewer(statistics.compare(a_done, b_done, family, ends), paired),
            self._population(first, second, sorted(a.keys() & b.keys())),
        )

    @property
    def runs(self) -> list[Run]:
        """The runs that have an outcome."""
        return [run for arms in self.arms for arm in arms for run in arm.runs if run.scored]

    @property
    def shares(self) -> bool:
        """Whether the scores are shares of examples."""
        return self.metric.kind == "share" and self._within

    @property
    def _within(self) -> bool:
        """Whether all scores are possible values of the metric."""
        low, high = self.metric.ends
        scores = [run.score(self.metric, self.split) for run in self.runs]
        return all(low <= score <= high for score in scores if score is not None)

    def _ends(self, values: int) -> Ends:
        """The ends of what is added and subtracted from so many scores."""
        return self.metric.ends_of_differences(values) if self._within else EVERYWHERE

    def margin(self, claim: Claim) -> float:
        """The margin of a claim on the scale of the scores."""
        return claim.margin / self.metric.scale

    def flatters(self, first: int, second: int) -> bool:
        """Whether a run of the first side whose score is kinder than its own, as that of a run that
        diverged, is ahead of one of the second with the same seed that has its own."""
        standing_in, own = (
            [
                (run.seed, self.metric.sign * score)
                for arm in self.arms[side]
                for run in arm.runs
                if run.stands_in(self.metric) == kinder
                and (score := run.score(self.metric, self.split)) is not None
            ]
            for side, kinder in ((first, True), (second, False))
        )
        return any(a == b and kind > other for a, kind in standing_in for b, other in own)

    def both_stand_in(self, first: int, second: int) -> bool:
        """Whether neither of two runs of both sides with the same seed has a score of its own."""
        a, b = (
            {run.seed for arm in self.arms[side] for run in arm.runs if run.stands_in(self.metric)}
            for side in (first, second)
        )
        return bool(a & b)

    def contrast(self, *, own_only: bool = False, log_odds: bool = False) -> Paired | None:
        """Of four sides: what the first factor does at the second's second level, against what it
        does at its first, seed by seed."""
        y = [self.scores(side, own_only=own_only, log_odds=log_odds) for side in range(4)]
        seeds = set.intersection(*(set(own) for own in y))
        there = {seed: y[3][seed] - y[2][seed] for seed in seeds}
        here = {seed: y[1][seed] - y[0][seed] for seed in seeds}
        ends = EVERYWHERE if log_odds else self._ends(4)
        return statistics.compare(there, here, ends=ends)

    def _population(self, first: int, second: int, seeds: Sequence[int]) -> Population | None:
        if self.metric != self.outcomes.of_metric or len(seeds) < 2:
            return None
        a, b = (self.outcomes.scores(self.arms[side], seeds) for side in (first, second))
        if a is None or b is None or a[1] != b[1]:
            return None
        return population(self.metric.sign * (a[0] - b[0]), ends=self._ends(2))


def fewer(finished: Paired | None, whole: Paired | None) -> Paired | None:
    """The comparison of finished runs where it has fewer pairs than that of all."""
    return finished if finished and whole and finished.n < whole.n else None
