"""The index of published reports: every claim with its verdict, effect and seeds. Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnnjax.ablation import blocks, power
from cnnjax.ablation.results import Study
from cnnjax.ablation.verdicts import VERDICTS, Finding
from cnnjax.report import markdown, statements, words
from cnnjax.report.document import Definitions, Document, Element, Paragraph, Section, Table

OPENING = "Results"


@dataclass(frozen=True)
class Entry:
    """A published study: the folder of its report, beside the index."""

    folder: str
    study: Study
    findings: Sequence[Finding]


def write(entries: Sequence[Entry]) -> str:
    """The index as Markdown text."""
    found = [finding for entry in entries for finding in entry.findings]
    counts = [
        f"{sum(finding.verdict == verdict for finding in found)} {verdict}" for verdict in VERDICTS
    ]
    opening = (
        f"{words.count(len(entries), 'study', 'studies')}, {words.count(len(found), 'claim')}: "
        f"{words.listing(counts)}. Every verdict is about the size of study that stands beside it, "
        "on the test split, with the weights of the last step. Undecided means that so many seeds "
        "cannot tell; it does not mean that there is nothing."
    )
    sections = [
        Section("What was found", (Paragraph(opening), _overview(entries))),
        *map(_section, entries),
    ]
    document = Document(OPENING, "The claims, put to the test", "", tuple(sections))
    text = markdown.write(document)
    for entry in entries:
        place = f"{entry.folder}/report.md"
        text = text.replace(f"**Report**: {place}", f"**Report**: [{place}]({place})")
    return text


def _overview(entries: Sequence[Entry]) -> Table:
    """How many claims of each study hold."""
    rows = []
    for entry in entries:
        found = [finding.verdict for finding in entry.findings]
        arms, runs = len(entry.study.arms), len(entry.study.runs)
        counts = [str(found.count(verdict)) for verdict in VERDICTS]
        rows.append((entry.folder, str(arms), str(runs), str(len(found)), *counts))
    head = ("Study", "Arms", "Runs", "Claims", *(verdict.capitalize() for verdict in VERDICTS))
    return Table("The studies.", head, tuple(rows))


def _section(entry: Entry) -> Section:
    study = entry.study
    title = str(study.experiment.get("question") or entry.folder)
    size = (("Size", _size(study)), ("Report", f"{entry.folder}/report.md"))
    elements: list[Element] = [Definitions(size)]
    rows = []
    for finding in entry.findings:
        seeds = {run.seed for arm in study.arms for run in arm.runs if arm.block == finding.block}
        rows.append(
            (
                statements.claim(finding.claim, study.metrics),
                finding.block or words.NONE,
                _verdict(finding),
                "; ".join(statements.differences(finding)),
                words.p_value(_p(finding)),
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
    """Examples, steps and parameters: what a verdict is about."""
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
    found = power.detectable(len({run.seed for run in runs}))
    shows = f"; finds {found:.2g} sd of paired differences with probability 0.8" if found else ""
    return (
        f"{', '.join(data)}; {'; '.join(figures)}; {words.duration(seconds)} a run (median){shows}"
    )
