"""Tuning: every arm chooses the best point of one grid, with the same tuning seeds.

Tuning is a study in `DIR/tuning`, with a block for each arm and an arm for each point of the grid.
Points are compared on the validation split; the test split is never used, and the seeds are not
those of the comparison. A run that diverges scores chance.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.ablation import reading
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.errors import UserError

FOLDER = "tuning"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The point of the grid that an arm chose.

    Attributes:
      arm: the arm.
      point: the fields and their chosen values.
      means: the mean of the primary metric on the validation split for every point, in the order
        of the grid.
      diverged: the number of runs of each point that diverged, in the same order.
      edges: the fields whose chosen value is the smallest or the largest number of the grid, so
        that a better one may lie beyond.
    """

    arm: str
    point: Mapping[str, Any]
    means: tuple[tuple[Mapping[str, Any], float], ...]
    diverged: tuple[int, ...]
    edges: tuple[str, ...]


def log_range(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high` with a constant ratio, to three digits. Raises UserError
    unless 0 < low < high and count >= 2."""
    if not 0 < low < high or count < 2:
        raise UserError(
            f"log_range({low}, {high}, {count}): allowed: 0 < low < high, 2 or more values."
        )
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, count))


def tuning_experiment(experiment: Experiment) -> Experiment:
    """The experiment that tunes the arms of an experiment that has a `tune`."""
    tune = experiment.tune
    assert tune is not None
    arms = {
        name: {**overrides, **point, "evaluation.test": False}
        for arm, overrides in experiment.arms.items()
        for name, point in zip(tuning_arms(tune, arm), points(tune), strict=True)
    }
    return Experiment(
        name=f"{experiment.name}_tuning",
        question=f"Which {', '.join(tune.grid)} for each arm of {experiment.name}?",
        base=experiment.base,
        arms=arms,
        seeds=tune.seeds,
        notes="Judged on the validation split, with seeds of its own; the test split is not seen.",
    )


def tuning_arms(tune: Tune, arm: str) -> list[str]:
    """The arms of the tuning experiment that tune an arm, in the order of the grid."""
    block = arm.replace(".", "+")
    return [f"{block}.{_name(point)}" for point in points(tune)]


def points(tune: Tune) -> list[dict[str, Any]]:
    """The points of the grid: all combinations of its values."""
    return [
        dict(zip(tune.grid, values, strict=True))
        for values in itertools.product(*tune.grid.values())
    ]


def choose(tune: Tune, workdir: Path, arms: Sequence[str]) -> list[Choice]:
    """The choice of each of these arms. Raises UserError if a run of the tuning is missing."""
    if not (workdir / FOLDER / "study.json").is_file():
        raise UserError(f"--workdir: {workdir} has not been tuned; launch.sweep does that first.")
    study = reading.load(workdir / FOLDER)
    by_name = {arm.name: arm for arm in study.arms}
    choices = []
    for arm in arms:
        means, diverged, ranks = [], [], []
        for name, point in zip(tuning_arms(tune, arm), points(tune), strict=True):
            scores = by_name[name].scores(study.primary, study.split) if name in by_name else {}
            missing = [seed for seed in tune.seeds if seed not in scores]
            if missing:
                raise UserError(
                    f"{workdir / FOLDER}: {name} seed {missing[0]} has no result, so arm {arm!r} "
                    "cannot be tuned; give the same sweep again."
                )
            mean = float(np.mean([scores[seed] for seed in tune.seeds]))
            means.append((point, mean))
            diverged.append(by_name[name].count("diverged"))
            # A point of which no run finished is the last choice, even if chance is better.
            ranks.append((diverged[-1] < len(tune.seeds), study.primary.sign * mean))
        point, _ = means[ranks.index(max(ranks))]
        edges = [
            path
            for path, values in tune.grid.items()
            if all(map(_is_number, values)) and point[path] in (min(values), max(values))
        ]
        choices.append(Choice(arm, point, tuple(means), tuple(diverged), tuple(edges)))
    return choices


def choose_finished(tune: Tune, workdir: Path, arms: Sequence[str]) -> list[Choice]:
    """The choices of those of these arms whose tuning is finished."""
    choices = []
    for arm in arms:
        with contextlib.suppress(UserError):
            choices += choose(tune, workdir, [arm])
    return choices


def with_choices(experiment: Experiment, choices: Sequence[Choice]) -> Experiment:
    """The experiment with the choices of its arms; arms without one are unchanged."""
    chosen = {choice.arm: dict(choice.point) for choice in choices}
    return dataclasses.replace(experiment, chosen=chosen)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(point: Mapping[str, Any]) -> str:
    parts = [f"{path.rpartition('.')[2]}={value}" for path, value in point.items()]
    return "_".join(parts).replace(".", "p")
