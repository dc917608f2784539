"""What probes measured in the runs of a block: tables and plots."""

import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas

from cnnjax.ablation import statistics
from cnnjax.ablation.results import Arm
from cnnjax.report import canvas, words
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Element, Figure, Paragraph, Table

SIGNALS = {
    "gradient": "gradient over weights",
    "sd": "sd of activations",
    "dead": "share of units that never change",
    "twins": "share of units alike",
}


def elements(arms: Sequence[Arm], split: str, prefix: str) -> list[Element]:
    """Measures and signals of the arms of a block; nothing where nothing was probed."""
    found: list[Element] = []
    names = _measures(arms, split)
    if names:
        found.append(_table(arms, split, names))
    for series, steps in _series(names).items():
        figure = Figure(
            f"{prefix}-{series}",
            lines(arms, split, series, steps),
            f"Line plot of {series} for every arm; the figures are in the table.",
            f"{series} by its number, a line for each arm; 0 is the accuracy itself. Bars: 95 % "
            "intervals of the means.",
        )
        found.append(figure)
    for name, title in SIGNALS.items():
        if _layers(arms, name):
            figure = Figure(
                f"{prefix}-signal-{name}",
                signal(arms, name, title),
                f"{title.capitalize()} by layer before and after training, a panel for each arm.",
                f"{title.capitalize()} by layer, from the image on: before the first step (grey, "
                "dashed) and at the end (blue). Mean over seeds; layers without a value are left "
                "out of a logarithmic scale.",
            )
            found.append(figure)
    if found:
        found.insert(0, Paragraph("What probes measured besides.", kind="note"))
    return found


def lines(arms: Sequence[Arm], split: str, series: str, steps: Sequence[int]) -> Drawing:
    """A measure that is numbered, against its number."""
    with matplotlib.rc_context(canvas.STYLE):
        figure = Canvas((canvas.WIDTH, 3.2), layout="constrained")
        axes = figure.add_subplot()
        dashes = ["-", "--", ":", "-."]
        for index, arm in enumerate(arms):
            colour = [canvas.ACCENT, canvas.ALARM, canvas.MUTED, canvas.INK][index % 4]
            metrics = [f"{split}_accuracy"]
            metrics += [f"{split}_measures.{series}_{step}" for step in steps]
            samples = [statistics.describe(list(arm.scores(m).values())) for m in metrics]
            points = [(x, s) for x, s in zip([0, *steps], samples, strict=True) if s]
            axes.plot(
                [x for x, _ in points],
                [100 * sample.mean for _, sample in points],
                marker="o",
                markersize=3.5,
                color=colour,
                linestyle=dashes[index // 4 % 4],
                label=canvas.label(arm.label, 30, 1),
            )
            for x, sample in points:
                if sample.low is not None and sample.high is not None:
                    axes.plot([x, x], [100 * sample.low, 100 * sample.high], color=colour)
        axes.set_xlabel(series, loc="right")
        axes.set_ylabel("accuracy (%)")
        axes.grid(axis="y")
        axes.tick_params(labelcolor=canvas.MUTED)
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
        return canvas.draw(figure)


def signal(arms: Sequence[Arm], name: str, title: str) -> Drawing:
    """A number of every layer, at the start and the end: a panel for each arm."""
    with matplotlib.rc_context(canvas.STYLE):
        columns = min(3, len(arms))
        rows = -(-len(arms) // columns)
        figure = Canvas((canvas.WIDTH, 1.2 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        layers = _layers(arms, name)
        logarithmic = name in ("gradient", "sd")
        for axes, arm in zip(panels.flat, arms, strict=False):
            for moment, colour, style in (
                ("start", canvas.MUTED, "--"),
                ("end", canvas.ACCENT, "-"),
            ):
                values = [_mean(arm, moment, layer, name) for layer in layers]
                if logarithmic:
                    values = [value if value and value > 0 else None for value in values]
                heights = [float("nan") if value is None else value for value in values]
                axes.plot(range(1, len(layers) + 1), heights, style, color=colour, linewidth=1.3)
            if logarithmic:
                canvas.logarithmic(axes, "y")
            axes.set_title(canvas.label(arm.label, 20), loc="left", color=canvas.INK)
            axes.tick_params(labelcolor=canvas.MUTED)
            axes.grid(axis="y")
        for axes in list(panels.flat)[len(arms) :]:
            axes.set_axis_off()
        figure.supxlabel("layer", fontsize=9.5, color=canvas.MUTED)
        figure.supylabel(title, fontsize=9.5, color=canvas.MUTED)
        return canvas.draw(figure)


def _measures(arms: Sequence[Arm], split: str) -> list[str]:
    names: dict[str, None] = {}
    for arm in arms:
        for run in arm.runs:
            names |= dict.fromkeys(run.measures.get(split, {}))
    return list(names)


def _series(names: Sequence[str]) -> Mapping[str, list[int]]:
    """{name: numbers} of the measures that are numbered, `shift_1`, `shift_2`, ..."""
    found: dict[str, list[int]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if match:
            found.setdefault(match[1], []).append(int(match[2]))
    return {name: sorted(steps) for name, steps in found.items() if len(steps) > 2}


def _table(arms: Sequence[Arm], split: str, names: Sequence[str]) -> Table:
    rows = []
    for arm in arms:
        cells = [arm.label]
        for name in names:
            sample = statistics.describe(list(arm.scores(f"{split}_measures.{name}").values()))
            text = words.points(sample.mean if sample else None, signed=False)
            if sample and sample.sd is not None:
                text += f" ± {words.points(sample.sd, signed=False)}"
            cells.append(text)
        rows.append(tuple(cells))
    head = ("Arm", *(name.replace("_", " ") for name in names))
    return Table("Measured by probes, in percent: mean ± sd over the seeds.", head, tuple(rows))


def _layers(arms: Sequence[Arm], name: str) -> list[str]:
    """The layers that have a number of this name in some run, in the order of the network."""
    layers: dict[str, None] = {}
    for arm in arms:
        for run in arm.runs:
            for moment in run.signals.values():
                layers |= {layer: None for layer, own in moment.items() if name in own}
    return list(layers)


def _mean(arm: Arm, moment: str, layer: str, name: str) -> float | None:
    values = [run.signals.get(moment, {}).get(layer, {}).get(name) for run in arm.runs]
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
