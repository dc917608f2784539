"""The plot of a benchmark."""

import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from cnnjax.report import canvas
from cnnjax.report.canvas import Drawing


@canvas.styled
def plot(measurements: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Images per second as SVG: a panel for each network, a row for each contender, a circle for
    each round, and the median as a stroke.

    Args:
      measurements: network -> contender -> {"images_per_second": one number a round}.
    """
    heights = [len(contenders) for contenders in measurements.values()]
    height = 0.27 * sum(heights) + 0.75 * len(heights)
    figure = Figure((canvas.WIDTH, height), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (network, contenders) in zip(panels, measurements.items(), strict=True):
        for row, figures in enumerate(contenders.values()):
            rounds = figures["images_per_second"]
            median = statistics.median(rounds)
            color = canvas.ACCENT if row == 0 else canvas.MUTED
            axes.plot(rounds, [row] * len(rounds), "o", ms=3.5, alpha=0.5, mew=0, color=color)
            axes.plot([median, median], [row - 0.3, row + 0.3], color=color, linewidth=2)
        axes.set_yticks(range(len(contenders)), list(contenders))
        axes.set_ylim(len(contenders) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.set_title(network, loc="left")
    panels[-1].set_xlabel("images/s", loc="right")
    return canvas.draw(figure)
