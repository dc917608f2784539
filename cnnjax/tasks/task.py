"""What a network is trained for. No jax.

A task is a set of pure functions. The loop, the statistics of a study and its report know nothing
else of it, so that one of the user's own goes the same way as those of cnnjax: an experiment's file
names it in `LEVELS["task"]`, and its base asks for it with `task`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.errors import UserError
from cnnjax.metric import COSTS, Metric

Arrays = Mapping[str, Any]
"""Arrays by name, of jax or of numpy; the first axis of each counts examples."""


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
"""Names that mean something else where metrics stand."""


def _as_they_are(images: Any, targets: Arrays) -> Arrays:
    return targets


def _outputs(outputs: Any) -> Arrays:
    return {"outputs": outputs}


@dataclass(frozen=True)
class Task:
    """What a network is trained for, and what is measured of it.

    Attributes:
      metrics: what a split is evaluated to; runs are compared by the first.
      num_outputs: (spec) -> how many numbers the network gives for an image; `spec` is a
        `cnnjax.data.DatasetSpec`.
      loss: (outputs, targets, label_smoothing) -> float [B], differentiable. outputs: float
        [B, num_outputs]. label_smoothing, in [0, 1), is for those who take it.
      statistics: (outputs, targets) -> {name: [B, ...]} in an evaluation, on the device, and small.
        Of a metric that is a mean over examples, the value of each by the metric's name.
      constant: (targets) -> {metric: number}, on the host, of all targets of a split: what the best
        prediction scores that is the same for all images, and so a run that diverged.
      targets: (images, targets) -> targets, before augmentation: what is to be predicted where it
        is not what the data set says. images: uint8 [B, H, W, C]; targets: of a data set of classes
        `label`, int32 [B].
      head: (spec) -> a flax module, features [B, n] of a backbone -> outputs [B, num_outputs]; by
        default the backbone's own last layer, which for most is a fully connected one.
      predictions: (outputs) -> {name: [B, ...]}, which is kept of each example.
      figures: ({name: [N, ...]}) -> {metric: number} of the statistics of any examples, on the
        host; by default the mean of what has the metric's name.

    Raises UserError where the metrics are not those of a split.
    """

    metrics: tuple[Metric, ...]
    num_outputs: Callable[[Any], int]
    loss: Callable[[Any, Arrays, Any], Any]
    statistics: Callable[[Any, Arrays], Arrays]
    constant: Callable[[Arrays], Mapping[str, float]]
    targets: Callable[[Any, Arrays], Arrays] = _as_they_are
    head: Callable[[Any], Any] | None = None
    predictions: Callable[[Any], Arrays] = _outputs
    figures: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metrics, list | tuple) or not self.metrics:
            raise UserError(f"Task: metrics: {self.metrics!r} is not a non-empty list.")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        for each in self.metrics:
            if not isinstance(each, Metric):
                raise UserError(f"Task: metrics: {each!r} is not a Metric.")
            if not each.on_split:
                allowed = "share, mean, corpus"
                raise UserError(f"Task: metric {each.name!r}: kind: {each.kind!r}; {allowed}.")
            if not _NAME.fullmatch(each.name) or each.name in RESERVED:
                raise UserError(
                    f"Task: metric {each.name!r}: name: allowed are small letters, digits and _, "
                    f"but for {', '.join(RESERVED)}."
                )
        names = [each.name for each in self.metrics]
        if len(set(names)) < len(names):
            raise UserError(f"Task: metrics: {', '.join(names)}: names must be unique.")
        without = [each.name for each in self.metrics if each.kind == "corpus"]
        if without and self.figures is None:
            raise UserError(f"Task: figures: is missing; {without[0]!r} is no mean over examples.")

    @property
    def primary(self) -> Metric:
        """The metric that runs are compared by."""
        return self.metrics[0]

    @property
    def derives_targets(self) -> bool:
        """Whether what is to be predicted is not what the data set says."""
        return self.targets is not _as_they_are

    @property
    def means(self) -> tuple[str, ...]:
        """The names of the metrics that are means over examples."""
        return tuple(each.name for each in self.metrics if each.kind in ("share", "mean"))

    def evaluated(self, statistics: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """The value of each metric for the examples whose statistics these are."""
        means = {name: float(statistics[name].mean(dtype=np.float64)) for name in self.means}
        return means if self.figures is None else {**means, **self.figures(statistics)}
