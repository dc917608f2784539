"""Claims and findings as sentences."""

from collections.abc import Mapping, Sequence

from cnnjax.ablation import claims, power
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.statistics import ALPHA
from cnnjax.ablation.verdicts import Finding, side_name
from cnnjax.metric import CLASSIFICATION, Metric
from cnnjax.report import formatting


def claim_text(claim: Claim, task: Sequence[Metric] = CLASSIFICATION) -> str:
    """A claim as a sentence without its full stop; `task` are the metrics of the task, of which the
    first is not named."""
    names = [side_name(side) for side in claim.sides]
    compared = claims.metric_of(claim, task)
    unit = compared.difference_unit
    unit = unit.removesuffix("s") if claim.margin == 1 and len(unit) > 1 else unit
    margin = f"{claim.margin:,.12g} {unit}".rstrip()
    by = f" by more than {margin}" if claim.margin else ""
    metric = "" if compared == task[0] else f" in {compared.title}"
    match claim.kind:
        case "better":
            side = "is above" if compared.higher_is_better else "is below"
            verb = "beats" if compared.on_split else side
            return f"{names[0]} {verb} {names[1]}{metric}{by}"
        case "equivalent":
            return f"{names[0]} and {names[1]} differ by less than {margin}{metric}"
        case "monotone":
            each = f", each step{by}" if by else ""
            plural = "" if compared.title.endswith("s") else "s"
            verb = ("rise" if compared.higher_is_better else "fall") + plural
            change = "it gets better" if compared.on_split else f"{compared.title} {verb}"
            metric = metric if compared.on_split else ""
            return f"{change} from {formatting.join(names, 'to')}{metric}{each}"
        case "interaction":
            more = {"positive": "gains more", "negative": "gains less"}
            f, g = factors(claim)
            verb = more.get(claim.direction, "gains something else")
            return (
                f"{f[0]} {f[2]} over {f[1]} {verb}{by} with {g[0]} {g[2]} than with {g[1]}{metric}"
            )
        case "diverges":
            return f"{names[0]} diverges in more than {100 * claim.share:g} % of its runs"
        case "chance_level":
            share = f"{100 * claim.share:g} %"
            return f"{names[0]} stays at chance or diverges in more than {share} of its runs"


def factors(claim: Claim) -> list[tuple[str, str, str]]:
    """(path without its first part, from, to) of both factors of an interaction."""
    first, last = claim.sides[0], claim.sides[3]
    assert isinstance(first, Mapping)
    assert isinstance(last, Mapping)
    paths = list(first)[:2]
    return [(path.partition(".")[2], str(first[path]), str(last[path])) for path in paths]


def _ended(text: str) -> str:
    """A sentence with a full stop, unless it ends in a mark of its own."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def sentence(finding: Finding, family: int) -> str:
    """A finding in sentences; `family` is the number of claims tested together."""
    late = "Claimed after results were there (post hoc)." if finding.post_hoc else ""
    expected = "" if finding.claim.expected else "It was expected not to hold."
    source = _ended(f"Source: {finding.claim.source}") if finding.claim.source else ""
    reason = _ended(f"Why this margin: {finding.claim.reason}") if finding.claim.reason else ""
    parts = [figures(finding), _power(finding, family), *finding.notes]
    parts += [late, expected, reason, source]
    return " ".join(filter(None, parts))


def to_show(claim: Claim, runs: int, family: int) -> str:
    """How many of `runs` it takes to show a claim of a share of the runs."""
    least = power.runs_to_show(runs, claim.share, family)
    if least is None:
        needed = power.runs_needed(claim.share, family)
        return f"{formatting.count(runs, 'run')} cannot show it, even if all do: it takes {needed}"
    return f"it takes {least} of {formatting.count(runs, 'run')} to show it"


def _power(finding: Finding, family: int) -> str:
    """What the number of seeds can show at the observed spread, if a claim is undecided for lack of
    seeds."""
    doubted = finding.evidence.doubts[0] and finding.corrected < ALPHA
    other_reason = finding.scale_matters or doubted
    if finding.verdict != "undecided" or finding.claim.kind == "equivalent" or other_reason:
        return ""
    if finding.evidence.share is not None:
        text = to_show(finding.claim, finding.evidence.share.n, family)
        return f"{text[0].upper()}{text[1:]}."
    paired = [each.paired for each in finding.evidence.comparisons if each.paired]
    if not paired or not all(each.sd for each in paired):
        return ""
    sd, n = max(each.sd or 0.0 for each in paired), min(each.n for each in paired)
    family *= 2 if _two_sided(finding.claim) else 1  # two one-sided tests
    effect = power.detectable(n, family)
    compared = finding.metric
    if effect is None or effect * sd > compared.difference_ends()[1]:
        return f"{formatting.count(n, 'seed')} cannot decide it at this spread."
    size = f"{formatting.amount(compared, effect * sd)} {compared.difference_unit}".rstrip()
    margin = finding.claim.margin
    beyond = "beyond the margin " if margin else ""
    text = f"{n} seeds find {size} {beyond}with probability 0.8 at this spread"
    needed = power.seeds_needed(margin / compared.scale, sd, family)
    if margin and needed:
        seeds = formatting.count(needed, "seed")
        text += f"; it takes {seeds} to find a difference of {2 * margin:g}, twice the margin"
    return f"{text}."


def _two_sided(claim: Claim) -> bool:
    """Whether a claim is tested two-sided."""
    return claim.kind == "interaction" and claim.direction == "either"


def figures(finding: Finding) -> str:
    """The figures of a finding, as a sentence."""
    evidence = finding.evidence
    tails = "two-sided" if _two_sided(finding.claim) else "one-sided"
    p = f"corrected {tails} p {formatting.p_value(finding.corrected)}"
    if finding.verdict == "contradicted":
        tails = "two-sided" if finding.claim.kind == "equivalent" else "one-sided"
        p = f"corrected {tails} p of the contrary {formatting.p_value(finding.against)}"
    if evidence.share is not None:
        share = evidence.share
        bounds = f" [{100 * share.low:.0f} %, {100 * share.high:.0f} %]" if share.n else ""
        return f"{share.count:g} of {formatting.count(share.n, 'run')} did{bounds}, {p}."
    phrases = [_compared(comparison, finding) for comparison in evidence.comparisons]
    if finding.claim.kind == "interaction":
        contrast = evidence.comparisons[0]
        phrases = [f"The gains differ by {_difference(contrast, finding)}"]
        phrases += [_finished(contrast, finding)] if contrast.finished else []
        odds = evidence.log_odds
        if odds is not None and odds.low is not None and odds.high is not None:
            low, high = formatting.decimal(odds.low), formatting.decimal(odds.high)
            mean = formatting.decimal(odds.mean, signed=True)
            phrases.append(f"in log-odds by {mean} [{low}, {high}]")
    if finding.metric.kind == "fixed" and finding.verdict in ("supported", "contradicted"):
        return f"{'; '.join(phrases)}; no seed changes it."
    return f"{'; '.join(phrases)}; {p}."


def _compared(comparison: Comparison, finding: Finding) -> str:
    if comparison.paired is None:
        return f"{' and '.join(comparison.names)} share no seed with a figure"
    seeds = formatting.count(comparison.paired.n, "seed")
    ties = sum(difference == 0 for difference in comparison.differences)
    if ties == comparison.paired.n:
        return f"{' and '.join(comparison.names)} are equal in each of {seeds}"
    side = "ahead of" if comparison.paired.mean > 0 else "behind"
    first, second = comparison.names
    text = f"{first} is {_difference(comparison, finding, False)} {side} {second}"
    if not comparison.paired.mean:
        names = " and ".join(comparison.names)
        text = f"{names} are equal on average, {_difference(comparison, finding, False)} apart"
    text += f", ahead in {formatting.ahead(comparison.differences, seeds)}"
    if comparison.population is not None:
        ends = comparison.population.low, comparison.population.high
        low, high = ends if comparison.paired.mean > 0 else (-ends[1], -ends[0])
        other = formatting.interval(finding.metric, low, high)
        other += " (95 %)" if finding.claim.kind == "equivalent" else ""
        text += f"; for other images too: {other}" if f" {other} " not in text else ""
    if comparison.finished is not None:
        text += f"; {_finished(comparison, finding)}"
    return text


def _finished(comparison: Comparison, finding: Finding) -> str:
    """The signed difference over the seeds in which all runs finished."""
    assert comparison.finished is not None
    mean = formatting.amount(finding.metric, comparison.finished.mean, signed=True)
    which = "no run diverged" if finding.metric.on_split else "all runs came as far"
    return f"{mean} over the {formatting.count(comparison.finished.n, 'pair')} in which {which}"


def _difference(comparison: Comparison, finding: Finding, signed: bool = True) -> str:
    """A mean difference with its interval: 90% for an equivalence, else 95%."""
    paired = comparison.paired
    if paired is None:
        return "an unknown amount"
    mean = paired.mean if signed else abs(paired.mean)
    ends = interval(comparison, finding.claim)
    metric = finding.metric
    text = f"{formatting.amount(metric, mean, signed)} {metric.difference_unit}".rstrip()
    if ends is None or metric.kind == "fixed":
        return text
    low, high = ends if signed or paired.mean > 0 else (-ends[1], -ends[0])
    level = " (90 %)" if finding.claim.kind == "equivalent" else ""
    return f"{text} {formatting.interval(metric, low, high)}{level}"


def differences(finding: Finding) -> list[str]:
    """The figures of a finding, in short."""
    share = finding.evidence.share
    if share is not None:
        return [f"{share.count:g} of {share.n}"]
    return [_difference(comparison, finding) for comparison in finding.evidence.comparisons]


def interval(comparison: Comparison, claim: Claim) -> tuple[float, float] | None:
    """The interval of a comparison for a claim: 90% for an equivalence, else 95%."""
    if comparison.paired is None:
        return None
    confidence = 0.90 if claim.kind == "equivalent" else 0.95
    return comparison.paired.interval(confidence)
