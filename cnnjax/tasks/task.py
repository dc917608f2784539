"""What a network is trained for. No jax.

A task is a set of pure functions. The loop, the statistics of a study and its report use nothing
else, so that a task of the user's own is treated as those of cnnjax: the file of an experiment
defines it in `LEVELS["task"]`, and its base names it in the field `task`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.errors import UserError
from cnnjax.metric import COSTS, Metric

if TYPE_CHECKING:
    from cnnjax.config import ResolvedConfig
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
    if isinstance(outputs, Mapping):  # of other names than the targets, which are kept beside them
        return {f"outputs_{name}": values for name, values in outputs.items()}
    return {"outputs": outputs}


_DATA = {
    "label": "digits, sets of TFDS with labels, and folders with a folder for each class",
    "mask": "digit_masks, sets of TFDS with segmentation_mask, and folders of images/ and labels/",
    "box": "digit_boxes, sets of TFDS with bbox, and folders with annotations.csv or Pascal VOC",
}
"""{target: the data sets that have it}"""


def _hint(targets: Sequence[str], reads: Sequence[str]) -> str:
    """What to choose for a data set without the targets that a task reads."""
    fitting = {"mask": "segmentation", "box": "localization", "label": "classification"}
    task = next((task for target, task in fitting.items() if target in targets), None)
    rarest = [name for name in ("box", "mask", "label") if name in reads] + list(reads)
    missing = next(name for name in rarest if name not in targets)
    data = f"{missing} is in {_DATA[missing]}" if missing in _DATA else ""
    return "; ".join(filter(None, [f"set task={task}" if task else "", data]))


@dataclass(frozen=True)
class Task:
    """What a network is trained for, and what is measured of it.

    Attributes:
      metrics: of a split; runs are compared by the first.
      num_outputs: (spec) -> outputs of the network per image; `spec` is a
        `cnnjax.data.DatasetSpec`. With a mapping, {name: number}, the network has a head for each
        name, and its outputs are a mapping.
      loss: (outputs, targets, label_smoothing) -> float [B], differentiable. outputs: float
        [B, num_outputs], {name: [B, number]}, or [B, H, W, num_outputs] with `per_pixel`.
        label_smoothing, in [0, 1), may be ignored.
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
      reads: the names of the targets that a data set needs to have.
      per_pixel: whether there are outputs for each pixel of the image, as of a segmentation.
      logged: the metrics, means over examples, that a training step computes of its batch and
        writes to the log; by default all means.
      mistakes: (predictions, targets of the data set) -> float [N], on the host: how sure, above 0,
        the network was of an example that it has wrong; 0 for the others. Reports show those with
        the largest.
      configured: (config, spec) -> the task of a `cnnjax.config.ResolvedConfig` and a data set; by
        default the task itself.

    Raises UserError if the metrics are not those of a split.
    """

    metrics: tuple[Metric, ...]
    num_outputs: Callable[["DatasetSpec"], int | Mapping[str, int]]
    loss: Callable[[Any, Arrays, Any], Any]
    statistics: Callable[[Any, Arrays], Arrays]
    constant: Callable[[Arrays], Mapping[str, float]]
    targets: Callable[[Any, Arrays], Arrays] = _unchanged
    head: Callable[["DatasetSpec"], Any] | None = None
    predictions: Callable[[Any], Arrays] = _outputs
    figures: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]] | None = None
    reads: tuple[str, ...] = ("label",)
    per_pixel: bool = False
    logged: tuple[str, ...] | None = None
    mistakes: Callable[[Arrays, Arrays], np.ndarray] | None = None
    configured: Callable[["ResolvedConfig", "DatasetSpec"], "Task"] | None = None

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

    def check(self, config: "ResolvedConfig", spec: "DatasetSpec") -> None:
        """Raises UserError if the data set lacks a target that the task reads."""
        missing = [name for name in self.reads if name not in spec.targets]
        if missing:
            raise UserError(
                f"data.name: {spec.name!r} has the targets {', '.join(spec.targets)}, but the task "
                f"{config.task} reads {', '.join(missing)}; {_hint(spec.targets, self.reads)}.",
                path="data.name",
            )

    def for_run(self, config: "ResolvedConfig", spec: "DatasetSpec") -> "Task":
        """The task of one configuration and data set. Raises UserError, as `check` does."""
        self.check(config, spec)
        return self if self.configured is None else self.configured(config, spec)

    @property
    def train_metrics(self) -> tuple[str, ...]:
        """The names of the metrics of a training step."""
        return self.means if self.logged is None else self.logged

    def output_shape(self, spec: "DatasetSpec") -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The shape of the outputs for one image, (num_outputs,), or the shapes by name.

        Raises ValueError for numbers of outputs that are not positive.
        """
        numbers = self.num_outputs(spec)
        by_name = numbers if isinstance(numbers, Mapping) else {"": numbers}
        for name, number in by_name.items():
            if not isinstance(number, int) or number < 1:
                where = f"num_outputs: {name}: " if name else "num_outputs: "
                allowed = "allowed: a whole number, at least 1."
                raise ValueError(f"{where}{number!r} is not valid; {allowed}")
        if isinstance(numbers, Mapping):
            return {name: (number,) for name, number in numbers.items()}
        return (*spec.image_shape[:2], numbers) if self.per_pixel else (numbers,)

    def evaluated(self, statistics: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """The value of each metric, from the statistics of some examples."""
        means = {name: float(statistics[name].mean(dtype=np.float64)) for name in self.means}
        return means if self.figures is None else {**means, **self.figures(statistics)}
