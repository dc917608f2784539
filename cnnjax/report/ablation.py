"""Result files -> report.html, report.md, results.csv, signals.csv, tables.tex, figures/*. No jax.

The report depends on the result files alone: written twice, it is the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnjax import files
from cnnjax.ablation import compare, reading, results, signals
from cnnjax.ablation.compare import ArmResult, Block
from cnnjax.ablation.results import Study
from cnnjax.ablation.study import FINAL
from cnnjax.ablation.verdicts import Finding, findings
from cnnjax.metric import ACCURACY, Metric
from cnnjax.report import (
    appendix,
    crossed,
    guide,
    html,
    latex,
    markdown,
    plots,
    probes,
    tuning,
    verdicts,
    warnings,
    words,
)
from cnnjax.report import final as final_report
from cnnjax.report.document import Document, Element, Figure, Paragraph, Section, Table

OPENING = "Ablation study · "


@dataclass(frozen=True)
class Written:
    """A report: the path of report.html, and lines for the terminal."""

    page: Path
    lines: tuple[str, ...]


def write(workdir: str | Path, *, final: bool = False) -> Written:
    """Writes the report of a workdir, each file atomically: that on the validation split, or with
    `final`, in a folder of its own, that on the test split, which is for the end of a study: the
    caller counts the look (`cnnjax.ablation.study.look`). Neither replaces the other; that on the
    validation split says where the final one is not of all runs, there too.

    Raises UserError where `workdir` holds no study or cannot be written to.
    """
    workdir = Path(workdir)
    study = reading.load(workdir, "test" if final else "validation")
    found = findings(study)
    for name in ("figures", FINAL):
        files.refuse_links(workdir / name, below=workdir)
    notice = "" if final else final_report.behind(study)
    page = render(study, found, workdir / FINAL if final else workdir, notice)
    if not final:
        final_report.mark(workdir, notice)
    return Written(page, (*verdicts.lines(study, found), *([notice] if notice else [])))


def render(study: Study, found: Sequence[Finding], folder: Path, notice: str | None = None) -> Path:
    """Writes the report of a study to a folder; returns the path of report.html."""
    document = build(study, found, notice)
    for figure in document.figures:
        _write(folder / "figures" / f"{figure.name}.svg", figure.drawing.svg)
        files.write_bytes(folder / "figures" / f"{figure.name}.png", figure.drawing.png)
    _write(folder / "results.csv", results.to_csv(study))
    if any(run.result.signals for run in study.runs):
        _write(folder / "signals.csv", signals.to_csv(study))
    _write(folder / "report.md", markdown.write(document))
    _write(folder / "tables.tex", latex.write(document))
    _write(folder / "report.html", html.write(document))
    return folder / "report.html"


def build(study: Study, found: Sequence[Finding], notice: str | None = None) -> Document:
    """The report of a study as a document: verdicts first, then what they rest on."""
    blocks = compare.blocks(study)
    experiment = study.experiment
    name = str(experiment.get("name") or "experiment")
    seeds = len({run.seed for run in study.runs})
    finished = sum(run.status == "finished" for run in study.runs)
    subtitle = (
        f"{words.count(len(study.arms), 'arm')}, {words.count(seeds, 'seed')}, "
        f"{finished} of {words.count(len(study.runs), 'run')} finished. "
        f"Started {study.about['created'][:10] or 'at an unknown date'}."
    )
    sections = verdicts.sections(study, found)
    sections += [_summary(blocks, study), Section("Results", _reading(study))]
    for index, block in enumerate(blocks):
        sections.append(_block(block, index, study, single=len(blocks) == 1))
    sections += tuning.sections(study)
    sections += [guide.section(study.primary)] if found else []
    sections += appendix.sections(study, blocks)
    title = str(experiment.get("question") or name)
    return Document(f"{OPENING}{name}", title, subtitle, tuple(sections), notice)


def _summary(blocks: list[Block], study: Study) -> Section:
    named = len(blocks) > 1
    paragraphs = (
        Paragraph(words.summary(block, study.primary), f"{_title(block)}." if named else "")
        for block in blocks
    )
    return Section("Summary", tuple(paragraphs))


def _reading(study: Study) -> tuple[Element, ...]:
    """How to read the tables: what was measured, and what the columns mean."""
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
    largest = study.primary.scale * study.primary.ends_of_differences()[1]
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


def _block(block: Block, index: int, study: Study, single: bool) -> Section:
    title = "All arms" if single else _title(block)
    elements: list[Element] = [_table(block, study), *warnings.of(block, study.primary)]
    prefix = f"block-{index + 1}"
    elements += _figures(block, prefix, study)
    elements += probes.elements([arm.arm for arm in block.arms], study, prefix)
    return Section(title, tuple(elements), level=3)


_COLUMNS = (
    "Mean",
    "sd",
    "Seeds",
    "Diverged",
    "At chance",
    "Failed",
    "Difference",
    "Interval",
    "Finished only",
    "Other images",
    "Ahead",
    "p",
)
_MAY_BE_EMPTY = ("Diverged", "At chance", "Failed", "Finished only", "Other images")


def _table(block: Block, study: Study) -> Table:
    """One row an arm; columns about what did not happen are left out."""
    primary = study.primary
    rows = [_row(arm, primary) for arm in block.arms]
    units = {"Mean": primary.unit, "Difference": primary.difference_unit}
    kept = [
        name
        for name in _COLUMNS
        if name not in _MAY_BE_EMPTY or any(row[name] not in ("", "0", words.NONE) for row in rows)
    ]
    cells = tuple(
        (arm.arm.label, *(row[name] for name in kept))
        for arm, row in zip(block.arms, rows, strict=True)
    )
    strong = (0,) if block.baseline else ()
    caption = f"{words.measured(study).capitalize()}, the baseline first."
    ahead = {} if primary.higher_is_better else {"Difference": "Ahead by"}
    head = ("Arm", *(words.headed(ahead.get(n, n), units.get(n, "")) for n in kept))
    return Table(caption, head, cells, strong=strong)


def _row(arm: ArmResult, primary: Metric) -> dict[str, str]:
    sample, versus = arm.sample, arm.versus
    row = dict.fromkeys(_COLUMNS, "" if arm.arm.baseline else words.NONE) | {
        "Mean": words.amount(primary, sample.mean if sample else None),
        "sd": words.amount(primary, sample.sd if sample else None),
        "Seeds": str(sample.n if sample else 0),
        "Diverged": str(arm.arm.count("diverged")),
        "At chance": str(arm.at_chance),
        "Failed": str(arm.arm.count("failed") + arm.arm.count("unreadable")),
    }
    if arm.arm.baseline:
        return row | {"Difference": "baseline"}
    if versus is None:
        return row
    row |= {
        "Difference": words.amount(primary, versus.mean, signed=True),
        "Interval": words.interval(primary, versus.low, versus.high),
        "Ahead": words.ahead(versus.differences, str(versus.n)),
        "p": words.p_value(versus.p),
    }
    if arm.finished is not None:
        mean = words.amount(primary, arm.finished.mean, signed=True)
        row["Finished only"] = f"{mean} ({arm.finished.n})"
    other = arm.population and words.interval(primary, arm.population.low, arm.population.high)
    if other and other != row["Interval"]:
        row["Other images"] = other
    return row


def _figures(block: Block, prefix: str, study: Study) -> list[Figure]:
    primary, measured = study.primary, words.measured(study)
    where = f" ({block.name})" if block.name else ""
    figures = []
    if any(arm.values for arm in block.arms):
        figures.append(
            Figure(
                f"{prefix}-seeds",
                plots.seeds(block.arms, primary, study.split),
                f"Dot plot of {measured} for every seed of every arm{where}. "
                f"{words.summary(block, primary)}",
                "Every seed of every arm is a circle; faint lines join the same seed. Diamonds are "
                "means, bars 95 % intervals. Triangles and numbers at "
                f"{'the left' if primary.higher_is_better else 'the right'} edge are values off "
                "the scale.",
            )
        )
    if block.baseline and any(arm.versus for arm in block.arms):
        name = block.baseline.arm.label
        figures.append(
            Figure(
                f"{prefix}-differences",
                plots.differences(block.arms, name, primary),
                f"Interval plot of the differences to {name}{where}; the figures are in the table.",
                f"Mean paired difference to {name}; all intervals hold together with 95 %; hollow "
                "where one includes zero, has no width, or cannot be given (one pair). Arms at "
                "the left edge are off the scale.",
            )
        )
    if any(run.curve for arm in block.arms for run in arm.arm.runs):
        figures.append(
            Figure(
                f"{prefix}-curves",
                plots.curves(block.arms, primary),
                f"Learning curves: validation {primary.title} against epoch for every arm{where}.",
                f"Validation {primary.title} during training. Line: mean over the finished seeds; "
                "band: smallest to largest seed; dashed: mean of the baseline; dotted with a "
                "cross: diverged runs.",
            )
        )
    return figures + _grid_figures(block, prefix, primary)


def _grid_figures(block: Block, prefix: str, primary: Metric) -> list[Figure]:
    grid = block.grid
    if grid is None or not any(grid.cells.values()):
        return []
    factors = f"{grid.row_factor} and {grid.column_factor}"
    return [
        Figure(
            f"{prefix}-grid",
            crossed.heat_map(grid, primary),
            f"Heat map of the mean {primary.title} for every pair of levels of {factors}.",
            f"{words.headed(f'Mean {primary.title}', primary.unit)} for every pair of levels of "
            f"{factors}.",
            half=True,
        ),
        Figure(
            f"{prefix}-interaction",
            crossed.interaction(grid, primary),
            f"Interaction plot of {factors}: one line per level of {grid.row_factor}.",
            "The same means with 95 % intervals. Parallel lines: the factors add up; lines that "
            "are not parallel: the effect of one depends on the other.",
            half=True,
        ),
    ]


def _write(path: Path, text: str) -> None:
    files.write_bytes(path, text.encode("utf-8", errors="backslashreplace"))
