"""What all plots share: style, colours, labels, the limits of an axis, and SVG text.

Nothing here touches matplotlib's global state for longer than it takes to draw one figure. The
colours are those of a light page; `html` swaps them for the page's own, so that one plot serves
light and dark.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

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
WIDTH = 4.7


def focus(
    groups: Sequence[Sequence[float]],
    of: Metric,
    ends: Sequence[Sequence[float]] = (),
    clip: bool = True,
    keep: Sequence[float] = (),
    differences: bool = False,
) -> tuple[float, float]:
    """Limits of an axis that keep apart what lies together, on the scale of what is shown.

    Groups whose mean is far worse than the others (more than 6 median absolute deviations, at least
    6 points, from the median mean) are left off the scale where that makes it at least four
    times finer, so that an arm at chance level does not press all others into one spot. `ends`
    widen the limits of the groups that stay; `keep` are values that always do, the baseline's.
    Values are those of a metric, or `differences`, of which larger is better.
    """
    groups = [list(group) for group in groups if len(group)]
    if not groups:
        return 0.0, of.scale
    sign = 1 if differences else of.sign
    scale = sign * of.scale
    means = np.array([scale * float(np.mean(group)) for group in groups])
    middle = float(np.median(means))
    spread = float(np.median(np.abs(means - middle)))
    grain = 1.0 if of.unit == PERCENT else 0.01 * float(np.abs(means).max()) or 1.0
    floor = middle - 6 * max(spread, grain) if clip else -np.inf
    floor = min([floor, *(scale * value for value in keep)])
    span = [float(means.max() - means[on].min()) for on in (means == means, means >= floor)]
    floor = floor if span[0] > 4 * max(span[1], 2 * grain) else -np.inf
    kept = [scale * v for group in groups for v in group if scale * v >= floor]
    kept += [scale * v for group in ends for v in group if scale * float(np.mean(group)) >= floor]
    low, high = sorted((sign * min(kept), sign * max(kept)))
    margin = max(0.06 * (high - low), 0.25 * grain)
    return low - margin, high + margin


def label(text: str, width: int = 24, lines: int = 2) -> str:
    """A name as it fits beside an axis: in two lines, cut in the middle where far too long."""
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in str(text)) or " "
    room = width * lines
    if len(text) > room:
        text = f"{text[: room // 2 - 1]}…{text[-(room // 2) :]}"
    if len(text) <= width:
        return text
    middle = len(text) // 2
    breaks = [place + 1 for place, sign in enumerate(text) if sign in " _.-+=,"]
    near = [place for place in breaks if max(place, len(text) - place) <= width]
    place = min(near, key=lambda place: abs(place - middle)) if near else middle
    return f"{text[:place]}\n{text[place:]}"


def logarithmic(axes: Axes, side: Literal["x", "y"]) -> None:
    """A logarithmic scale with plain numbers at the powers of ten."""
    getattr(axes, f"set_{side}scale")("log")
    axis = getattr(axes, f"{side}axis")
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 0.001 else f"{value:.0e}")


def close(panels: np.ndarray, used: int) -> None:
    """Takes away the panels that nothing is drawn in; those above them show their axis instead."""
    rows, columns = panels.shape
    for place in range(used, rows * columns):
        panels.flat[place].set_axis_off()
        panels.flat[place - columns].xaxis.set_tick_params(labelbottom=True)


@dataclass(frozen=True)
class Drawing:
    """A plot as an SVG document, and as a PNG where it was drawn by matplotlib."""

    svg: str
    png: bytes = b""


def draw(figure: Figure) -> Drawing:
    """The figure as SVG and PNG; the same figure gives the same bytes."""
    text, picture = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(text, format="svg", metadata=_NO_METADATA)
        figure.savefig(picture, format="png", metadata={"Software": None}, dpi=200)
    return Drawing(text.getvalue(), picture.getvalue())


_NO_METADATA: Mapping[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
