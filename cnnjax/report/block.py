"""The section of a block: its table, warnings and figures, and its summary in a few sentences."""

from collections.abc import Iterator

from cnnjax.ablation import results
from cnnjax.ablation.blocks import ArmResult, Block
from cnnjax.ablation.results import Study
from cnnjax.ablation.statistics import Paired
from cnnjax.metric import PERCENT, Metric
from cnnjax.report import formatting, plots, probes
from cnnjax.report.document import Element, Figure, Paragraph, Section, Table

_MOST_NAMED = 4
"""The number of runs without predictions that are named."""


def block_section(block: Block, index: int, study: Study, title: str) -> Section:
    """The section of a block, the `index`-th of the study."""
    elements: list[Element] = [_table(block, study), *_warnings(block, study.primary)]
    prefix = f"block-{index + 1}"
    elements += _figures(block, prefix, study)
    elements += probes.elements([arm.arm for arm in block.arms], study, prefix)
    return Section(title, tuple(elements), level=3)


_COMPARED = ("Difference", "Interval", "Finished only", "Other images", "Ahead", "p")
_MAY_BE_EMPTY = ("Diverged", "At chance", "Failed", "Finished only", "Other images")


def _table(block: Block, study: Study) -> Table:
    """One row for each arm; columns of `_MAY_BE_EMPTY` without a value are left out."""
    primary = study.primary
    rows = [_row(arm, primary) for arm in block.arms]
    units = {"Mean": primary.unit, "Difference": primary.difference_unit}
    empty = ("", "0", formatting.NONE)
    columns = [
        name
        for name in rows[0]
        if name not in _MAY_BE_EMPTY or any(row[name] not in empty for row in rows)
    ]
    cells = tuple(tuple(row[name] for name in columns) for row in rows)
    strong = (0,) if block.baseline else ()
    caption = f"{formatting.capitalized(formatting.metric_and_split(study))}, the baseline first."
    ahead = {} if primary.higher_is_better else {"Difference": "Ahead by"}
    head = (formatting.with_unit(ahead.get(name, name), units.get(name, "")) for name in columns)
    return Table(caption, tuple(head), cells, strong=strong)


def _row(arm: ArmResult, primary: Metric) -> dict[str, str]:
    sample, versus = arm.sample, arm.versus
    row = {
        "Arm": arm.arm.label,
        "Mean": formatting.amount(primary, sample.mean if sample else None),
        "sd": formatting.amount(primary, sample.sd if sample else None),
        "Seeds": str(sample.n if sample else 0),
        "Diverged": str(arm.arm.count("diverged")),
        "At chance": str(arm.at_chance),
        "Failed": str(arm.arm.count("failed") + arm.arm.count("unreadable")),
    }
    row |= dict.fromkeys(_COMPARED, "" if arm.arm.baseline else formatting.NONE)
    if arm.arm.baseline:
        return row | {"Difference": "baseline"}
    if versus is None:
        return row
    row |= {
        "Difference": formatting.amount(primary, versus.mean, signed=True),
        "Interval": formatting.interval(primary, versus.low, versus.high),
        "Ahead": formatting.ahead(versus.differences, str(versus.n)),
        "p": formatting.p_value(versus.p),
    }
    if arm.finished is not None:
        mean = formatting.amount(primary, arm.finished.mean, signed=True)
        row["Finished only"] = f"{mean} ({arm.finished.n})"
    other = arm.population and formatting.interval(primary, arm.population.low, arm.population.high)
    if other and other != row["Interval"]:
        row["Other images"] = other
    return row


def _figures(block: Block, prefix: str, study: Study) -> Iterator[Figure]:
    primary, measured = study.primary, formatting.metric_and_split(study)
    where = f" ({block.name})" if block.name else ""
    if any(arm.values for arm in block.arms):
        worse = "left" if primary.higher_is_better else "right"
        yield Figure(
            f"{prefix}-seeds",
            plots.seeds(block.arms, primary, study.split),
            f"Dot plot of {measured} for every seed of every arm{where}. "
            f"{block_summary(block, primary)}",
            "Every seed of every arm is a circle; faint lines join the same seed. Diamonds are "
            f"means, bars 95 % intervals. Triangles and numbers at the {worse} edge are values off "
            "the scale.",
        )
    if block.baseline and any(arm.versus for arm in block.arms):
        name = block.baseline.arm.label
        yield Figure(
            f"{prefix}-differences",
            plots.differences(block.arms, name, primary),
            f"Interval plot of the differences to {name}{where}; the figures are in the table.",
            f"Mean paired difference to {name}; all intervals hold together with 95 %; hollow "
            "where one includes zero, has no width, or cannot be given (one pair). Arms at the "
            "left edge are off the scale.",
        )
    if any(run.curve for arm in block.arms for run in arm.arm.runs):
        yield Figure(
            f"{prefix}-curves",
            plots.curves(block.arms, primary),
            f"Learning curves: validation {primary.title} against epoch for every arm{where}.",
            f"Validation {primary.title} during training. Line: mean over the finished seeds; "
            "band: smallest to largest seed; dashed: mean of the baseline; dotted with a cross: "
            "diverged runs.",
        )
    yield from _grid_figures(block, prefix, primary)


def _grid_figures(block: Block, prefix: str, primary: Metric) -> Iterator[Figure]:
    grid = block.grid
    if grid is None or not any(grid.cells.values()):
        return
    factors = f"{grid.row_factor} and {grid.column_factor}"
    mean = formatting.with_unit(f"Mean {primary.title}", primary.unit)
    yield Figure(
        f"{prefix}-grid",
        plots.heat_map(grid, primary),
        f"Heat map of the mean {primary.title} for every pair of levels of {factors}.",
        f"{mean} for every pair of levels of {factors}.",
        half=True,
    )
    yield Figure(
        f"{prefix}-interaction",
        plots.interaction(grid, primary),
        f"Interaction plot of {factors}: one line per level of {grid.row_factor}.",
        "The same means with 95 % intervals. Parallel lines: the factors add up; lines that "
        "are not parallel: the effect of one depends on the other.",
        half=True,
    )


def _warnings(block: Block, primary: Metric) -> Iterator[Paragraph]:
    """Warnings of arms with equal weights, runs with different settings, missing predictions,
    trainings that were too short, and intervals without width."""
    for names in _same_weights(block):
        text = (
            f"{formatting.join(names)} ended with the same weights in every seed: what they differ "
            "in has no effect on this network."
        )
        yield Paragraph(text, "The same network.", "warning")
    runs = [run for arm in block.arms for run in arm.arm.runs]
    differences = [results.data_differences(runs), *results.setting_differences(runs)]
    if text := " ".join(filter(None, differences)):
        yield Paragraph(text, "Not the same for all runs.", "warning")
    if text := _lost_predictions(block):
        yield Paragraph(text, "Predictions are lost.", "warning")
    if text := _still_improving(block, primary):
        yield Paragraph(text, "Not at the end of the road.", "warning")
    equal = [arm.arm.label for arm in block.arms if arm.versus and arm.versus.sd == 0]
    if equal:
        text = (
            f"All differences are equal for {formatting.join(equal)}: an interval without width "
            "says that no seed tells otherwise, not that there is no doubt."
        )
        yield Paragraph(text, kind="note")


def _same_weights(block: Block) -> list[list[str]]:
    """Groups of arms with the same final weights in every seed."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for result in block.arms:
        digests = tuple((run.seed, run.result.params_digest) for run in result.arm.runs)
        if digests and all(digest for _, digest in digests):
            groups.setdefault(digests, []).append(result.arm.label)
    return [names for names in groups.values() if len(names) > 1]


def _lost_predictions(block: Block) -> str:
    if not block.without_predictions:
        return ""
    named = list(block.without_predictions[:_MOST_NAMED])
    others = len(block.without_predictions) - len(named)
    named += [formatting.count(others, "other run")] if others else []
    return (
        f"Those of {formatting.join(named)} are missing or damaged, so that differences from these "
        "runs are not given for other images. The sweep's command evaluates runs again that have a "
        "checkpoint; of damaged predictions the file has to be removed first."
    )


def _still_improving(block: Block, primary: Metric) -> str:
    rising = [arm.arm.label for arm in block.arms if arm.improving]
    if not rising:
        return ""
    rose = "rose by half a point" if primary.unit == PERCENT else "got better by 0.5 %"
    return (
        f"{formatting.join(rising)}: validation {primary.title} still {rose} or more in "
        "the last quarter of training; a longer training may change the order."
    )


_STATUS_TITLES = {
    "diverged": "Diverged",
    "failed": "Failed",
    "unreadable": "Result unreadable",
    "unfinished": "Not finished",
    "missing": "Not run yet",
}


def block_summary(block: Block, primary: Metric) -> str:
    """The results of a block in a few sentences."""
    baseline = block.baseline
    name = baseline.arm.label if baseline else "none"
    text = []
    if baseline is None:
        text.append("The baseline is not part of this study, so there are no differences.")
    elif baseline.sample is None:
        text.append(f"Baseline {name}: no finished run yet, so there are no differences.")
    else:
        seeds = formatting.count(baseline.sample.n, "seed")
        mean = formatting.value_with_unit(primary, baseline.sample.mean)
        text.append(f"Baseline {name}: {mean} ({seeds}).")
    compared = [(arm, arm.versus) for arm in block.arms if arm.versus]
    if compared:
        text += _best_and_worst(compared, primary)
    elif not baseline or baseline.sample is None:
        text.append(_best_mean(block, primary))
    return " ".join([*text, *_runs_without_figures(block)])


def _best_and_worst(compared: list[tuple[ArmResult, Paired]], primary: Metric) -> Iterator[str]:
    best = max(compared, key=lambda item: item[1].mean)
    worst = min(compared, key=lambda item: item[1].mean)
    if best[1].mean > 0:
        yield "Largest gain: " + _distance(*best, primary)
    else:
        yield f"No arm is {_side(1, primary)} the baseline."
    if worst[1].mean < 0 and worst[0] is not best[0]:
        yield "Largest loss: " + _distance(*worst, primary)
    elif worst[1].mean < 0:
        yield "The nearest: " + _distance(*best, primary)
    separate = sum(versus.separate for _, versus in compared)
    if len(compared) > 1:
        yield f"The interval excludes zero for {separate} of {len(compared)} arms compared."


def _side(ahead: float, primary: Metric) -> str:
    """The side of the baseline on which a value lies that is ahead by a signed amount."""
    return "above" if ahead * primary.sign > 0 else "below"


def _distance(arm: ArmResult, versus: Paired, primary: Metric) -> str:
    pairs = formatting.count(versus.n, "pair")
    distance = f"{formatting.amount(primary, abs(versus.mean))} {primary.difference_unit}".rstrip()
    opening = f"{arm.arm.label} is {distance} {_side(versus.mean, primary)} the baseline"
    if versus.low is None or versus.high is None:
        return f"{opening} ({pairs}: no interval)."
    doubt = "" if versus.separate else "; the interval does not settle the sign"
    if versus.low == versus.high:
        doubt = "; all differences are equal, so the interval has no width"
    ends = sorted((primary.sign * versus.low, primary.sign * versus.high))
    return f"{opening} {formatting.interval(primary, *ends)}, {pairs}{doubt}."


def _best_mean(block: Block, primary: Metric) -> str:
    means = [(primary.sign * arm.sample.mean, arm.arm.label) for arm in block.arms if arm.sample]
    if not means:
        return "No run has finished."
    best, label = max(means)
    mean = formatting.value_with_unit(primary, primary.sign * best)
    return f"Best mean so far: {label}, {mean}."


def _runs_without_figures(block: Block) -> Iterator[str]:
    for status, title in _STATUS_TITLES.items():
        counts = [(arm.arm.label, arm.arm.count(status)) for arm in block.arms]
        named = [f"{label} {number}" for label, number in counts if number]
        if named:
            total = formatting.count(sum(number for _, number in counts), "run")
            yield f"{title}: {total} ({', '.join(named)})."
