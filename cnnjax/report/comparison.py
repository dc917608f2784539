"""Two sweeps side by side: verdicts, arms, and differences of the set-up."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Canvas

from cnnjax import files, fingerprint
from cnnjax.ablation import reading, statistics
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.results import Arm, Study, as_text
from cnnjax.ablation.verdicts import Finding, findings
from cnnjax.config import flat_json
from cnnjax.errors import UserError
from cnnjax.report import canvas, formatting, html, markdown, statements
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Document, Element, Figure, Paragraph, Section, Table

Pair = tuple[Arm, Arm]


def write(first: Path, second: Path, output: Path, *, final: bool = False) -> Path:
    """Writes the page to `output` (.html) and its text beside it (.md); returns `output`.

    Raises UserError if a folder holds no study.
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
    """The page as a document. Raises UserError for studies of different tasks."""
    first, second = studies
    if first.metrics != second.metrics:
        metrics = (", ".join(each.name for each in study.metrics) for study in studies)
        raise UserError(
            f"The studies are of different tasks, measured by {' and by '.join(metrics)}."
        )
    pairs = _pairs(first, second)
    sections = [
        *_verdicts(studies, names, pairs),
        Section("Arms", tuple(_arms(pairs, first, names))),
        _setup(studies, pairs, names),
    ]
    subtitle = f"{formatting.count(len(pairs), 'arm')} in common, on the {first.split} split."
    title = f"{names[0]} and {names[1]} side by side"
    return Document("Two ablation studies", title, subtitle, tuple(sections))


def _pairs(first: Study, second: Study) -> list[Pair]:
    """The arms that are in both: those with the same name, or else the same configuration."""
    by_name = {arm.name: arm for arm in second.arms}
    unmatched = [arm for arm in second.arms if arm.name not in {each.name for each in first.arms}]
    pairs = []
    for arm in first.arms:
        same_config = (each for each in unmatched if arm.config and each.config == arm.config)
        match = by_name.get(arm.name) or next(same_config, None)
        if match is not None:
            pairs.append((arm, match))
            unmatched = [each for each in unmatched if each is not match]
    return pairs


def _shared(pair: Pair, study: Study) -> tuple[dict[int, float], dict[int, float]]:
    """The primary metric of both arms by seed, over the seeds that both have."""
    metric, split = study.primary, study.split
    scores = pair[0].scores(metric, split), pair[1].scores(metric, split)
    seeds = sorted(scores[0].keys() & scores[1].keys())
    return {seed: scores[0][seed] for seed in seeds}, {seed: scores[1][seed] for seed in seeds}


def _label(pair: Pair) -> str:
    names = dict.fromkeys(arm.name for arm in pair)
    return " / ".join(names)


def plot(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> Drawing:
    """The mean and 95% interval, over the seeds of both, of every arm in both sweeps."""
    metric = study.primary
    with matplotlib.rc_context(canvas.STYLE):
        figure = Canvas((canvas.WIDTH, 0.38 * len(pairs) + 0.95), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, colour) in enumerate(zip(names, (canvas.ACCENT, canvas.ALARM), strict=True)):
            shift = 0.3 * i - 0.15
            for row, pair in enumerate(pairs):
                scores = list(_shared(pair, study)[i].values())
                sample = statistics.describe(scores, metric.ends)
                if sample is None:
                    continue
                label = canvas.label(name, 30, 1) if row == 0 else None
                mean = metric.scale * sample.mean
                axes.plot([mean], [row + shift], "D", color=colour, ms=5, label=label)
                if sample.low is not None and sample.high is not None:
                    ends = [metric.scale * sample.low, metric.scale * sample.high]
                    axes.plot(ends, [row + shift] * 2, color=colour, linewidth=1.6)
        axes.set_yticks(range(len(pairs)), [canvas.label(_label(pair)) for pair in pairs])
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        title = formatting.metric_and_split(study)
        axes.set_xlabel(formatting.with_unit(title, metric.unit), loc="right")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return canvas.draw(figure)


def _name(workdir: Path) -> str:
    return workdir.resolve().name


def _verdicts(
    studies: tuple[Study, Study], names: tuple[str, str], pairs: Sequence[Pair]
) -> list[Section]:
    """The claims of both; an arm of the second study has the name of its pair in the first."""
    renamed = {second.name: first.name for first, second in pairs}
    by_key: list[dict[tuple[str, str], Finding]] = [{}, {}]
    claims: list[dict[str, Claim]] = [{}, {}]
    for i, study in enumerate(studies):
        for claim, _ in study.claims:
            claims[i][_key(claim, renamed if i else {})] = claim
        for finding in findings(study):
            by_key[i][_key(finding.claim, renamed if i else {}), finding.block] = finding
    keys = dict.fromkeys([*by_key[0], *by_key[1]])
    tested = {key for key, _ in keys}
    keys |= {(key, ""): None for each in claims for key in each if key not in tested}
    rows = []
    for key, block in keys:
        both = [each.get((key, block)) for each in by_key]
        cells = [
            cell
            for finding, each in zip(both, claims, strict=True)
            for cell in _verdict_cells(finding, key in each)
        ]
        verdicts = {finding.verdict for finding in both if finding}
        differ = "differ" if len(verdicts) > 1 else ""
        claim = claims[0].get(key) or claims[1][key]
        rows.append((statements.claim_text(claim, studies[0].metrics), block, *cells, differ))
    if not rows:
        return []
    head = ("Claim", "Block", names[0], "Difference", names[1], "Difference", "")
    caption = (
        "The claims in both, each over all seeds of its own sweep; differences with the intervals "
        "that go with the claim. Not put to the test: the arms that it is about were not run."
    )
    return [Section("Verdicts", (Table(caption, head, tuple(rows), labels=len(head)),))]


def _key(claim: Claim, renamed: Mapping[str, str]) -> str:
    """The key of a claim with renamed arms."""
    sides = (renamed.get(side, side) if isinstance(side, str) else side for side in claim.sides)
    return dataclasses.replace(claim, sides=tuple(sides)).key


def _verdict_cells(finding: Finding | None, claimed: bool) -> tuple[str, str]:
    if finding is None:
        return "not put to the test" if claimed else "not claimed", ""
    late = " (post hoc)" if finding.post_hoc else ""
    return finding.verdict + late, "; ".join(statements.differences(finding))


def _arms(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> list[Element]:
    metric = study.primary
    shared = [_shared(pair, study) for pair in pairs]
    compared = [pair for pair, scores in zip(pairs, shared, strict=True) if scores[0]]
    if not pairs:
        return [Paragraph("No arm of one has the name or the configuration of one of the other.")]
    rows = []
    for pair, scores in zip(pairs, shared, strict=True):
        means = [statistics.describe(list(by_seed.values())) for by_seed in scores]
        paired = statistics.compare(
            scores[1], scores[0], max(1, len(compared)), metric.difference_ends()
        )
        rows.append(
            (
                _label(pair),
                *(formatting.amount(metric, mean.mean if mean else None) for mean in means),
                formatting.amount(metric, paired.mean if paired else None, signed=True),
                formatting.interval(metric, paired.low, paired.high) if paired else formatting.NONE,
                str(paired.n if paired else 0),
            )
        )
    figures = (formatting.with_unit(name, metric.unit) for name in names)
    head = ("Arm", *figures, "Difference", "Interval", "Pairs")
    note = (
        f"Means and differences are over the seeds of both. Difference: {names[1]} less "
        f"{names[0]}, seed by seed; all intervals hold together with 95 %. Diverged runs score "
        "chance. Seeds of equal number pair only what two sweeps share: the order of the data, the "
        "first weights of equal networks."
    )
    elements: list[Element] = [
        *_seeds(pairs, study, names),
        Table(f"{formatting.metric_and_split(study).capitalize()} in both.", head, tuple(rows)),
        Paragraph(note, kind="note"),
    ]
    if not compared:
        return elements
    figure = Figure(
        "arms",
        plot(compared, study, names),
        "Dot plot of the mean of every arm in both sweeps; the figures are in the table.",
        "Means over the seeds of both, with 95 % intervals.",
    )
    return [*elements, figure]


def _seeds(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> list[Element]:
    """Which seeds are compared, and those that only one of the two has."""
    metric = study.primary
    scores = [tuple(arm.scores(metric, study.split) for arm in pair) for pair in pairs]
    every = [one.keys() & other.keys() for one, other in scores]
    text = f"{_numbers(set.union(*map(set, every)))}."
    rows = []
    for pair, by_seed in zip(pairs, scores, strict=True):
        for i, name in enumerate(names):
            alone = by_seed[i].keys() - by_seed[1 - i].keys()
            if alone:
                mean = sum(by_seed[i][seed] for seed in alone) / len(alone)
                row = (pair[i].name, name, _numbers(alone), formatting.amount(metric, mean))
                rows.append(row)
    elements: list[Element] = [Paragraph(text, "Seeds in both:")]
    if rows:
        head = ("Arm", "Sweep", "Seeds", formatting.with_unit("Mean", metric.unit))
        caption = "Seeds that only one of the two has, which are not compared."
        elements.append(Table(caption, head, tuple(rows), labels=3))
    return elements


def _numbers(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds))) or "none"


def _setup(studies: tuple[Study, Study], pairs: Sequence[Pair], names: tuple[str, str]) -> Section:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for pair in pairs:
        before, after = flat_json(pair[0].config), flat_json(pair[1].config)
        for path in dict.fromkeys([*before, *after]):
            values = as_text(before.get(path)), as_text(after.get(path))
            if values[0] != values[1]:
                rows.setdefault((path, *values), []).append(_label(pair))
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
    elif pairs:
        elements.append(Paragraph("The arms in common have the same configuration in both."))
    if changed := fingerprint.changed(*(study.about.get("data", []) for study in studies)):
        elements.append(Paragraph(f"{changed}.", "The data are not the same.", "warning"))
    for i, (study, name) in enumerate(zip(studies, names, strict=True)):
        paired = {pair[i].name for pair in pairs}
        alone = [arm.name for arm in study.arms if arm.name not in paired]
        if alone:
            elements.append(Paragraph(f"{', '.join(alone)}.", f"Only in {name}:"))
    return Section("What differs in the set-up", tuple(elements))


def _which(arms: Sequence[str], pairs: Sequence[Pair]) -> str:
    return "all" if len(arms) == len(pairs) else ", ".join(arms)
