"""Result files -> report.html, report.md, results.csv and figures/*.svg. No jax.

The report depends on the result files alone: written twice, it is the same bytes.
"""

from pathlib import Path

from cnnjax import files
from cnnjax.ablation import compare, results
from cnnjax.ablation.compare import ArmResult, Block
from cnnjax.ablation.results import Study
from cnnjax.report import appendix, crossed, html, markdown, plots, words
from cnnjax.report.document import Document, Element, Figure, Paragraph, Section, Table


def write(workdir: str | Path) -> Path:
    """Rebuild the report of a workdir, each file atomically; returns the path of report.html.

    Raises UserError where `workdir` holds no study or cannot be written to.
    """
    workdir = Path(workdir)
    study = results.load(workdir)
    document = build(study)
    for figure in document.figures:
        _write(workdir / "figures" / f"{figure.name}.svg", figure.svg)
    _write(workdir / "results.csv", results.to_csv(study))
    _write(workdir / "report.md", markdown.write(document))
    _write(workdir / "report.html", html.write(document))
    return workdir / "report.html"


def build(study: Study) -> Document:
    """The report of a study as a document."""
    blocks = compare.blocks(study)
    experiment = study.experiment
    name = str(experiment.get("name") or "experiment")
    seeds = len({run.seed for run in study.runs})
    finished = sum(run.status == "finished" for run in study.runs)
    subtitle = (
        f"{words.count(len(study.arms), 'arm')}, {words.count(seeds, 'seed')}, "
        f"{finished} of {words.count(len(study.runs), 'run')} finished. "
        f"Started {str(study.about.get('created') or 'at an unknown date')[:10]}."
    )
    sections = [_summary(blocks), Section("Results", _reading(study))]
    for index, block in enumerate(blocks):
        sections.append(_block(block, index, study, single=len(blocks) == 1))
    sections += appendix.sections(study, blocks)
    title = str(experiment.get("question") or name)
    return Document(f"Ablation study · {name}", title, subtitle, tuple(sections))


def _summary(blocks: list[Block]) -> Section:
    paragraphs = tuple(
        Paragraph(words.summary(block), f"{_title(block)}." if len(blocks) > 1 else "")
        for block in blocks
    )
    return Section("Summary", paragraphs)


def _reading(study: Study) -> tuple[Element, ...]:
    """How to read the tables: what was measured, and what the columns mean."""
    split = study.metric.partition("_")[0]
    sizes = sorted(
        {
            size
            for run in study.runs
            if (size := run.test_examples if split == "test" else run.validation_examples)
        }
    )
    examples = f" ({' or '.join(str(size) for size in sizes)} examples)" if sizes else ""
    text = (
        f"Measured: accuracy on the {split} split{examples}, with the weights at the end of "
        "training, not the best ones on the way. All arms of a block share their seeds, so an arm "
        "is set against its block's baseline seed by seed; differences never cross blocks."
    )
    note = (
        "sd: standard deviation over seeds (n − 1). Intervals: 95 %, Student's t, of the mean "
        "over seeds or of the paired differences. p: two-sided paired sign-flip permutation test "
        "(exact up to 20 pairs; its smallest value is 2^(1 − pairs), so fewer than 6 pairs cannot "
        "reach 5 %). Intervals and p are each arm's own, not corrected for the number of arms. "
        "Diverged and failed runs are counted and left out of the means: an arm that loses its "
        "worst runs this way looks better than it is."
    )
    return Paragraph(text), Paragraph(note, kind="note")


def _title(block: Block) -> str:
    return block.name or "Without a block"


def _block(block: Block, index: int, study: Study, single: bool) -> Section:
    title = "All arms" if single else _title(block)
    elements: list[Element] = [_table(block, words.metric(study))]
    equal = [arm.arm.label for arm in block.arms if arm.versus and arm.versus.sd == 0]
    if equal:
        text = (
            f"All differences are equal for {words.listing(equal)}: an interval without width "
            "says that the seeds cannot tell, not that there is no doubt."
        )
        elements.append(Paragraph(text, kind="note"))
    elements += _figures(block, f"block-{index + 1}", words.metric(study))
    return Section(title, tuple(elements), level=3)


def _table(block: Block, metric: str) -> Table:
    head = (
        "Arm",
        "Mean (%)",
        "sd",
        "Seeds",
        "Diverged",
        "Failed",
        "Difference (points)",
        "95 % interval",
        "Pairs",
        "p",
    )
    rows = tuple(_row(arm) for arm in block.arms)
    strong = (0,) if block.baseline else ()
    return Table(f"{metric.capitalize()}, the baseline first.", head, rows, strong=strong)


def _row(arm: ArmResult) -> tuple[str, ...]:
    sample, versus = arm.sample, arm.versus
    broken = arm.arm.count("failed") + arm.arm.count("unreadable")
    cells = (
        arm.arm.label,
        words.points(sample.mean if sample else None, signed=False),
        words.points(sample.sd if sample else None, signed=False),
        str(sample.n if sample else 0),
        str(arm.arm.count("diverged")),
        str(broken),
    )
    if arm.arm.baseline:
        return (*cells, "baseline", "", "", "")
    if versus is None:
        return (*cells, words.NONE, words.NONE, "0", words.NONE)
    return (
        *cells,
        words.points(versus.mean),
        words.interval(versus.low, versus.high),
        str(versus.n),
        words.p_value(versus.p),
    )


def _figures(block: Block, prefix: str, metric: str) -> list[Figure]:
    where = f" ({block.name})" if block.name else ""
    figures = []
    if any(arm.values for arm in block.arms):
        figures.append(
            Figure(
                f"{prefix}-seeds",
                plots.seeds(block.arms, metric),
                f"Dot plot of {metric} for every seed of every arm{where}. {words.summary(block)}",
                "Every seed of every arm is a circle; faint lines join the same seed. Diamonds are "
                "means, bars 95 % intervals. Triangles and numbers at the left edge are values "
                "off the scale.",
            )
        )
    if block.baseline and any(arm.versus for arm in block.arms):
        name = block.baseline.arm.label
        figures.append(
            Figure(
                f"{prefix}-differences",
                plots.differences(block.arms, name),
                f"Interval plot of the differences to {name}{where}; the figures are in the table.",
                f"Mean paired difference to {name} with its 95 % interval; hollow where the "
                "interval includes zero, has no width, or cannot be given (one pair). Arms at "
                "the left edge are off the scale.",
            )
        )
    if any(run.curve for arm in block.arms for run in arm.arm.runs):
        figures.append(
            Figure(
                f"{prefix}-curves",
                plots.curves(block.arms),
                f"Learning curves: validation accuracy against epoch for every arm{where}.",
                "Validation accuracy during training. Line: mean over the finished seeds; band: "
                "smallest to largest seed; dashed: mean of the baseline; dotted with a cross: "
                "diverged runs.",
            )
        )
    return figures + _grid_figures(block, prefix)


def _grid_figures(block: Block, prefix: str) -> list[Figure]:
    grid = block.grid
    if grid is None or not any(grid.cells.values()):
        return []
    factors = f"{grid.row_factor} and {grid.column_factor}"
    return [
        Figure(
            f"{prefix}-grid",
            crossed.heat_map(grid),
            f"Heat map of the mean accuracy for every pair of levels of {factors}.",
            f"Mean accuracy (%) for every pair of levels of {factors}.",
            half=True,
        ),
        Figure(
            f"{prefix}-interaction",
            crossed.interaction(grid),
            f"Interaction plot of {factors}: one line per level of {grid.row_factor}.",
            "The same means with 95 % intervals. Parallel lines: the factors add up; lines that "
            "are not parallel: the effect of one depends on the other.",
            half=True,
        ),
    ]


def _write(path: Path, text: str) -> None:
    files.write_bytes(path, text.encode("utf-8", errors="backslashreplace"))
