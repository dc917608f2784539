"""Two sweeps side by side: the verdicts of both, their arms, and in what they were set up apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

from cnnjax import files
from cnnjax.ablation import reading, statistics
from cnnjax.ablation.results import Arm, Study, plain
from cnnjax.ablation.verdicts import Finding, findings
from cnnjax.errors import UserError
from cnnjax.report import canvas, html, markdown, statements, words
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Document, Element, Figure, Paragraph, Section, Table

Pair = tuple[Arm, Arm]


def write(first: Path, second: Path, output: Path, *, final: bool = False) -> Path:
    """Writes the page to `output` (.html) and its text beside it (.md); returns `output`.

    Raises UserError where a folder holds no study, or the two have no arm in common.
    """
    split = "test" if final else "validation"
    studies = reading.load(first, split), reading.load(second, split)
    document = build(studies, (_name(first), _name(second)))
    figures = output.parent / f"{output.stem}_figures"
    for figure in document.figures:
        files.write_bytes(figures / f"{figure.name}.svg", figure.drawing.svg.encode())
    text = markdown.write(document, figures.name)
    files.write_bytes(output.with_suffix(".md"), text.encode())
    files.write_bytes(output, html.write(document).encode())
    return output


def build(studies: tuple[Study, Study], names: tuple[str, str]) -> Document:
    """The page as a document. Raises UserError where the studies have no arm in common."""
    one, other = studies
    known = {arm.name: arm for arm in other.arms}
    pairs = [(arm, known[arm.name]) for arm in one.arms if arm.name in known]
    if not pairs:
        raise UserError(f"--compare: {names[0]} and {names[1]} have no arm in common.")
    metric = words.metric(one)
    sections = [
        *_verdicts(studies, names),
        Section("Arms", tuple(_arms(pairs, one.metric, names, metric))),
        _setup(studies, pairs, names),
    ]
    subtitle = f"{words.count(len(pairs), 'arm')} in common, on the {one.split} split."
    title = f"{names[0]} and {names[1]} side by side"
    return Document("Two ablation studies", title, subtitle, tuple(sections))


def plot(pairs: Sequence[Pair], metric: str, names: tuple[str, str], title: str) -> Drawing:
    """The mean and 95% interval of every arm in both sweeps."""
    with matplotlib.rc_context(canvas.STYLE):
        figure = Canvas((canvas.WIDTH, 0.38 * len(pairs) + 0.95), layout="constrained")
        axes = figure.add_subplot()
        for study, (name, colour) in enumerate(
            zip(names, (canvas.ACCENT, canvas.ALARM), strict=True)
        ):
            shift = 0.3 * study - 0.15
            for row, pair in enumerate(pairs):
                sample = statistics.describe(list(pair[study].scores(metric).values()))
                if sample is None:
                    continue
                label = canvas.label(name, 30, 1) if row == 0 else None
                axes.plot([100 * sample.mean], [row + shift], "D", color=colour, ms=5, label=label)
                if sample.low is not None and sample.high is not None:
                    ends = [100 * sample.low, 100 * sample.high]
                    axes.plot(ends, [row + shift] * 2, color=colour, linewidth=1.6)
        axes.set_yticks(range(len(pairs)), [canvas.label(arm.name) for arm, _ in pairs])
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel(f"{title} (%)", loc="right")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return canvas.draw(figure)


def _name(workdir: Path) -> str:
    return workdir.resolve().name


def _verdicts(studies: tuple[Study, Study], names: tuple[str, str]) -> list[Section]:
    found = [{_key(finding): finding for finding in findings(study)} for study in studies]
    rows = []
    for key in dict.fromkeys([*found[0], *found[1]]):
        both = [own.get(key) for own in found]
        known = next(finding for finding in both if finding)
        cells = [part for finding in both for part in _found(finding)]
        verdict = {finding.verdict for finding in both if finding}
        same = "" if len(verdict) == 1 and None not in both else "differ"
        rows.append((statements.claim(known.claim), known.block, *cells, same))
    if not rows:
        return []
    head = ("Claim", "Block", names[0], "Difference", names[1], "Difference", "")
    caption = "The claims in both; differences with the intervals that go with the claim."
    return [Section("Verdicts", (Table(caption, head, tuple(rows), labels=len(head)),))]


def _key(finding: Finding) -> tuple[str, str]:
    return finding.claim.key, finding.block


def _found(finding: Finding | None) -> tuple[str, str]:
    if finding is None:
        return "not claimed", ""
    late = " (post hoc)" if finding.post_hoc else ""
    return finding.verdict + late, "; ".join(statements.differences(finding))


def _arms(pairs: Sequence[Pair], metric: str, names: tuple[str, str], title: str) -> list[Element]:
    rows = []
    for one, other in pairs:
        scores = one.scores(metric), other.scores(metric)
        means = [statistics.describe(list(own.values())) for own in scores]
        paired = statistics.compare(scores[1], scores[0], family=len(pairs))
        rows.append(
            (
                one.name,
                *(words.points(mean.mean if mean else None, signed=False) for mean in means),
                words.points(paired.mean if paired else None),
                words.interval(paired.low, paired.high) if paired else words.NONE,
                str(paired.n if paired else 0),
            )
        )
    head = ("Arm", f"{names[0]} (%)", f"{names[1]} (%)", "Difference", "Interval", "Pairs")
    note = (
        f"Difference: {names[1]} less {names[0]}, seed by seed over the seeds of both; all "
        "intervals hold together with 95 %. Diverged runs score chance. Seeds of equal number pair "
        "only what two sweeps share: the order of the data, the first weights of equal networks."
    )
    figure = Figure(
        "arms",
        plot(pairs, metric, names, title),
        "Dot plot of the mean of every arm in both sweeps; the figures are in the table.",
        "Means with 95 % intervals.",
    )
    return [
        Table(f"{title.capitalize()} in both.", head, tuple(rows)),
        Paragraph(note, kind="note"),
        figure,
    ]


def _setup(studies: tuple[Study, Study], pairs: Sequence[Pair], names: tuple[str, str]) -> Section:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for one, other in pairs:
        before, after = _flat(one.config), _flat(other.config)
        for path in dict.fromkeys([*before, *after]):
            values = plain(before.get(path)), plain(after.get(path))
            if values[0] != values[1]:
                rows.setdefault((path, *values), []).append(one.name)
    table = tuple(
        (
            path,
            before or "none",
            after or "none",
            _which(arms, pairs),
        )
        for (path, before, after), arms in rows.items()
    )
    elements: list[Element] = []
    if table:
        head = ("Field", names[0], names[1], "Arms")
        elements.append(Table("Fields that differ.", head, table, labels=4))
    else:
        elements.append(Paragraph("The arms in common have the same configuration in both."))
    apart = [_only(study, other) for study, other in (studies, studies[::-1])]
    for name, own in zip(names, apart, strict=True):
        if own:
            elements.append(Paragraph(f"{', '.join(own)}.", f"Only in {name}:"))
    return Section("What differs in the set-up", tuple(elements))


def _which(arms: Sequence[str], pairs: Sequence[Pair]) -> str:
    return "all" if len(arms) == len(pairs) else ", ".join(arms)


def _only(study: Study, other: Study) -> list[str]:
    known = {arm.name for arm in other.arms}
    return [arm.name for arm in study.arms if arm.name not in known]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        own = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if own else {prefix + name: value}
    return found
