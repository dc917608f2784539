"""What is measured of a run: metrics, with their units, directions and kinds. No jax.

Claims, tables, plots and words read these off a metric and never ask for its name. A task has its
own metrics; those of probes and costs are here.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cnnjax import catalog
from cnnjax.errors import UserError, unknown

Kind = Literal["share", "mean", "corpus", "run", "fixed"]
Ends = tuple[float, float]
"""The smallest and the largest value that a mean can have: an interval goes no further."""

PERCENT = "%"
EVERYWHERE: Ends = (-math.inf, math.inf)
POSITIVE: Ends = (0.0, math.inf)
SHARES: Ends = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """A named figure of a run.

    Attributes:
      name: what it is called in results and claims.
      unit: of a value as it is shown: `%` for a fraction of one, `nats`, `s`; empty for a number.
      higher_is_better: its direction.
      kind: what can be said of it. Of the examples of a split: `share`, the fraction of them that
        is right, so that binomial bounds and log-odds apply; `mean`, a mean over them; `corpus`, a
        function of sums over all of them. Of the run as a whole: `run`, a figure that differs from
        seed to seed; `fixed`, one that is the same for all seeds of an arm.
      ends: the smallest and the largest possible value.
      decimals: how many are shown.
      title: what it is called in a sentence; by default its name with spaces.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    kind: Kind = "mean"
    ends: Ends = EVERYWHERE
    decimals: int = 2
    title: str = ""

    def __post_init__(self) -> None:
        if not self.ends[0] < self.ends[1]:
            raise UserError(f"Metric {self.name!r}: ends: {self.ends} must be ascending.")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " "))

    @property
    def of_split(self) -> bool:
        """Whether it is measured on the examples of a split."""
        return self.kind in ("share", "mean", "corpus")

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown."""
        return 100 if self.unit == PERCENT else 1

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.higher_is_better else -1

    def show(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return "none"
        return f"{self.scale * value:,.{self.decimals}f} {self.unit}".rstrip()

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: points between percentages."""
        return "points" if self.unit == PERCENT else self.unit

    def ends_of_differences(self, values: int = 2) -> Ends:
        """The smallest and the largest value of what is added and subtracted from so many."""
        width = (self.ends[1] - self.ends[0]) * values / 2
        return -width, width


ACCURACY = Metric("accuracy", PERCENT, kind="share", ends=SHARES)
LOSS = Metric("loss", "nats", higher_is_better=False, ends=POSITIVE)
CLASSIFICATION = (ACCURACY, LOSS)
"""The metrics of classification; of every task the first is the one that runs are compared by."""

TASKS = {"classification": CLASSIFICATION}
"""The metrics of the tasks that come with cnnjax."""


def write(of: Metric) -> dict[str, Any]:
    """A metric as plain values; an end that there is none of is None."""
    ends = [end if math.isfinite(end) else None for end in of.ends]
    return dataclasses.asdict(of) | {"ends": ends}


def read(values: Mapping[str, Any]) -> Metric:
    """A metric from `write`'s values. Raises TypeError where they are of none."""
    low, high = values["ends"]
    ends = -math.inf if low is None else low, math.inf if high is None else high
    return Metric(**{**values, "ends": ends})


def of_task(name: str, levels: Mapping[str, Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The metrics of a task: one of TASKS, or of the user's own."""
    if name in TASKS:
        return TASKS[name]
    metrics: tuple[Metric, ...] = levels["task"][name].metrics
    return metrics


COSTS = (
    Metric("seconds", "s", higher_is_better=False, kind="run", ends=POSITIVE),
    Metric("train_images_per_second", "images/s", True, "run", POSITIVE, 0, "images per second"),
    Metric("parameters", "", higher_is_better=False, kind="fixed", ends=POSITIVE, decimals=0),
    Metric("multiply_adds", "", False, "fixed", POSITIVE, 0, "multiply-adds"),
)
"""What a run takes: fields of its result."""


def measure(name: str) -> Metric:
    """What a probe measured on a split, `measures.NAME`: a share of its examples, or how much
    larger one share is than another."""
    title = name.replace("_", " ")
    if name in catalog.GAINS:
        return Metric(f"measures.{name}", PERCENT, ends=(-1.0, 1.0), title=title)
    return Metric(f"measures.{name}", PERCENT, kind="share", ends=SHARES, title=title)


SIGNALS = {
    "gradient": Metric("gradient", kind="run", ends=POSITIVE, title="gradient over weights"),
    "sd": Metric("sd", kind="run", ends=POSITIVE, title="sd of activations"),
    "mean": Metric("mean", kind="run", title="mean of activations"),
    "dead": Metric("dead", PERCENT, False, "run", SHARES, title="share of units that never change"),
    "twins": Metric("twins", PERCENT, False, "run", SHARES, title="share of units alike"),
}
"""What probes measure of a layer."""

REDUCTIONS = {
    "first": "{} in the first layer",
    "last": "{} in the last layer",
    "mean": "mean {} of all layers",
    "smallest": "smallest {} of a layer",
    "largest": "largest {} of a layer",
    "first_over_last": "{} of the first layer over that of the last",
}
"""How the numbers of layers become one, `signals.NAME.REDUCTION`. The last is a base-10 logarithm,
in decades, of what is positive in both layers."""

_SIGNAL = re.compile(r"signals\.(?P<start>start\.)?(?P<name>[^.]*)\.(?P<reduction>[^.]*)")
_STEPS_TO = re.compile(r"steps_to\((?P<target>[-+.0-9e]+)\)")


def find(name: str, task: Sequence[Metric] = CLASSIFICATION) -> Metric:
    """The metric of a name:

    - one of the task's, `accuracy`;
    - `measures.NAME`, what a probe measured on the split, see `catalog.MEASURES`;
    - `signals.NAME.REDUCTION`, of the network after training, and `signals.start.NAME.REDUCTION`,
      of the network before it; NAME and REDUCTION are in SIGNALS and REDUCTIONS;
    - one of COSTS, `seconds`;
    - `steps_to(0.9)`: the first step after which the validation split was evaluated to at least
      that, or at most where lower is better, by the task's first metric (0.9: 90 %).

    Raises UserError for another.
    """
    named = {metric.name: metric for metric in (*task, *COSTS)}
    if name in named:
        return named[name]
    if name.startswith("measures."):
        return measure(name.removeprefix("measures."))
    if match := _STEPS_TO.fullmatch(name):
        return _steps_to(name, match["target"], task[0])
    if match := _SIGNAL.fullmatch(name):
        return _signal(name, match["name"], match["reduction"], at_the_start=bool(match["start"]))
    known = [*named, "measures.NAME", "signals.NAME.REDUCTION", "steps_to(0.9)"]
    raise unknown("metric", name, known)


def _steps_to(name: str, target: str, of: Metric) -> Metric:
    try:
        value = float(target)
    except ValueError:
        value = math.nan
    low, high = of.ends
    if not low <= value <= high:
        allowed = f"{low:g} to {high:g}"
        raise UserError(f"metric: {name!r}: {target} is no {of.title}; allowed: {allowed}.")
    title = f"steps to {of.scale * value:g} {of.unit} validation {of.title}".replace("  ", " ")
    return Metric(name, "steps", False, "run", POSITIVE, 0, title)


def _signal(name: str, layer: str, reduction: str, *, at_the_start: bool) -> Metric:
    if layer not in SIGNALS:
        raise unknown("metric: signals", layer, SIGNALS)
    if reduction not in REDUCTIONS:
        raise unknown(f"metric: signals.{layer}", reduction, REDUCTIONS)
    of = SIGNALS[layer]
    title = REDUCTIONS[reduction].format(of.title) + (" before training" if at_the_start else "")
    if reduction == "first_over_last":
        if of.ends != POSITIVE:
            raise UserError(f"metric: {name!r}: {of.title} may be 0; allowed: of gradient, sd")
        return Metric(name, "decades", kind="run", title=title)
    return Metric(name, of.unit, of.higher_is_better, "run", of.ends, of.decimals, title)


def probe(name: str) -> str | None:
    """The probe that measures the metric of a name; None where every run has it. Raises UserError
    where no probe does."""
    if at := signal(name):
        return next(probe for probe, names in catalog.SIGNALS.items() if at[1] in names)
    if not name.startswith("measures."):
        return None
    probes = {each: probe for probe, names in catalog.MEASURES.items() for each in names}
    measured = name.removeprefix("measures.")
    if measured not in probes:
        raise unknown("metric: measures", measured, probes)
    return probes[measured]


def steps_to(name: str) -> float | None:
    """The value that `steps_to(VALUE)` names; None for another metric."""
    match = _STEPS_TO.fullmatch(name)
    return float(match["target"]) if match else None


def signal(name: str) -> tuple[str, str, str] | None:
    """(`start` or `end`, NAME, REDUCTION) of a metric of a signal; None for another."""
    match = _SIGNAL.fullmatch(name)
    if not match:
        return None
    return "start" if match["start"] else "end", match["name"], match["reduction"]
