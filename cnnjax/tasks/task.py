"""What a network is trained for. No jax.

A task is a set of pure functions. The loop, the statistics of a study and its report use nothing
else, so that a task of the user's own is treated as those of cnnjax: the file of an experiment
defines it in `LEVELS["task"]`, and its base names it in the field `task`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.errors import UserError
from cnnjax.metric import COSTS, Metric

if TYPE_CHECKING:
    from cnnjax.data import DatasetSpec

Arrays = Mapping[str, Any]
"""Arrays of jax or numpy by name; the first axis of each is the example."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = (
    "examples",
    "step",
    "epoch",
    "split",
    "learning_rate",
    "images_per_second",
    *(cost.name for cost in COSTS),
)
"""Names with another meaning beside those of metrics."""


def _unchanged(images: Any, targets: Arrays) -> Arrays:
    return targets


def _outputs(outputs: Any) -> Arrays:
    return {"outputs": outputs}


@dataclass(frozen=True)
class Task:
    """What a network is trained for, and what is measured of it.

    Attributes:
      metrics: of a split; runs are compared by the first.
      num_outputs: (spec) -> outputs of the network per image; `spec` is a
        `cnnjax.data.DatasetSpec`.
      loss: (outputs, targets, label_smoothing) -> float [B], differentiable. outputs: float
        [B, num_outputs]. label_smoothing, in [0, 1), may be ignored.
      statistics: (outputs, targets) -> {name: [B, ...]} in an evaluation, on the device; they
        should be small. For a metric that is a mean over examples: their values, by the metric's
        name.
      constant: (targets) -> {metric: value}, on the host, of all targets of a split: the metrics of
        the best prediction that is the same for all images. A run that diverged gets them.
      targets: (images, targets) -> targets, before augmentation: derives what is to be predicted,
        by default the targets of the data set. images: uint8 [B, H, W, C]; targets: of a data set
        of classes `label`, int32 [B].
      head: (spec) -> a flax module, features [B, n] of a backbone -> outputs [B, num_outputs]; by
        default the last layer of the backbone's architecture, mostly a fully connected one.
      predictions: (outputs) -> {name: [B, ...]}, which are stored for each example.
      figures: ({name: [N, ...]}) -> {metric: value} from the statistics of any examples, on the
        host; by default the mean of the statistic with the metric's name.

    Raises UserError if the metrics are not those of a split.
    """

    metrics: tuple[Metric, ...]
    num_outputs: Callable[["DatasetSpec"], int]
    loss: Callable[[Any, Arrays, Any], Any]
    statistics: Callable[[Any, Arrays], Arrays]
    constant: Callable[[Arrays], Mapping[str, float]]
    targets: Callable[[Any, Arrays], Arrays] = _unchanged
    head: Callable[["DatasetSpec"], Any] | None = None
    predictions: Callable[[Any], Arrays] = _outputs
    figures: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metrics, list | tuple) or not self.metrics:
            raise UserError(f"Task: metrics: {self.metrics!r} is not a non-empty list.")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        for metric in self.metrics:
            if not isinstance(metric, Metric):
                raise UserError(f"Task: metrics: {metric!r} is not a Metric.")
            if not metric.on_split:
                allowed = "allowed: share, mean, corpus"
                raise UserError(f"Task: metric {metric.name!r}: kind: {metric.kind!r}; {allowed}.")
            if not _NAME.fullmatch(metric.name) or metric.name in RESERVED:
                raise UserError(
                    f"Task: metric {metric.name!r}: name: allowed are small letters, digits and _, "
                    f"except {', '.join(RESERVED)}."
                )
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise UserError(f"Task: metrics: {', '.join(names)}: names must be unique.")
        corpus = [metric.name for metric in self.metrics if metric.kind == "corpus"]
        if corpus and self.figures is None:
            raise UserError(
                f"Task: figures: is missing; {corpus[0]!r} is not a mean over examples."
            )

    @property
    def primary(self) -> Metric:
        """The metric that runs are compared by."""
        return self.metrics[0]

    @property
    def derives_targets(self) -> bool:
        """Whether the targets are derived rather than those of the data set."""
        return self.targets is not _unchanged

    @property
    def means(self) -> tuple[str, ...]:
        """The names of the metrics that are means over examples."""
        return tuple(metric.name for metric in self.metrics if metric.kind in ("share", "mean"))

    def evaluated(self, statistics: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """The value of each metric, from the statistics of some examples."""
        means = {name: float(statistics[name].mean(dtype=np.float64)) for name in self.means}
        return means if self.figures is None else {**means, **self.figures(statistics)}
