"""The result files of a sweep, read into plain values. Only reads; a bad file spoils only its run.

A run's status is that of its `result.json` (`finished`, `diverged`, `failed`), or `unreadable`
(the file is there but cannot be used), `unfinished` (started, no result yet), `missing`.
"""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError

METRICS = (
    "validation_accuracy",
    "validation_loss",
    "test_accuracy",
    "test_loss",
    "best_validation_accuracy",
    "best_validation_step",
    "steps",
    "examples_seen",
    "seconds",
    "train_images_per_second",
    "compilations",
    "parameters",
    "params_digest",
    "error",
)
STATUSES = ("finished", "diverged", "failed")


@dataclass(frozen=True)
class Run:
    """One arm with one seed. `metrics` has the keys of METRICS; accuracies are fractions 0..1.

    `curve` is the validation accuracy during training as (step, epoch, fraction), by step.
    """

    arm: str
    block: str
    seed: int
    status: str
    error: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    curve: tuple[tuple[int, float, float], ...]
    test_examples: int | None = None
    validation_examples: int | None = None
    diverged_at_step: int | None = None

    @property
    def place(self) -> str:
        """The run's folder inside the workdir."""
        return f"{self.arm}/seed-{self.seed}"


@dataclass(frozen=True)
class Arm:
    """An arm of the study and its runs, in the order of the seeds."""

    name: str
    block: str
    baseline: bool
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """The arm's name without its block's."""
        return self.name.removeprefix(f"{self.block}.") if self.block else self.name

    def count(self, status: str) -> int:
        """How many runs ended with `status`."""
        return sum(run.status == status for run in self.runs)

    def values(self, metric: str) -> dict[int, float]:
        """{seed: metric} of the finished runs that have it."""
        return {
            run.seed: run.metrics[metric]
            for run in self.runs
            if run.status == "finished" and run.metrics[metric] is not None
        }


@dataclass(frozen=True)
class Study:
    """What a workdir holds: `about` is study.json as it is, `arms` the runs read from disk."""

    about: Mapping[str, Any]
    arms: tuple[Arm, ...]

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment's texts: name, question, deck, published, expected, notes."""
        return _mapping(self.about.get("experiment"))

    @property
    def factors(self) -> tuple[str, ...]:
        """The dotted paths that the study varies."""
        return tuple(str(path) for path in _list(self.about.get("factors")))

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, arm by arm."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @property
    def metric(self) -> str:
        """`test_accuracy`, or `validation_accuracy` where no finished run has a test figure."""
        tested = any(arm.values("test_accuracy") for arm in self.arms)
        validated = any(arm.values("validation_accuracy") for arm in self.arms)
        return "test_accuracy" if tested or not validated else "validation_accuracy"

    def blocks(self) -> dict[str, tuple[Arm, ...]]:
        """The arms of each block, its baseline first."""
        blocks: dict[str, list[Arm]] = {}
        for arm in self.arms:
            blocks.setdefault(arm.block, []).append(arm)
        return {
            name: tuple(sorted(arms, key=lambda arm: not arm.baseline))
            for name, arms in blocks.items()
        }


def load(workdir: str | Path) -> Study:
    """Read a workdir. Raises UserError where its study.json is missing or unusable."""
    workdir = Path(workdir)
    path = workdir / "study.json"
    try:
        about = _read(path)
    except FileNotFoundError:
        raise UserError(
            f"workdir: {workdir} holds no study.json; give the folder that a sweep wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"workdir: {path} cannot be read ({_one_line(error)}).") from None
    arms = about.get("arms") if isinstance(about, dict) else None
    if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
        raise UserError(f"workdir: {path} has no table of arms; it was not written by a sweep.")
    expected = _expected(about)
    return Study(about, tuple(_arm(workdir, name, arms[name], expected) for name in arms))


def rows(study: Study) -> list[dict[str, Any]]:
    """One row per run that has a result: arm, block, seed, status, factors, metrics."""
    table = []
    for run in study.runs:
        if run.status in ("missing", "unfinished"):
            continue
        row: dict[str, Any] = {
            "arm": run.arm,
            "block": run.block,
            "seed": run.seed,
            "status": run.status,
        }
        row |= {path: lookup(run.config, path) for path in study.factors}
        table.append(row | dict(run.metrics) | {"error": run.error})
    return table


def to_csv(study: Study) -> str:
    """`rows` as CSV text with a header; an absent value is an empty field."""
    columns = ["arm", "block", "seed", "status", *study.factors, *METRICS]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(columns)), lineterminator="\n")
    writer.writeheader()
    for row in rows(study):
        writer.writerow({name: plain(value) for name, value in row.items()})
    return text.getvalue()


def lookup(config: Any, path: str) -> Any:
    """The value at a dotted path of a nested configuration, or None."""
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return None
        config = config[part]
    return config


def plain(value: Any) -> str:
    """A configuration value or metric as text: strings as they are, the rest as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _expected(about: Mapping[str, Any]) -> set[tuple[str, int]]:
    """(arm, seed) of every run that was asked for."""
    parts = [_mapping(part) for part in _list(about.get("extensions"))] or [about]
    return {
        (str(arm), seed)
        for part in parts
        for arm in (part.get("arms") or about["arms"])
        for seed in _list(part.get("seeds") or about.get("seeds"))
        if isinstance(seed, int)
    }


def _arm(workdir: Path, name: str, about: Mapping[str, Any], expected: set[Any]) -> Arm:
    config = _mapping(about.get("config"))
    block = str(about.get("block") or "")
    seeds = {seed for arm, seed in expected if arm == name}
    for folder in (workdir / name).glob("seed-*"):
        number = folder.name.removeprefix("seed-")
        seeds |= {int(number)} if number.isdecimal() and str(int(number)) == number else set()
    runs = tuple(
        _run(workdir / name / f"seed-{seed}", name, block, seed, config) for seed in sorted(seeds)
    )
    overrides = _mapping(about.get("overrides"))
    return Arm(name, block, bool(about.get("baseline")), overrides, config, runs)


def _run(folder: Path, arm: str, block: str, seed: int, config: Mapping[str, Any]) -> Run:
    own = _config(folder / "config.json") or config
    curve = _curve(folder / "metrics.jsonl")
    empty = dict.fromkeys(METRICS)
    try:
        result = _read(folder / "result.json")
        metrics = _metrics(result)
    except FileNotFoundError:
        status = "unfinished" if folder.is_dir() else "missing"
        return Run(arm, block, seed, status, "", empty, own, curve)
    except (OSError, ValueError) as error:
        text = f"result.json: {_one_line(error)}"
        return Run(arm, block, seed, "unreadable", text, empty, own, curve)
    return Run(
        arm,
        block,
        seed,
        result["status"],
        str(result.get("error") or ""),
        metrics,
        own,
        curve,
        _number(_mapping(result.get("test")).get("examples")),
        _number(_mapping(result.get("validation")).get("examples")),
        _number(result.get("diverged_at_step")),
    )


def _metrics(result: Any) -> dict[str, Any]:
    """The columns of METRICS from a result. Raises ValueError where it makes no sense."""
    if not isinstance(result, dict):
        raise ValueError("is not a table")
    if result.get("status") not in STATUSES:
        raise ValueError(f"status {result.get('status')!r} is not one of {', '.join(STATUSES)}")
    metrics: dict[str, Any] = {name: _number(result.get(name)) for name in METRICS}
    for split in ("validation", "test"):
        for field in ("accuracy", "loss"):
            metrics[f"{split}_{field}"] = _number(_mapping(result.get(split)).get(field))
    for field in ("accuracy", "step"):
        best = _mapping(result.get("best_validation"))
        metrics[f"best_validation_{field}"] = _number(best.get(field))
    metrics["params_digest"] = result.get("params_digest") or None
    if result["status"] == "finished":
        if metrics["test_accuracy"] is None and metrics["validation_accuracy"] is None:
            raise ValueError("finished, but without an accuracy")
        for name in ("test_accuracy", "validation_accuracy"):
            if not 0 <= (metrics[name] or 0) <= 1:
                raise ValueError(f"{name} {metrics[name]} is not a fraction 0..1")
    return metrics


def _curve(path: Path) -> tuple[tuple[int, float, float], ...]:
    """(step, epoch, validation accuracy) by step; lines that cannot be read are passed over."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    points = {}
    for line in lines:
        try:
            entry = _mapping(json.loads(line))
        except (ValueError, RecursionError):
            continue
        step, epoch, accuracy = (_number(entry.get(key)) for key in ("step", "epoch", "accuracy"))
        if entry.get("split") == "validation" and None not in (step, epoch, accuracy):
            points[int(step)] = (int(step), float(epoch), float(accuracy))
    return tuple(points[step] for step in sorted(points))


def _config(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(_read(path))
    except (OSError, ValueError):
        return {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(value: Any) -> Any:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
