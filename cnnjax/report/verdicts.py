"""The findings on the claims of a study as sentences, as a plot and as a table."""

from collections.abc import Iterator, Sequence

from cnnjax.ablation.results import Study
from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.statistics import ALPHA, sign_flip_p
from cnnjax.ablation.verdicts import VERDICTS, Finding
from cnnjax.metric import ACCURACY, Metric
from cnnjax.report import forest, formatting, statements
from cnnjax.report.document import Definitions, Element, Figure, Paragraph, Section, Table

GUIDE = "How to read this"


def sections(study: Study, findings: Sequence[Finding]) -> list[Section]:
    """The section of the verdicts; none if there are no claims."""
    return [Section("Verdicts", tuple(_elements(study, findings)))] if study.claims else []


def _elements(study: Study, findings: Sequence[Finding]) -> Iterator[Element]:
    if findings:
        yield Paragraph(_count(findings), link=GUIDE)
        yield _provisional(study)
    tested = {finding.claim.key for finding in findings}
    untested = [claim for claim, _ in study.claims if claim.key not in tested]
    if untested:
        claims = "; ".join(statements.claim_text(claim, study.metrics) for claim in untested)
        text = f"{claims}. The arms that these are about are not all here."
        yield Paragraph(text, "Not put to the test:", "warning")
    if study.late_seeds:
        text = (
            f"Seeds {', '.join(map(str, study.late_seeds))} were added after results were there; "
            "the p values take the number of seeds as fixed beforehand."
        )
        yield Paragraph(text, "Post hoc.", "warning")
    for finding in findings:
        text = statements.sentence(finding, len(findings))
        yield Paragraph(text, _lead(finding, study), finding.verdict)
    for i, (unit, rows) in enumerate(forest.by_unit(findings).items()):
        about = f"What each claim in {unit} is about" if unit else "What each claim is about"
        yield Figure(
            f"claims-{i + 1}" if i else "claims",
            forest.claims(rows),
            "Interval plot of the difference that each claim is about; the figures are in the "
            "table of claims.",
            f"{about}: the mean difference with its interval (95 %; 90 % for an "
            "equivalence) and the margin claimed as a tick or a pair of ticks. Filled: supported; "
            "red: contradicted; hollow: undecided or open.",
        )
    if findings:
        yield _table(findings, study)
    yield from _published(findings, study)


def lines(study: Study, findings: Sequence[Finding]) -> list[str]:
    """The verdicts as lines for a terminal."""
    if not findings:
        return []
    preview = "" if study.split == "test" else " (a preview, on the validation split)"
    verdicts = [f"  {_lead(finding, study)} {_reason(finding)}" for finding in findings]
    return [f"verdicts{preview}:", *verdicts]


def _reason(finding: Finding) -> str:
    """The figures of a finding, preceded by the reason if it is open."""
    first = finding.notes[:1] if finding.verdict == "open" else ()
    return " ".join([*first, statements.figures(finding)])


def _lead(finding: Finding, study: Study) -> str:
    where = f" [{finding.block}]" if finding.block else ""
    late = " (post hoc)" if finding.post_hoc else ""
    claim = statements.claim_text(finding.claim, study.metrics)
    return f"{finding.verdict.capitalize()}{late}{where}: {claim}."


def _count(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in VERDICTS}
    named = [f"{number} {verdict}" for verdict, number in counts.items() if number]
    return f"Of {formatting.count(len(findings), 'claim')}: {formatting.join(named)}."


def _provisional(study: Study) -> Paragraph:
    """Whether these are the final verdicts or a preview."""
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
    difference = formatting.with_unit("Difference", units.pop() if alike else "")
    figures = ("Interval", "Pairs", "dz", "p", "Corrected p", "Contrary", "Permutation p")
    rows = []
    for finding in findings:
        claim = statements.claim_text(finding.claim, study.metrics)
        block = (finding.block,) if blocks else ()
        opening = (claim, *block, finding.verdict)
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
    return Table(caption, (*labels, difference, *figures), tuple(rows), labels=len(labels))


def _published(findings: Sequence[Finding], study: Study) -> Iterator[Table]:
    """Published figures beside those of the study."""
    rows = []
    for finding in findings:
        if not finding.claim.published:
            continue
        figures = "; ".join(statements.differences(finding))
        where = f" [{finding.block}]" if finding.block else ""
        claim = statements.claim_text(finding.claim, study.metrics)
        rows.append((f"{claim}{where}", figures, finding.claim.published))
    if rows:
        caption = "What was published on these claims, beside what was found here."
        yield Table(caption, ("Claim", "Here", "Published"), tuple(rows), labels=3)


def _unit(finding: Finding) -> str:
    return "% of runs" if finding.evidence.share is not None else finding.metric.difference_unit


def _cells(finding: Finding, unit: str) -> list[tuple[str, ...]]:
    """The figures of a finding, a row for each comparison; `unit` follows the first figure."""
    ps = (finding.evidence.p, finding.corrected, finding.against)
    closing = tuple(formatting.p_value(p) for p in ps)
    share = finding.evidence.share
    if share is not None:
        value = ends = formatting.NONE
        if share.n:
            value = f"{100 * share.value:.0f}{unit}"
            ends = f"[{100 * share.low:.0f}, {100 * share.high:.0f}]"
        return [(value, ends, str(share.n), formatting.NONE, *closing, formatting.NONE)]
    return [
        (*_figures(comparison, finding, unit), *closing, _check(comparison, finding))
        for comparison in finding.evidence.comparisons
    ]


def _figures(comparison: Comparison, finding: Finding, unit: str) -> tuple[str, ...]:
    paired, ends = comparison.paired, statements.interval(comparison, finding.claim)
    if paired is None:
        return formatting.NONE, formatting.NONE, "0", formatting.NONE
    return (
        formatting.amount(finding.metric, paired.mean, signed=True) + unit,
        formatting.interval(finding.metric, *(ends or (None, None))),
        str(paired.n),
        formatting.decimal(paired.dz) if paired.dz is not None else formatting.NONE,
    )


def _check(comparison: Comparison, finding: Finding) -> str:
    """The p of the permutation test of the margin; none for an equivalence, which has two."""
    claim, metric = finding.claim, finding.metric
    if not comparison.differences or claim.kind == "equivalent" or metric.kind == "fixed":
        return formatting.NONE
    signs = {"negative": -1.0, "either": 0.0} if claim.kind == "interaction" else {}
    margin = signs.get(claim.direction, 1.0) * claim.margin / metric.scale
    return formatting.p_value(sign_flip_p([d - margin for d in comparison.differences]))


def guide(primary: Metric) -> Section:
    """The section that explains the words and numbers of a verdict."""
    ends = ""
    if primary == ACCURACY:
        ends = ": at 100 points between two accuracies, at 200 between two such differences"
    words = {
        "Verdicts": f"Supported: the corrected p of the claim is below {ALPHA}. Contradicted: that "
        "of its contrary is. Undecided: so many seeds cannot tell; it does not mean that there is "
        "nothing. Open: runs are missing.",
        "Seeds": "All arms share their seeds: weights, order of the data, augmentation and dropout "
        "are drawn by seed. So arms are compared seed by seed, and what seeds have in common "
        "cancels. A tie is a seed in which both score the same.",
        "Intervals": "[low, high] beside a mean difference: Student's t interval of the paired "
        "differences, 95 % where nothing else is said. It is about these images and other seeds, "
        f"and ends where the difference can be no larger{ends}.",
        "Other images": "The same for other images too, as if drawn where these were; it stands "
        "there where it is known and not the same.",
        "p": "How likely such a result would be if the claim did not hold. Corrected: for all "
        "claims of the study together (Holm), so that with 95 % none is supported wrongly.",
        "Margins": "A claim with a margin is held against the margin, not against zero: beats by "
        "more than it, differs by less than it.",
        "Diverged runs": "Score chance, which is the best constant prediction. That counts against "
        "an arm and never for it.",
        "Post hoc": "Claimed, or added, after results were there.",
    }
    more = (
        "Why it is done like this, and how often such verdicts are right by simulation, is written "
        "in docs/statistics.md of cnnjax."
    )
    return Section(GUIDE, (Definitions(tuple(words.items())), Paragraph(more, kind="note")))
