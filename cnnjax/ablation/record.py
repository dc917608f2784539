"""The schema of study.json: read and validated here. No jax.

Studies that older versions wrote have fewer fields; those of newer ones are kept as they are.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field
from pydantic_core import PydanticCustomError

from cnnjax.ablation.checks import SEEDS
from cnnjax.errors import MachineError, UserError
from cnnjax.metric import Kind
from cnnjax.validation import Number, Record, from_file

MOST_POINTS = 10_000


def _folder(name: str) -> str:
    """The name of an arm, which is that of a folder in the workdir and of none elsewhere."""
    if name in ("", ".", "..") or {"/", "\0"} & set(name) or len(name.encode()) > 255:
        raise PydanticCustomError("folder", "allowed: the name of a folder in the workdir")
    return name


def _points(grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if math.prod(map(len, grid.values())) > MOST_POINTS:
        raise PydanticCustomError("points", "allowed: a grid of at most 10000 points")
    return grid


ArmName = Annotated[str, AfterValidator(_folder)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Level = int | float | str | bool | None


class Texts(Record):
    """What the experiment's file says of it."""

    name: str = ""
    question: str = ""
    lecture: str = Field("", validation_alias=AliasChoices("lecture", "deck"))  # of older versions
    published: str = ""
    expected: str = ""
    notes: str = ""


class Tuning(Record):
    """What arms were tuned by."""

    grid: Annotated[
        dict[str, Annotated[list[Level], Field(min_length=1)]],
        Field(min_length=1),
        AfterValidator(_points),
    ]
    seeds: list[Seed] = Field(min_length=1)


class Arm(Record):
    """An arm: what it changes in the base, and the whole configuration that it comes to."""

    block: str = ""
    baseline: bool = False
    defined: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    levels: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)


class Extension(Record):
    """What one call of the sweep added, and with what."""

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
    kind: Kind
    ends: Annotated[list[Number | None], Field(min_length=2, max_length=2)]
    decimals: Annotated[int, Field(ge=0, le=20)]
    title: str


class StudyRecord(Record):
    """A study: its experiment, its arms and seeds, and how it came to be."""

    experiment: Texts = Texts()
    metrics: list[MetricRecord] = Field(default_factory=list)
    factors: list[str] = Field(default_factory=list)
    tune: Tuning | None = None
    arms: dict[ArmName, Arm]
    seeds: list[Seed] = Field(default_factory=list)
    data: list[dict[str, Any]] = Field(default_factory=list)
    claims: list[dict[str, Any]] = Field(default_factory=list)
    looks_at_test: list[dict[str, Any]] = Field(default_factory=list)
    adopted: str = ""
    command: str = ""
    set: list[str] = Field(default_factory=list)
    created: str = ""
    source: dict[str, str] = Field(default_factory=dict)
    extensions: list[Extension] = Field(default_factory=list)
    machine: dict[str, Any] = Field(default_factory=dict)


def path(workdir: Path) -> Path:
    """The study.json of a workdir. Raises UserError where it holds none."""
    file = workdir / "study.json"
    if not os.path.lexists(file):
        runs_there = any(workdir.glob("*/seed-*/config.json"))
        again = "; the command that made its runs makes it again" if runs_there else ""
        raise UserError(f"{workdir}: holds no study (no study.json in it){again}.")
    return file


def read(path: Path) -> dict[str, Any]:
    """A study.json as plain values, each of the type that it has above. `tune` and `data` are
    absent where the study is of a version that did not tell. Raises UserError naming the file and
    the field."""
    try:
        study = from_file(StudyRecord, path)
    except MachineError:
        raise
    except UserError as error:
        again = "without the file, the command that made the runs beside it makes it again"
        raise UserError(f"{str(error).rstrip('.')}; {again}.") from None
    untold = {"tune", "data"} - study.model_fields_set
    return study.model_dump(exclude=untold)
