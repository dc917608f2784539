"""What is measured of a run: metrics, with their units, directions and kinds. No jax.

Claims, tables, plots and sentences use these attributes and never compare a metric's name. Each
task defines its metrics; those of probes and costs are here.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cnnjax import catalog
from cnnjax.errors import UserError, unknown

MetricKind = Literal["share", "mean", "corpus", "run", "fixed"]
Ends = tuple[float, float]
"""The smallest and the largest possible value, at which intervals are cut off."""

PERCENT = "%"
UNBOUNDED: Ends = (-math.inf, math.inf)
NONNEGATIVE: Ends = (0.0, math.inf)
FRACTION: Ends = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """A named figure of a run.

    Attributes:
      name: the name in results and claims.
      unit: the unit of a displayed value: `%` for a fraction of one, `nats`, `s`; empty for a plain
        number.
      higher_is_better: the direction.
      kind: which statistics apply. On the examples of a split: `share`, the fraction of examples
        that are right, so that binomial bounds and log-odds apply; `mean`, a mean over examples;
        `corpus`, a function of sums over the whole split. Of the run as a whole: `run`, a figure
        that differs from seed to seed; `fixed`, one that is the same for all seeds of an arm.
      ends: the smallest and the largest possible value, (0, 1) for a fraction; intervals are cut
        off there.
      decimals: the number of decimals displayed.
      title: the name in a sentence; by default the name with spaces.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    kind: MetricKind = "mean"
    ends: Ends = UNBOUNDED
    decimals: int = 2
    title: str = ""

    def __post_init__(self) -> None:
        if not self.ends[0] < self.ends[1]:
            raise UserError(f"Metric {self.name!r}: ends: {self.ends} must be ascending.")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " "))

    @property
    def on_split(self) -> bool:
        """Whether it is measured on the examples of a split."""
        return self.kind in ("share", "mean", "corpus")

    @property
    def scale(self) -> int:
        """The factor from a value to a displayed value."""
        return 100 if self.unit == PERCENT else 1

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.higher_is_better else -1

    def show(self, value: float | None) -> str:
        """A value as text with its unit; `none` for None."""
        if value is None:
            return "none"
        return f"{self.scale * value:,.{self.decimals}f} {self.unit}".rstrip()

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: points between percentages."""
        return "points" if self.unit == PERCENT else self.unit

    def difference_ends(self, num_values: int = 2) -> Ends:
        """The smallest and the largest possible sum of `num_values` values, of which half are
        subtracted."""
        width = (self.ends[1] - self.ends[0]) * num_values / 2
        return -width, width


ACCURACY = Metric("accuracy", PERCENT, kind="share", ends=FRACTION)
LOSS = Metric("loss", "nats", higher_is_better=False, ends=NONNEGATIVE)
CLASSIFICATION = (ACCURACY, LOSS)
"""The metrics of classification. The first metric of a task is the one runs are compared by."""

SEGMENTATION = (
    Metric("miou", PERCENT, kind="corpus", ends=FRACTION, title="mIoU"),
    Metric("pixel_accuracy", PERCENT, kind="corpus", ends=FRACTION),
    Metric("class_accuracy", PERCENT, kind="corpus", ends=FRACTION),
    Metric("image_iou", PERCENT, ends=FRACTION, title="IoU per image"),
    Metric("boundary_f1", PERCENT, ends=FRACTION, title="boundary F1"),
    Metric("checkerboard", PERCENT, False, "corpus", FRACTION, title="checkerboard amplitude"),
    LOSS,
)
"""The metrics of segmentation, see `cnnjax.tasks.segmentation`."""

LOCALIZATION = (
    Metric("accuracy_at_iou50", PERCENT, kind="share", ends=FRACTION, title="accuracy at IoU 0.5"),
    ACCURACY,
    Metric("mean_iou", PERCENT, ends=FRACTION, title="mean IoU"),
    LOSS,
)
"""The metrics of localization, see `cnnjax.tasks.localization`."""

TASKS = {
    "classification": CLASSIFICATION,
    "segmentation": SEGMENTATION,
    "localization": LOCALIZATION,
}
"""The metrics of the built-in tasks."""

PER_PIXEL = frozenset({"segmentation"})
"""The built-in tasks whose outputs are those of every pixel."""


def is_per_pixel(name: str, levels: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the outputs of a task are those of every pixel: one of PER_PIXEL, or of the user's
    `levels["task"]`."""
    own = levels.get("task", {}).get(name)
    return name in PER_PIXEL or bool(getattr(own, "per_pixel", False))


def to_dict(metric: Metric) -> dict[str, Any]:
    """A metric as plain values; an infinite end is None."""
    ends = [end if math.isfinite(end) else None for end in metric.ends]
    return dataclasses.asdict(metric) | {"ends": ends}


def from_dict(values: Mapping[str, Any]) -> Metric:
    """The inverse of `to_dict`. Raises TypeError for values that are not those of a metric."""
    low, high = values["ends"]
    ends = -math.inf if low is None else low, math.inf if high is None else high
    return Metric(**{**values, "ends": ends})


def task_metrics(name: str, levels: Mapping[str, Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The metrics of a task: one of TASKS, or one of the user's `levels["task"]`."""
    return TASKS[name] if name in TASKS else levels["task"][name].metrics


COSTS = (
    Metric("seconds", "s", higher_is_better=False, kind="run", ends=NONNEGATIVE),
    Metric("train_images_per_second", "images/s", True, "run", NONNEGATIVE, 0, "images per second"),
    Metric("parameters", "", higher_is_better=False, kind="fixed", ends=NONNEGATIVE, decimals=0),
    Metric("multiply_adds", "", False, "fixed", NONNEGATIVE, 0, "multiply-adds"),
)
"""The costs of a run: fields of its result."""


def measure_metric(name: str) -> Metric:
    """The metric `measures.NAME` of what a probe measures on a split: a share of its examples, or
    the difference of two such shares."""
    title = name.replace("_", " ")
    if name in catalog.GAINS:
        return Metric(f"measures.{name}", PERCENT, ends=(-1.0, 1.0), title=title)
    return Metric(f"measures.{name}", PERCENT, kind="share", ends=FRACTION, title=title)


SIGNALS = {
    "gradient": Metric("gradient", kind="run", ends=NONNEGATIVE, title="gradient over weights"),
    "sd": Metric("sd", kind="run", ends=NONNEGATIVE, title="sd of activations"),
    "mean": Metric("mean", kind="run", title="mean of activations"),
    "dead": Metric(
        "dead", PERCENT, False, "run", FRACTION, title="share of units that never change"
    ),
    "twins": Metric("twins", PERCENT, False, "run", FRACTION, title="share of units alike"),
}
"""What probes measure in a layer."""

REDUCTIONS = {
    "first": "{} in the first layer",
    "last": "{} in the last layer",
    "mean": "mean {} of all layers",
    "smallest": "smallest {} of a layer",
    "largest": "largest {} of a layer",
    "first_over_last": "{} of the first layer over that of the last",
}
"""How the numbers of all layers are reduced to one, `signals.NAME.REDUCTION`. The last is a base-10
logarithm, in decades, and defined only if both numbers are positive."""

_SIGNAL = re.compile(r"signals\.(?P<start>start\.)?(?P<name>[^.]*)\.(?P<reduction>[^.]*)")
_STEPS_TO = re.compile(r"steps_to\((?P<target>[-+.0-9e]+)\)")


def find(name: str, task: Sequence[Metric] = CLASSIFICATION) -> Metric:
    """The metric with a name:

    - one of the task's, `accuracy`;
    - `measures.NAME`, what a probe measures on the split, see `catalog.MEASURES`;
    - `signals.NAME.REDUCTION`, of the network after training, and `signals.start.NAME.REDUCTION`,
      of the network before training; NAME and REDUCTION are in SIGNALS and REDUCTIONS;
    - one of COSTS, `seconds`;
    - `steps_to(0.9)`: the first step at which the task's first metric on the validation split was
      at least that value (0.9: 90 %), or at most where lower is better.

    Raises UserError for any other name.
    """
    by_name = {metric.name: metric for metric in (*task, *COSTS)}
    if name in by_name:
        return by_name[name]
    if name.startswith("measures."):
        return measure_metric(name.removeprefix("measures."))
    if match := _STEPS_TO.fullmatch(name):
        return _steps_to(name, match["target"], task[0])
    if signal := parse_signal(name):
        return _signal(name, *signal)
    allowed = [*by_name, "measures.NAME", "signals.NAME.REDUCTION", "steps_to(0.9)"]
    raise unknown("metric", name, allowed)


def _steps_to(name: str, target: str, primary: Metric) -> Metric:
    try:
        value = float(target)
    except ValueError:
        value = math.nan
    low, high = primary.ends
    if not low <= value <= high:
        allowed = f"{low:g} to {high:g}"
        raise UserError(f"metric: {name!r}: {target} is no {primary.title}; allowed: {allowed}.")
    shown = f"{primary.scale * value:g} {primary.unit}".rstrip()
    title = f"steps to {shown} validation {primary.title}"
    return Metric(name, "steps", False, "run", NONNEGATIVE, 0, title)


def _signal(name: str, moment: str, signal: str, reduction: str) -> Metric:
    if signal not in SIGNALS:
        raise unknown("metric: signals", signal, SIGNALS)
    if reduction not in REDUCTIONS:
        raise unknown(f"metric: signals.{signal}", reduction, REDUCTIONS)
    metric = SIGNALS[signal]
    before = " before training" if moment == "start" else ""
    title = REDUCTIONS[reduction].format(metric.title) + before
    if reduction == "first_over_last":
        if metric.ends != NONNEGATIVE:
            raise UserError(f"metric: {name!r}: {metric.title} may be 0; allowed: of gradient, sd")
        return Metric(name, "decades", kind="run", title=title)
    return dataclasses.replace(metric, name=name, title=title)


def required_probe(name: str) -> str | None:
    """The probe that measures the metric called `name`; None if every run has the metric. Raises
    UserError if no probe measures it."""
    if signal := parse_signal(name):
        return next(probe for probe, names in catalog.SIGNALS.items() if signal[1] in names)
    if not name.startswith("measures."):
        return None
    probe_of = {measure: probe for probe, names in catalog.MEASURES.items() for measure in names}
    measure = name.removeprefix("measures.")
    if measure not in probe_of:
        raise unknown("metric: measures", measure, probe_of)
    return probe_of[measure]


def parse_steps_to(name: str) -> float | None:
    """The value of `steps_to(VALUE)`; None for other metrics."""
    match = _STEPS_TO.fullmatch(name)
    return float(match["target"]) if match else None


def parse_signal(name: str) -> tuple[str, str, str] | None:
    """(`start` or `end`, NAME, REDUCTION) of the metric of a signal; None for other metrics."""
    match = _SIGNAL.fullmatch(name)
    if not match:
        return None
    return "start" if match["start"] else "end", match["name"], match["reduction"]
