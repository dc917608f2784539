"""What the configuration's classes and fields are made of. No jax."""

from collections.abc import Iterable
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Room(BaseModel):
    """A group of fields: frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and allowed is not bool and bool not in get_args(allowed):
            raise PydanticCustomError("truth", "allowed: anything but true and false")
        return value


def named(kind: str, known: Iterable[str], *extra: str) -> Any:
    """A string field that must be one of `known`, of `extra`, or of the user's own levels."""

    def check(value: str, info: ValidationInfo) -> str:
        own = (info.context or {}).get("levels", {}).get(kind, {})
        allowed = [*extra, *known, *own]
        if value not in allowed:
            raise PydanticCustomError(
                "unknown_name", "allowed: {allowed}", {"allowed": ", ".join(allowed)}
            )
        return value

    return Annotated[str, AfterValidator(check)]


def probability_to_keep(value: Any) -> float | str:
    """A probability to keep, or `default`."""
    try:
        if value == "default" or 0 < float(value) <= 1:
            return value if value == "default" else float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PydanticCustomError("keep_prob", "allowed: a number above 0 and at most 1, or default")


Probability = Annotated[float, Field(gt=0, le=1)]
