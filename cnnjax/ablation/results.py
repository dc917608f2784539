"""What a sweep found, as plain values. `cnnjax.ablation.reading` reads them from a workdir."""

import csv
import dataclasses
import functools
import io
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import fingerprint, metric
from cnnjax.ablation.claims import Claim, compared
from cnnjax.metric import ACCURACY, CLASSIFICATION, Metric
from cnnjax.result import SPLITS, RunResult

COLUMNS = (
    "steps",
    "examples_seen",
    "seconds",
    "train_images_per_second",
    "compilations",
    "parameters",
    "multiply_adds",
    "params_digest",
    "error",
)
"""The fields of a result that are columns of results.csv, after the metrics."""

COMPUTED_WITH = (
    "backend",
    "device_kind",
    "matmul_precision",
    "deterministic",
    "convolution",
    "threads",
    "replicas",
    "steps_per_call",
    "jax",
)
"""What the runs of a comparison should have in common, of what is recorded of each."""


NO_RESULT = RunResult(status="failed")


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed.

    Attributes:
      arm, block, seed: which run it is.
      status: that of its result, or `unreadable`, `unfinished`, `missing`.
      error: why it failed, or cannot be read.
      config: its configuration.
      curve: the task's first metric on the validation split during training as (step, epoch,
        value), by step.
      result: the result, one without any figure where there is none.
      primary: the task's first metric.
    """

    arm: str
    block: str
    seed: int
    status: str
    error: str
    config: Mapping[str, Any]
    curve: tuple[tuple[int, float, float], ...]
    result: RunResult = NO_RESULT
    primary: Metric = ACCURACY

    @property
    def runtime(self) -> Mapping[str, Any]:
        """What the run computed with."""
        return self.result.runtime

    def examples(self, split: str) -> int | None:
        """How many examples the run's figures of a split are from."""
        return self.result.figures(split).examples

    def score(self, of: Metric, split: str) -> float | None:
        """The value of a metric, or None where the run has none.

        Where `stands_in` says so it is another, which is kinder than the run's own could be: of a
        run that diverged that of chance, the best constant prediction, if the metric is one of a
        split; of one that never came as far as `steps_to` asks for, the steps that it took.
        """
        if not self.scored or (self.status == "diverged" and of.kind == "run"):
            return None
        target = metric.steps_to(of.name)
        if target is not None:
            return self._reached(target) or self.result.steps
        return self.result.value(of, split)

    def stands_in(self, of: Metric) -> bool:
        """Whether the run's score is not that of its own."""
        target = metric.steps_to(of.name)
        if target is not None:
            return self.status == "finished" and self._reached(target) is None
        return self.status == "diverged" and of.of_split

    def _reached(self, target: float) -> int | None:
        """The first step after which the validation split was evaluated to `target` or better."""
        sign = self.primary.sign
        good = (at for at, _, value in self.curve if sign * (value - target) >= 0)
        return next(good, None)

    @property
    def scored(self) -> bool:
        """Whether the run has an outcome that counts; one that failed was stopped by a fault."""
        return self.status in ("finished", "diverged")

    @property
    def place(self) -> str:
        """The run's folder inside the workdir."""
        return f"{self.arm}/seed-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of the study and its runs, in the order of the seeds; `levels` are the values of the
    study's factors as the experiment gives them."""

    name: str
    block: str
    baseline: bool
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    levels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """The arm's name without its block's."""
        return self.name.removeprefix(f"{self.block}.") if self.block else self.name

    def count(self, status: str) -> int:
        """How many runs ended with `status`."""
        return sum(run.status == status for run in self.runs)

    def scores(self, of: Metric, split: str, *, own_only: bool = False) -> dict[int, float]:
        """{seed: score} of the runs that have one; `own_only` leaves those out that have another in
        the place of their own, as runs that diverged have that of chance."""
        return {
            run.seed: score
            for run in self.runs
            if not (own_only and run.stands_in(of)) and (score := run.score(of, split)) is not None
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """What a workdir holds: `about` is study.json as `cnnjax.ablation.record` reads it, `arms` the
    runs read from disk, `claims` what is claimed, each with whether it was made after results were
    there, `split` the one whose figures are looked at, `metrics` those of the task."""

    about: Mapping[str, Any]
    arms: tuple[Arm, ...]
    claims: tuple[tuple[Claim, bool], ...]
    workdir: Path
    split: str = "validation"
    metrics: tuple[Metric, ...] = CLASSIFICATION

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment's texts: name, question, lecture, published, expected, notes."""
        return dict(self.about["experiment"])

    @property
    def factors(self) -> tuple[str, ...]:
        """The dotted paths that the study varies."""
        return tuple(self.about["factors"])

    @property
    def late_seeds(self) -> list[int]:
        """The seeds that were added after results were there."""
        parts = self.about["extensions"]
        early = {seed for part in parts if not part["after_results"] for seed in part["seeds"]}
        return sorted({run.seed for run in self.runs} - early) if parts else []

    @property
    def late_arms(self) -> set[str]:
        """The arms that were thought of after results were there: no file of the experiment had
        them before, with the same settings. None in older studies, which do not tell."""
        parts = self.about["extensions"]
        if not parts or any(part["planned"] is None for part in parts):
            return set()
        early = {
            item for part in parts if not part["after_results"] for item in part["planned"].items()
        }
        defined = {arm.name: self.about["arms"][arm.name]["defined"] for arm in self.arms}
        return {name for name, digest in defined.items() if (name, digest) not in early}

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, arm by arm."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @property
    def primary(self) -> Metric:
        """The metric that arms are compared by."""
        return self.metrics[0]

    def compared(self, claim: Claim) -> Metric:
        """What a claim compares."""
        return compared(claim, self.metrics)

    @property
    def columns(self) -> dict[str, Callable[[RunResult], Any]]:
        """The columns of figures of results.csv, and how each is read off a result. Those of the
        test split are left out until it is looked at."""
        best = f"best_validation_{self.primary.name}"
        shown = SPLITS if self.split == "test" else SPLITS[:1]
        found: dict[str, Callable[[RunResult], Any]] = {
            f"{split}_{each.name}": functools.partial(_figure, split=split, name=each.name)
            for split in shown
            for each in self.metrics
        }
        found[best] = lambda run: run.best_validation and run.best_validation.get(self.primary.name)
        found["best_validation_step"] = lambda run: run.best_validation and run.best_validation.step
        return found | {name: operator.attrgetter(name) for name in COLUMNS}

    def blocks(self) -> dict[str, tuple[Arm, ...]]:
        """The arms of each block, its baseline first."""
        blocks: dict[str, list[Arm]] = {}
        for arm in self.arms:
            blocks.setdefault(arm.block, []).append(arm)
        return {
            name: tuple(sorted(arms, key=lambda arm: not arm.baseline))
            for name, arms in blocks.items()
        }


def _figure(run: RunResult, split: str, name: str) -> float | None:
    return run.figures(split).get(name)


def rows(study: Study) -> list[dict[str, Any]]:
    """One row per run that has a result: arm, block, seed, status, factors, metrics. Those of the
    test split are left out until it is looked at."""
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
        row |= {name: read(run.result) for name, read in study.columns.items()}
        row |= {
            f"{split}_{name}": value
            for split, found in run.result.measures.items()
            for name, value in found.items()
            if split in ("validation", study.split)
        }
        table.append(row | {"error": run.error})
    return table


def to_csv(study: Study) -> str:
    """`rows` as CSV text with a header; an absent value is an empty field."""
    table = rows(study)
    columns = ["arm", "block", "seed", "status", *study.factors, *study.columns]
    return csv_text(dict.fromkeys([*columns, *(name for row in table for name in row)]), table)


def csv_text(columns: Iterable[str], table: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV text with a header. Text that a spreadsheet would take for a formula is opened by
    an apostrophe, as spreadsheets do themselves; numbers stay numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns)
    writer.writerow(map(_inert, names))
    for row in table:
        values = (row.get(name) for name in names)
        writer.writerow(_inert(v) if isinstance(v, str) else plain(v) for v in values)
    return text.getvalue()


def _inert(text: str) -> str:
    text = "\n".join(text.splitlines()) if "\r" in text else text  # one alone would end the row
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def mixtures(runs: Sequence[Run]) -> list[str]:
    """In what the runs of a comparison differ that should be the same in all of them."""
    found = []
    for what in COMPUTED_WITH:
        values = sorted({str(run.runtime[what]) for run in runs if what in run.runtime})
        if len(values) > 1:
            found.append(f"Runs differ in {what}: {', '.join(values)}.")
    recorded = ["data" in run.runtime for run in runs if run.scored]
    if any(recorded) and not all(recorded):
        count, verb = recorded.count(False), "was" if recorded.count(False) == 1 else "were"
        text = f"on which data {count} of the {len(recorded)} runs {verb} trained."
        found.append(f"It was not recorded {text}")
    precisions = {plain(lookup(run.config, "training.precision")) for run in runs} - {""}
    if len(precisions) > 1:
        found.append(f"Runs differ in precision: {', '.join(sorted(precisions))}.")
    return found


def different_data(runs: Sequence[Run]) -> str:
    """In what the data differ that runs of a comparison were trained on though they have the same
    name, as a sentence; "" where they do not."""
    first: dict[str, Run] = {}
    for run in runs:
        record = run.runtime.get("data")
        if not run.scored or not isinstance(record, Mapping):
            continue
        key = json.dumps([record.get("name"), record.get("division")], sort_keys=True)
        for other in first.values():
            if phrases := fingerprint.differences(other.runtime["data"], record):
                return (
                    f"{other.place} and {run.place} were trained on different data: "
                    f"{'; '.join(phrases)}."
                )
        first.setdefault(key, run)
    return ""


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
