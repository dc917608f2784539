"""A claim, and what was found on it, as sentences."""

from collections.abc import Sequence

from cnnjax.ablation import claims, power
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.statistics import ALPHA
from cnnjax.ablation.verdicts import Finding, side_name
from cnnjax.metric import CLASSIFICATION, Metric
from cnnjax.report import forest, words


def claim(statement: Claim, task: Sequence[Metric] = CLASSIFICATION) -> str:
    """What is claimed, as a sentence without its full stop; `task` are the task's metrics, of which
    the first needs no words."""
    names = [side_name(side) for side in statement.sides]
    compared = claims.metric_of(statement, task)
    unit = compared.difference_unit
    unit = unit.removesuffix("s") if statement.margin == 1 and len(unit) > 1 else unit
    margin = f"{statement.margin:,.12g} {unit}".rstrip()
    by = f" by more than {margin}" if statement.margin else ""
    metric = "" if compared == task[0] else f" in {compared.title}"
    match statement.kind:
        case "better" if compared.on_split:
            return f"{names[0]} beats {names[1]}{metric}{by}"
        case "better":
            side = "above" if compared.higher_is_better else "below"
            return f"{names[0]} is {side} {names[1]}{metric}{by}"
        case "equivalent":
            return f"{names[0]} and {names[1]} differ by less than {margin}{metric}"
        case "monotone":
            each = f", each step{by}" if by else ""
            plural = "" if compared.title.endswith("s") else "s"
            way = ("rise" if compared.higher_is_better else "fall") + plural
            way = "it gets better" if compared.on_split else f"{compared.title} {way}"
            metric = metric if compared.on_split else ""
            return f"{way} from {words.listing(names, 'to')}{metric}{each}"
        case "interaction":
            more = {"positive": "gains more", "negative": "gains less"}
            path_f, path_g = forest.factors(statement)
            verb = more.get(statement.direction, "gains something else")
            return (
                f"{path_f[0]} {path_f[2]} over {path_f[1]} {verb}{by} with {path_g[0]} "
                f"{path_g[2]} than with {path_g[1]}{metric}"
            )
        case "diverges":
            return f"{names[0]} diverges in more than {100 * statement.share:g} % of its runs"
        case "chance_level":
            share = f"{100 * statement.share:g} %"
            return f"{names[0]} stays at chance or diverges in more than {share} of its runs"


def sentence(finding: Finding, family: int) -> str:
    """What was found, in figures and words; `family` is the number of claims tested together."""
    late = "Claimed after results were there (post hoc)." if finding.post_hoc else ""
    expected = "" if finding.claim.expected else "It was expected not to hold."
    source = f"Source: {finding.claim.source}." if finding.claim.source else ""
    reason = f"Why this margin: {finding.claim.reason}." if finding.claim.reason else ""
    parts = (
        figures(finding),
        _power(finding, family),
        *finding.notes,
        late,
        expected,
        reason,
        source,
    )
    return " ".join(part for part in parts if part)


def to_show(statement: Claim, runs: int, family: int) -> str:
    """How many of so many runs must do what a claim says of a share of them."""
    least = power.runs_to_show(runs, statement.share, family)
    if least is None:
        needed = power.runs_needed(statement.share, family)
        return f"{words.count(runs, 'run')} cannot show it, even if all do: it takes {needed}"
    return f"it takes {least} of {words.count(runs, 'run')} to show it"


def _power(finding: Finding, family: int) -> str:
    """What so many seeds can show at the spread that was seen, where too few are why they did not
    decide."""
    doubted = finding.evidence.doubts[0] and finding.corrected < ALPHA
    other_reason = finding.scale_matters or doubted
    if finding.verdict != "undecided" or finding.claim.kind == "equivalent" or other_reason:
        return ""
    if finding.evidence.share is not None:
        text = to_show(finding.claim, finding.evidence.share.n, family)
        return f"{text[0].upper()}{text[1:]}."
    paired = [found.paired for found in finding.evidence.comparisons if found.paired]
    if not paired or not all(found.sd for found in paired):
        return ""
    sd, n = max(found.sd or 0.0 for found in paired), min(found.n for found in paired)
    family *= 2 if _either(finding.claim) else 1  # two one-sided tests
    effect = power.detectable(n, family)
    compared = finding.metric
    if effect is None or effect * sd > compared.difference_ends()[1]:
        return f"{words.count(n, 'seed')} cannot decide it at this spread."
    size = f"{words.amount(compared, effect * sd)} {compared.difference_unit}".rstrip()
    margin = finding.claim.margin
    beyond = "beyond the margin " if margin else ""
    text = f"{n} seeds find {size} {beyond}with probability 0.8 at this spread"
    needed = power.seeds_needed(margin / compared.scale, sd, family)
    if margin and needed:
        seeds = words.count(needed, "seed")
        text += f"; it takes {seeds} to find a difference of {2 * margin:g}, twice the margin"
    return f"{text}."


def _either(statement: Claim) -> bool:
    """Whether a claim is tested two-sided."""
    return statement.kind == "interaction" and statement.direction == "either"


def figures(finding: Finding) -> str:
    """What was found, in figures."""
    evidence = finding.evidence
    tails = "two-sided" if _either(finding.claim) else "one-sided"
    p = f"corrected {tails} p {words.p_value(finding.corrected)}"
    if finding.verdict == "contradicted":
        tails = "two-sided" if finding.claim.kind == "equivalent" else "one-sided"
        p = f"corrected {tails} p of the contrary {words.p_value(finding.against)}"
    if evidence.share is not None:
        share = evidence.share
        bounds = f" [{100 * share.low:.0f} %, {100 * share.high:.0f} %]" if share.n else ""
        return f"{share.count:g} of {words.count(share.n, 'run')} did{bounds}, {p}."
    said = [_compared(found, finding) for found in evidence.comparisons]
    if finding.claim.kind == "interaction":
        contrast = evidence.comparisons[0]
        said = [f"The gains differ by {_difference(contrast, finding)}"]
        said += [_finished(contrast, finding)] if contrast.finished else []
        odds = evidence.log_odds
        if odds is not None and odds.low is not None and odds.high is not None:
            low, high = words.decimal(odds.low), words.decimal(odds.high)
            said.append(f"in log-odds by {words.decimal(odds.mean, signed=True)} [{low}, {high}]")
    if finding.metric.kind == "fixed" and finding.verdict in ("supported", "contradicted"):
        return f"{'; '.join(said)}; no seed changes it."
    return f"{'; '.join(said)}; {p}."


def _compared(found: Comparison, finding: Finding) -> str:
    if found.paired is None:
        return f"{found.names[0]} and {found.names[1]} share no seed with a figure"
    seeds = words.count(found.paired.n, "seed")
    ties = sum(difference == 0 for difference in found.differences)
    if ties == found.paired.n:
        return f"{' and '.join(found.names)} are equal in each of {seeds}"
    side = "ahead of" if found.paired.mean > 0 else "behind"
    text = f"{found.names[0]} is {_difference(found, finding, False)} {side} {found.names[1]}"
    if not found.paired.mean:
        names = " and ".join(found.names)
        text = f"{names} are equal on average, {_difference(found, finding, False)} apart"
    text += f", ahead in {words.ahead(found.differences, seeds)}"
    if found.population is not None:
        ends = found.population.low, found.population.high
        low, high = ends if found.paired.mean > 0 else (-ends[1], -ends[0])
        other = words.interval(finding.metric, low, high)
        other += " (95 %)" if finding.claim.kind == "equivalent" else ""
        text += f"; for other images too: {other}" if f" {other} " not in text else ""
    if found.finished is not None:
        text += f"; {_finished(found, finding)}"
    return text


def _finished(found: Comparison, finding: Finding) -> str:
    """The difference where all runs finished, signed."""
    assert found.finished is not None
    mean = words.amount(finding.metric, found.finished.mean, signed=True)
    which = "no run diverged" if finding.metric.on_split else "all runs came as far"
    return f"{mean} over the {words.count(found.finished.n, 'pair')} in which {which}"


def _difference(found: Comparison, finding: Finding, signed: bool = True) -> str:
    """A mean difference with its interval: 90% where equivalence is asked for, else 95%."""
    paired = found.paired
    if paired is None:
        return "an unknown amount"
    mean = paired.mean if signed else abs(paired.mean)
    ends = interval(found, finding.claim)
    of = finding.metric
    text = f"{words.amount(of, mean, signed)} {of.difference_unit}".rstrip()
    if ends is None or of.kind == "fixed":
        return text
    low, high = ends if signed or paired.mean > 0 else (-ends[1], -ends[0])
    level = " (90 %)" if finding.claim.kind == "equivalent" else ""
    return f"{text} {words.interval(of, low, high)}{level}"


def differences(finding: Finding) -> list[str]:
    """The figures that a finding rests on, in short."""
    share = finding.evidence.share
    if share is not None:
        return [f"{share.count:g} of {share.n}"]
    return [_difference(found, finding) for found in finding.evidence.comparisons]


def interval(found: Comparison, statement: Claim) -> tuple[float, float] | None:
    """The interval that goes with a claim: 90% for an equivalence, else 95%."""
    if found.paired is None:
        return None
    confidence = 0.90 if statement.kind == "equivalent" else 0.95
    return found.paired.interval(confidence)
