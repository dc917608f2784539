"""Fair settings: every arm gets the same grid, the same tuning seeds, and its own best point.

Tuning is a study of its own in `DIR/tuning`, a block for each arm and an arm for each point of the
grid, judged on the validation split; it never sees the test split, and its seeds are not those of
the comparison. A run that diverges scores chance.
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
    """What tuning chose for an arm.

    Attributes:
      arm: the arm.
      point: the fields and their chosen values.
      means: the mean of the primary metric on the validation split for every point of the grid, in
        the grid's order.
      diverged: how many runs of each point diverged, in that order.
      edges: the fields whose chosen value is the smallest or the largest number of their grid, so
        that a better one may lie beyond.
    """

    arm: str
    point: Mapping[str, Any]
    means: tuple[tuple[Mapping[str, Any], float], ...]
    diverged: tuple[int, ...]
    edges: tuple[str, ...]


def log_range(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high`, equal factors apart, to three digits. Raises UserError
    where they are not above 0."""
    if not 0 < low < high or count < 2:
        raise UserError(
            f"log_range({low}, {high}, {count}): allowed: 0 < low < high, 2 or more values."
        )
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, count))


def experiment(of: Experiment) -> Experiment:
    """The tuning study of an experiment that has a `tune`."""
    assert of.tune is not None
    arms = {
        name: {**own, **point, "evaluation.test": False}
        for arm, own in of.arms.items()
        for name, point in zip(arms_of(of.tune, arm), points(of.tune), strict=True)
    }
    paths = ", ".join(of.tune.grid)
    return Experiment(
        name=f"{of.name}_tuning",
        question=f"Which {paths} for each arm of {of.name}?",
        base=of.base,
        arms=arms,
        seeds=of.tune.seeds,
        notes="Judged on the validation split, with seeds of its own; the test split is not seen.",
    )


def arms_of(tune: Tune, arm: str) -> list[str]:
    """The arms of the tuning study that belong to an arm, in the order of the grid."""
    block = arm.replace(".", "+")
    return [f"{block}.{_name(point)}" for point in points(tune)]


def points(tune: Tune) -> list[dict[str, Any]]:
    """The grid, all combinations."""
    return [
        dict(zip(tune.grid, values, strict=True))
        for values in itertools.product(*tune.grid.values())
    ]


def choose(tune: Tune, workdir: Path, arms: Sequence[str]) -> list[Choice]:
    """The choice for each of these arms. Raises UserError where a run of the tuning is missing."""
    if not (workdir / FOLDER / "study.json").is_file():
        raise UserError(f"--workdir: {workdir} has not been tuned; launch.sweep does that first.")
    study = reading.load(workdir / FOLDER)
    known = {arm.name: arm for arm in study.arms}
    choices = []
    for arm in arms:
        means, diverged = [], []
        for name, point in zip(arms_of(tune, arm), points(tune), strict=True):
            scores = known[name].scores(study.primary, study.split) if name in known else {}
            missing = [seed for seed in tune.seeds if seed not in scores]
            if missing:
                raise UserError(
                    f"{workdir / FOLDER}: {name} seed {missing[0]} has no result, so arm {arm!r} "
                    "cannot be tuned; give the same sweep again."
                )
            means.append((point, float(np.mean([scores[seed] for seed in tune.seeds]))))
            diverged.append(known[name].count("diverged"))
        # One that never finished is taken only where none did, whatever chance it scores.
        ranks = [
            (number < len(tune.seeds), study.primary.sign * mean)
            for (_, mean), number in zip(means, diverged, strict=True)
        ]
        point, _ = means[ranks.index(max(ranks))]
        edges = [
            path
            for path, values in tune.grid.items()
            if all(map(_is_number, values)) and point[path] in (min(values), max(values))
        ]
        choices.append(Choice(arm, point, tuple(means), tuple(diverged), tuple(edges)))
    return choices


def chosen_already(tune: Tune, workdir: Path, arms: Sequence[str]) -> list[Choice]:
    """The choices of those of these arms whose tuning is done."""
    found = []
    for arm in arms:
        with contextlib.suppress(UserError):
            found += choose(tune, workdir, [arm])
    return found


def tuned(of: Experiment, choices: Sequence[Choice]) -> Experiment:
    """The experiment with the choices in its arms; those without one stay as they are."""
    return dataclasses.replace(of, chosen={choice.arm: dict(choice.point) for choice in choices})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(point: Mapping[str, Any]) -> str:
    parts = [f"{path.rpartition('.')[2]}={value}" for path, value in point.items()]
    return "_".join(parts).replace(".", "p")
