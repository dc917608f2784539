"""The configuration of a run: created, changed, resolved and read. No jax.

`cnnjax.schema` has the fields; its groups can be imported from here, too. `override` is the only
way to change a configuration: flags, experiments and tests use it, and it validates everything
again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cnnjax import catalog, files, metric, paths
from cnnjax.errors import RENAMED, UserError, explain, first_field, unknown_path
from cnnjax.schema import Augmentation as Augmentation
from cnnjax.schema import Data as Data
from cnnjax.schema import Dropout as Dropout
from cnnjax.schema import (
    Model,
    ParameterGroup,
    ResolvedConfig,
    ResolvedDropout,
    ResolvedModel,
    ResolvedNorm,
    RunConfig,
)
from cnnjax.schema import Norm as Norm
from cnnjax.schema import Optimizer as Optimizer
from cnnjax.schema import Scenes as Scenes
from cnnjax.schema import Schedule as Schedule
from cnnjax.schema import Training as Training

C = TypeVar("C", bound=RunConfig)
Levels = Mapping[str, Mapping[str, Any]]
"""Levels of the user's own: {"activation": {"mine": f}, "initializer": {...}, "model": {...},
"decoder": {...}, "task": {...}}."""

_IMAGE_FIELDS = ("image_size", "shorter_side", "interpolation", "normalize", "mean", "sd")
PREPROCESSING = (*(f"data.{field}" for field in _IMAGE_FIELDS), "data.channel_order")
"""The data fields that belong to the weights of a network."""


def create(values: Mapping[str, Any] | None = None, levels: Levels | None = None) -> RunConfig:
    """A configuration from nested plain values. Raises UserError."""
    return _validated(RunConfig, values or {}, levels)


def _validated(kind: type[C], values: Mapping[str, Any], levels: Levels | None) -> C:
    try:
        return kind.model_validate(values, context={"levels": levels or {}})
    except ValidationError as error:
        groups = (f"optimizer.groups[].{name}" for name in ParameterGroup.model_fields)
        names = [*flat(RunConfig()), *groups]
        raise UserError(explain(error, names), path=first_field(error)) from None


def read(path: Path, levels: Levels | None = None) -> ResolvedConfig:
    """The configuration of a run in a file of any version. Raises UserError."""
    values = files.read_json(path)
    stored = from_stored(values) if isinstance(values, Mapping) else values
    return resolve(create(stored, levels), levels)


def override(
    config: RunConfig, changes: Mapping[str, Any], levels: Levels | None = None
) -> RunConfig:
    """`config` with dotted paths set to new values, validated again.

    Example: `override(config, {"model.dropout.keep_prob": 0.5})`. Raises UserError.
    """
    values = config.model_dump()
    for path, value in changes.items():
        _check_no_index(path)
        *groups, leaf = path.split(".")
        node: Any = values
        for depth, group in enumerate(groups):
            if not isinstance(node.get(group), dict):
                raise unknown_path(".".join(groups[: depth + 1]), flat(RunConfig()))
            node = node[group]
        if leaf not in node:
            raise unknown_path(path, flat(RunConfig()))
        if isinstance(node[leaf], dict):
            fields = ", ".join(f"{path}.{name}" for name in node[leaf])
            raise UserError(f"{path}: is a group of fields; set one of {fields}.", path=path)
        node[leaf] = value
    return create(values, levels)


def _check_no_index(path: str) -> None:
    """Raises UserError for the path of an element of a list, or of something in it."""
    name, bracket, _ = path.partition("[")
    if bracket and name in flat(RunConfig()):
        example = 'optimizer.groups=[{"pattern": "conv1", "rate": 0.1}]'
        hint = f", such as {example}" if name == "optimizer.groups" else ""
        raise UserError(f"{path}: {name} is a list and is set as a whole{hint}.", path=name)


def resolve(config: RunConfig, levels: Levels | None = None) -> ResolvedConfig:
    """`config` with every `default` replaced by the architecture's published choice."""
    per_pixel = metric.is_per_pixel(config.task, levels or {})
    values = config.model_dump() | {"model": _resolved(config.model, per_pixel)}
    return _validated(ResolvedConfig, values, levels)


def from_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored configuration by current names, with absolute paths. Raises
    UserError."""
    current = dict(values)
    data = current.get("data")
    if isinstance(data, Mapping) and data.get("normalize") in RENAMED:
        current["data"] = {**data, "normalize": RENAMED[data["normalize"]]}
    for path in paths.FIELDS:
        name, _, field = path.partition(".")
        group = current.get(name)
        if isinstance(group, Mapping) and field in group:
            current[name] = {**group, field: paths.field(path, group[field])}
    return current


def changes(stored: Mapping[str, Any], config: RunConfig) -> list[str]:
    """How a stored configuration differs from `config`, a phrase for each field. Fields that the
    stored version did not have are taken to have their default. Raises UserError."""
    default = flat_json(RunConfig().model_dump(mode="json"))
    before = {**default, **flat_json(from_stored(stored))}
    after = flat_json(config.model_dump(mode="json"))
    return [
        f"{path} {before.get(path)!r} -> {after.get(path)!r}"
        for path in dict.fromkeys([*before, *after])
        if before.get(path) != after.get(path)
    ]


def flat_json(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a configuration, given as plain values, as {dotted path: value}."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            fields |= flat_json(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def resolve_model(model: Model, *, per_pixel: bool = False) -> ResolvedModel:
    """`model` with every `default` replaced by the architecture's published choice; a model of
    the user's own gets those of `catalog.CUSTOM`, and one of a per-pixel task a decoder. Names are
    not checked here."""
    if isinstance(model, ResolvedModel):
        return model
    values = _resolved(model, per_pixel)
    values["norm"] = ResolvedNorm.model_construct(**values["norm"])
    values["dropout"] = ResolvedDropout.model_construct(**values["dropout"])
    return ResolvedModel.model_construct(**values)


def _resolved(model: Model, per_pixel: bool) -> dict[str, Any]:
    """The plain values of a resolved model."""
    values = model.model_dump()
    for path, value in catalog.published(model.name, per_pixel=per_pixel).items():
        if path in catalog.TRANSPOSED_FIELDS and values["decoder"] != "transposed":
            continue
        group, _, leaf = path.rpartition(".")
        fields = values[group] if group else values
        if fields[leaf] in ("default", None):
            fields[leaf] = value
    return values


def flat(config: BaseModel) -> dict[str, Any]:
    """All fields of a configuration as {dotted path: value}, in the order of the schema."""
    return flat_json(config.model_dump())
