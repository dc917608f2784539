"""The plot of the claims: a row for each comparison, with its margin."""

from collections.abc import Sequence

from cnnjax.ablation.sides import Comparison
from cnnjax.ablation.verdicts import Finding
from cnnjax.report import canvas, formatting, statements
from cnnjax.report.canvas import Drawing

Row = tuple[Finding, Comparison]


def by_unit(findings: Sequence[Finding]) -> dict[str, list[Row]]:
    """The comparisons by the unit of their differences; those of one unit share an axis."""
    rows: dict[str, list[Row]] = {}
    for finding in findings:
        for comparison in finding.evidence.comparisons:
            if comparison.paired is not None:
                rows.setdefault(finding.metric.difference_unit, []).append((finding, comparison))
    return rows


@canvas.styled
def claims(rows: Sequence[Row]) -> Drawing:
    """Mean difference, interval and margin of the comparisons of claims, all of one unit."""
    metric = rows[0][0].metric
    several = len({finding.metric.title for finding, _ in rows}) > 1
    labels = [_label(finding, comparison, several) for finding, comparison in rows]
    figure, axes = canvas.rows(labels, 0.42 * len(rows) + 0.75)
    axes.axvline(0, color=canvas.INK, linewidth=1, zorder=1)
    for row, (finding, comparison) in enumerate(rows):
        assert comparison.paired is not None
        colour = canvas.ALARM if finding.verdict == "contradicted" else canvas.ACCENT
        if ends := statements.interval(comparison, finding.claim):
            scaled = [metric.scale * end for end in ends]
            axes.plot(scaled, [row, row], color=colour, linewidth=1.8)
        decided = finding.verdict in ("supported", "contradicted")
        canvas.diamond(axes, metric.scale * comparison.paired.mean, row, colour, decided)
        for margin in _margins(finding):
            axes.plot([margin] * 2, [row - 0.28, row + 0.28], color=canvas.MUTED, linewidth=1.2)
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
    claim = finding.claim
    signs = {"equivalent": (-1, 1), "either": (-1, 1), "negative": (-1,)}
    sides = signs.get(claim.direction if claim.kind == "interaction" else claim.kind, (1,))
    return [sign * claim.margin for sign in sides] if claim.margin else []
