"""The findings on the claims of a study, in words, as a plot and as a table."""

from collections.abc import Sequence

from cnnjax.ablation import power
from cnnjax.ablation.claims import POINTS, Claim
from cnnjax.ablation.evidence import Comparison
from cnnjax.ablation.results import Study
from cnnjax.ablation.statistics import t_interval
from cnnjax.ablation.verdicts import Finding, called
from cnnjax.report import forest, words
from cnnjax.report.document import Element, Figure, Paragraph, Section, Table

_ORDER = ("supported", "contradicted", "undecided", "open")


def sections(study: Study, findings: Sequence[Finding]) -> list[Section]:
    """The verdicts, before anything else; nothing where nothing is claimed."""
    if not study.claims:
        return []
    elements: list[Element] = [Paragraph(_count(findings)), _standing(study)] if findings else []
    put = {finding.claim.key for finding in findings}
    absent = [statement for statement, _ in study.claims if statement.key not in put]
    if absent:
        text = f"{'; '.join(map(claim, absent))}. The arms that these are about are not all here."
        elements.append(Paragraph(text, "Not put to the test:", "warning"))
    if study.late_seeds:
        text = (
            f"Seeds {', '.join(map(str, study.late_seeds))} were added after results were there; "
            "the p values take the number of seeds as fixed beforehand."
        )
        elements.append(Paragraph(text, "Post hoc.", "warning"))
    for finding in findings:
        text = sentence(finding, len(findings))
        elements.append(Paragraph(text, _lead(finding), finding.verdict))
    if forest.drawn(findings):
        figure = Figure(
            "claims",
            forest.claims(findings),
            "Interval plot of the difference that each claim is about; the figures are in the "
            "table of claims.",
            "What each claim is about: the mean difference with its interval (95 %; 90 % for an "
            "equivalence) and the margin claimed as a tick or a pair of ticks. Filled: supported; "
            "red: contradicted; hollow: undecided or open.",
        )
        elements.append(figure)
    table = (_table(findings),) if findings else ()
    return [Section("Verdicts", (*elements, *table))]


def lines(study: Study, findings: Sequence[Finding]) -> list[str]:
    """The verdicts as lines for a terminal."""
    if not findings:
        return []
    preview = "" if study.split == "test" else " (a preview, on the validation split)"
    said = [f"  {_lead(finding)} {_found(finding)}" for finding in findings]
    return [f"verdicts{preview}:", *said]


def claim(statement: Claim) -> str:
    """What is claimed, as a sentence without its full stop."""
    names = [called(side) for side in statement.sides]
    unit = statement.unit.removesuffix("s") if statement.margin == 1 else statement.unit
    margin = f"{statement.margin:g} {unit}"
    by = f" by more than {margin}" if statement.margin else ""
    metric = "" if statement.metric == "accuracy" else f" in {_metric(statement)}"
    match statement.kind:
        case "better":
            return f"{names[0]} beats {names[1]}{metric}{by}"
        case "equivalent":
            return f"{names[0]} and {names[1]} differ by less than {margin}{metric}"
        case "monotone":
            each = f", each step{by}" if by else ""
            return f"it gets better from {words.listing(names, 'to')}{metric}{each}"
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
        _found(finding),
        _power(finding, family),
        *finding.notes,
        late,
        expected,
        reason,
        source,
    )
    return " ".join(part for part in parts if part)


def _power(finding: Finding, family: int) -> str:
    """What so many seeds can show at the spread that was seen, where they did not decide."""
    paired = [found.paired for found in finding.evidence.comparisons if found.paired]
    if finding.verdict != "undecided" or finding.claim.kind == "equivalent":
        return ""
    if not paired or not all(found.sd for found in paired):
        return ""
    sd, n = max(found.sd or 0.0 for found in paired), min(found.n for found in paired)
    effect = power.detectable(n, family)
    if effect is None or (finding.claim.unit == POINTS and effect * sd > 1):
        return f"{words.count(n, 'seed')} cannot decide it at this spread."
    size = f"{_value(effect * sd, finding.claim, False)} {finding.claim.unit}"
    text = f"{n} seeds find {size} beyond the margin with probability 0.8 at this spread"
    needed = power.seeds_needed(finding.claim.scaled_margin, sd, family)
    if finding.claim.margin and needed:
        text += f"; for {finding.claim.margin:g} it takes {words.count(needed, 'seed')}"
    return f"{text}."


def _lead(finding: Finding) -> str:
    where = f" [{finding.block}]" if finding.block else ""
    return f"{finding.verdict.capitalize()}{where}: {claim(finding.claim)}."


def _count(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in _ORDER}
    named = [f"{number} {verdict}" for verdict, number in counts.items() if number]
    return f"Of {words.count(len(findings), 'claim')}: {words.listing(named)}."


def _standing(study: Study) -> Paragraph:
    """Whether these are the verdicts or a preview of them."""
    looks = study.about.get("looks_at_test")
    number = len(looks) if isinstance(looks, list) else 0
    seen = f" The test split has been looked at before ({number} so far)." if number else ""
    if study.split == "test":
        return Paragraph(
            "Measured on the test split with the weights of the last step. Looks at the test split "
            f"so far: {number}.",
            kind="note",
        )
    return Paragraph(
        "These verdicts are provisional: they are read off the validation split. Those that count "
        "are read off the test split, with launch.report --final, which counts the look."
        f"{seen}",
        "A preview.",
        "warning",
    )


def _found(finding: Finding) -> str:
    evidence = finding.evidence
    p = f"corrected one-sided p {words.p_value(finding.corrected)}"
    if finding.verdict == "contradicted":
        p = f"corrected one-sided p of the contrary {words.p_value(finding.against)}"
    if evidence.share is not None:
        share = evidence.share
        bounds = f"[{100 * share.low:.0f} %, {100 * share.high:.0f} %]"
        return f"{share.count:g} of {words.count(share.n, 'run')} did {bounds}, {p}."
    said = [_compared(found, finding.claim) for found in evidence.comparisons]
    if finding.claim.kind == "interaction":
        said = [f"The gains differ by {_difference(evidence.comparisons[0], finding.claim)}"]
        if evidence.log_odds is not None and evidence.log_odds.low is not None:
            odds = evidence.log_odds
            said.append(f"in log-odds by {odds.mean:+.2f} [{odds.low:.2f}, {odds.high:.2f}]")
    return f"{'; '.join(said)}; {p}."


def _compared(found: Comparison, statement: Claim) -> str:
    if found.paired is None:
        return f"{found.names[0]} and {found.names[1]} share no seed with a figure"
    side = "ahead of" if found.paired.mean > 0 else "behind"
    text = f"{found.names[0]} is {_difference(found, statement, False)} {side} {found.names[1]}"
    if found.ahead is not None:
        tie = " (a tie is half)" if found.ahead.count % 1 else ""
        text += f", ahead in {found.ahead.count:g} of {words.count(found.ahead.n, 'seed')}{tie}"
    if found.population is not None:
        low, high = words.scaled(found.population.low), words.scaled(found.population.high)
        text += f"; for other images too: [{low}, {high}]"
    if found.finished is not None:
        finished = _value(found.finished.mean, statement, True)
        text += f"; {finished} over the {found.finished.n} pairs in which no run diverged"
    return text


def _difference(found: Comparison, statement: Claim, signed: bool = True) -> str:
    """A mean difference with its interval: 90% where equivalence is asked for, else 95%."""
    paired = found.paired
    if paired is None:
        return "an unknown amount"
    mean = paired.mean if signed else abs(paired.mean)
    ends = interval(found, statement)
    text = f"{_value(mean, statement, signed)} {statement.unit}"
    if ends is None:
        return text
    low, high = ends if signed or paired.mean > 0 else (-ends[1], -ends[0])
    return f"{text} [{_value(low, statement, False)}, {_value(high, statement, False)}]"


def differences(finding: Finding) -> list[str]:
    """The figures that a finding rests on, in short."""
    share = finding.evidence.share
    if share is not None:
        return [f"{share.count:g} of {share.n}"]
    return [_difference(found, finding.claim) for found in finding.evidence.comparisons]


def interval(found: Comparison, statement: Claim) -> tuple[float, float] | None:
    """The interval that goes with a claim: 90% for an equivalence, else 95%."""
    if found.paired is None:
        return None
    confidence = 0.90 if statement.kind == "equivalent" else 0.95
    return t_interval(found.paired.mean, found.paired.sd, found.paired.n, confidence)


def _value(value: float, statement: Claim, signed: bool) -> str:
    return words.scaled(value, 100 if statement.unit == POINTS else 1, signed)


def _metric(statement: Claim) -> str:
    return statement.metric.removeprefix("measures.").replace("_", " ")


def _table(findings: Sequence[Finding]) -> Table:
    blocks = any(finding.block for finding in findings)
    labels = ("Claim", "Block", "Verdict") if blocks else ("Claim", "Verdict")
    figures = (
        "Difference",
        "Interval",
        "Pairs",
        "dz",
        "p",
        "Corrected p",
        "Contrary",
        "Permutation p",
    )
    rows = []
    for finding in findings:
        names = (claim(finding.claim), finding.block, finding.verdict)
        opening = names if blocks else (names[0], names[2])
        rows += [(*opening, *cells) for cells in _cells(finding)]
    caption = (
        "The claims. p: one-sided paired t (exact binomial for shares of runs); corrected: Holm "
        "over all claims; contrary: the corrected p against the claim; permutation p: two-sided, "
        "exact, on the mean difference, as a check."
    )
    return Table(caption, (*labels, *figures), tuple(rows), labels=len(labels))


def _cells(finding: Finding) -> list[tuple[str, ...]]:
    ps = (finding.evidence.p, finding.corrected, finding.against)
    closing = tuple(words.p_value(p) for p in ps)
    share = finding.evidence.share
    if share is not None:
        ends = f"[{100 * share.low:.0f}, {100 * share.high:.0f}] %"
        figures = (f"{100 * share.value:.0f} %", ends, str(share.n), words.NONE)
        return [(*figures, *closing, words.NONE)]
    return [
        (*_figures(found, finding.claim), *closing, _check(found))
        for found in finding.evidence.comparisons
    ]


def _figures(found: Comparison, statement: Claim) -> tuple[str, ...]:
    paired, ends = found.paired, interval(found, statement)
    if paired is None:
        return words.NONE, words.NONE, "0", words.NONE
    between = [_value(end, statement, False) for end in ends or ()]
    return (
        _value(paired.mean, statement, True),
        f"[{', '.join(between)}]" if between else words.NONE,
        str(paired.n),
        words.scaled(paired.dz, 1) if paired.dz is not None else words.NONE,
    )


def _check(found: Comparison) -> str:
    return words.p_value(found.paired.p if found.paired else None)
