"""A claim put to the results of one block: what it rests on, and p values for it and against it."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cnnjax.ablation import proportions, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.proportions import Share
from cnnjax.ablation.results import Run
from cnnjax.ablation.sides import Comparison, Sides, fewer
from cnnjax.ablation.statistics import Paired
from cnnjax.metric import Metric
from cnnjax.result import Figures

ALPHA = 0.05
_WITHOUT = "Runs that diverged or ended without this figure: {}."
_AHEAD = "A run that diverged, at chance, is ahead of one that finished, which shows nothing."
_ALIKE = "Runs that diverged are not shown to be alike, or like others, by scoring chance."
_AHEAD_OF_TIME = "A run that never came as far counts with the steps it took, and is ahead."
_ALIKE_IN_TIME = "How long runs would have taken that never came as far is not known."
_SEVERAL = "Runs of several arms share their seeds, so that they cannot be counted together."


@dataclass(frozen=True)
class Evidence:
    """What the results say on a claim.

    Attributes:
      p, against: p values for the claim and for its contrary, not corrected.
      comparisons: what they rest on; of an interaction, the contrast.
      log_odds: of an interaction on fractions, the contrast in log-odds.
      share: of `diverges` and `chance_level`, how many of the runs that have a result did.
      on_accuracy: of an interaction with log-odds, the two p values without them.
      doubts: why p shows nothing for the claim, and why `against` shows nothing against it; "" each
        where it may.
    """

    p: float
    against: float
    comparisons: tuple[Comparison, ...] = ()
    log_odds: Paired | None = None
    share: Share | None = None
    on_accuracy: tuple[float, float] | None = None
    doubts: tuple[str, str] = ("", "")


Test = Callable[[Claim, Sides], Evidence]


def of(claim: Claim, sides: Sides) -> Evidence:
    """The evidence on a claim."""
    return _TESTS[claim.kind](claim, sides)


def _of_metric(test: Test) -> Test:
    """A test of a metric, with the doubts about it."""

    def judged(claim: Claim, sides: Sides) -> Evidence:
        found = test(claim, sides)
        # Where the contrary holds without a margin, it does not rest on how alike the sides are.
        apart = claim.margin > 0 and test(replace(claim, margin=0.0), sides).against < ALPHA
        if sides.metric.kind == "fixed" and all(
            each.paired and each.paired.n > 1 for each in found.comparisons
        ):  # nothing to infer: what is so, or not so, is for every seed
            found = replace(found, p=float(found.p >= 1), against=float(found.p < 1))
        return replace(found, doubts=_doubts(claim, sides, apart=apart))

    return judged


def pairs(claim: Claim) -> list[tuple[int, int]]:
    """Which sides of a claim on a metric are set against each other; claimed ahead is the first."""
    if claim.kind == "monotone":
        return [(place + 1, place) for place in range(len(claim.sides) - 1)]
    return list(itertools.product((3, 0), (2, 1))) if claim.kind == "interaction" else [(0, 1)]


def _doubts(claim: Claim, sides: Sides, *, apart: bool) -> tuple[str, str]:
    """What speaks against the p values of a metric: runs that ended without it are left out of the
    pairs; and a run that diverged scores chance, which is kinder than what a finished run can get,
    and the same for all (as is the number of steps of runs that never came as far as `steps_to`
    asks). That must not help a claim, nor its contrary."""
    without = {run.place for run in sides.runs if run.score(sides.metric, sides.split) is None}
    if without:
        return (_WITHOUT.format(len(without)),) * 2
    set_against = pairs(claim)
    of_split = sides.metric.of_split
    ahead, same = (_AHEAD, _ALIKE) if of_split else (_AHEAD_OF_TIME, _ALIKE_IN_TIME)
    up = ahead if any(sides.flatters(a, b) for a, b in set_against) else ""
    down = ahead if any(sides.flatters(b, a) for a, b in set_against) else ""
    alike = same if any(run.stands_in(sides.metric) for run in sides.runs) else ""
    if claim.kind == "equivalent":
        return alike, up or down
    either = (claim.kind, claim.direction) == ("interaction", "either")
    near = alike if (claim.margin > 0 or either) and not apart else ""
    if claim.kind == "monotone":  # a step that nothing flatters is enough against it
        steps = [sides.compare(a, b) for a, b in set_against if not sides.flatters(b, a)]
        ps = [statistics.p_below(step.differences, sides.margin(claim)) for step in steps]
        down = down if len(set_against) * min(ps, default=1.0) >= ALPHA else ""
    if claim.kind != "interaction":
        return up, down or near
    several = itertools.combinations(range(4), 2)
    both = same if any(sides.both_stand_in(a, b) for a, b in several) else ""
    return up or down or both, up or down or both or near


def _better(claim: Claim, sides: Sides) -> Evidence:
    found, margin = sides.compare(0, 1), sides.margin(claim)
    return Evidence(
        statistics.p_above(found.differences, margin),
        statistics.p_below(found.differences, margin),
        (found,),
    )


def _equivalent(claim: Claim, sides: Sides) -> Evidence:
    found, margin = sides.compare(0, 1), sides.margin(claim)
    return Evidence(
        statistics.p_equivalent(found.differences, margin),
        statistics.p_different(found.differences, margin),
        (found,),
    )


def _monotone(claim: Claim, sides: Sides) -> Evidence:
    """Every step must be shown for it (the largest p); one shown the other way, corrected for the
    number of steps, is enough against it."""
    steps = tuple(itertools.starmap(sides.compare, pairs(claim)))
    margin = sides.margin(claim)
    smallest = min(statistics.p_below(step.differences, margin) for step in steps)
    return Evidence(
        max(statistics.p_above(step.differences, margin) for step in steps),
        min(1.0, len(steps) * smallest),
        steps,
    )


def _interaction(claim: Claim, sides: Sides) -> Evidence:
    """The change of a difference. Where fractions are compared it must hold in log-odds as well,
    because a ceiling makes differences smaller without anything depending on anything: both have to
    be shown, so the larger p counts."""
    y = sides.names
    paired = sides.contrast()
    found = Comparison(
        (f"({y[3]}) − ({y[2]})", f"({y[1]}) − ({y[0]})"),
        paired,
        fewer(sides.contrast(own_only=True), paired),
    )
    margin = sides.margin(claim)
    p, against = _of_direction(found.differences, claim, margin)
    log_odds = sides.contrast(log_odds=True) if sides.shares else None
    if log_odds is None:
        return Evidence(p, against, (found,))
    both, both_against = on_both_scales(found.differences, log_odds.differences, claim, margin)
    return Evidence(both, both_against, (found,), log_odds, on_accuracy=(p, against))


def on_both_scales(
    fractions: Sequence[float], log_odds: Sequence[float], claim: Claim, margin: float
) -> tuple[float, float]:
    """The p values for an interaction and against it, from its contrast by seed on both scales;
    `margin` is that of the claim, a fraction."""
    p, against = _of_direction(fractions, claim, margin)
    p_there, against_there = _of_direction(log_odds, claim, 0.0)
    if claim.direction == "either" and sum(log_odds) * sum(fractions) < 0:
        p_there = 1.0
    if claim.direction == "either" or claim.margin:  # which is of points: log-odds have none
        against_there = against
    return max(p, p_there), max(against, against_there)


def _of_direction(differences: Sequence[float], claim: Claim, margin: float) -> tuple[float, float]:
    if claim.direction == "either":
        contrary = statistics.p_equivalent(differences, margin) if margin else 1.0
        return statistics.p_different(differences, margin), contrary
    sign = 1.0 if claim.direction == "positive" else -1.0
    turned = [sign * value for value in differences]
    return statistics.p_above(turned, margin), statistics.p_below(turned, margin)


def _diverges(claim: Claim, sides: Sides) -> Evidence:
    return _count([run.status == "diverged" for run in sides.runs], claim, sides)


def _chance_level(claim: Claim, sides: Sides) -> Evidence:
    return _count([at_chance(run, sides.metric, sides.split) for run in sides.runs], claim, sides)


def at_chance(run: Run, primary: Metric, split: str) -> bool | None:
    """Whether a run diverged, or finished no better than the best prediction that is the same for
    all examples; None where that is not known. A share of examples is no better where it may be so
    by chance."""
    if run.status != "finished":
        return run.status == "diverged"
    value, examples = run.score(primary, split), run.examples(split)
    chance = run.result.chance.get(split, Figures()).get(primary.name)
    if value is None or chance is None or examples is None:
        return None
    if primary.kind == "share":
        right = (value, chance) if primary.higher_is_better else (1 - value, 1 - chance)
        return proportions.at_chance(right[0], examples, right[1])
    return primary.sign * value <= primary.sign * chance


def _count(did: Sequence[bool | None], claim: Claim, sides: Sides) -> Evidence:
    """How many runs did, of those of which it is known."""
    known = [each for each in did if each is not None]
    count, runs, without = sum(known), len(known), len(did) - len(known)
    doubt = _WITHOUT.format(without) if without else ""
    doubt = doubt or (_SEVERAL if len(sides.arms[0]) > 1 else "")
    return Evidence(
        proportions.p_more(count, runs, claim.share),
        proportions.p_fewer(count, runs, claim.share),
        share=proportions.share(count, runs),
        doubts=(doubt, doubt),
    )


_TESTS: dict[str, Test] = {
    "better": _of_metric(_better),
    "equivalent": _of_metric(_equivalent),
    "monotone": _of_metric(_monotone),
    "interaction": _of_metric(_interaction),
    "diverges": _diverges,
    "chance_level": _chance_level,
}
