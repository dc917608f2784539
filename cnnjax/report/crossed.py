"""The plots of two crossed factors: a heat map of the means and their interaction; as drawings."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnnjax.ablation.blocks import Grid
from cnnjax.metric import Metric
from cnnjax.report import canvas, words
from cnnjax.report.canvas import Drawing


def heat_map(grid: Grid, of: Metric) -> Drawing:
    """The mean of each cell of two crossed factors."""
    with matplotlib.rc_context(canvas.STYLE):
        rows, columns = len(grid.row_levels), len(grid.column_levels)
        figure = Figure((canvas.WIDTH, 0.5 * rows + 1.3), layout="constrained")
        axes = figure.add_subplot()
        means = of.scale * np.array(
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
                    words.decimal(mean, of.decimals) if np.isfinite(mean) else "none",
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


def interaction(grid: Grid, of: Metric) -> Drawing:
    """A line for each level of one factor over the levels of the other, with 95% intervals."""
    with matplotlib.rc_context(canvas.STYLE):
        columns = len(grid.column_levels)
        figure = Figure((canvas.WIDTH, 3.0), layout="constrained")
        axes = figure.add_subplot()
        dashes = ["-", "--", ":", "-."]
        for row, level in enumerate(grid.row_levels):
            colour = [canvas.ACCENT, canvas.ALARM, canvas.MUTED, canvas.INK][row % 4]
            x = np.arange(columns) + 0.12 * (row - (len(grid.row_levels) - 1) / 2)
            y = [of.scale * _nan(grid.mean(row, column)) for column in range(columns)]
            style: dict[str, Any] = {"color": colour, "linestyle": dashes[row // 4 % 4]}
            axes.plot(x, y, marker="o", markersize=4, label=canvas.label(level, 30, 1), **style)
            for column in range(columns):
                sample = grid.cells.get((row, column))
                if sample is not None and sample.low is not None and sample.high is not None:
                    ends = [of.scale * sample.low, of.scale * sample.high]
                    axes.plot([x[column]] * 2, ends, color=colour)
        cells = [cell for cell in grid.cells.values() if cell]
        spans = [[x for x in (c.low, c.mean, c.high) if x is not None] for c in cells]
        axes.set_ylim(*canvas.focus(spans, of, clip=False))
        axes.set_xticks(range(columns), [canvas.label(x, 14) for x in grid.column_levels])
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_xlabel(canvas.label(grid.column_factor, 40, 1))
        axes.set_ylabel(words.headed(f"mean {of.title}", of.unit))
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


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
