"""Numbers and findings as a reader sees them: percent, points, sentences."""

from collections.abc import Sequence

from cnnjax.ablation.compare import ArmResult, Block
from cnnjax.ablation.results import Study
from cnnjax.ablation.statistics import Paired

NONE = "–"

_TROUBLE = {
    "diverged": "Diverged",
    "failed": "Failed",
    "unreadable": "Result unreadable",
    "unfinished": "Not finished",
    "missing": "Not run yet",
}


def percent(value: float | None) -> str:
    """A fraction 0..1 as percent."""
    return NONE if value is None else f"{100 * value:.2f}\u00a0%"


def points(value: float | None, signed: bool = True) -> str:
    """A difference of fractions in percentage points."""
    return NONE if value is None else scaled(value, 100, signed)


def scaled(value: float, scale: float = 100, signed: bool = False) -> str:
    """A number times `scale` with two decimals and a true minus sign."""
    text = f"{scale * value:.2f}" if abs(scale * value) < 1e6 else f"{scale * value:.3g}"
    text = "0.00" if text == "-0.00" else text
    return ("+" if signed and float(text) > 0 else "") + text.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """An interval of differences in points."""
    if low is None or high is None:
        return NONE
    return f"[{points(low, False)}, {points(high, False)}]"


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


def metric(study: Study) -> str:
    """The study's metric as it is called in the report."""
    return study.metric.replace("_", " ")


def summary(block: Block) -> str:
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
        text.append(f"Baseline {name}: {percent(baseline.sample.mean)} ({seeds}).")
    compared = [(arm, arm.versus) for arm in block.arms if arm.versus]
    if compared:
        text += _extremes(compared)
    elif not baseline or baseline.sample is None:
        text += _best(block)
    return " ".join([*text, *_trouble(block)])


def _extremes(compared: list[tuple[ArmResult, Paired]]) -> list[str]:
    text = []
    best = max(compared, key=lambda item: item[1].mean)
    worst = min(compared, key=lambda item: item[1].mean)
    if best[1].mean > 0:
        text.append("Largest gain: " + _distance(*best))
    else:
        text.append("No arm is above the baseline.")
    if worst[1].mean < 0 and worst[0] is not best[0]:
        text.append("Largest loss: " + _distance(*worst))
    elif worst[1].mean < 0:
        text.append("The nearest: " + _distance(*best))
    separate = sum(versus.separate for _, versus in compared)
    if len(compared) > 1:
        text.append(f"The interval excludes zero for {separate} of {len(compared)} arms compared.")
    return text


def _distance(arm: ArmResult, versus: Paired) -> str:
    side = "above" if versus.mean > 0 else "below"
    pairs = count(versus.n, "pair")
    opening = f"{arm.arm.label} is {points(abs(versus.mean), False)} points {side} the baseline"
    if versus.low is None:
        return f"{opening} ({pairs}: no interval)."
    doubt = "" if versus.separate else "; the interval does not settle the sign"
    if versus.low == versus.high:
        doubt = "; all differences are equal, so the interval has no width"
    return f"{opening} {interval(versus.low, versus.high)}, {pairs}{doubt}."


def _best(block: Block) -> list[str]:
    means = [(arm.sample.mean, arm.arm.label) for arm in block.arms if arm.sample]
    if not means:
        return ["No run has finished."]
    mean, label = max(means)
    return [f"Best mean so far: {label}, {percent(mean)}."]


def _trouble(block: Block) -> list[str]:
    text = []
    for status, title in _TROUBLE.items():
        counts = [(arm.arm.label, arm.arm.count(status)) for arm in block.arms]
        named = [f"{label} {number}" for label, number in counts if number]
        if named:
            total = count(sum(number for _, number in counts), "run")
            text.append(f"{title}: {total} ({', '.join(named)}).")
    return text
