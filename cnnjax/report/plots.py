"""The plots of a block: seeds, differences to the baseline, learning curves, crossed factors."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnnjax.ablation.blocks import ArmResult, Grid
from cnnjax.ablation.statistics import Paired, Sample
from cnnjax.metric import Metric
from cnnjax.report import canvas, formatting
from cnnjax.report.canvas import Drawing


def seeds(arms: Sequence[ArmResult], metric: Metric, split: str) -> Drawing:
    """Every seed of every arm a dot, its mean and 95% interval; faint lines join equal seeds."""
    with matplotlib.rc_context(canvas.STYLE):
        labels = [canvas.label(arm.arm.label) for arm in arms]
        figure, axes = _rows(labels)
        points = {
            (row, seed): metric.scale * value
            for row, arm in enumerate(arms)
            for seed, value in arm.values.items()
        }
        baseline = [v for arm in arms if arm.arm.baseline for v in arm.values.values()]
        limits = canvas.focus([list(arm.values.values()) for arm in arms], metric, keep=baseline)
        order = sorted({seed for _, seed in points})
        shift = {seed: _spread(index, len(order)) for index, seed in enumerate(order)}
        off = {
            row
            for row, arm in enumerate(arms)
            if arm.sample and _edge(metric.scale * arm.sample.mean, limits)
        }
        points = {key: value for key, value in points.items() if key[0] not in off}
        for (row, seed), value in points.items():
            y = row + shift[seed]
            below = points.get((row + 1, seed))
            if below is not None and not (_edge(value, limits) or _edge(below, limits)):
                axes.plot([value, below], [y, y + 1], color=canvas.GRID, linewidth=0.8, zorder=1)
            _dot(axes, value, y, limits)
        for row, arm in enumerate(arms):
            _interval(axes, arm.sample, row, metric.scale, limits)
        axes.set_xlim(*limits)
        axes.set_xlabel(formatting.with_unit(f"{split} {metric.title}", metric.unit), loc="right")
        return canvas.draw(figure)


def differences(arms: Sequence[ArmResult], baseline: str, metric: Metric) -> Drawing:
    """Each arm's mean paired difference to the baseline with its 95% interval; zero is marked."""
    with matplotlib.rc_context(canvas.STYLE):
        shown = [arm for arm in arms if arm.versus is not None]
        figure, axes = _rows([canvas.label(arm.arm.label) for arm in shown])
        ends = [
            [v for v in (arm.versus.mean, arm.versus.low, arm.versus.high) if v is not None]
            for arm in shown
            if arm.versus
        ]
        centres = [[arm.versus.mean] for arm in shown if arm.versus]
        limits = canvas.focus([*centres, [0.0]], metric, ends, keep=[0.0], differences=True)
        axes.axvline(0, color=canvas.INK, linewidth=1, zorder=1)
        for row, arm in enumerate(shown):
            strong = bool(arm.versus and arm.versus.separate)
            _interval(axes, arm.versus, row, metric.scale, limits, strong)
        axes.set_xlim(*limits)
        ahead = "difference to" if metric.higher_is_better else "ahead of"
        title = f"{ahead} {canvas.label(baseline, 28, 1)}"
        axes.set_xlabel(formatting.with_unit(title, metric.difference_unit), loc="right")
        return canvas.draw(figure)


def curves(arms: Sequence[ArmResult], metric: Metric) -> Drawing:
    """A metric on the validation split against the epoch: one panel an arm, the baseline's mean
    behind each."""
    with matplotlib.rc_context(canvas.STYLE):
        columns = min(2, len(arms))
        rows = -(-len(arms) // columns)
        figure = Figure((canvas.WIDTH, 1.5 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, arm in zip(panels.flat, arms, strict=False):
            _curve_panel(axes, arm, arms[0] if arms[0].arm.baseline else None, metric.scale)
        canvas.hide_unused(panels, len(arms))
        figure.supxlabel("epoch", fontsize=9.5, color=canvas.MUTED)
        title = formatting.with_unit(f"validation {metric.title}", metric.unit)
        figure.supylabel(canvas.label(title, 26), fontsize=9.5, color=canvas.MUTED)
        return canvas.draw(figure)


def heat_map(grid: Grid, metric: Metric) -> Drawing:
    """The mean of each cell of two crossed factors."""
    with matplotlib.rc_context(canvas.STYLE):
        rows, columns = len(grid.row_levels), len(grid.column_levels)
        figure = Figure((canvas.WIDTH, 0.5 * rows + 1.3), layout="constrained")
        axes = figure.add_subplot()
        means = metric.scale * np.array(
            [[_nan(grid.mean(r, c)) for c in range(columns)] for r in range(rows)]
        )
        low, high = (np.nanmin(means), np.nanmax(means)) if np.isfinite(means).any() else (0, 1)
        shades = LinearSegmentedColormap.from_list("accent", ["#eef3f6", "#1d5c87"])
        colours = shades.with_extremes(bad="#c9cfcc")
        axes.pcolormesh(
            np.ma.masked_invalid(means),
            cmap=colours,
            vmin=low,
            vmax=max(high, low + 1e-9),
            edgecolors=canvas.PAPER,
            linewidth=2,
        )
        for row in range(rows):
            for column in range(columns):
                mean = means[row, column]
                dark = np.isfinite(mean) and mean - low > 0.55 * (high - low) and high > low
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    formatting.decimal(mean, metric.decimals) if np.isfinite(mean) else "none",
                    ha="center",
                    va="center",
                    color="#ffffff" if dark else "#1f2420",
                )
        axes.set_xticks(np.arange(columns) + 0.5, [canvas.label(x, 14) for x in grid.column_levels])
        axes.set_yticks(np.arange(rows) + 0.5, [canvas.label(x) for x in grid.row_levels])
        axes.tick_params(length=0, axis="both", labelcolor=canvas.INK)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.set_xlabel(canvas.label(grid.column_factor, 40, 1))
        axes.set_ylabel(canvas.label(grid.row_factor, 24))
        return canvas.draw(figure)


def interaction(grid: Grid, metric: Metric) -> Drawing:
    """A line for each level of one factor over the levels of the other, with 95% intervals."""
    with matplotlib.rc_context(canvas.STYLE):
        columns = len(grid.column_levels)
        figure = Figure((canvas.WIDTH, 3.0), layout="constrained")
        axes = figure.add_subplot()
        dashes = ["-", "--", ":", "-."]
        for row, level in enumerate(grid.row_levels):
            colour = [canvas.ACCENT, canvas.ALARM, canvas.MUTED, canvas.INK][row % 4]
            x = np.arange(columns) + 0.12 * (row - (len(grid.row_levels) - 1) / 2)
            y = [metric.scale * _nan(grid.mean(row, column)) for column in range(columns)]
            style: dict[str, Any] = {"color": colour, "linestyle": dashes[row // 4 % 4]}
            axes.plot(x, y, marker="o", markersize=4, label=canvas.label(level, 30, 1), **style)
            for column in range(columns):
                sample = grid.cells.get((row, column))
                if sample is not None and sample.low is not None and sample.high is not None:
                    ends = [metric.scale * sample.low, metric.scale * sample.high]
                    axes.plot([x[column]] * 2, ends, color=colour)
        cells = [cell for cell in grid.cells.values() if cell]
        spans = [[x for x in (c.low, c.mean, c.high) if x is not None] for c in cells]
        axes.set_ylim(*canvas.focus(spans, metric, clip=False))
        axes.set_xticks(range(columns), [canvas.label(x, 14) for x in grid.column_levels])
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_xlabel(canvas.label(grid.column_factor, 40, 1))
        axes.set_ylabel(formatting.with_unit(f"mean {metric.title}", metric.unit))
        axes.tick_params(labelcolor=canvas.MUTED)
        axes.grid(axis="y")
        figure.legend(
            loc="outside upper left",
            ncols=2,
            frameon=False,
            title=canvas.label(grid.row_factor, 50, 1),
            alignment="left",
        )
        return canvas.draw(figure)


def _rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Axes with one named row per label, the first on top."""
    lines = sum(max(1, label.count("\n") + 1) for label in labels)
    figure = Figure((canvas.WIDTH, 0.18 * lines + 0.2 * len(labels) + 0.75), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return figure, axes


def _edge(value: float, limits: tuple[float, float]) -> str:
    """The marker of the edge beyond which a value lies; "" if it is on the scale."""
    return "<" if value < limits[0] else ">" if value > limits[1] else ""


def _dot(axes: Axes, value: float, y: float, limits: tuple[float, float]) -> None:
    """One seed; a triangle at the edge if the value is off the scale."""
    edge = _edge(value, limits)
    axes.plot(
        [min(max(value, limits[0]), limits[1])],
        [y],
        marker=edge or "o",
        markersize=4.2,
        markerfacecolor=canvas.MUTED if edge else canvas.PAPER,
        markeredgecolor=canvas.MUTED,
        markeredgewidth=0.9,
        clip_on=False,
        zorder=2,
    )


def _interval(
    axes: Axes,
    sample: Sample | Paired | None,
    row: int,
    scale: float,
    limits: tuple[float, float],
    strong: bool = True,
) -> None:
    """A mean with its interval; a number at the edge if it is off the scale."""
    if sample is None:
        axes.annotate(
            "no finished run", (0.012, row), xycoords=("axes fraction", "data"), va="center",
            color=canvas.MUTED, fontsize=9,
        )  # fmt: skip
        return
    mean = scale * sample.mean
    if edge := _edge(mean, limits):
        number = f"{mean:.1f}".replace("-", "−")
        text, x, side = (f"◂ {number}", 0.03, "left")
        if edge == ">":
            text, x, side = (f"{number} ▸", 0.97, "right")
        axes.annotate(
            text, (x, row), xycoords=("axes fraction", "data"), va="center", ha=side,
            color=canvas.ACCENT, fontsize=9,
        )  # fmt: skip
        return
    if sample.low is not None and sample.high is not None:
        ends = [scale * sample.low, scale * sample.high]
        axes.plot(ends, [row, row], color=canvas.ACCENT, linewidth=1.8, zorder=3)
    axes.plot(
        [mean],
        [row],
        marker="D",
        markersize=5.5,
        color=canvas.ACCENT,
        markerfacecolor=canvas.ACCENT if strong else canvas.PAPER,
        markeredgewidth=1.5,
        zorder=4,
    )


def _curve_panel(axes: Axes, arm: ArmResult, baseline: ArmResult | None, scale: float) -> None:
    if baseline is not None and baseline is not arm:
        epochs, mean, *_ = _band(baseline, scale)
        axes.plot(epochs, mean, color=canvas.MUTED, linewidth=1, linestyle="--")
    for run in arm.arm.runs:
        if run.status == "diverged" and run.curve:
            epochs = [epoch for _, epoch, _ in run.curve]
            values = [scale * value for *_, value in run.curve]
            axes.plot(epochs, values, color=canvas.ALARM, linewidth=0.9, linestyle=":")
            axes.plot(epochs[-1:], values[-1:], color=canvas.ALARM, marker="x", markersize=5)
    epochs, mean, low, high = _band(arm, scale)
    axes.fill_between(epochs, low, high, color=canvas.ACCENT, alpha=0.2, linewidth=0)
    single: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(epochs) == 1 else {}
    axes.plot(epochs, mean, color=canvas.ACCENT, linewidth=1.6, **single)
    if not epochs and not any(run.curve for run in arm.arm.runs if run.status == "diverged"):
        axes.text(
            0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center", color=canvas.MUTED
        )
    axes.locator_params(axis="both", nbins=4)
    axes.set_title(canvas.label(arm.arm.label, 30), loc="left", color=canvas.INK)
    axes.tick_params(labelcolor=canvas.MUTED, length=0)
    axes.grid()


def _band(
    arm: ArmResult, scale: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Epochs, mean, smallest and largest value as they are shown, over the finished seeds."""
    points: dict[int, tuple[float, list[float]]] = {}
    for run in arm.arm.runs:
        if run.status == "finished":
            for step, epoch, value in run.curve:
                points.setdefault(step, (epoch, []))[1].append(scale * value)
    steps = [points[step] for step in sorted(points)]
    epochs = [epoch for epoch, _ in steps]
    return (
        epochs,
        [float(np.mean(values)) for _, values in steps],
        [min(values) for _, values in steps],
        [max(values) for _, values in steps],
    )


def _spread(index: int, count: int) -> float:
    """The vertical offset of a seed within its row."""
    return 0.0 if count < 2 else 0.44 * (index / (count - 1) - 0.5)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
