"""The plot of the claims: a row for each comparison, with its margin; as drawings."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from cnnjax.ablation.claims import Claim
from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.verdicts import Finding
from cnnjax.report import canvas, words
from cnnjax.report.canvas import Drawing

_ROW = 0.42


Row = tuple[Finding, Comparison]


def drawn(findings: Sequence[Finding]) -> dict[str, list[Row]]:
    """The comparisons by the unit of their differences: those that have a place on one axis."""
    rows: dict[str, list[Row]] = {}
    for finding in findings:
        for found in finding.evidence.comparisons:
            if found.paired is not None:
                rows.setdefault(finding.metric.difference_unit, []).append((finding, found))
    return rows


def claims(rows: Sequence[Row]) -> Drawing:
    """Mean difference, interval and margin of every comparison that a claim rests on; all have
    differences of one unit."""
    of = rows[0][0].metric
    with matplotlib.rc_context(canvas.STYLE):
        labels = [_label(finding, found) for finding, found in rows]
        figure = Figure((canvas.WIDTH, _ROW * len(rows) + 0.75), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=canvas.INK, linewidth=1, zorder=1)
        for row, (finding, found) in enumerate(rows):
            assert found.paired is not None
            confidence = 0.90 if finding.claim.kind == "equivalent" else 0.95
            mean = found.paired.mean
            colour = canvas.ALARM if finding.verdict == "contradicted" else canvas.ACCENT
            ends = found.paired.interval(confidence)
            if ends:
                shown = [of.scale * end for end in ends]
                axes.plot(shown, [row, row], color=colour, linewidth=1.8)
            decided = finding.verdict in ("supported", "contradicted")
            axes.plot(
                [of.scale * mean],
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
        axes.set_xlabel(words.headed("difference", of.difference_unit), loc="right")
        return canvas.draw(figure)


def _label(finding: Finding, found: Comparison) -> str:
    names = " − ".join(found.names)
    if finding.claim.kind == "interaction":
        f, g = factors(finding.claim)
        names = f"{f[2]} over {f[1]}, {g[2]} − {g[1]}"
    block = f"{finding.block}: " if finding.block else ""
    return canvas.label(f"{block}{names}", 26)


def factors(statement: Claim) -> list[tuple[str, str, str]]:
    """Of an interaction: (path without its room, from, to) of both factors."""
    first, last = statement.sides[0], statement.sides[3]
    assert isinstance(first, Mapping)
    assert isinstance(last, Mapping)
    two = list(first)[:2]
    return [(path.partition(".")[2], str(first[path]), str(last[path])) for path in two]


def _margins(finding: Finding) -> list[float]:
    margin = finding.claim.margin
    if finding.claim.kind == "equivalent":
        return [-margin, margin]
    if finding.claim.kind == "interaction":
        signs = {"positive": (1,), "negative": (-1,), "either": (-1, 1)}
        return [sign * margin for sign in signs[finding.claim.direction]] if margin else []
    return [margin] if margin else []
