"""Verdicts on claims: supported, contradicted, undecided, or open while runs are missing.

A claim is supported if its corrected p is below 0.05, and contradicted if that of its contrary is:
`better` by m is tested against "the difference is at most m" and "at least m", and so on
(`cnnjax.ablation.evidence`). The p values for all claims of an experiment, one for each block, are
corrected together (Holm), and so are those against them. Claims made after there were results are
corrected together with all claims, but do not change the others. Arms added after there were
results are no part of a claim that was made before, and a block of such arms is post hoc.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cnnjax.ablation import claims, design, evidence, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.evidence import Evidence
from cnnjax.ablation.example_values import ExampleValues
from cnnjax.ablation.results import Arm, Study, data_differences, lookup, setting_differences
from cnnjax.ablation.sides import Sides
from cnnjax.ablation.statistics import ALPHA
from cnnjax.metric import Metric

Verdict = Literal["supported", "contradicted", "undecided", "open"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_SCALE = (
    "Log-odds do not show what accuracy does: a ceiling or a floor makes differences smaller "
    "without one factor depending on the other."
)
_WAITING = ("failed", "unreadable", "unfinished", "missing")


@dataclass(frozen=True)
class _Test:
    """A claim tested in one block.

    Attributes:
      claim, block: the claim, and the block in which it was tested.
      metric: the metric that it compares.
      post_hoc: whether it was made after there were results.
      arms: its arms.
      levels: the levels of all arms of the study that may belong to it.
      evidence: what its verdict is based on.
      waiting: why it cannot be judged; "" if it can.
    """

    claim: Claim
    block: str
    metric: Metric
    post_hoc: bool
    arms: Sequence[Arm]
    levels: Mapping[str, Mapping[str, Any]]
    evidence: Evidence
    waiting: str


@dataclass(frozen=True)
class Finding(_Test):
    """The verdict on a claim in one block.

    Attributes, besides those of the test:
      verdict: see the module.
      corrected, against: the p values for and against it, corrected over the family.
      notes: what the reader must know besides.
      scale_matters: whether an interaction is undecided because log-odds do not show it.
    """

    verdict: Verdict
    corrected: float
    against: float
    notes: tuple[str, ...]
    scale_matters: bool


def findings(study: Study) -> list[Finding]:
    """The verdict on every claim of a study in every block, in the order of the claims."""
    levels = {arm.name: _levels(arm, study.factors) for arm in study.arms}
    early = {name: values for name, values in levels.items() if name not in study.late_arms}

    @functools.cache
    def example_values(metric: Metric) -> ExampleValues:
        return ExampleValues(study, metric)

    tests = []
    for claim, late in study.claims:
        for block in claims.blocks_of(claim, levels):
            post_hoc = late or block not in claims.blocks_of(claim, early)
            candidates = levels if post_hoc else early
            tests.append(_test(claim, block, post_hoc, candidates, study, example_values))
    planned = [i for i, test in enumerate(tests) if not test.post_hoc]

    def correct(ps: Iterable[float]) -> list[float]:
        """Holm's correction over all p values; for those of planned tests, over these only."""
        ps = [1.0 if test.waiting else p for p, test in zip(ps, tests, strict=True)]
        corrected = statistics.holm(ps)
        for i, p in zip(planned, statistics.holm([ps[i] for i in planned]), strict=True):
            corrected[i] = p
        return corrected

    results = [test.evidence for test in tests]
    corrected = correct(result.p for result in results)
    against = correct(result.against for result in results)
    # The same without log-odds, for interactions that accuracy alone would have decided.
    alone = [result.on_accuracy or (result.p, result.against) for result in results]
    alone_corrected, alone_against = correct(p for p, _ in alone), correct(p for _, p in alone)
    judged = []
    for i, test in enumerate(tests):
        verdict = _verdict(test, corrected[i], against[i])
        scale_matters = (
            test.evidence.on_accuracy is not None
            and verdict == "undecided"
            and (
                alone_corrected[i] < ALPHA <= corrected[i] or alone_against[i] < ALPHA <= against[i]
            )
        )
        notes = (
            *_reasons(test, verdict, corrected[i], against[i]),
            *([_SCALE] if scale_matters else []),
            *_run_notes(test),
            *_missing_examples(test, example_values(test.metric)),
            *_late_arms(test, levels),
            *_aliases(test),
        )
        judged.append(
            Finding(
                **vars(test),
                verdict=verdict,
                corrected=corrected[i],
                against=against[i],
                notes=notes,
                scale_matters=scale_matters,
            )
        )
    return judged


def _test(
    claim: Claim,
    block: str,
    post_hoc: bool,
    levels: Mapping[str, Mapping[str, Any]],
    study: Study,
    example_values: Callable[[Metric], ExampleValues],
) -> _Test:
    by_name = {arm.name: arm for arm in study.arms}
    arms = [[by_name[name] for name in claims.arms_of(side, block, levels)] for side in claim.sides]
    names = [side_name(side) for side in claim.sides]
    metric = study.metric_of(claim)
    result = evidence.test(claim, Sides(names, arms, example_values(metric), study.split, metric))
    distinct = list({arm.name: arm for side in arms for arm in side}.values())
    waiting = _waiting(distinct, result, claims.unbalanced_factors(claim, block, levels))
    return _Test(claim, block, metric, post_hoc, distinct, levels, result, waiting)


def side_name(side: claims.Side) -> str:
    """A side as text: the arm's name without the block, or the levels."""
    if isinstance(side, str):
        return side.partition(".")[2] or side
    return ", ".join(f"{path.partition('.')[2]} {value}" for path, value in side.items())


def _verdict(test: _Test, corrected: float, against: float) -> Verdict:
    if test.waiting:
        return "open"
    doubt, contrary_doubt = test.evidence.doubts
    if corrected < ALPHA and not doubt:
        return "supported"
    return "contradicted" if against < ALPHA and not contrary_doubt else "undecided"


def _reasons(test: _Test, verdict: Verdict, corrected: float, against: float) -> list[str]:
    """Why there is no verdict, if there is none."""
    if verdict in ("supported", "contradicted"):
        return []
    doubt, contrary = test.evidence.doubts
    reasons = [test.waiting]
    reasons += [doubt] if corrected < ALPHA or doubt == contrary else []
    reasons += [contrary] if against < ALPHA else []
    return [text for text in dict.fromkeys(reasons) if text]


def _run_notes(test: _Test) -> list[str]:
    """How many runs diverged or never reached a target, and the settings in which runs differ."""

    def counts(counted: Iterable[tuple[Arm, int]]) -> str:
        return ", ".join(f"{arm.label} {n} of {len(arm.runs)}" for arm, n in counted if n)

    notes = []
    if test.evidence.share is None:
        diverged = counts((arm, arm.count("diverged")) for arm in test.arms)
        notes += [f"Diverged: {diverged}."] if diverged else []
    if not test.metric.on_split:
        imputed = counts(
            (arm, sum(run.is_imputed(test.metric) for run in arm.runs)) for arm in test.arms
        )
        notes += [f"Never came as far: {imputed}."] if imputed else []
    return notes + setting_differences([run for arm in test.arms for run in arm.runs])


def _missing_examples(test: _Test, example_values: ExampleValues) -> list[str]:
    """The runs whose values of examples cannot be read, if those of other runs can. Only for claims
    that can be tested for other images too, as they compare means over images."""
    if test.claim.kind not in ("better", "equivalent", "monotone"):
        return []
    missing = example_values.missing(test.arms)
    if not missing or len(missing) == sum(arm.count("finished") for arm in test.arms):
        return []
    return [f"On other images nothing is known: no predictions of {', '.join(missing)}."]


def _late_arms(test: _Test, levels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arms that match the claim but were added after there were results."""
    sides = test.claim.sides
    matching = {name for side in sides for name in claims.arms_of(side, test.block, levels)}
    late = sorted(matching - {arm.name for arm in test.arms})
    return [f"Left out, as added after results were there: {', '.join(late)}."] if late else []


def _aliases(test: _Test) -> list[str]:
    """The effects that a fractional design aliases with the one that the claim is about."""
    effect = {path for side in test.claim.sides if not isinstance(side, str) for path in side}
    in_block = [values for arm, values in test.levels.items() if claims.block_of(arm) == test.block]
    aliases = design.aliases(effect, design.fraction(in_block)) if effect else []
    return [f"This design cannot tell it from {design.effect_names(aliases)}."] if aliases else []


def _waiting(arms: Sequence[Arm], result: Evidence, unbalanced: Sequence[str]) -> str:
    """Why a claim cannot be judged; "" if it can."""
    counts = [(status, sum(arm.count(status) for arm in arms)) for status in _WAITING]
    missing = ", ".join(f"{number} {status}" for status, number in counts if number)
    if missing:
        return f"Runs without a figure: {missing}."
    if differences := data_differences([run for arm in arms for run in arm.runs]):
        return differences
    if unbalanced:
        return f"The arms that are here differ in {', '.join(unbalanced)} too."
    if any(comparison.paired is None for comparison in result.comparisons):
        return "No seed has this figure on both sides."
    return ""


def _levels(arm: Arm, factors: Sequence[str]) -> Mapping[str, Any]:
    return {path: arm.levels.get(path, lookup(arm.config, path)) for path in factors}
