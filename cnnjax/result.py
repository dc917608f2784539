"""The schema of a run's result.json: read and validated here. No jax."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cnnjax.fields import Count, Number, Record, Share, from_file

Status = Literal["finished", "diverged", "failed"]
Seconds = Annotated[float, Field(ge=0, le=1e10)]


class Figures(Record):
    """What a split was evaluated to; a loss that was not finite is None."""

    accuracy: Share | None = None
    loss: Number | None = None
    examples: Count | None = None


class Best(Record):
    """The evaluation on the validation split with the highest accuracy."""

    step: Count | None = None
    accuracy: Share | None = None


class Chance(Record):
    """The best constant prediction; the loss is the entropy of the classes, in nats."""

    accuracy: Share | None = None
    loss: Annotated[Number, Field(ge=0)] | None = None


def _of_accuracy(value: Any) -> Any:
    """Older results have the accuracy alone."""
    return {"accuracy": value} if isinstance(value, int | float) else value


class RunResult(Record):
    """What became of a run. Only the status is in all of them: a run that failed has little else,
    and older results have fewer fields.

    `chance` and `measures` are by split, `signals` by moment (start, end) and layer.
    """

    status: Status
    error: str = ""
    validation: Figures | None = None
    test: Figures | None = None
    best_validation: Best | None = None
    diverged_at_step: Count | None = None
    steps: Count | None = None
    examples_seen: Count | None = None
    seconds: Seconds | None = None
    train_images_per_second: Annotated[Number, Field(ge=0)] | None = None
    compilations: Count | None = None
    parameters: Count | None = None
    params_digest: str | None = None
    chance: dict[str, Annotated[Chance, BeforeValidator(_of_accuracy)]] = Field(
        default_factory=dict
    )
    runtime: dict[str, Any] = Field(default_factory=dict)
    measures: dict[str, dict[str, Number | None]] = Field(default_factory=dict)
    signals: dict[str, dict[str, dict[str, Number | None]]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_an_accuracy(self) -> "RunResult":
        found = [figures and figures.accuracy for figures in (self.validation, self.test)]
        if self.status == "finished" and found == [None, None]:
            text = "finished, but without an accuracy"
            raise PydanticCustomError("inconsistent", "{text}", {"text": text})
        return self


def read(path: Path) -> RunResult:
    """The result in a file. Raises UserError naming the file and the field."""
    return from_file(RunResult, path)
