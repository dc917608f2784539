"""Two sweeps side by side: verdicts, arms, and differences of the set-up."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

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
    document = build(studies, (first.resolve().name, second.resolve().name))
    figures = output.parent / f"{output.stem}_figures"
    for figure in document.figures:
        files.write_text(figures / f"{figure.name}.svg", figure.drawing.svg)
    text = markdown.write(document, figures.name)
    files.write_text(output.with_suffix(".md"), text)
    files.write_text(output, html.write(document))
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
    first, second = (arm.scores(study.primary, study.split) for arm in pair)
    seeds = sorted(first.keys() & second.keys())
    return {seed: first[seed] for seed in seeds}, {seed: second[seed] for seed in seeds}


def _label(pair: Pair) -> str:
    return " / ".join(dict.fromkeys(arm.name for arm in pair))


@canvas.styled
def plot(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> Drawing:
    """The mean and 95% interval, over the seeds of both, of every arm in both sweeps."""
    metric = study.primary
    labels = [canvas.label(_label(pair)) for pair in pairs]
    figure, axes = canvas.rows(labels, 0.38 * len(pairs) + 0.95, margin=0.5)
    for i, (name, colour) in enumerate(zip(names, (canvas.ACCENT, canvas.ALARM), strict=True)):
        shift = 0.3 * i - 0.15
        for row, pair in enumerate(pairs):
            scores = _shared(pair, study)[i]
            sample = statistics.describe(list(scores.values()), metric.ends)
            if sample is None:
                continue
            label = canvas.label(name, 30, 1) if row == 0 else None
            mean = metric.scale * sample.mean
            axes.plot([mean], [row + shift], "D", color=colour, ms=5, label=label)
            if sample.low is not None and sample.high is not None:
                ends = [metric.scale * sample.low, metric.scale * sample.high]
                axes.plot(ends, [row + shift] * 2, color=colour, linewidth=1.6)
    title = formatting.metric_and_split(study)
    axes.set_xlabel(formatting.with_unit(title, metric.unit), loc="right")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return canvas.draw(figure)


def _verdicts(
    studies: tuple[Study, Study], names: tuple[str, str], pairs: Sequence[Pair]
) -> list[Section]:
    """The claims of both; an arm of the second study has the name of its pair in the first."""
    renamed: Sequence[Mapping[str, str]] = ({}, {b.name: a.name for a, b in pairs})
    claims, by_key = [], []
    for study, names_in_first in zip(studies, renamed, strict=True):
        claims.append({_key(claim, names_in_first): claim for claim, _ in study.claims})
        by_key.append({(_key(f.claim, names_in_first), f.block): f for f in findings(study)})
    keys = dict.fromkeys([*by_key[0], *by_key[1]])
    tested = {key for key, _ in keys}
    keys |= {(key, ""): None for each in claims for key in each if key not in tested}
    rows = []
    for key, block in keys:
        both = [each.get((key, block)) for each in by_key]
        first, second = (_verdict_cells(f, key in c) for f, c in zip(both, claims, strict=True))
        verdicts = {finding.verdict for finding in both if finding}
        differ = "differ" if len(verdicts) > 1 else ""
        claim = claims[0].get(key) or claims[1][key]
        text = statements.claim_text(claim, studies[0].metrics)
        rows.append((text, block, *first, *second, differ))
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


def _arms(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> Iterator[Element]:
    metric = study.primary
    shared = [_shared(pair, study) for pair in pairs]
    compared = [pair for pair, scores in zip(pairs, shared, strict=True) if scores[0]]
    if not pairs:
        yield Paragraph("No arm of one has the name or the configuration of one of the other.")
        return
    rows = []
    for pair, scores in zip(pairs, shared, strict=True):
        means = [statistics.describe(list(by_seed.values())) for by_seed in scores]
        paired = statistics.compare(
            scores[1], scores[0], max(1, len(compared)), metric.difference_ends()
        )
        cells = [formatting.amount(metric, mean.mean if mean else None) for mean in means]
        cells.append(formatting.amount(metric, paired.mean if paired else None, signed=True))
        low, high = (paired.low, paired.high) if paired else (None, None)
        cells.append(formatting.interval(metric, low, high))
        rows.append((_label(pair), *cells, str(paired.n if paired else 0)))
    figures = (formatting.with_unit(name, metric.unit) for name in names)
    head = ("Arm", *figures, "Difference", "Interval", "Pairs")
    note = (
        f"Means and differences are over the seeds of both. Difference: {names[1]} less "
        f"{names[0]}, seed by seed; all intervals hold together with 95 %. Diverged runs score "
        "chance. Seeds of equal number pair only what two sweeps share: the order of the data, the "
        "first weights of equal networks."
    )
    yield from _seeds(pairs, study, names)
    title = formatting.capitalized(formatting.metric_and_split(study))
    yield Table(f"{title} in both.", head, tuple(rows))
    yield Paragraph(note, kind="note")
    if compared:
        yield Figure(
            "arms",
            plot(compared, study, names),
            "Dot plot of the mean of every arm in both sweeps; the figures are in the table.",
            "Means over the seeds of both, with 95 % intervals.",
        )


def _seeds(pairs: Sequence[Pair], study: Study, names: tuple[str, str]) -> Iterator[Element]:
    """Which seeds are compared, and those that only one of the two has."""
    metric = study.primary
    scores = [tuple(arm.scores(metric, study.split) for arm in pair) for pair in pairs]
    shared = {seed for one, other in scores for seed in one.keys() & other.keys()}
    yield Paragraph(f"{_numbers(shared)}.", "Seeds in both:")
    rows = []
    for pair, by_seed in zip(pairs, scores, strict=True):
        for i, name in enumerate(names):
            alone = by_seed[i].keys() - by_seed[1 - i].keys()
            if alone:
                mean = sum(by_seed[i][seed] for seed in alone) / len(alone)
                rows.append((pair[i].name, name, _numbers(alone), formatting.amount(metric, mean)))
    if rows:
        head = ("Arm", "Sweep", "Seeds", formatting.with_unit("Mean", metric.unit))
        caption = "Seeds that only one of the two has, which are not compared."
        yield Table(caption, head, tuple(rows), labels=3)


def _numbers(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds))) or "none"


def _setup(studies: tuple[Study, Study], pairs: Sequence[Pair], names: tuple[str, str]) -> Section:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for pair in pairs:
        configs = [flat_json(arm.config) for arm in pair]
        for path in dict.fromkeys(itertools.chain(*configs)):
            before, after = (as_text(config.get(path)) for config in configs)
            if before != after:
                rows.setdefault((path, before, after), []).append(_label(pair))
    table = []
    for (path, before, after), arms in rows.items():
        which = "all" if len(arms) == len(pairs) else ", ".join(arms)
        table.append((path, before or "none", after or "none", which))
    elements: list[Element] = []
    if table:
        head = ("Field", *names, "Arms")
        elements.append(Table("Fields that differ.", head, tuple(table), labels=4))
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
