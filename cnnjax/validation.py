"""Base classes and validators of the configuration and of files. No jax."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from cnnjax import files
from cnnjax.errors import UserError, explain


class _NotANumber:
    """Replaces true and false where a number is expected: Python takes them for 1 and 0."""

    def __init__(self, value: bool):
        self._value = value

    def __repr__(self) -> str:
        return str(self._value).lower()


class ConfigGroup(BaseModel):
    """A group of fields: frozen; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = cls.model_fields[str(info.field_name)].annotation
        if allowed is bool or bool in get_args(allowed):
            return value
        if isinstance(value, list | tuple):
            return [_NotANumber(item) if isinstance(item, bool) else item for item in value]
        return _NotANumber(value) if isinstance(value, bool) else value


class Record(BaseModel):
    """A table in a file that cnnjax wrote: frozen, without conversion of types; unknown keys, of
    other versions, are kept."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, defer_build=True
    )


R = TypeVar("R", bound=Record)


def from_file(model: type[R], path: Path) -> R:
    """The record in a JSON file. Raises UserError in one line that names the file and the field."""
    try:
        return model.model_validate(files.read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, ()).splitlines()[0]}") from None


def one_of(kind: str, names: Iterable[str], *extra: str) -> AfterValidator:
    """Validates that a string is in `names`, in `extra`, or a level of the user's own."""

    def check(value: str, info: ValidationInfo) -> str:
        user_levels = (info.context or {}).get("levels", {}).get(kind, {})
        allowed = [*extra, *names, *user_levels]
        if value not in allowed:
            raise PydanticCustomError(
                "unknown_name", "allowed: {allowed}", {"allowed": ", ".join(allowed)}
            )
        return value

    return AfterValidator(check)


def inconsistent(path: str, text: str) -> PydanticCustomError:
    """The error for a field, by its dotted path, that contradicts others."""
    context = {"path": path, "text": text}
    return PydanticCustomError("inconsistent", "{path}: {text}", context)


def probability_to_keep(value: Any) -> float | str:
    """A probability to keep, or `default`."""
    try:
        if value == "default" or 0 < float(value) <= 1:
            return value if value == "default" else float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PydanticCustomError("keep_prob", "allowed: a number above 0 and at most 1, or default")


Probability = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Number = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]  # the range of float32
Share = Annotated[float, Field(ge=0, le=1)]
