"""The plots of a block: seeds, differences to the baseline, learning curves, crossed factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnnjax.ablation.blocks import ArmResult, Grid
from cnnjax.ablation.statistics import Paired, Sample
from cnnjax.metric import Metric
from cnnjax.report import canvas, formatting
from cnnjax.report.canvas import Drawing


@canvas.styled
def seeds(arms: Sequence[ArmResult], metric: Metric, split: str) -> Drawing:
    """Every seed of every arm a dot, its mean and 95% interval; faint lines join equal seeds."""
    figure, axes = _rows(arms)
    baseline = [v for arm in arms if arm.arm.baseline for v in arm.values.values()]
    limits = canvas.focus([list(arm.values.values()) for arm in arms], metric, keep=baseline)
    order = sorted({seed for arm in arms for seed in arm.values})
    shift = {seed: _spread(index, len(order)) for index, seed in enumerate(order)}
    points = {
        (row, seed): metric.scale * value
        for row, arm in enumerate(arms)
        if not (arm.sample and _edge(metric.scale * arm.sample.mean, limits))
        for seed, value in arm.values.items()
    }
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


@canvas.styled
def differences(arms: Sequence[ArmResult], baseline: str, metric: Metric) -> Drawing:
    """Each arm's mean paired difference to the baseline with its 95% interval; zero is marked."""
    figure, axes = _rows([arm for arm in arms if arm.versus])
    shown = [arm.versus for arm in arms if arm.versus]
    ends = [[v for v in (each.mean, each.low, each.high) if v is not None] for each in shown]
    centres = [*([each.mean] for each in shown), [0.0]]
    limits = canvas.focus(centres, metric, ends, keep=[0.0], differences=True)
    axes.axvline(0, color=canvas.INK, linewidth=1, zorder=1)
    for row, versus in enumerate(shown):
        _interval(axes, versus, row, metric.scale, limits, versus.separate)
    axes.set_xlim(*limits)
    ahead = "difference to" if metric.higher_is_better else "ahead of"
    title = f"{ahead} {canvas.label(baseline, 28, 1)}"
    axes.set_xlabel(formatting.with_unit(title, metric.difference_unit), loc="right")
    return canvas.draw(figure)


@canvas.styled
def curves(arms: Sequence[ArmResult], metric: Metric) -> Drawing:
    """A metric on the validation split against the epoch: one panel an arm, the baseline's mean
    behind each."""
    y = canvas.label(formatting.with_unit(f"validation {metric.title}", metric.unit), 26)
    titles = [canvas.label(arm.arm.label, 30) for arm in arms]
    figure, panels = canvas.panels(titles, 2, 1.5, "epoch", y)
    for axes, arm in zip(panels, arms, strict=True):
        _curve_panel(axes, arm, arms[0] if arms[0].arm.baseline else None, metric.scale)
    return canvas.draw(figure)


@canvas.styled
def heat_map(grid: Grid, metric: Metric) -> Drawing:
    """The mean of each cell of two crossed factors."""
    rows, columns = len(grid.row_levels), len(grid.column_levels)
    figure = Figure((canvas.WIDTH, 0.5 * rows + 1.3), layout="constrained")
    axes = figure.add_subplot()
    means = metric.scale * np.array([_means(grid, row) for row in range(rows)])
    low, high = (np.nanmin(means), np.nanmax(means)) if np.isfinite(means).any() else (0, 1)
    shades = LinearSegmentedColormap.from_list("accent", ["#eef3f6", "#1d5c87"])
    axes.pcolormesh(
        np.ma.masked_invalid(means),
        cmap=shades.with_extremes(bad="#c9cfcc"),
        vmin=low,
        vmax=max(high, low + 1e-9),
        edgecolors=canvas.PAPER,
        linewidth=2,
    )
    for (row, column), mean in np.ndenumerate(means):
        dark = np.isfinite(mean) and mean - low > 0.55 * (high - low)
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


@canvas.styled
def interaction(grid: Grid, metric: Metric) -> Drawing:
    """A line for each level of one factor over the levels of the other, with 95% intervals."""
    columns = len(grid.column_levels)
    figure = Figure((canvas.WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for row, level in enumerate(grid.row_levels):
        style = canvas.line_style(row)
        x = np.arange(columns) + 0.12 * (row - (len(grid.row_levels) - 1) / 2)
        y = metric.scale * _means(grid, row)
        axes.plot(x, y, marker="o", markersize=4, label=canvas.label(level, 30, 1), **style)
        for column in range(columns):
            sample = grid.cells[row, column]
            if sample is not None and sample.low is not None and sample.high is not None:
                ends = [metric.scale * sample.low, metric.scale * sample.high]
                axes.plot([x[column]] * 2, ends, color=style["color"])
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


def _rows(arms: Sequence[ArmResult]) -> tuple[Figure, Axes]:
    """Axes with a row for each arm, as high as its label."""
    labels = [canvas.label(arm.arm.label) for arm in arms]
    lines = sum(label.count("\n") + 1 for label in labels)
    return canvas.rows(labels, 0.18 * lines + 0.2 * len(labels) + 0.75)


def _means(grid: Grid, row: int) -> np.ndarray:
    """The means of a row of the grid; NaN where no run has finished."""
    return np.array([grid.mean(row, column) for column in range(len(grid.column_levels))], float)


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
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
    if sample is None:
        axes.annotate("no finished run", (0.012, row), color=canvas.MUTED, **place)
        return
    mean = scale * sample.mean
    number = f"{mean:.1f}".replace("-", "−")
    edge = _edge(mean, limits)
    if edge == "<":
        axes.annotate(f"◂ {number}", (0.03, row), ha="left", color=canvas.ACCENT, **place)
    elif edge == ">":
        axes.annotate(f"{number} ▸", (0.97, row), ha="right", color=canvas.ACCENT, **place)
    else:
        if sample.low is not None and sample.high is not None:
            ends = [scale * sample.low, scale * sample.high]
            axes.plot(ends, [row, row], color=canvas.ACCENT, linewidth=1.8, zorder=3)
        canvas.diamond(axes, mean, row, canvas.ACCENT, strong)


def _curve_panel(axes: Axes, arm: ArmResult, baseline: ArmResult | None, scale: float) -> None:
    if baseline is not None and baseline is not arm:
        epochs, mean, *_ = _band(baseline, scale)
        axes.plot(epochs, mean, color=canvas.MUTED, linewidth=1, linestyle="--")
    diverged = [run for run in arm.arm.runs if run.status == "diverged" and run.curve]
    for run in diverged:
        epochs = [epoch for _, epoch, _ in run.curve]
        values = [scale * value for *_, value in run.curve]
        axes.plot(epochs, values, color=canvas.ALARM, linewidth=0.9, linestyle=":")
        axes.plot(epochs[-1:], values[-1:], color=canvas.ALARM, marker="x", markersize=5)
    epochs, mean, low, high = _band(arm, scale)
    axes.fill_between(epochs, low, high, color=canvas.ACCENT, alpha=0.2, linewidth=0)
    single: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(epochs) == 1 else {}
    axes.plot(epochs, mean, color=canvas.ACCENT, linewidth=1.6, **single)
    if not epochs and not diverged:
        axes.text(
            0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center", color=canvas.MUTED
        )
    axes.locator_params(axis="both", nbins=4)
    axes.tick_params(length=0)
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
    epochs = [points[step][0] for step in sorted(points)]
    values = [points[step][1] for step in sorted(points)]
    mean = [float(np.mean(each)) for each in values]
    return epochs, mean, list(map(min, values)), list(map(max, values))


def _spread(index: int, count: int) -> float:
    """The vertical offset of a seed within its row."""
    return 0.0 if count < 2 else 0.44 * (index / (count - 1) - 0.5)
