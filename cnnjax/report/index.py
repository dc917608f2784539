"""The index of published reports: every claim with its verdict, effect and seeds. Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnnjax.ablation import blocks, power
from cnnjax.ablation.results import Study
from cnnjax.ablation.verdicts import VERDICTS, Finding
from cnnjax.report import formatting, markdown, statements
from cnnjax.report.document import Definitions, Document, Element, Paragraph, Section, Table

OPENING = "Results"


@dataclass(frozen=True)
class PublishedStudy:
    """A study with its findings, and the folder of its report beside the index."""

    folder: str
    study: Study
    findings: Sequence[Finding]


def write(studies: Sequence[PublishedStudy]) -> str:
    """The index as Markdown text."""
    verdicts = [finding.verdict for study in studies for finding in study.findings]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS]
    opening = (
        f"{formatting.count(len(studies), 'study', 'studies')}, "
        f"{formatting.count(len(verdicts), 'claim')}: {formatting.join(counts)}. Every verdict is "
        "about the size of study that stands beside it, on the test split, with the weights of the "
        "last step. Undecided means that so many seeds cannot tell; it does not mean that there is "
        "nothing."
    )
    sections = [
        Section("What was found", (Paragraph(opening), _overview(studies))),
        *map(_section, studies),
    ]
    document = Document(OPENING, "The claims, put to the test", "", tuple(sections))
    text = markdown.write(document)
    for study in studies:
        path = f"{study.folder}/report.md"
        text = text.replace(f"**Report**: {path}", f"**Report**: [{path}]({path})")
    return text


def _overview(studies: Sequence[PublishedStudy]) -> Table:
    """The number of claims of each study with each verdict."""
    rows = []
    for published in studies:
        verdicts = [finding.verdict for finding in published.findings]
        arms, runs = len(published.study.arms), len(published.study.runs)
        counts = [str(verdicts.count(verdict)) for verdict in VERDICTS]
        rows.append((published.folder, str(arms), str(runs), str(len(verdicts)), *counts))
    head = ("Study", "Arms", "Runs", "Claims", *(verdict.capitalize() for verdict in VERDICTS))
    return Table("The studies.", head, tuple(rows))


def _section(published: PublishedStudy) -> Section:
    study = published.study
    title = str(study.experiment.get("question") or published.folder)
    size = (("Size", _size(study)), ("Report", f"{published.folder}/report.md"))
    elements: list[Element] = [Definitions(size)]
    rows = []
    for finding in published.findings:
        seeds = {run.seed for arm in study.arms for run in arm.runs if arm.block == finding.block}
        rows.append(
            (
                statements.claim_text(finding.claim, study.metrics),
                finding.block or formatting.NONE,
                _verdict(finding),
                "; ".join(statements.differences(finding)),
                formatting.p_value(_p(finding)),
                str(len(seeds)),
            )
        )
    head = ("Claim", "Block", "Verdict", "Effect", "Corrected p", "Seeds")
    elements.append(Table("The claims.", head, tuple(rows), labels=4))
    if study.late_seeds:
        text = f"Seeds added after results were there: {', '.join(map(str, study.late_seeds))}."
        elements.append(Paragraph(text, "Post hoc.", "warning"))
    rising = [arm.name for arm in study.arms if blocks.improving(arm, study.primary)]
    if rising:
        better = f"Validation {study.primary.title} was still getting better"
        text = f"{better} at the end of training: {', '.join(rising)}."
        elements.append(Paragraph(text, kind="warning"))
    return Section(title, tuple(elements))


def _verdict(finding: Finding) -> str:
    remarks = ["post hoc"] if finding.post_hoc else []
    if finding.scale_matters:
        remarks.append("log-odds do not show it")
    return finding.verdict + (f" ({'; '.join(remarks)})" if remarks else "")


def _p(finding: Finding) -> float:
    return finding.against if finding.verdict == "contradicted" else finding.corrected


def _size(study: Study) -> str:
    """The size of a study in a line: data, parameters, steps, examples, time, detectable effect."""
    runs = [run for run in study.runs if run.status == "finished"]
    if not runs:
        return "no finished run"
    data = sorted({str(run.config.get("data", {}).get("name")) for run in runs})
    figures = []
    for field, noun in (
        ("parameters", "parameters"), ("steps", "steps"), ("examples_seen", "examples seen"),
    ):  # fmt: skip
        values = sorted({value for run in runs if (value := getattr(run.result, field))})
        if values:
            ends = dict.fromkeys((values[0], values[-1]))
            figures.append(f"{' to '.join(f'{value:,}' for value in ends)} {noun}")
    seconds = statistics.median(run.result.seconds or 0.0 for run in runs)
    effect = power.detectable(len({run.seed for run in runs}))
    shows = f"; finds {effect:.2g} sd of paired differences with probability 0.8" if effect else ""
    time = f"{formatting.duration(seconds)} a run (median)"
    return f"{', '.join(data)}; {'; '.join(figures)}; {time}{shows}"
