"""Numbers as a reader sees them: percent, points, intervals, p values."""

from collections.abc import Sequence

from cnnjax.ablation.results import Study
from cnnjax.metric import Metric

NONE = "–"


def value_with_unit(metric: Metric, number: float | None) -> str:
    """A value of a metric with its unit."""
    return NONE if number is None else f"{amount(metric, number)}\u00a0{metric.unit}".rstrip()


def amount(metric: Metric, number: float | None, signed: bool = False) -> str:
    """A value of a metric, or a difference of two, without its unit."""
    return NONE if number is None else decimal(metric.scale * number, metric.decimals, signed)


def decimal(number: float, decimals: int = 2, signed: bool = False) -> str:
    """A number with a number of decimals and a true minus sign."""
    large = abs(number) >= 1e6 and decimals > 0
    text = f"{number:.3g}" if large else f"{number:{',' if not decimals else ''}.{decimals}f}"
    zero = not text.strip("-0.")
    text = text.removeprefix("-") if zero else text
    return ("+" if signed and number > 0 and not zero else "") + text.replace("-", "−")


def interval(metric: Metric, low: float | None, high: float | None) -> str:
    """An interval of values of a metric, or of differences."""
    if low is None or high is None:
        return NONE
    return f"[{amount(metric, low)}, {amount(metric, high)}]"


def with_unit(title: str, unit: str) -> str:
    """A title with its unit, if it has one: `Mean (%)`."""
    return f"{title} ({unit})" if unit else title


def p_value(p: float | None) -> str:
    """A p value with four decimals."""
    if p is None:
        return NONE
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def ahead(differences: Sequence[float], pairs: str) -> str:
    """In how many of the `pairs` the difference is above zero, and in how many it is zero: `2 of 3
    seeds, one tie`."""
    ties = sum(difference == 0 for difference in differences)
    tie = f", {'one tie' if ties == 1 else f'{ties} ties'}" if ties else ""
    return f"{sum(difference > 0 for difference in differences)} of {pairs}{tie}"


def join(names: Sequence[str], link: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {link} {names[-1]}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def metric_and_split(study: Study) -> str:
    """The study's split and primary metric: `test accuracy`."""
    return f"{study.split} {study.primary.title}"


def capitalized(text: str) -> str:
    """The text with a capital first, and the others as they are: `Test mIoU`."""
    return text[:1].upper() + text[1:]
