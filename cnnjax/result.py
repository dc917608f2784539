"""The schema of a run's result.json: what it holds, read, validated and written. No jax."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cnnjax import files, metric
from cnnjax.metric import Metric
from cnnjax.validation import Count, Number, Record, from_file

Status = Literal["finished", "diverged", "failed"]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
SPLITS = ("validation", "test")
OUTCOME = "outcome"
"""What the value of the primary metric for each example is called in predictions_<split>.npz."""

MOMENTS = ("start", "end")

_ENDS = {known.name: known.ends for known in metric.CLASSIFICATION}


class Figures(Record):
    """What a split was evaluated to: the task's metrics by name; one that was not finite is
    None."""

    __pydantic_extra__: dict[str, Number | None]

    examples: Count | None = None

    @property
    def values(self) -> Mapping[str, float | None]:
        """All values by metric."""
        return self.__pydantic_extra__ or {}

    def get(self, name: str) -> float | None:
        """The value of a metric; None where it was not finite, or not evaluated."""
        return self.values.get(name)


class Best(Figures):
    """The best evaluation on the validation split, by the task's first metric."""

    step: Count | None = None


def _of_accuracy(value: Any) -> Any:
    """Older results have the accuracy alone."""
    return {"accuracy": value} if isinstance(value, int | float) else value


_RENAMED = {"replicates": "replicas", "lanes": "replica_axis"}


def renamed(values: Any) -> Any:
    """What a run computed with, by today's names, whichever version wrote it."""
    if not isinstance(values, Mapping):
        return values
    return {_RENAMED.get(name, name): value for name, value in values.items()}


class RunResult(Record):
    """What became of a run. Only the status is in all of them: a run that failed has little else,
    and older results have fewer fields.

    Attributes:
      arm, block, seed: which run it is.
      status: whether it finished, diverged, or failed by an error.
      error: what it failed by.
      validation, test: the figures of the final weights.
      best_validation: the best evaluation on the way.
      chance: of each split, the figures of the best prediction that is the same for all examples;
        of classification the accuracy of the most frequent class, and the entropy of the classes.
      measures: what probes measured on a split, by split and name.
      signals: what they measured of the network's layers, by moment (start, end), layer and name.
      seconds: the time of the run; of runs that were trained together an equal share for each.
      runtime: what the run computed with, and on which data.
      multiply_adds: of one image, forward.
      params_digest: of the final weights.
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
    chance: dict[str, Annotated[Figures, BeforeValidator(_of_accuracy)]] = Field(
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
    runtime: Annotated[dict[str, Any], BeforeValidator(renamed)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_possible_figures(self) -> "RunResult":
        names = (*SPLITS, "best_validation")
        given = {name: getattr(self, name) for name in names}
        given |= {f"chance.{split}": figures for split, figures in self.chance.items()}
        for where, figures in given.items():
            for name, value in figures.values.items() if figures else ():
                low, high = _ENDS.get(name, metric.EVERYWHERE)
                if value is not None and not low <= value <= high:
                    most = f" and at most {high:g}" if math.isfinite(high) else ""
                    allowed = f"allowed: a number, at least {low:g}{most}"
                    text = f"{where}.{name}: {value} is not valid; {allowed}"
                    raise PydanticCustomError("inconsistent", "{text}", {"text": text})
        return self

    @model_validator(mode="after")
    def _has_figures(self) -> "RunResult":
        if self.status == "finished" and not any(map(self.evaluated, SPLITS)):
            text = "finished, but without a figure of any split"
            raise PydanticCustomError("inconsistent", "{text}", {"text": text})
        return self

    def figures(self, split: str) -> Figures:
        """What a split was evaluated to; without a figure where it was not."""
        return {"validation": self.validation, "test": self.test}.get(split) or Figures()

    def evaluated(self, split: str) -> bool:
        """Whether a split has figures of the final weights."""
        return any(value is not None for value in self.figures(split).values.values())

    def value(self, of: Metric, split: str) -> float | None:
        """The value of a metric, on a split where it is of one; None where it is not there. Of a
        run that diverged it is that of `chance`."""
        if of in metric.COSTS:
            value: float | None = getattr(self, of.name)
            return value
        if at := metric.signal(of.name):
            return self.signal(*at)
        if self.status == "diverged":
            return self.chance.get(split, Figures()).get(of.name)
        if of.name.startswith("measures."):
            return self.measures.get(split, {}).get(of.name.removeprefix("measures."))
        return self.figures(split).get(of.name)

    def layers(self, name: str = "") -> list[str]:
        """The layers of the network from its first to its last: those that have a number called
        `name`, or any number.

        Probes are kept one after the other, each in the order of the network; what is inside an
        endpoint (`conv1/conv` of `conv1`) stands beside it, whichever probe named it first.
        """
        named = list(dict.fromkeys(layer for own in self.signals.values() for layer in own))
        places = {layer: place for place, layer in enumerate(named)}

        def order(layer: str) -> tuple[int, int]:
            return places.get(layer.partition("/")[0], places[layer]), places[layer]

        return [
            layer
            for layer in sorted(named, key=order)
            if not name or any(name in own.get(layer, {}) for own in self.signals.values())
        ]

    def signal(self, moment: str, name: str, reduction: str) -> float | None:
        """One number of those that the layers have, see `cnnjax.metric.REDUCTIONS`; None where
        there is none."""
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
    """The result in a file. Raises UserError naming the file and the field."""
    return from_file(RunResult, path)
