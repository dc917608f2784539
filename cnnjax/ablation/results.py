"""The runs, arms and claims of a study. `cnnjax.ablation.reading` reads them from a workdir."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import fingerprint
from cnnjax.ablation import claims
from cnnjax.ablation.claims import Claim
from cnnjax.metric import ACCURACY, CLASSIFICATION, Metric, parse_steps_to
from cnnjax.result import RunResult

SHARED_SETTINGS = (
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
"""The fields of `runtime` that should be equal in all runs of a comparison."""

NO_RESULT = RunResult(status="failed")


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm trained with one seed, and its result.

    Attributes:
      arm, block, seed: the run.
      status: that of its result, or `unreadable`, `unfinished`, `missing`.
      error: why it failed or cannot be read.
      config: its configuration.
      curve: the task's first metric on the validation split during training as (step, epoch,
        value), by step.
      result: the result; `NO_RESULT` if there is none.
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
        """The hardware, libraries and settings of the run, and the fingerprint of its data."""
        return self.result.runtime

    def examples(self, split: str) -> int | None:
        """The number of examples in a split."""
        return self.result.figures(split).examples

    def score(self, metric: Metric, split: str) -> float | None:
        """The value of a metric, or None if the run has none.

        It is imputed (`is_imputed`), by a value at least as good as the run's own could be, in two
        cases: a run that diverged scores chance, the best constant prediction, in a metric of a
        split; a run that never reached the target of `steps_to` scores the steps it took.
        """
        if not self.scored or (self.status == "diverged" and metric.kind == "run"):
            return None
        target = parse_steps_to(metric.name)
        if target is not None:
            return self._steps_to(target) or self.result.steps
        return self.result.value(metric, split)

    def is_imputed(self, metric: Metric) -> bool:
        """Whether `score` stands in for a value that the run does not have."""
        target = parse_steps_to(metric.name)
        if target is not None:
            return self.status == "finished" and self._steps_to(target) is None
        return self.status == "diverged" and metric.on_split

    def _steps_to(self, target: float) -> int | None:
        """The first step at which the primary metric on the validation split was `target` or
        better."""
        sign = self.primary.sign
        return next((step for step, _, value in self.curve if sign * (value - target) >= 0), None)

    @property
    def scored(self) -> bool:
        """Whether the run counts in comparisons: it finished or diverged. A failed run does not."""
        return self.status in ("finished", "diverged")

    @property
    def path(self) -> str:
        """The run's folder, relative to the workdir."""
        return f"{self.arm}/seed-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of the study and its runs, ordered by seed; `levels` are the values of the study's
    factors as written in the experiment."""

    name: str
    block: str
    baseline: bool
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    levels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """The arm's name without the block."""
        return self.name.removeprefix(f"{self.block}.") if self.block else self.name

    def count(self, status: str) -> int:
        """The number of runs with a status."""
        return sum(run.status == status for run in self.runs)

    def scores(
        self, metric: Metric, split: str, *, observed_only: bool = False
    ) -> dict[int, float]:
        """{seed: score} of the runs that have a score; `observed_only` leaves out imputed ones (see
        `Run.score`)."""
        return {
            run.seed: score
            for run in self.runs
            if not (observed_only and run.is_imputed(metric))
            and (score := run.score(metric, split)) is not None
        }

    def layers(self, signal: str) -> list[str]:
        """The layers of the arm's network that have a signal. All runs are of one network; those
        that stopped early may lack layers."""
        return max((run.result.layers(signal) for run in self.runs), key=len, default=[])


@dataclasses.dataclass(frozen=True)
class Study:
    """The content of a workdir.

    Attributes:
      about: study.json as `cnnjax.ablation.record` reads it.
      arms: the arms with their runs.
      claims: the claims, each with whether it was made after there were results.
      workdir: the folder.
      split: the split that is reported.
      metrics: those of the task.
      published: whether it is shown to others: then images that were read from a folder are not.
    """

    about: Mapping[str, Any]
    arms: tuple[Arm, ...]
    claims: tuple[tuple[Claim, bool], ...]
    workdir: Path
    split: str = "validation"
    metrics: tuple[Metric, ...] = CLASSIFICATION
    published: bool = False

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
        """The seeds that were added after there were results."""
        parts = self.about["extensions"]
        early = {seed for part in parts if not part["after_results"] for seed in part["seeds"]}
        return sorted({run.seed for run in self.runs} - early) if parts else []

    @property
    def late_arms(self) -> set[str]:
        """The arms that were planned after there were results: before, the experiment's file did
        not have them with these settings. Empty for older studies, which did not record it."""
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
        """The task's first metric, by which arms are compared."""
        return self.metrics[0]

    def metric_of(self, claim: Claim) -> Metric:
        """The metric that a claim compares."""
        return claims.metric_of(claim, self.metrics)

    def blocks(self) -> dict[str, tuple[Arm, ...]]:
        """The arms of each block, its baseline first."""
        blocks: dict[str, list[Arm]] = {}
        for arm in self.arms:
            blocks.setdefault(arm.block, []).append(arm)
        return {
            name: tuple(sorted(arms, key=lambda arm: not arm.baseline))
            for name, arms in blocks.items()
        }


def setting_differences(runs: Sequence[Run]) -> list[str]:
    """The settings (SHARED_SETTINGS, precision, recorded data) in which the runs of a comparison
    differ, one sentence each."""
    sentences = []
    for name in SHARED_SETTINGS:
        values = sorted({str(run.runtime[name]) for run in runs if name in run.runtime})
        if len(values) > 1:
            sentences.append(f"Runs differ in {name}: {', '.join(values)}.")
    recorded = ["data" in run.runtime for run in runs if run.scored]
    if any(recorded) and not all(recorded):
        count, verb = recorded.count(False), "was" if recorded.count(False) == 1 else "were"
        text = f"on which data {count} of the {len(recorded)} runs {verb} trained."
        sentences.append(f"It was not recorded {text}")
    precisions = {as_text(lookup(run.config, "training.precision")) for run in runs} - {""}
    if len(precisions) > 1:
        sentences.append(f"Runs differ in precision: {', '.join(sorted(precisions))}.")
    return sentences


def data_differences(runs: Sequence[Run]) -> str:
    """The differences, in one sentence, between data sets of the same name and division that runs
    of a comparison were trained on; "" if there are none."""
    first: dict[str, Run] = {}
    for run in runs:
        record = run.runtime.get("data")
        if not run.scored or not isinstance(record, Mapping):
            continue
        key = json.dumps([record.get("name"), record.get("division")], sort_keys=True)
        for other in first.values():
            if phrases := fingerprint.differences(other.runtime["data"], record):
                return (
                    f"{other.path} and {run.path} were trained on different data: "
                    f"{'; '.join(phrases)}."
                )
        first.setdefault(key, run)
    return ""


def lookup(config: object, path: str) -> Any:
    """The value at a dotted path of a nested configuration; None if there is none."""
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return None
        config = config[part]
    return config


def as_text(value: object) -> str:
    """A configuration value or metric as text: strings as they are, None as "", others as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
