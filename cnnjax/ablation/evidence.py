"""A claim put to the results of one block: what it rests on, and p values for it and against it."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnjax.ablation import proportions, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.population import Population, population
from cnnjax.ablation.proportions import Share
from cnnjax.ablation.results import Arm, Run
from cnnjax.ablation.statistics import Paired

ALPHA = 0.05
_WITHOUT = "Runs that diverged or ended without this figure: {}."


@dataclass(frozen=True)
class Comparison:
    """Two sides, seed by seed: how far the first is ahead (accuracy higher, loss lower).

    Attributes:
      names: what is compared, in words: first, second.
      paired: over all seeds, diverged runs at chance; None without a shared seed.
      finished: over the seeds in which all runs finished, where those are fewer.
      population: for other images too, where outcomes were kept.
      ahead: in how many seeds the first is ahead.
    """

    names: tuple[str, str]
    paired: Paired | None
    finished: Paired | None = None
    population: Population | None = None
    ahead: Share | None = None

    @property
    def differences(self) -> Sequence[float]:
        """The paired differences; none without a shared seed."""
        return self.paired.differences if self.paired else ()


@dataclass(frozen=True)
class Evidence:
    """What the results say on a claim.

    Attributes:
      p, against: one-sided p values for the claim and for its contrary, not corrected.
      comparisons: what they rest on; of an interaction, the contrast.
      log_odds: of an interaction on accuracy, the contrast in log-odds.
      share: of `diverges` and `chance_level`, how many of the runs that have a result did.
      scale_matters: whether accuracy and log-odds disagree on an interaction.
      doubt: why the p values decide nothing; "" where they may.
    """

    p: float
    against: float
    comparisons: tuple[Comparison, ...] = ()
    log_odds: Paired | None = None
    share: Share | None = None
    scale_matters: bool = False
    doubt: str = ""


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
        paired = statistics.compare(a, b, family=family)
        return Comparison(
            (self.names[first], self.names[second]),
            paired,
            _fewer(statistics.compare(a_done, b_done, family=family), paired),
            self._population(first, second, sorted(a.keys() & b.keys())),
            proportions.superiority(a, b),
        )

    def contrast(self, *, finished_only: bool = False, log_odds: bool = False) -> Paired | None:
        """Of four sides: what the first factor does at the second's second level, against what it
        does at its first, seed by seed."""
        y = [self.scores(side, finished_only=finished_only, log_odds=log_odds) for side in range(4)]
        seeds = set.intersection(*(set(own) for own in y))
        there = {seed: y[3][seed] - y[2][seed] for seed in seeds}
        return statistics.compare(there, {seed: y[1][seed] - y[0][seed] for seed in seeds})

    def _population(self, first: int, second: int, seeds: Sequence[int]) -> Population | None:
        if self.metric != "accuracy" or len(seeds) < 2:
            return None
        a, b = (self.outcomes.scores(self.arms[side], seeds) for side in (first, second))
        return population(a[0] - b[0]) if a and b and a[1] == b[1] else None


Test = Callable[[Claim, Sides], Evidence]


def of(claim: Claim, sides: Sides) -> Evidence:
    """The evidence on a claim."""
    return _TESTS[claim.kind](claim, sides)


def _of_metric(test: Test) -> Test:
    """A test of a metric, with the doubts about it."""
    return lambda claim, sides: replace(test(claim, sides), doubt=_doubt(sides))


def _doubt(sides: Sides) -> str:
    """Why the metric decides nothing, "" where it may: runs that ended without it would be left out
    of the pairs; and loss has no bound, so that a run that diverged, at the loss of chance, can
    stand before one that finished."""
    metric = f"{sides.split}_{sides.metric}"
    ended = [
        (side, run, run.score(metric))
        for side, arms in enumerate(sides.arms)
        for arm in arms
        for run in arm.runs
        if run.scored
    ]
    without = {run.place for _, run, score in ended if score is None}
    if without:
        return _WITHOUT.format(len(without))
    diverged = [found for found in ended if found[1].status == "diverged"]
    if sides.metric == "loss" and any(
        side != other and run.seed == rival.seed and loss < score
        for side, run, loss in diverged
        for other, rival, score in ended
        if loss is not None and score is not None
    ):
        return "A run that diverged, at the loss of chance, stands before one that finished."
    return ""


def _better(claim: Claim, sides: Sides) -> Evidence:
    found = sides.compare(0, 1)
    return Evidence(
        statistics.p_above(found.differences, claim.scaled_margin),
        statistics.p_below(found.differences, claim.scaled_margin),
        (found,),
    )


def _equivalent(claim: Claim, sides: Sides) -> Evidence:
    found = sides.compare(0, 1)
    return Evidence(
        statistics.p_equivalent(found.differences, claim.scaled_margin),
        statistics.p_different(found.differences, claim.scaled_margin),
        (found,),
    )


def _monotone(claim: Claim, sides: Sides) -> Evidence:
    """Every step must be shown for it (the largest p); one shown the other way, corrected for the
    number of steps, is enough against it."""
    pairs = [(place + 1, place) for place in range(len(sides.arms) - 1)]
    steps = tuple(itertools.starmap(sides.compare, pairs))
    margin = claim.scaled_margin
    smallest = min(statistics.p_below(step.differences, margin) for step in steps)
    return Evidence(
        max(statistics.p_above(step.differences, margin) for step in steps),
        min(1.0, len(steps) * smallest),
        steps,
    )


def _interaction(claim: Claim, sides: Sides) -> Evidence:
    """The change of a difference. On accuracy it must hold in log-odds as well, because a ceiling
    makes differences smaller without anything depending on anything."""
    y = sides.names
    paired = sides.contrast()
    found = Comparison(
        (f"({y[3]}) − ({y[2]})", f"({y[1]}) − ({y[0]})"),
        paired,
        _fewer(sides.contrast(finished_only=True), paired),
    )
    p, against = _of_direction(found.differences, claim, claim.scaled_margin)
    if claim.metric != "accuracy" or paired is None:
        return Evidence(p, against, (found,))
    log_odds = sides.contrast(log_odds=True)
    p_there, against_there = _of_direction(log_odds.differences if log_odds else (), claim, 0.0)
    disagree = False
    if p < ALPHA:
        turned = log_odds is not None and log_odds.mean * paired.mean < 0
        disagree = p_there >= ALPHA or turned
    elif against < ALPHA and claim.direction != "either":
        disagree = against_there >= ALPHA
    return Evidence(p, against, (found,), log_odds, scale_matters=disagree)


def _of_direction(differences: Sequence[float], claim: Claim, margin: float) -> tuple[float, float]:
    if claim.direction == "either":
        contrary = statistics.p_equivalent(differences, margin) if margin else 1.0
        return statistics.p_different(differences, margin), contrary
    sign = 1.0 if claim.direction == "positive" else -1.0
    turned = [sign * value for value in differences]
    return statistics.p_above(turned, margin), statistics.p_below(turned, margin)


def _diverges(claim: Claim, sides: Sides) -> Evidence:
    return _count([run.status == "diverged" for run in _ended(sides)], claim)


def _chance_level(claim: Claim, sides: Sides) -> Evidence:
    return _count([at_chance(run, sides.split) for run in _ended(sides)], claim)


def at_chance(run: Run, split: str) -> bool | None:
    """Whether a run diverged, or finished no better than guessing the most frequent class; None
    where that is not known."""
    if run.status != "finished":
        return run.status == "diverged"
    accuracy = run.metrics.get(f"{split}_accuracy")
    chance = run.chance.get(split, {}).get("accuracy")
    examples = run.examples(split)
    if accuracy is None or chance is None or examples is None:
        return None
    return proportions.at_chance(accuracy, examples, chance)


def _count(did: Sequence[bool | None], claim: Claim) -> Evidence:
    """How many runs did, of those of which it is known."""
    known = [each for each in did if each is not None]
    count, runs, without = sum(known), len(known), len(did) - len(known)
    return Evidence(
        proportions.p_more(count, runs, claim.share),
        proportions.p_fewer(count, runs, claim.share),
        share=proportions.share(count, runs),
        doubt=_WITHOUT.format(without) if without else "",
    )


def _ended(sides: Sides) -> list[Run]:
    """The runs of the first side that have a result."""
    return [run for arm in sides.arms[0] for run in arm.runs if run.scored]


def _fewer(finished: Paired | None, whole: Paired | None) -> Paired | None:
    """The comparison of finished runs where it has fewer pairs than that of all."""
    return finished if finished and whole and finished.n < whole.n else None


_TESTS: dict[str, Test] = {
    "better": _of_metric(_better),
    "equivalent": _of_metric(_equivalent),
    "monotone": _of_metric(_monotone),
    "interaction": _of_metric(_interaction),
    "diverges": _diverges,
    "chance_level": _chance_level,
}
