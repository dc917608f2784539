"""The plot of the claims: a row for each comparison, with its margin."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.verdicts import Finding
from cnnjax.report import canvas, formatting, statements
from cnnjax.report.canvas import Drawing

_ROW = 0.42


Row = tuple[Finding, Comparison]


def by_unit(findings: Sequence[Finding]) -> dict[str, list[Row]]:
    """The comparisons by the unit of their differences; those of one unit share an axis."""
    rows: dict[str, list[Row]] = {}
    for finding in findings:
        for comparison in finding.evidence.comparisons:
            if comparison.paired is not None:
                rows.setdefault(finding.metric.difference_unit, []).append((finding, comparison))
    return rows


def claims(rows: Sequence[Row]) -> Drawing:
    """Mean difference, interval and margin of the comparisons of claims, all of one unit."""
    metric = rows[0][0].metric
    with matplotlib.rc_context(canvas.STYLE):
        several = len({finding.metric.title for finding, _ in rows}) > 1
        labels = [_label(finding, comparison, several) for finding, comparison in rows]
        figure = Figure((canvas.WIDTH, _ROW * len(rows) + 0.75), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=canvas.INK, linewidth=1, zorder=1)
        for row, (finding, comparison) in enumerate(rows):
            assert comparison.paired is not None
            confidence = 0.90 if finding.claim.kind == "equivalent" else 0.95
            mean = comparison.paired.mean
            colour = canvas.ALARM if finding.verdict == "contradicted" else canvas.ACCENT
            ends = comparison.paired.interval(confidence)
            if ends:
                scaled = [metric.scale * end for end in ends]
                axes.plot(scaled, [row, row], color=colour, linewidth=1.8)
            decided = finding.verdict in ("supported", "contradicted")
            axes.plot(
                [metric.scale * mean],
                [row],
                marker="D",
                markersize=5.5,
                color=colour,
                markerfacecolor=colour if decided else canvas.PAPER,
                markeredgewidth=1.5,
                zorder=4,
            )
            for margin in _margins(finding):
                axes.plot([margin] * 2, [row - 0.28, row + 0.28], color=canvas.MUTED, linewidth=1.2)
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel(formatting.with_unit("difference", metric.difference_unit), loc="right")
        return canvas.draw(figure)


def _label(finding: Finding, comparison: Comparison, with_metric: bool) -> str:
    names = " − ".join(comparison.names)
    if finding.claim.kind == "interaction":
        f, g = statements.factors(finding.claim)
        names = f"{f[2]} over {f[1]}, {g[2]} − {g[1]}"
    block = f"{finding.block}: " if finding.block else ""
    title = f", {finding.metric.title}" if with_metric else ""
    return canvas.label(f"{block}{names}{title}", 26)


def _margins(finding: Finding) -> list[float]:
    margin = finding.claim.margin
    if finding.claim.kind == "equivalent":
        return [-margin, margin]
    if finding.claim.kind == "interaction":
        signs = {"positive": (1,), "negative": (-1,), "either": (-1, 1)}
        return [sign * margin for sign in signs[finding.claim.direction]] if margin else []
    return [margin] if margin else []
