"""The test of a claim in one block: its comparisons, and p values for and against it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnjax.ablation import statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.results import Run
from cnnjax.ablation.sides import Comparison, Sides, if_fewer
from cnnjax.ablation.statistics import ALPHA, Paired, Share
from cnnjax.metric import Metric
from cnnjax.result import Figures

_MISSING = "Runs that diverged or ended without this figure: {}."
_CHANCE_WINS = "A run that diverged, at chance, is ahead of one that finished, which shows nothing."
_CHANCE_EQUAL = "Runs that diverged are not shown to be alike, or like others, by scoring chance."
_STEPS_WIN = "A run that never came as far counts with the steps it took, and is ahead."
_STEPS_EQUAL = "How long runs would have taken that never came as far is not known."
_SHARED_SEEDS = "Runs of several arms share their seeds, so that they cannot be counted together."


@dataclass(frozen=True)
class Evidence:
    """The results on a claim.

    Attributes:
      p, against: p values for the claim and for its contrary, not corrected.
      comparisons: the comparisons they are computed from; of an interaction, the contrast.
      log_odds: of an interaction on fractions, the contrast in log-odds.
      share: of `diverges` and `chance_level`, the share of runs, of those that have a result.
      on_accuracy: of an interaction with log-odds, the two p values without log-odds.
      doubts: why `p` must not support the claim, and why `against` must not contradict it; "" if
        nothing speaks against it.
    """

    p: float
    against: float
    comparisons: tuple[Comparison, ...] = ()
    log_odds: Paired | None = None
    share: Share | None = None
    on_accuracy: tuple[float, float] | None = None
    doubts: tuple[str, str] = ("", "")


def test(claim: Claim, sides: Sides) -> Evidence:
    """Tests a claim."""
    if claim.kind == "diverges":
        return _count([run.status == "diverged" for run in sides.runs], claim, sides)
    if claim.kind == "chance_level":
        results = [at_chance(run, sides.metric, sides.split) for run in sides.runs]
        return _count(results, claim, sides)
    compare = _TESTS[claim.kind]
    evidence = compare(claim, sides)
    # A contrary that holds without the margin does not depend on the sides being similar.
    differ = claim.margin > 0 and compare(replace(claim, margin=0.0), sides).against < ALPHA
    if sides.metric.kind == "fixed" and all(
        comparison.paired and comparison.paired.n > 1 for comparison in evidence.comparisons
    ):  # no test is needed: the difference is the same for every seed
        evidence = replace(evidence, p=float(evidence.p >= 1), against=float(evidence.p < 1))
    return replace(evidence, doubts=_doubts(claim, sides, differ=differ))


def pairs(claim: Claim) -> list[tuple[int, int]]:
    """The pairs of sides that a claim on a metric compares; the first is claimed to be ahead."""
    if claim.kind == "monotone":
        return [(i + 1, i) for i in range(len(claim.sides) - 1)]
    return list(itertools.product((3, 0), (2, 1))) if claim.kind == "interaction" else [(0, 1)]


def _doubts(claim: Claim, sides: Sides, *, differ: bool) -> tuple[str, str]:
    """The reasons not to trust the p values of a metric. Runs without a value are left out of the
    pairs. Imputed scores (see `Run.score`) are at least as good as the run's own, and equal for all
    runs; they must decide neither for a claim nor against it."""
    missing = {run.path for run in sides.runs if run.score(sides.metric, sides.split) is None}
    if missing:
        return (_MISSING.format(len(missing)),) * 2
    compared = pairs(claim)
    ahead, equal = (
        (_CHANCE_WINS, _CHANCE_EQUAL) if sides.metric.on_split else (_STEPS_WIN, _STEPS_EQUAL)
    )
    favors = ahead if any(sides.imputed_ahead(a, b) for a, b in compared) else ""
    opposes = ahead if any(sides.imputed_ahead(b, a) for a, b in compared) else ""
    similar = equal if any(run.is_imputed(sides.metric) for run in sides.runs) else ""
    if claim.kind == "equivalent":
        return similar, favors or opposes
    two_sided = (claim.kind, claim.direction) == ("interaction", "either")
    near = similar if (claim.margin > 0 or two_sided) and not differ else ""
    if claim.kind == "monotone":  # one step without imputed scores is enough against it
        steps = [sides.compare(a, b) for a, b in compared if not sides.imputed_ahead(b, a)]
        ps = [statistics.p_below(step.differences, sides.margin(claim)) for step in steps]
        opposes = opposes if len(compared) * min(ps, default=1.0) >= ALPHA else ""
    if claim.kind != "interaction":
        return favors, opposes or near
    any_two = itertools.combinations(range(4), 2)
    both = equal if any(sides.both_imputed(a, b) for a, b in any_two) else ""
    return favors or opposes or both, favors or opposes or both or near


def _equivalent(claim: Claim, sides: Sides) -> Evidence:
    comparison, margin = sides.compare(0, 1), sides.margin(claim)
    return Evidence(
        statistics.p_equivalent(comparison.differences, margin),
        statistics.p_different(comparison.differences, margin),
        (comparison,),
    )


def _better(claim: Claim, sides: Sides) -> Evidence:
    """`better` is one step, `monotone` several. The claim needs every step (the largest p); one
    step in the other direction contradicts it, corrected for the number of steps."""
    steps = tuple(itertools.starmap(sides.compare, pairs(claim)))
    margin = sides.margin(claim)
    smallest = min(statistics.p_below(step.differences, margin) for step in steps)
    return Evidence(
        max(statistics.p_above(step.differences, margin) for step in steps),
        min(1.0, len(steps) * smallest),
        steps,
    )


def _interaction(claim: Claim, sides: Sides) -> Evidence:
    """The difference of two differences. For fractions it must hold in log-odds as well, because a
    ceiling makes differences smaller without an interaction; so the larger p counts."""
    y = sides.names
    paired = sides.contrast()
    comparison = Comparison(
        (f"({y[3]}) − ({y[2]})", f"({y[1]}) − ({y[0]})"),
        paired,
        if_fewer(sides.contrast(observed_only=True), paired),
    )
    margin = sides.margin(claim)
    p, against = _directed(comparison.differences, claim, margin)
    log_odds = sides.contrast(log_odds=True) if sides.shares else None
    if log_odds is None:
        return Evidence(p, against, (comparison,))
    both = on_both_scales(comparison.differences, log_odds.differences, claim, margin)
    return Evidence(*both, (comparison,), log_odds, on_accuracy=(p, against))


def on_both_scales(
    fractions: Sequence[float], log_odds: Sequence[float], claim: Claim, margin: float
) -> tuple[float, float]:
    """The p values for and against an interaction, from its contrast by seed on both scales;
    `margin` is that of the claim as a fraction."""
    p, against = _directed(fractions, claim, margin)
    log_odds_p, log_odds_against = _directed(log_odds, claim, 0.0)
    if claim.direction == "either" and sum(log_odds) * sum(fractions) < 0:
        log_odds_p = 1.0
    if claim.direction == "either" or claim.margin:  # a margin in points has none in log-odds
        log_odds_against = against
    return max(p, log_odds_p), max(against, log_odds_against)


def _directed(differences: Sequence[float], claim: Claim, margin: float) -> tuple[float, float]:
    if claim.direction == "either":
        contrary = statistics.p_equivalent(differences, margin) if margin else 1.0
        return statistics.p_different(differences, margin), contrary
    sign = 1.0 if claim.direction == "positive" else -1.0
    signed = [sign * value for value in differences]
    return statistics.p_above(signed, margin), statistics.p_below(signed, margin)


def at_chance(run: Run, primary: Metric, split: str) -> bool | None:
    """Whether a run diverged, or finished no better than the best constant prediction (a share of
    examples: not significantly better); None if that is not known."""
    if run.status != "finished":
        return run.status == "diverged"
    value, examples = run.score(primary, split), run.examples(split)
    chance = run.result.chance.get(split, Figures()).get(primary.name)
    if value is None or chance is None or examples is None:
        return None
    if primary.kind == "share":
        if not primary.higher_is_better:
            value, chance = 1 - value, 1 - chance
        return statistics.not_above_chance(value, examples, chance)
    return primary.sign * value <= primary.sign * chance


def _count(results: Sequence[bool | None], claim: Claim, sides: Sides) -> Evidence:
    """The share of runs with a true result, of those whose result is known."""
    known = [result for result in results if result is not None]
    count, runs, missing = sum(known), len(known), len(results) - len(known)
    doubt = _MISSING.format(missing) if missing else ""
    doubt = doubt or (_SHARED_SEEDS if len(sides.arms[0]) > 1 else "")
    return Evidence(
        statistics.p_more(count, runs, claim.share),
        statistics.p_fewer(count, runs, claim.share),
        share=statistics.share(count, runs),
        doubts=(doubt, doubt),
    )


_TESTS = {
    "better": _better,
    "monotone": _better,
    "equivalent": _equivalent,
    "interaction": _interaction,
}
