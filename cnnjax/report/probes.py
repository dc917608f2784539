"""The results of probes in the runs of a block: tables and plots."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from cnnjax.ablation import statistics
from cnnjax.ablation.results import Arm, Study
from cnnjax.metric import SIGNALS, measure_metric
from cnnjax.report import canvas, formatting
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Element, Figure, Paragraph, Table

DRAWN = ("gradient", "sd", "dead", "twins")
_LOGARITHMIC = ("gradient", "sd")
_MOST_NAMES = 16
"""The largest number of layers that are named below a panel."""


def elements(arms: Sequence[Arm], study: Study, prefix: str) -> list[Element]:
    """Measures and signals of the arms of a block; empty if there are none."""
    measured = list(_elements(arms, study, prefix))
    return [Paragraph("What probes measured besides.", kind="note"), *measured] if measured else []


def _elements(arms: Sequence[Arm], study: Study, prefix: str) -> Iterator[Element]:
    names = _measures(arms, study.split)
    if names:
        yield _table(arms, study.split, names)
    for series, steps in _series(names).items():
        yield Figure(
            f"{prefix}-{series}",
            lines(arms, study, series, steps),
            f"Line plot of {series} for every arm; the figures are in the table.",
            f"{series} by its number, a line for each arm; 0 is the {study.primary.title} itself. "
            "Bars: 95 % intervals of the means.",
        )
    for name in DRAWN:
        if any(arm.layers(name) for arm in arms):
            title = SIGNALS[name].title.capitalize()
            yield Figure(
                f"{prefix}-signal-{name}",
                signal(arms, name),
                f"{title} by layer before and after training, a panel for each arm.",
                f"{title} by layer, from the image on: before the first step (grey, "
                "dashed) and at the end (blue). Networks of different layers are drawn by depth, "
                "the first layer at 0 and the last at 1. Mean over seeds; layers without a value "
                "are left out of a logarithmic scale. The numbers are in signals.csv.",
            )


@canvas.styled
def lines(arms: Sequence[Arm], study: Study, series: str, steps: Sequence[int]) -> Drawing:
    """A numbered measure (`shift_1`, `shift_2` ...) against its number."""
    figure = Canvas((canvas.WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    scale = study.primary.scale
    for index, arm in enumerate(arms):
        style = canvas.line_style(index)
        metrics = [study.primary, *(measure_metric(f"{series}_{step}") for step in steps)]
        samples = [
            statistics.describe(list(arm.scores(metric, study.split).values()), metric.ends)
            for metric in metrics
        ]
        points = [(x, s) for x, s in zip([0, *steps], samples, strict=True) if s]
        axes.plot(
            [x for x, _ in points],
            [scale * sample.mean for _, sample in points],
            marker="o",
            markersize=3.5,
            label=canvas.label(arm.label, 30, 1),
            **style,
        )
        for x, sample in points:
            if sample.low is not None and sample.high is not None:
                ends = [scale * sample.low, scale * sample.high]
                axes.plot([x, x], ends, color=style["color"])
    axes.set_xlabel(series, loc="right")
    axes.set_ylabel(formatting.with_unit(study.primary.title, study.primary.unit))
    axes.grid(axis="y")
    axes.tick_params(labelcolor=canvas.MUTED)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return canvas.draw(figure)


@canvas.styled
def signal(arms: Sequence[Arm], name: str) -> Drawing:
    """A signal of every layer before and after training: a panel for each arm, the layers in the
    order of its network. If the networks differ, the axis is the relative depth."""
    networks = {arm.name: arm.layers(name) for arm in arms}
    layers = _shared(networks.values())
    labels = [canvas.label(layer.removesuffix("/conv"), 16, 1) for layer in layers]
    labels = labels if len(labels) <= _MOST_NAMES else []
    label_height = 0.07 * max(map(len, labels), default=0)
    axis = "layer" if layers else "depth (0: first layer, 1: last)"
    titles = [canvas.label(arm.label, 20) for arm in arms]
    figure, panels = canvas.panels(titles, 3, 1.2, axis, SIGNALS[name].title, label_height)
    for axes, arm in zip(panels, arms, strict=True):
        network = networks[arm.name]
        depth = len(network)
        x = np.arange(1, depth + 1) if layers else np.linspace(0, 1, depth)
        for moment, colour, style in (("start", canvas.MUTED, "--"), ("end", canvas.ACCENT, "-")):
            y = [_mean_signal(arm, moment, layer, name) for layer in network]
            size = 2.5 if depth <= _MOST_NAMES else 1.0
            axes.plot(x, y, style, color=colour, linewidth=1.3, marker=".", ms=size)
        if name in _LOGARITHMIC:
            canvas.logarithmic(axes, "y")
        axes.grid(axis="y")
        if labels:
            axes.set_xticks(range(1, len(labels) + 1), labels, rotation=90, fontsize=6.5)
        elif not layers:
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    return canvas.draw(figure)


def _measures(arms: Sequence[Arm], split: str) -> list[str]:
    measures = (run.result.measures.get(split, {}) for arm in arms for run in arm.runs)
    return list(dict.fromkeys(itertools.chain.from_iterable(measures)))


def _series(names: Sequence[str]) -> Mapping[str, list[int]]:
    """{name: numbers} of the measures that are numbered, `shift_1`, `shift_2`, ..."""
    series: dict[str, list[int]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if match:
            series.setdefault(match[1], []).append(int(match[2]))
    return {name: sorted(steps) for name, steps in series.items() if len(steps) > 2}


def _table(arms: Sequence[Arm], split: str, names: Sequence[str]) -> Table:
    rows = []
    for arm in arms:
        cells = [arm.label]
        for name in names:
            metric = measure_metric(name)
            sample = statistics.describe(list(arm.scores(metric, split).values()))
            text = formatting.amount(metric, sample.mean if sample else None)
            if sample and sample.sd is not None:
                text += f" ± {formatting.amount(metric, sample.sd)}"
            cells.append(text)
        rows.append(tuple(cells))
    head = ("Arm", *(name.replace("_", " ") for name in names))
    return Table("Measured by probes, in percent: mean ± sd over the seeds.", head, tuple(rows))


def _shared(networks: Iterable[Sequence[str]]) -> Sequence[str]:
    """The layers of the networks that have any, if they are the same in all; else none."""
    different = {tuple(layers) for layers in networks if layers}
    return different.pop() if len(different) == 1 else ()


def _mean_signal(arm: Arm, moment: str, layer: str, name: str) -> float:
    """The mean of a signal over the seeds; NaN if there is none that can be drawn."""
    values = [run.result.signals.get(moment, {}).get(layer, {}).get(name) for run in arm.runs]
    measured = [float(value) for value in values if value is not None]
    mean = float(np.mean(measured)) if measured else float("nan")
    return mean if mean > 0 or name not in _LOGARITHMIC else float("nan")
