"""Shared by all plots: style, colours, labels, rows and panels, the limits of an axis, SVG text.

matplotlib's global state is changed only while a figure is drawn. The colours are those of a light
page; `html` replaces them by the page's own, so that one plot serves light and dark.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator, ScalarFormatter

from cnnjax.metric import PERCENT, Metric

INK, MUTED, GRID, PAPER = "#1f2421", "#6a716d", "#dfe3e0", "#fffffd"
ACCENT, ALARM = "#1d5c86", "#b3341f"

STYLE: Any = {
    "svg.hashsalt": "cnnjax",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9.5,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "butt",
}
styled = matplotlib.rc_context(STYLE)
"""Decorates the functions that draw a plot."""
WIDTH = 4.7
MANY = 1e5
"""From this value on the numbers of an axis have prefixes: 20M."""


def focus(
    groups: Sequence[Sequence[float]],
    metric: Metric,
    ends: Sequence[Sequence[float]] = (),
    clip: bool = True,
    keep: Sequence[float] = (),
    differences: bool = False,
) -> tuple[float, float]:
    """Limits of an axis, in displayed units, that make small differences visible.

    Groups whose mean is far worse than the others (more than 6 median absolute deviations, at least
    6 points, from the median mean) are left off the scale if that makes it at least four times
    finer, so that an arm at chance level does not compress all others. `ends` widen the limits of
    the groups that remain; `keep` are values that always remain, such as the baseline's. Values are
    those of a metric, or `differences`, of which larger is better.
    """
    groups = [list(group) for group in groups if len(group)]
    if not groups:
        return 0.0, metric.scale
    sign = 1 if differences else metric.sign
    scale = sign * metric.scale
    means = np.array([scale * float(np.mean(group)) for group in groups])
    middle = float(np.median(means))
    spread = float(np.median(np.abs(means - middle)))
    grain = 1.0 if metric.unit == PERCENT else 0.01 * float(np.abs(means).max()) or 1.0
    floor = middle - 6 * max(spread, grain) if clip else -np.inf
    floor = min([floor, *(scale * value for value in keep)])
    span, focused = (float(means.max() - each.min()) for each in (means, means[means >= floor]))
    floor = floor if span > 4 * max(focused, 2 * grain) else -np.inf
    shown = [scale * v for group in groups for v in group if scale * v >= floor]
    shown += [scale * v for group in ends for v in group if scale * float(np.mean(group)) >= floor]
    low, high = sorted((sign * min(shown), sign * max(shown)))
    margin = max(0.06 * (high - low), 0.25 * grain)
    return low - margin, high + margin


def label(text: str, width: int = 24, lines: int = 2) -> str:
    """A name that fits beside an axis: in two lines, shortened in the middle if far too long."""
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in str(text)) or " "
    most = width * lines
    if len(text) > most:
        text = f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
    if len(text) <= width:
        return text
    middle = len(text) // 2
    breaks = [i + 1 for i, sign in enumerate(text) if sign in " _.-+=,"]
    fitting = [i for i in breaks if max(i, len(text) - i) <= width]
    at = min(fitting, key=lambda i: abs(i - middle)) if fitting else middle
    return f"{text[:at]}\n{text[at:]}"


def logarithmic(axes: Axes, side: Literal["x", "y"]) -> None:
    """A logarithmic scale with plain numbers at the powers of ten."""
    getattr(axes, f"set_{side}scale")("log")
    axis = getattr(axes, f"{side}axis")
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 0.001 else f"{value:.0e}")


def rows(labels: Sequence[str], height: float, margin: float = 0.6) -> tuple[Figure, Axes]:
    """Axes with one named row per label, the first on top, and `margin` rows before it and after
    the last."""
    figure = Figure((WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - (1 - margin), -margin)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return figure, axes


def panels(
    titles: Sequence[str], columns: int, height: float, x: str, y: str, below: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title; they share their axes.

    Args:
      titles: the titles of the panels.
      columns: the largest number of panels beside each other.
      height: of a row of panels, in inches.
      x, y: the titles of the axes.
      below: the height of the labels of the x axis, which are also below the last but one row where
        the last is not full.
    """
    count, columns = len(titles), min(columns, len(titles))
    num_rows = -(-count // columns)
    below *= 1 + (count % columns > 0)
    figure = Figure((WIDTH, height * num_rows + 0.5 + below), layout="constrained")
    grid = figure.subplots(num_rows, columns, sharex=True, sharey=True, squeeze=False)
    for i in range(count, num_rows * columns):
        grid.flat[i].set_axis_off()
        grid.flat[i - columns].xaxis.set_tick_params(labelbottom=True)
    for axes, title in zip(grid.flat, titles, strict=False):
        axes.set_title(title, loc="left", color=INK)
        axes.tick_params(labelcolor=MUTED)
    figure.supxlabel(x, fontsize=9.5, color=MUTED)
    figure.supylabel(y, fontsize=9.5, color=MUTED)
    return figure, list(grid.flat[:count])


def diamond(axes: Axes, x: float, y: float, colour: str, filled: bool) -> None:
    """Marks a mean; hollow unless it is `filled`."""
    axes.plot(
        [x],
        [y],
        marker="D",
        markersize=5.5,
        color=colour,
        markerfacecolor=colour if filled else PAPER,
        markeredgewidth=1.5,
        zorder=4,
    )


def line_style(index: int) -> dict[str, Any]:
    """The colour and the dashes of the `index`-th of several lines."""
    return {
        "color": (ACCENT, ALARM, MUTED, INK)[index % 4],
        "linestyle": ("-", "--", ":", "-.")[index // 4 % 4],
    }


@dataclass(frozen=True)
class Drawing:
    """A plot as an SVG document, and as a PNG if it was drawn by matplotlib."""

    svg: str
    png: bytes = b""


def draw(figure: Figure) -> Drawing:
    """The figure as SVG and PNG; the same figure gives the same bytes."""
    text, picture = io.StringIO(), io.BytesIO()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        large = np.abs(axis.get_view_interval()).max() >= MANY
        if large and isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.set_major_formatter(EngFormatter(sep=""))  # 20M rather than 2, and 1e7 elsewhere
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=no_metadata)
        figure.savefig(picture, format="png", metadata={"Software": None}, dpi=200)
    return Drawing(text.getvalue(), picture.getvalue())
