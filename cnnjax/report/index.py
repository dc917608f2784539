"""The index of published reports: every claim with its verdict, effect and seeds. Markdown.

What the index says of a study is a file in the study's folder, so that an index of all studies can
be written when one of them is published.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnjax import files
from cnnjax.ablation import blocks, power
from cnnjax.ablation.results import Study
from cnnjax.ablation.verdicts import VERDICTS, Finding
from cnnjax.report import formatting, markdown, statements
from cnnjax.report.document import Definitions, Document, Element, Paragraph, Section, Table
from cnnjax.validation import Count, Record, from_file

OPENING = "Results"
SUMMARY = "summary.json"
"""The file in a published study's folder that the index is written from."""


class PublishedClaim(Record):
    """A claim as the index shows it: texts, with the verdict as one of `VERDICTS`."""

    claim: str
    block: str
    verdict: str
    remarks: str
    effect: str
    p: str
    seeds: Count


class PublishedStudy(Record):
    """What the index says of a study."""

    title: str
    size: str
    arms: Count
    runs: Count
    claims: list[PublishedClaim]
    warnings: list[str]


def summarize(study: Study, findings: Sequence[Finding]) -> PublishedStudy:
    """What the index says of a study with these findings."""
    warnings = []
    if study.late_seeds:
        seeds = ", ".join(map(str, study.late_seeds))
        warnings.append(f"Post hoc: seeds added after results were there: {seeds}.")
    rising = [arm.name for arm in study.arms if blocks.improving(arm, study.primary)]
    if rising:
        better = f"Validation {study.primary.title} was still getting better"
        warnings.append(f"{better} at the end of training: {', '.join(rising)}.")
    return PublishedStudy(
        title=str(study.experiment.get("question") or study.experiment["name"]),
        size=_size(study),
        arms=len(study.arms),
        runs=len(study.runs),
        claims=[_claim(study, finding) for finding in findings],
        warnings=warnings,
    )


def read(output: Path) -> dict[str, PublishedStudy]:
    """What the index says of the studies published in `output`, by folder, in the order of the
    index that is there. Raises UserError for a summary that is broken."""
    found = sorted(summary.parent.name for summary in output.glob(f"*/{SUMMARY}"))
    order = dict.fromkeys([*listed(output), *found])
    return {
        name: from_file(PublishedStudy, output / name / SUMMARY) for name in order if name in found
    }


def listed(output: Path) -> list[str]:
    """The folders of the studies that the index in `output` lists."""
    path = output / "README.md"
    return re.findall(r"\]\(([^()]+)/report\.md\)", path.read_text()) if path.exists() else []


def write(output: Path, studies: Mapping[str, PublishedStudy]) -> None:
    """Writes README.md of studies by the folder of their report beside it."""
    files.write_text(output / "README.md", _text(studies))


def _claim(study: Study, finding: Finding) -> PublishedClaim:
    seeds = {run.seed for arm in study.arms for run in arm.runs if arm.block == finding.block}
    remarks = ["post hoc"] if finding.post_hoc else []
    if finding.scale_matters:
        remarks.append("log-odds do not show it")
    p = finding.against if finding.verdict == "contradicted" else finding.corrected
    return PublishedClaim(
        claim=statements.claim_text(finding.claim, study.metrics),
        block=finding.block or formatting.NONE,
        verdict=finding.verdict,
        remarks="; ".join(remarks),
        effect="; ".join(statements.differences(finding)),
        p=formatting.p_value(p),
        seeds=len(seeds),
    )


def _text(studies: Mapping[str, PublishedStudy]) -> str:
    """The index as Markdown."""
    verdicts = [claim.verdict for study in studies.values() for claim in study.claims]
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
        *(_section(folder, study) for folder, study in studies.items()),
    ]
    text = markdown.write(Document(OPENING, "The claims, put to the test", "", tuple(sections)))
    for folder in studies:
        path = f"{folder}/report.md"
        text = text.replace(f"**Report**: {path}", f"**Report**: [{path}]({path})")
    return text


def _overview(studies: Mapping[str, PublishedStudy]) -> Table:
    """The number of claims of each study with each verdict."""
    rows = []
    for folder, study in studies.items():
        verdicts = [claim.verdict for claim in study.claims]
        counts = (len(verdicts), *(verdicts.count(verdict) for verdict in VERDICTS))
        rows.append((folder, *map(str, (study.arms, study.runs, *counts))))
    head = ("Study", "Arms", "Runs", "Claims", *(verdict.capitalize() for verdict in VERDICTS))
    return Table("The studies.", head, tuple(rows))


def _section(folder: str, study: PublishedStudy) -> Section:
    rows = []
    for each in study.claims:
        verdict = f"{each.verdict} ({each.remarks})" if each.remarks else each.verdict
        rows.append((each.claim, each.block, verdict, each.effect, each.p, str(each.seeds)))
    head = ("Claim", "Block", "Verdict", "Effect", "Corrected p", "Seeds")
    elements: list[Element] = [
        Definitions((("Size", study.size), ("Report", f"{folder}/report.md"))),
        Table("The claims.", head, tuple(rows), labels=4),
        *(Paragraph(warning, kind="warning") for warning in study.warnings),
    ]
    return Section(study.title, tuple(elements))


def _size(study: Study) -> str:
    """The size of a study in a line: data, parameters, steps, examples, time, detectable effect."""
    runs = [run for run in study.runs if run.status == "finished"]
    if not runs:
        return "no finished run"
    data = sorted({str(run.config.get("data", {}).get("name")) for run in runs})
    figures = []
    for field in ("parameters", "steps", "examples_seen"):
        values = sorted({value for run in runs if (value := getattr(run.result, field))})
        if values:
            ends = dict.fromkeys((values[0], values[-1]))
            numbers = " to ".join(f"{value:,}" for value in ends)
            figures.append(f"{numbers} {field.replace('_', ' ')}")
    seconds = statistics.median(run.result.seconds or 0.0 for run in runs)
    effect = power.detectable(len({run.seed for run in runs}))
    shows = f"; finds {effect:.2g} sd of paired differences with probability 0.8" if effect else ""
    time = f"{formatting.duration(seconds)} a run (median)"
    return f"{', '.join(data)}; {'; '.join(figures)}; {time}{shows}"
