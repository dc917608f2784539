"""Result files -> report.html, report.md, results.csv, signals.csv, tables.tex, figures/*. No jax.

The report depends on the result files alone: written twice, it is the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnjax import files
from cnnjax.ablation import reading, tables
from cnnjax.ablation.blocks import Block, compare
from cnnjax.ablation.results import Study
from cnnjax.ablation.study import FINAL
from cnnjax.ablation.verdicts import Finding, findings
from cnnjax.metric import ACCURACY
from cnnjax.report import (
    appendix,
    final_report,
    formatting,
    html,
    latex,
    markdown,
    pictures,
    tuning,
    verdicts,
)
from cnnjax.report.block import block_section, block_summary
from cnnjax.report.document import Document, Element, Paragraph, Section

OPENING = "Ablation study · "


@dataclass(frozen=True)
class Written:
    """A report: the path of report.html, and lines for the terminal."""

    page: Path
    lines: tuple[str, ...]


def write(workdir: str | Path, *, final: bool = False) -> Written:
    """Writes the report of a workdir, each file atomically: on the validation split, or, with
    `final`, on the test split in the folder `final`. The latter is for the end of a study; the
    caller counts the look (`cnnjax.ablation.study.count_look`). Writing the report on the
    validation split also updates the notice, in both, that the final report lacks runs.

    Raises UserError if `workdir` holds no study or cannot be written to.
    """
    workdir = Path(workdir)
    study = reading.load(workdir, "test" if final else "validation")
    results = findings(study)
    for name in ("figures", FINAL):
        files.refuse_links(workdir / name, below=workdir)
    notice = "" if final else final_report.outdated(study)
    page = render(study, results, workdir / FINAL if final else workdir, notice)
    if not final:
        final_report.set_notice(workdir, notice)
    return Written(page, (*verdicts.lines(study, results), *([notice] if notice else [])))


def render(
    study: Study, results: Sequence[Finding], folder: Path, notice: str | None = None
) -> Path:
    """Writes the report of a study to a folder; returns the path of report.html."""
    document = build(study, results, notice)
    for figure in document.figures:
        files.write_text(folder / "figures" / f"{figure.name}.svg", figure.drawing.svg)
        if figure.drawing.png:
            files.write_bytes(folder / "figures" / f"{figure.name}.png", figure.drawing.png)
    files.write_text(folder / "results.csv", tables.results_csv(study))
    if any(run.result.signals for run in study.runs):
        files.write_text(folder / "signals.csv", tables.signals_csv(study))
    files.write_text(folder / "report.md", markdown.write(document))
    files.write_text(folder / "tables.tex", latex.write(document))
    files.write_text(folder / "report.html", html.write(document))
    return folder / "report.html"


def build(study: Study, results: Sequence[Finding], notice: str | None) -> Document:
    """The report of a study as a document: verdicts first, then the results they are based on."""
    blocks = compare(study)
    experiment = study.experiment
    name = str(experiment.get("name") or "experiment")
    seeds = len({run.seed for run in study.runs})
    finished = sum(run.status == "finished" for run in study.runs)
    subtitle = (
        f"{formatting.count(len(study.arms), 'arm')}, {formatting.count(seeds, 'seed')}, "
        f"{finished} of {formatting.count(len(study.runs), 'run')} finished. "
        f"Started {study.about['created'][:10] or 'at an unknown date'}."
    )
    sections = verdicts.sections(study, results)
    sections += [_summary(blocks, study), Section("Results", _reading(study))]
    for index, block in enumerate(blocks):
        heading = "All arms" if len(blocks) == 1 else _title(block)
        sections.append(block_section(block, index, study, heading))
        if shown := pictures.section(block, index, study):
            sections.append(shown)
    sections += tuning.sections(study)
    sections += [verdicts.guide(study.primary)] if results else []
    sections += appendix.sections(study, blocks)
    title = str(experiment.get("question") or name)
    return Document(f"{OPENING}{name}", title, subtitle, tuple(sections), notice)


def _summary(blocks: list[Block], study: Study) -> Section:
    named = len(blocks) > 1
    paragraphs = (
        Paragraph(block_summary(block, study.primary), f"{_title(block)}." if named else "")
        for block in blocks
    )
    return Section("Summary", tuple(paragraphs))


def _reading(study: Study) -> tuple[Element, ...]:
    """How to read the tables: the metric, and the meaning of the columns."""
    sizes = sorted({size for run in study.runs if (size := run.examples(study.split))})
    examples = f" ({' or '.join(str(size) for size in sizes)} examples)" if sizes else ""
    text = (
        f"Measured: {study.primary.title} on the {study.split} split{examples}, with the weights "
        "at the end of training, not the best ones on the way. All arms of a block share their "
        "seeds, so an arm is set against its block's baseline seed by seed; differences never "
        "cross blocks."
    )
    constant = "guessing the most frequent class"
    if study.primary != ACCURACY:
        constant = "the best prediction that is the same for all examples"
    largest = study.primary.scale * study.primary.difference_ends()[1]
    unit = study.primary.difference_unit
    bound = f", and no further than {largest:g} {unit}" if math.isfinite(largest) else ""
    note = (
        f"sd: standard deviation over seeds (n − 1). A diverged run scores chance ({constant}); "
        "'finished only' leaves the pairs out in which a run diverged. "
        "Intervals of differences: Student's t on the paired differences, wide enough that all of "
        f"a block's hold together with 95 % (Bonferroni){bound}; they are about these images, "
        "'other images' about the population of images and seeds (one "
        "difference at a time; left out where it is the same). Ahead: in how many seeds. p: "
        "two-sided exact paired permutation test, not corrected (its smallest value is "
        "2^(1 − pairs), so fewer than 6 pairs cannot reach 5 %)."
    )
    return Paragraph(text), Paragraph(note, kind="note")


def _title(block: Block) -> str:
    return block.name or "Without a block"
