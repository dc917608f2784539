"""Claims put to the results: supported, contradicted, undecided, or open while runs are missing.

A claim is supported where its corrected p is below 0.05, contradicted where the one for its
contrary is: `better` by m against "the difference is at most m" and "at least m", and so on
(`cnnjax.ablation.evidence`). The p values for all claims of an experiment, one for each block, are
corrected together (Holm), and those against them together; claims made after results were there are
corrected together with all, and change nothing for the others. Nor do arms that were thought of
then: they are no part of a claim that was made before, and a block of such arms is post hoc.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cnnjax.ablation import claims, design, evidence, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.evidence import ALPHA, Evidence
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.results import Arm, Study, different_data, lookup, mixtures
from cnnjax.ablation.sides import Sides
from cnnjax.metric import Metric

Verdict = Literal["supported", "contradicted", "undecided", "open"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_SCALE = (
    "Log-odds do not show what accuracy does: a ceiling or a floor makes differences smaller "
    "without one factor depending on the other."
)
_WAITING = ("failed", "unreadable", "unfinished", "missing")


@dataclass(frozen=True)
class Finding:
    """A claim in one block, and what became of it.

    Attributes:
      claim, block: what was claimed, and where it was looked at.
      metric: what it compares.
      post_hoc: whether it was made after results were there.
      verdict: see the module.
      evidence: what it rests on.
      corrected, against: the p values for and against it, corrected over the family.
      notes: what the reader must know beside it.
      scale_matters: whether an interaction is undecided because log-odds do not show it.
    """

    claim: Claim
    block: str
    metric: Metric
    post_hoc: bool
    verdict: Verdict
    evidence: Evidence
    corrected: float
    against: float
    notes: tuple[str, ...]
    scale_matters: bool = False


def findings(study: Study) -> list[Finding]:
    """Every claim of a study in every block it is made for, in the order of the claims."""
    levels = {arm.name: _levels(arm, study.factors) for arm in study.arms}
    by_name = {arm.name: arm for arm in study.arms}
    early = {name: own for name, own in levels.items() if name not in study.late_arms}
    outcomes = Outcomes(study.workdir, study.split, study.primary)
    asked, tested = [], []
    for claim, late in study.claims:
        for block in claims.where(claim, levels):
            post_hoc = late or block not in claims.where(claim, early)
            known = levels if post_hoc else early
            arms = [
                [by_name[name] for name in claims.members(side, block, known)]
                for side in claim.sides
            ]
            names = [called(side) for side in claim.sides]
            asked.append((claim, block, post_hoc, _distinct(arms)))
            sides = Sides(names, arms, outcomes, study.split, study.compared(claim))
            tested.append(evidence.of(claim, sides))
    waiting = [
        _waiting(arms, found, claims.imbalance(claim, block, levels if late else early))
        for (claim, block, late, arms), found in zip(asked, tested, strict=True)
    ]
    stated = [place for place, (_, _, late, _) in enumerate(asked) if not late]

    def family(ps: Iterable[float]) -> list[float]:
        return _corrected([1.0 if w else p for p, w in zip(ps, waiting, strict=True)], stated)

    corrected = family(found.p for found in tested)
    against = family(found.against for found in tested)
    verdicts = [_verdict(*each) for each in zip(tested, waiting, corrected, against, strict=True)]
    # An interaction that accuracy alone would have decided, after the same correction.
    alone = [found.on_accuracy or (found.p, found.against) for found in tested]
    decided = [family(p for p, _ in alone), family(p for _, p in alone)]
    scale = [
        found.on_accuracy is not None
        and verdicts[place] == "undecided"
        and any(
            own[place] < ALPHA <= both[place]
            for own, both in zip(decided, (corrected, against), strict=True)
        )
        for place, found in enumerate(tested)
    ]
    return [
        Finding(
            claim,
            block,
            study.compared(claim),
            late,
            verdicts[place],
            found,
            corrected[place],
            against[place],
            tuple(
                _notes(found, verdicts[place], waiting[place], corrected[place], against[place])
                + ([_SCALE] if scale[place] else [])
                + _outcomes(found, arms, study.compared(claim))
                + (_lost(arms, outcomes) if of_images(claim, study.primary) else [])
                + _left_out(claim, block, arms, levels)
                + _mixed(claim, block, levels if late else early)
            ),
            scale[place],
        )
        for place, ((claim, block, late, arms), found) in enumerate(zip(asked, tested, strict=True))
    ]


def of_images(claim: Claim, primary: Metric) -> bool:
    """Whether a claim can be asked of other images too: on a difference of means over them."""
    means = claim.metric == primary.name and primary.kind in ("share", "mean")
    return means and claim.kind in ("better", "equivalent", "monotone")


def called(side: claims.Side) -> str:
    """A side in words: the arm's name without its block's, or the levels."""
    if isinstance(side, str):
        return side.partition(".")[2] or side
    return ", ".join(f"{path.partition('.')[2]} {value}" for path, value in side.items())


def _verdict(found: Evidence, waiting: str, corrected: float, against: float) -> Verdict:
    if waiting:
        return "open"
    doubt, contrary_doubt = found.doubts
    if corrected < ALPHA and not doubt:
        return "supported"
    return "contradicted" if against < ALPHA and not contrary_doubt else "undecided"


def _corrected(ps: Sequence[float], stated: Sequence[int]) -> list[float]:
    corrected = statistics.holm(ps)
    for place, p in zip(stated, statistics.holm([ps[place] for place in stated]), strict=True):
        corrected[place] = p
    return corrected


def _notes(
    found: Evidence, verdict: Verdict, waiting: str, corrected: float, against: float
) -> list[str]:
    """Why there is no verdict, where there is none."""
    if verdict in ("supported", "contradicted"):
        return []
    doubt, contrary = found.doubts
    notes = [waiting]
    notes += [doubt] if corrected < ALPHA or doubt == contrary else []
    notes += [contrary] if against < ALPHA else []
    return [text for text in dict.fromkeys(notes) if text]


def _outcomes(found: Evidence, arms: Sequence[Arm], compared: Metric) -> list[str]:
    """What became of the runs, and in what they differ."""
    diverged = [(arm, arm.count("diverged")) for arm in arms if found.share is None]
    told = [f"{arm.label} {number} of {len(arm.runs)}" for arm, number in diverged if number]
    notes = [f"Diverged: {', '.join(told)}."] if told else []
    if not compared.of_split:
        short = [(arm, sum(run.stands_in(compared) for run in arm.runs)) for arm in arms]
        late = [f"{arm.label} {number} of {len(arm.runs)}" for arm, number in short if number]
        notes += [f"Never came as far: {', '.join(late)}."] if late else []
    return notes + mixtures([run for arm in arms for run in arm.runs])


def _lost(arms: Sequence[Arm], outcomes: Outcomes) -> list[str]:
    """The runs whose outcomes by image cannot be read, where those of others can."""
    finished = [run for arm in arms for run in arm.runs if run.status == "finished"]
    without = [run.place for run in finished if outcomes.of(run) is None]
    if not without or len(without) == len(finished):
        return []
    return [f"On other images nothing is known: no predictions of {', '.join(without)}."]


def _left_out(
    claim: Claim, block: str, arms: Sequence[Arm], levels: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The arms that would belong to a claim but for having been thought of too late."""
    all_ = {name for side in claim.sides for name in claims.members(side, block, levels)}
    late = sorted(all_ - {arm.name for arm in arms})
    return [f"Left out, as added after results were there: {', '.join(late)}."] if late else []


def _mixed(claim: Claim, block: str, levels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a fractional design cannot tell from the effect that a claim is about."""
    asked = {path for side in claim.sides if not isinstance(side, str) for path in side}
    words = design.fraction([own for arm, own in levels.items() if claims.block_of(arm) == block])
    mixed = design.aliases(asked, words) if asked else []
    return [f"This design cannot tell it from {design.named(mixed)}."] if mixed else []


def _waiting(arms: Sequence[Arm], found: Evidence, apart: Sequence[str]) -> str:
    """Why a claim cannot be judged, "" where it can."""
    counts = [(status, sum(arm.count(status) for arm in arms)) for status in _WAITING]
    lacking = ", ".join(f"{number} {status}" for status, number in counts if number)
    if lacking:
        return f"Runs without a figure: {lacking}."
    if different := different_data([run for arm in arms for run in arm.runs]):
        return different
    if apart:
        return f"The arms that are here differ in {', '.join(apart)} too."
    if any(comparison.paired is None for comparison in found.comparisons):
        return "No seed has this figure on both sides."
    return ""


def _distinct(sides: Sequence[Sequence[Arm]]) -> list[Arm]:
    return list({arm.name: arm for side in sides for arm in side}.values())


def _levels(arm: Arm, factors: Sequence[str]) -> Mapping[str, Any]:
    return {path: arm.levels.get(path, lookup(arm.config, path)) for path in factors}
