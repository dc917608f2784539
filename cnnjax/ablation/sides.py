"""The sides of a claim, and how far they are apart seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax import catalog
from cnnjax.ablation import proportions, statistics
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.population import Population, population
from cnnjax.ablation.results import Arm, Run
from cnnjax.ablation.statistics import Paired


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
    """The arms of each side of a claim, and how the claim's metric is read off their runs."""

    names: Sequence[str]
    arms: Sequence[Sequence[Arm]]
    outcomes: Outcomes
    split: str
    metric: str

    def scores(
        self, side: int, *, finished_only: bool = False, log_odds: bool = False
    ) -> dict[int, float]:
        """{seed: mean over the arms of a side} of the seeds that all of them have; larger is
        better, so a loss changes its sign."""
        metric, sign = f"{self.split}_{self.metric}", -1.0 if self.metric == "loss" else 1.0
        each = [arm.scores(metric, finished_only) for arm in self.arms[side]]
        if log_odds:
            found = [r.examples(self.split) for arm in self.arms[side] for r in arm.runs]
            size = max((count for count in found if count), default=1)
            each = [{s: proportions.log_odds(x, size) for s, x in own.items()} for own in each]
        seeds = sorted(set.intersection(*(set(own) for own in each)))
        return {seed: sign * float(np.mean([own[seed] for own in each])) for seed in seeds}

    def compare(self, first: int, second: int, family: int = 1) -> Comparison:
        """One side against another; `family`: see `statistics.t_interval`."""
        a, b = self.scores(first), self.scores(second)
        a_done, b_done = (self.scores(side, finished_only=True) for side in (first, second))
        ends = statistics.OF_DIFFERENCES if self.fractions else statistics.EVERYWHERE
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
    def fractions(self) -> bool:
        """Whether the metric is a share of examples."""
        if self.metric == "loss" or self.metric.removeprefix("measures.") in catalog.GAINS:
            return False
        found = [run.score(f"{self.split}_{self.metric}") for run in self.runs]
        return all(0 <= score <= 1 for score in found if score is not None)

    def flatters(self, first: int, second: int) -> bool:
        """Whether a run of the first side that diverged, and so scores chance, is ahead of one of
        the second that finished with the same seed."""
        metric, sign = f"{self.split}_{self.metric}", -1.0 if self.metric == "loss" else 1.0
        diverged, finished = (
            [
                (run.seed, sign * score)
                for arm in self.arms[side]
                for run in arm.runs
                if run.status == status and (score := run.score(metric)) is not None
            ]
            for side, status in ((first, "diverged"), (second, "finished"))
        )
        return any(a == b and own > other for a, own in diverged for b, other in finished)

    def both_diverged(self, first: int, second: int) -> bool:
        """Whether runs of both sides with the same seed diverged."""
        a, b = (
            {run.seed for arm in self.arms[side] for run in arm.runs if run.status == "diverged"}
            for side in (first, second)
        )
        return bool(a & b)

    def contrast(self, *, finished_only: bool = False, log_odds: bool = False) -> Paired | None:
        """Of four sides: what the first factor does at the second's second level, against what it
        does at its first, seed by seed."""
        y = [self.scores(side, finished_only=finished_only, log_odds=log_odds) for side in range(4)]
        seeds = set.intersection(*(set(own) for own in y))
        there = {seed: y[3][seed] - y[2][seed] for seed in seeds}
        here = {seed: y[1][seed] - y[0][seed] for seed in seeds}
        ends = (-2.0, 2.0) if self.fractions and not log_odds else statistics.EVERYWHERE
        return statistics.compare(there, here, ends=ends)

    def _population(self, first: int, second: int, seeds: Sequence[int]) -> Population | None:
        if self.metric != "accuracy" or len(seeds) < 2:
            return None
        a, b = (self.outcomes.scores(self.arms[side], seeds) for side in (first, second))
        return population(a[0] - b[0]) if a and b and a[1] == b[1] else None


def fewer(finished: Paired | None, whole: Paired | None) -> Paired | None:
    """The comparison of finished runs where it has fewer pairs than that of all."""
    return finished if finished and whole and finished.n < whole.n else None
