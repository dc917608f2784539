"""The tuning of the arms of a study: tables, and the metric against the setting."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnjax.ablation import reading, tuning
from cnnjax.ablation.experiment import Tune
from cnnjax.ablation.results import Study
from cnnjax.ablation.tuning import Choice
from cnnjax.errors import UserError
from cnnjax.metric import Metric
from cnnjax.report import canvas, formatting
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Element, Figure, Paragraph, Section, Table


def sections(study: Study) -> list[Section]:
    """The section on tuning; none if the arms were not tuned."""
    about = study.about.get("tune")
    if about is None:
        return []
    tune = Tune(about["grid"], tuple(about["seeds"]))
    return [Section("Tuning", tuple(_elements(study, tune)))]


def _elements(study: Study, tune: Tune) -> Iterator[Element]:
    try:
        choices = tuning.choose(tune, study.workdir, [arm.name for arm in study.arms])
    except UserError:
        text = f"Runs in {tuning.FOLDER}/ have no result; the same launch.sweep goes on with them."
        yield Paragraph(text, kind="warning")
        return
    primary = study.primary
    grid = "; ".join(f"{path}: {', '.join(map(str, tune.grid[path]))}" for path in tune.grid)
    text = (
        f"Every arm got the same grid ({grid}) and the same tuning seeds "
        f"({', '.join(map(str, tune.seeds))}), which are none of the comparison, and took the "
        f"point with the best mean validation {primary.title}. {_budget(study)}"
    )
    yield Paragraph(text)
    edges = [choice.arm for choice in choices if choice.edges]
    if edges:
        warning = (
            f"{formatting.join(edges)}: the best point lies at the end of the grid, so a better "
            "one may lie beyond; widen the grid, in another folder: all arms choose from one grid."
        )
        yield Paragraph(warning, "At the edge.", "warning")
    yield _table(choices, primary)
    yield _grid(choices, tune, primary)
    if study.split == "validation":
        text = (
            "The settings were chosen on this split, so that figures on it are a little too good."
        )
        yield Paragraph(text, kind="note")
    path = next(iter(tune.grid))
    if len(tune.grid) == 1 and all(_positive(value) for value in tune.grid[path]):
        yield Figure(
            "tuning",
            plot(choices, path, primary),
            f"Mean validation {primary.title} against {path} for every arm; the figures are in the "
            "table of the grid.",
            f"Mean validation {primary.title} over the tuning seeds against {path}. Filled: "
            "chosen.",
        )


@canvas.styled
def plot(choices: Sequence[Choice], path: str, metric: Metric) -> Drawing:
    """A metric against one setting, a panel for each arm."""
    y = canvas.label(formatting.with_unit(f"validation {metric.title}", metric.unit), 26)
    titles = [canvas.label(choice.arm, 20) for choice in choices]
    figure, panels = canvas.panels(titles, 3, 1.25, path, y)
    for axes, choice in zip(panels, choices, strict=True):
        values = [point[path] for point, _ in choice.means]
        means = [metric.scale * mean for _, mean in choice.means]
        axes.plot(values, means, color=canvas.ACCENT, linewidth=1.4)
        for value, mean in zip(values, means, strict=True):
            chosen = value == choice.point[path]
            colour = canvas.ALARM if chosen and choice.edges else canvas.ACCENT
            face = colour if chosen else canvas.PAPER
            axes.plot([value], [mean], "o", ms=4.5, color=colour, markerfacecolor=face)
        canvas.logarithmic(axes, "x")
        axes.grid(axis="y")
    return canvas.draw(figure)


def _table(choices: Sequence[Choice], metric: Metric) -> Table:
    rows = []
    for choice in choices:
        mean = next(mean for point, mean in choice.means if point == choice.point)
        figure = formatting.amount(metric, mean)
        rows.append((choice.arm, _point(choice.point), ", ".join(choice.edges), figure))
    head = ("Arm", "Chosen", "At the edge", formatting.with_unit("Validation", metric.unit))
    return Table("What each arm chose.", head, tuple(rows), labels=3)


def _grid(choices: Sequence[Choice], tune: Tune, metric: Metric) -> Table:
    """The mean of every point of the grid in every arm, with the number of diverged runs."""
    rows = []
    for i, point in enumerate(tuning.points(tune)):
        cells = []
        for choice in choices:
            number = choice.diverged[i]
            diverged = f" ({number} diverged)" if number else ""
            cells.append(formatting.amount(metric, choice.means[i][1]) + diverged)
        rows.append((_point(point), *cells))
    mean = formatting.with_unit(f"Mean validation {metric.title}", metric.unit)
    caption = f"{mean} of every point of the grid. A diverged run scores chance."
    return Table(caption, ("Point", *(choice.arm for choice in choices)), tuple(rows))


def _point(point: Mapping[str, Any]) -> str:
    return "; ".join(f"{path} = {value}" for path, value in point.items())


def _budget(study: Study) -> str:
    seconds = _seconds(reading.load(study.workdir / tuning.FOLDER))
    total = seconds + _seconds(study)
    if not total:
        return ""
    share = f"{100 * seconds / total:.0f} %"
    return f"Tuning took {share} of the training time ({formatting.duration(seconds)})."


def _seconds(study: Study) -> float:
    return sum(run.result.seconds or 0.0 for run in study.runs)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
