"""The findings on the claims of a study, in words, as a plot and as a table."""

from collections.abc import Sequence

from cnnjax.ablation.results import Study
from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.statistics import sign_flip_p
from cnnjax.ablation.verdicts import VERDICTS, Finding
from cnnjax.report import forest, guide, statements, words
from cnnjax.report.document import Element, Figure, Paragraph, Section, Table


def sections(study: Study, findings: Sequence[Finding]) -> list[Section]:
    """The verdicts, before anything else; nothing where nothing is claimed."""
    if not study.claims:
        return []
    elements: list[Element] = []
    if findings:
        elements = [Paragraph(_count(findings), link=guide.TITLE), _standing(study)]
    put = {finding.claim.key for finding in findings}
    absent = [statement for statement, _ in study.claims if statement.key not in put]
    if absent:
        named = "; ".join(statements.claim(each, study.metrics) for each in absent)
        text = f"{named}. The arms that these are about are not all here."
        elements.append(Paragraph(text, "Not put to the test:", "warning"))
    if study.late_seeds:
        text = (
            f"Seeds {', '.join(map(str, study.late_seeds))} were added after results were there; "
            "the p values take the number of seeds as fixed beforehand."
        )
        elements.append(Paragraph(text, "Post hoc.", "warning"))
    for finding in findings:
        text = statements.sentence(finding, len(findings))
        elements.append(Paragraph(text, _lead(finding, study), finding.verdict))
    for place, (unit, rows) in enumerate(forest.drawn(findings).items()):
        about = f"What each claim in {unit} is about" if unit else "What each claim is about"
        figure = Figure(
            f"claims-{place + 1}" if place else "claims",
            forest.claims(rows),
            "Interval plot of the difference that each claim is about; the figures are in the "
            "table of claims.",
            f"{about}: the mean difference with its interval (95 %; 90 % for an "
            "equivalence) and the margin claimed as a tick or a pair of ticks. Filled: supported; "
            "red: contradicted; hollow: undecided or open.",
        )
        elements.append(figure)
    if findings:
        elements += [_table(findings, study), *_published(findings, study)]
    return [Section("Verdicts", tuple(elements))]


def lines(study: Study, findings: Sequence[Finding]) -> list[str]:
    """The verdicts as lines for a terminal."""
    if not findings:
        return []
    preview = "" if study.split == "test" else " (a preview, on the validation split)"
    said = [f"  {_lead(finding, study)} {_why(finding)}" for finding in findings]
    return [f"verdicts{preview}:", *said]


def _why(finding: Finding) -> str:
    """What a verdict rests on; of one that is open, why it is."""
    first = finding.notes[:1] if finding.verdict == "open" else ()
    return " ".join([*first, statements.figures(finding)])


def _lead(finding: Finding, study: Study) -> str:
    where = f" [{finding.block}]" if finding.block else ""
    late = " (post hoc)" if finding.post_hoc else ""
    said = statements.claim(finding.claim, study.metrics)
    return f"{finding.verdict.capitalize()}{late}{where}: {said}."


def _count(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in VERDICTS}
    named = [f"{number} {verdict}" for verdict, number in counts.items() if number]
    return f"Of {words.count(len(findings), 'claim')}: {words.listing(named)}."


def _standing(study: Study) -> Paragraph:
    """Whether these are the verdicts or a preview of them."""
    looks = len(study.about["looks_at_test"])
    lost = study.about["adopted"][:10]
    number = f"{looks} at least, since study.json was lost and made again on {lost}"
    number = number if lost else str(looks)
    seen = f" The test split has been looked at before ({number} so far)." if looks else ""
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


def _table(findings: Sequence[Finding], study: Study) -> Table:
    blocks = any(finding.block for finding in findings)
    labels = ("Claim", "Block", "Verdict") if blocks else ("Claim", "Verdict")
    units = {_unit(finding) for finding in findings}
    alike = len(units) == 1
    figures = (
        words.headed("Difference", units.pop()) if alike else "Difference",
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
        said = statements.claim(finding.claim, study.metrics)
        names = (said, finding.block, finding.verdict)
        opening = names if blocks else (names[0], names[2])
        unit = "" if alike else f" {_unit(finding)}".rstrip()
        rows += [(*opening, *cells) for cells in _cells(finding, unit)]
    both = any(finding.evidence.log_odds for finding in findings)
    scales = ", the larger of accuracy and log-odds for an interaction" if both else ""
    caption = (
        "The claims. p: one-sided paired t (two one-sided tests for an equivalence, two-sided for "
        f"an interaction without a direction and against an equivalence{scales}, exact binomial "
        "for shares of runs); corrected: Holm over all "
        "claims; contrary: the corrected p against the claim; permutation p: two-sided, exact, "
        "against a mean difference of the margin, as a check."
    )
    return Table(caption, (*labels, *figures), tuple(rows), labels=len(labels))


def _published(findings: Sequence[Finding], study: Study) -> list[Table]:
    """What others found, beside what was found here."""
    told = [finding for finding in findings if finding.claim.published]
    rows = []
    for finding in told:
        here = "; ".join(statements.differences(finding))
        where = f" [{finding.block}]" if finding.block else ""
        said = statements.claim(finding.claim, study.metrics)
        rows.append((f"{said}{where}", here, finding.claim.published))
    caption = "What was published on these claims, beside what was found here."
    return [Table(caption, ("Claim", "Here", "Published"), tuple(rows), labels=3)] if rows else []


def _unit(finding: Finding) -> str:
    return "% of runs" if finding.evidence.share is not None else finding.metric.difference_unit


def _cells(finding: Finding, unit: str) -> list[tuple[str, ...]]:
    """The figures of a finding, a row for each comparison; `unit` stands beside the first."""
    ps = (finding.evidence.p, finding.corrected, finding.against)
    closing = tuple(words.p_value(p) for p in ps)
    share = finding.evidence.share
    if share is not None and not share.n:
        return [(words.NONE, words.NONE, "0", words.NONE, *closing, words.NONE)]
    if share is not None:
        ends = f"[{100 * share.low:.0f}, {100 * share.high:.0f}]"
        figures = (f"{100 * share.value:.0f}{unit}", ends, str(share.n), words.NONE)
        return [(*figures, *closing, words.NONE)]
    return [
        (*_figures(found, finding, unit), *closing, _check(found, finding))
        for found in finding.evidence.comparisons
    ]


def _figures(found: Comparison, finding: Finding, unit: str) -> tuple[str, ...]:
    paired, ends = found.paired, statements.interval(found, finding.claim)
    if paired is None:
        return words.NONE, words.NONE, "0", words.NONE
    return (
        words.amount(finding.metric, paired.mean, signed=True) + unit,
        words.interval(finding.metric, *(ends or (None, None))),
        str(paired.n),
        words.decimal(paired.dz) if paired.dz is not None else words.NONE,
    )


def _check(found: Comparison, finding: Finding) -> str:
    """The permutation test of the margin; there is none for an equivalence, which has two."""
    statement, of = finding.claim, finding.metric
    if not found.differences or statement.kind == "equivalent" or of.kind == "fixed":
        return words.NONE
    signs = {"negative": -1.0, "either": 0.0} if statement.kind == "interaction" else {}
    margin = signs.get(statement.direction, 1.0) * statement.margin / of.scale
    return words.p_value(sign_flip_p([each - margin for each in found.differences]))
