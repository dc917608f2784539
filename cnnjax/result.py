"""The schema of a run's result.json, read, validated and written here. No jax."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cnnjax import files
from cnnjax.metric import CLASSIFICATION, COSTS, UNBOUNDED, Metric, parse_signal
from cnnjax.validation import Count, Number, Record, from_file, inconsistent

Status = Literal["finished", "diverged", "failed"]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
SPLITS = ("validation", "test")
OUTCOME = "outcome"
"""The key, in predictions_<split>.npz, of the primary metric's value for each example. Those of
other metrics are `outcome_NAME`."""

MOMENTS = ("start", "end")

_ENDS = {each.name: each.ends for each in CLASSIFICATION}


class Figures(Record):
    """The task's metrics on a split, by name; one that was not finite is None."""

    __pydantic_extra__: dict[str, Number | None]

    examples: Count | None = None

    @property
    def values(self) -> Mapping[str, float | None]:
        """All values by metric."""
        return self.__pydantic_extra__ or {}

    def get(self, name: str) -> float | None:
        """The value of a metric; None if it was not finite or not evaluated."""
        return self.values.get(name)


class Best(Figures):
    """The best evaluation on the validation split, by the task's first metric."""

    step: Count | None = None


def _accuracy_as_figures(value: Any) -> Any:
    """Older results have only the accuracy."""
    return {"accuracy": value} if isinstance(value, int | float) else value


_RENAMED = {"replicates": "replicas", "lanes": "replica_axis"}


def current_names(values: Any) -> Any:
    """The fields of `runtime` under their current names, whichever version wrote them."""
    if not isinstance(values, Mapping):
        return values
    return {_RENAMED.get(name, name): value for name, value in values.items()}


class RunResult(Record):
    """The result of a run. Only the status is always present: a run that failed has little else,
    and older results have fewer fields.

    Attributes:
      arm, block, seed: the run.
      status: whether it finished, diverged, or failed with an error.
      error: the error of a failed run.
      validation, test: the figures of the final weights.
      best_validation: the best evaluation during training.
      chance: for each split, the figures of the best constant prediction; in classification, the
        accuracy of the most frequent class and the entropy of the classes.
      measures: what probes measured on a split, by split and name.
      signals: what they measured in the network's layers, by moment (start, end), layer and name.
      seconds: the time of the run; runs that were trained together have an equal share each.
      runtime: the hardware, libraries and settings of the run, and the fingerprint of its data.
      multiply_adds: of the forward pass of one image.
      params_digest: a digest of the final weights.
    """

    arm: str = ""
    block: str = ""
    seed: Count | None = None
    status: Status
    error: str = ""
    diverged_at_step: Count | None = None
    steps: Count | None = None
    validation: Figures | None = None
    test: Figures | None = None
    params_digest: str | None = None
    chance: dict[str, Annotated[Figures, BeforeValidator(_accuracy_as_figures)]] = Field(
        default_factory=dict
    )
    best_validation: Best | None = None
    examples_seen: Count | None = None
    seconds: Seconds | None = None
    train_images_per_second: Annotated[Number, Field(ge=0)] | None = None
    parameters: Count | None = None
    multiply_adds: Count | None = None
    measures: dict[str, dict[str, Number | None]] = Field(default_factory=dict)
    signals: dict[str, dict[str, dict[str, Number | None]]] = Field(default_factory=dict)
    compilations: Count | None = None
    runtime: Annotated[dict[str, Any], BeforeValidator(current_names)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_figures(self) -> "RunResult":
        by_path = {name: getattr(self, name) for name in (*SPLITS, "best_validation")}
        by_path |= {f"chance.{split}": figures for split, figures in self.chance.items()}
        for path, figures in by_path.items():
            for name, value in figures.values.items() if figures else ():
                low, high = _ENDS.get(name, UNBOUNDED)
                if value is not None and not low <= value <= high:
                    most = f" and at most {high:g}" if math.isfinite(high) else ""
                    allowed = f"allowed: a number, at least {low:g}{most}"
                    raise inconsistent(f"{path}.{name}", f"{value} is not valid; {allowed}")
        if self.status == "finished" and not any(map(self.evaluated, SPLITS)):
            text = "finished, but without a figure of any split"
            raise PydanticCustomError("inconsistent", "{text}", {"text": text})
        return self

    def figures(self, split: str) -> Figures:
        """The figures of a split; empty if it was not evaluated."""
        return {"validation": self.validation, "test": self.test}.get(split) or Figures()

    def evaluated(self, split: str) -> bool:
        """Whether the final weights were evaluated on a split."""
        return any(value is not None for value in self.figures(split).values.values())

    def value(self, metric: Metric, split: str) -> float | None:
        """The value of a metric, on `split` if it is measured on one; None if the result does not
        have it. A run that diverged has the value of `chance`."""
        if metric in COSTS:
            return getattr(self, metric.name)
        if signal := parse_signal(metric.name):
            return self.signal(*signal)
        if self.status == "diverged":
            return self.chance.get(split, Figures()).get(metric.name)
        if metric.name.startswith("measures."):
            return self.measures.get(split, {}).get(metric.name.removeprefix("measures."))
        return self.figures(split).get(metric.name)

    def layers(self, name: str = "") -> list[str]:
        """The layers of the network, first to last, that have a signal called `name`, or any.

        The signals of each probe are stored in the order of the network, one probe after the
        other; a layer inside an endpoint (`conv1/conv` in `conv1`) comes right after the endpoint,
        whichever probe named it first.
        """
        moments = self.signals.values()
        names = list(dict.fromkeys(layer for layers in moments for layer in layers))
        index = {layer: i for i, layer in enumerate(names)}

        def order(layer: str) -> tuple[int, int]:
            return index.get(layer.partition("/")[0], index[layer]), index[layer]

        return [
            layer
            for layer in sorted(names, key=order)
            if not name or any(name in layers.get(layer, {}) for layers in moments)
        ]

    def signal(self, moment: str, name: str, reduction: str) -> float | None:
        """A signal reduced over the layers, see `cnnjax.metric.REDUCTIONS`; None if no layer has
        it."""
        numbers = [
            value
            for layer in self.layers(name)
            if (value := self.signals.get(moment, {}).get(layer, {}).get(name)) is not None
        ]
        if not numbers:
            return None
        if reduction == "first_over_last":
            first, last = numbers[0], numbers[-1]
            return math.log10(first / last) if min(first, last) > 0 else None
        reduced = {
            "first": numbers[0],
            "last": numbers[-1],
            "mean": sum(numbers) / len(numbers),
            "smallest": min(numbers),
            "largest": max(numbers),
        }
        return reduced[reduction]

    def write(self, path: Path) -> None:
        """Writes the fields that were set, atomically."""
        files.write_json(path, self.model_dump(mode="json", exclude_unset=True))


def read(path: Path) -> RunResult:
    """Reads a result.json. Raises UserError with the path of the file and the field."""
    return from_file(RunResult, path)
