"""The schema of study.json, read and validated here. No jax.

Studies written by older versions lack fields; unknown fields of newer versions are preserved.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field
from pydantic_core import PydanticCustomError

from cnnjax.ablation.checks import SEEDS
from cnnjax.errors import MachineError, UserError
from cnnjax.metric import MetricKind
from cnnjax.validation import Number, Record, from_file

MOST_POINTS = 10_000


def _check_folder(name: str) -> str:
    """Checks the name of an arm, which must be that of a folder in the workdir."""
    if name in ("", ".", "..") or {"/", "\0"} & set(name) or len(name.encode()) > 255:
        raise PydanticCustomError("folder", "allowed: the name of a folder in the workdir")
    return name


def _check_points(grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if math.prod(map(len, grid.values())) > MOST_POINTS:
        raise PydanticCustomError("points", "allowed: a grid of at most 10000 points")
    return grid


ArmName = Annotated[str, AfterValidator(_check_folder)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Level = int | float | str | bool | None


class ExperimentRecord(Record):
    """The texts of an experiment."""

    name: str = ""
    question: str = ""
    lecture: str = Field("", validation_alias=AliasChoices("lecture", "deck"))  # of older versions
    published: str = ""
    expected: str = ""
    notes: str = ""
    prerequisite: str = ""


class TuneRecord(Record):
    """The grid and the seeds of the tuning."""

    grid: Annotated[
        dict[str, Annotated[list[Level], Field(min_length=1)]],
        Field(min_length=1),
        AfterValidator(_check_points),
    ]
    seeds: list[Seed] = Field(min_length=1)


class ArmRecord(Record):
    """An arm: its overrides of the base, and its resolved configuration."""

    block: str = ""
    baseline: bool = False
    defined: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    levels: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)


class ExtensionRecord(Record):
    """The arms and seeds that one call of the sweep added, with its command and versions."""

    date: str = ""
    command: str = ""
    arms: list[ArmName] = Field(default_factory=list)
    seeds: list[Seed] = Field(default_factory=list)
    planned: dict[str, str] | None = None
    after_results: bool = False
    versions: dict[str, Any] = Field(default_factory=dict)
    git: dict[str, Any] | None = None


class MetricRecord(Record):
    """A metric of the study's task, see `cnnjax.metric.Metric`."""

    name: str
    unit: str
    higher_is_better: bool
    kind: MetricKind
    ends: Annotated[list[Number | None], Field(min_length=2, max_length=2)]
    decimals: Annotated[int, Field(ge=0, le=20)]
    title: str


class StudyRecord(Record):
    """A study: its experiment, its arms and seeds, and its history."""

    experiment: ExperimentRecord = ExperimentRecord()
    metrics: list[MetricRecord] = Field(default_factory=list)
    factors: list[str] = Field(default_factory=list)
    tune: TuneRecord | None = None
    arms: dict[ArmName, ArmRecord]
    seeds: list[Seed] = Field(default_factory=list)
    data: list[dict[str, Any]] = Field(default_factory=list)
    claims: list[dict[str, Any]] = Field(default_factory=list)
    looks_at_test: list[dict[str, Any]] = Field(default_factory=list)
    adopted: str = ""
    command: str = ""
    set: list[str] = Field(default_factory=list)
    created: str = ""
    source: dict[str, str] = Field(default_factory=dict)
    extensions: list[ExtensionRecord] = Field(default_factory=list)
    machine: dict[str, Any] = Field(default_factory=dict)


def read(workdir: Path) -> dict[str, Any]:
    """The study.json of a workdir as plain values with the types above, without `tune` and `data`
    if the study is of a version that did not record them. Raises UserError if there is none, and
    with the path of the file and the field if it is not valid."""
    path = workdir / "study.json"
    if not os.path.lexists(path):
        has_runs = any(workdir.glob("*/seed-*/config.json"))
        hint = "; the command that made its runs makes it again" if has_runs else ""
        raise UserError(f"{workdir}: holds no study (no study.json in it){hint}.")
    try:
        study = from_file(StudyRecord, path)
    except MachineError:
        raise
    except UserError as error:
        hint = "without the file, the command that made the runs beside it makes it again"
        raise UserError(f"{str(error).rstrip('.')}; {hint}.") from None
    not_recorded = {"tune", "data"} - study.model_fields_set
    return study.model_dump(exclude=not_recorded)
