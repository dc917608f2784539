"""Numbers and findings as a reader sees them: percent, points, sentences."""

from collections.abc import Sequence

from cnnjax.ablation.blocks import ArmResult, Block
from cnnjax.ablation.results import Study
from cnnjax.ablation.statistics import Paired
from cnnjax.metric import Metric

NONE = "–"

_TROUBLE = {
    "diverged": "Diverged",
    "failed": "Failed",
    "unreadable": "Result unreadable",
    "unfinished": "Not finished",
    "missing": "Not run yet",
}


def value(of: Metric, number: float | None) -> str:
    """A value of a metric with its unit."""
    return NONE if number is None else f"{amount(of, number)}\u00a0{of.unit}".rstrip()


def amount(of: Metric, number: float | None, signed: bool = False) -> str:
    """A value of a metric, or a difference of two, without its unit."""
    return NONE if number is None else decimal(of.scale * number, of.decimals, signed)


def decimal(number: float, decimals: int = 2, signed: bool = False) -> str:
    """A number with so many decimals and a true minus sign."""
    large = abs(number) >= 1e6 and decimals > 0
    text = f"{number:.3g}" if large else f"{number:{',' if not decimals else ''}.{decimals}f}"
    zero = not text.strip("-0.")
    text = text.removeprefix("-") if zero else text
    return ("+" if signed and number > 0 and not zero else "") + text.replace("-", "−")


def interval(of: Metric, low: float | None, high: float | None) -> str:
    """An interval of values of a metric, or of differences."""
    if low is None or high is None:
        return NONE
    return f"[{amount(of, low)}, {amount(of, high)}]"


def headed(title: str, unit: str) -> str:
    """The head of a column: a title with its unit, where there is one."""
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
    """In how many of so many `pairs` the difference is above zero, and how often there is none."""
    ties = sum(difference == 0 for difference in differences)
    tie = f", {'one tie' if ties == 1 else f'{ties} ties'}" if ties else ""
    return f"{sum(difference > 0 for difference in differences)} of {pairs}{tie}"


def listing(names: Sequence[str], link: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {link} {names[-1]}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def measured(study: Study) -> str:
    """The study's primary metric and its split as they are called in the report."""
    return f"{study.split} {study.primary.title}"


def summary(block: Block, primary: Metric) -> str:
    """What was found in a block, in a few sentences."""
    baseline = block.baseline
    name = baseline.arm.label if baseline else "none"
    text = []
    if baseline is None:
        text.append("The baseline is not part of this study, so there are no differences.")
    elif baseline.sample is None:
        text.append(f"Baseline {name}: no finished run yet, so there are no differences.")
    else:
        seeds = count(baseline.sample.n, "seed")
        text.append(f"Baseline {name}: {value(primary, baseline.sample.mean)} ({seeds}).")
    compared = [(arm, arm.versus) for arm in block.arms if arm.versus]
    if compared:
        text += _extremes(compared, primary)
    elif not baseline or baseline.sample is None:
        text += _best(block, primary)
    return " ".join([*text, *_trouble(block)])


def _extremes(compared: list[tuple[ArmResult, Paired]], primary: Metric) -> list[str]:
    text = []
    best = max(compared, key=lambda item: item[1].mean)
    worst = min(compared, key=lambda item: item[1].mean)
    if best[1].mean > 0:
        text.append("Largest gain: " + _distance(*best, primary))
    else:
        text.append(f"No arm is {_side(1, primary)} the baseline.")
    if worst[1].mean < 0 and worst[0] is not best[0]:
        text.append("Largest loss: " + _distance(*worst, primary))
    elif worst[1].mean < 0:
        text.append("The nearest: " + _distance(*best, primary))
    separate = sum(versus.separate for _, versus in compared)
    if len(compared) > 1:
        text.append(f"The interval excludes zero for {separate} of {len(compared)} arms compared.")
    return text


def _side(ahead: float, primary: Metric) -> str:
    """Where a value is that is so far ahead."""
    return "above" if ahead * primary.sign > 0 else "below"


def _distance(arm: ArmResult, versus: Paired, primary: Metric) -> str:
    pairs = count(versus.n, "pair")
    distance = f"{amount(primary, abs(versus.mean))} {primary.difference_unit}".rstrip()
    opening = f"{arm.arm.label} is {distance} {_side(versus.mean, primary)} the baseline"
    if versus.low is None or versus.high is None:
        return f"{opening} ({pairs}: no interval)."
    doubt = "" if versus.separate else "; the interval does not settle the sign"
    if versus.low == versus.high:
        doubt = "; all differences are equal, so the interval has no width"
    ends = sorted((primary.sign * versus.low, primary.sign * versus.high))
    return f"{opening} {interval(primary, *ends)}, {pairs}{doubt}."


def _best(block: Block, primary: Metric) -> list[str]:
    means = [(primary.sign * arm.sample.mean, arm.arm.label) for arm in block.arms if arm.sample]
    if not means:
        return ["No run has finished."]
    mean, label = max(means)
    return [f"Best mean so far: {label}, {value(primary, primary.sign * mean)}."]


def _trouble(block: Block) -> list[str]:
    text = []
    for status, title in _TROUBLE.items():
        counts = [(arm.arm.label, arm.arm.count(status)) for arm in block.arms]
        named = [f"{label} {number}" for label, number in counts if number]
        if named:
            total = count(sum(number for _, number in counts), "run")
            text.append(f"{title}: {total} ({', '.join(named)}).")
    return text
