"""Checks that a request agrees with a workdir, before anything is added to it. No jax."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import files, metric
from cnnjax.ablation.experiment import Experiment
from cnnjax.config import ResolvedConfig, changes
from cnnjax.errors import UserError
from cnnjax.metric import Metric


def check_question(workdir: Path, study: Mapping[str, Any], experiment: Experiment) -> None:
    """Raises UserError if a workdir is of another experiment, or was tuned in another way."""
    name = study["experiment"]["name"]
    if name != experiment.name:
        raise UserError(
            f"--workdir: {workdir} belongs to experiment {name!r}, not {experiment.name!r}; "
            "pick another folder."
        )
    tune = experiment.plain_tune
    if study.get("tune", tune) != tune and any(workdir.glob("*/seed-*/config.json")):
        raise UserError(
            f"--workdir: {workdir} has arms tuned by {_tune_as_text(study['tune'])}, not by "
            f"{_tune_as_text(tune)}: all arms of a study choose from one grid. Pick another folder."
        )


def check_metrics(workdir: Path, study: Mapping[str, Any], metrics: Sequence[Metric]) -> None:
    """Raises UserError if runs of a workdir were measured by other metrics than the task has."""
    identity = operator.attrgetter("name", "unit", "higher_is_better", "kind", "ends")
    before = [*map(metric.from_dict, study["metrics"])]
    same = [*map(identity, before)] == [*map(identity, metrics)]
    if before and not same and any(workdir.glob("*/seed-*/config.json")):
        names = (", ".join(each.name for each in side) for side in (before, metrics))
        raise UserError(
            f"--workdir: {workdir} has runs measured by other metrics ({' -> '.join(names)}; name, "
            "unit, direction, kind and ends count). Pick another folder or undo the change."
        )


def check_arms(
    workdir: Path, study: Mapping[str, Any], configs: Mapping[str, ResolvedConfig]
) -> None:
    """Raises UserError if an arm whose runs have started had another configuration."""
    for arm, config in configs.items():
        if arm in study["arms"] and any((workdir / arm).glob("seed-*/config.json")):
            before = study["arms"][arm]["config"]
            _check_config(f"--workdir: {workdir} has arm {arm!r}", before, config)


def adoptable_runs(
    workdir: Path, experiment: Experiment, configs: Mapping[str, ResolvedConfig]
) -> dict[str, list[int]]:
    """{arm: seeds} of the runs in a workdir that has lost its study.json. Raises UserError if one
    of them does not belong to an arm of the experiment, or has another configuration.

    Args:
      workdir: the folder.
      experiment: the experiment that the runs must belong to.
      configs: the configurations of its arms.
    """
    lost = f"--workdir: {workdir} has lost its study.json, and"
    runs: dict[str, list[int]] = {}
    for path in sorted(workdir.glob("*/seed-*/config.json")):
        arm, number = path.parents[1].name, path.parent.name.removeprefix("seed-")
        if arm not in configs or not number.isdecimal():
            raise UserError(
                f"{lost} {path.parent} is no run of experiment {experiment.name!r} (arms "
                f"{', '.join(configs)}); pick another folder."
            )
        before = files.read_json(path)
        if not isinstance(before, Mapping):
            raise UserError(f"{path}: is not the configuration of a run.")
        tuned = experiment.tune.grid if experiment.tune else ()
        _check_config(f"{lost} {path.parent} is a run", before, configs[arm], tuned)
        runs.setdefault(arm, []).append(int(number))
    return runs


def _check_config(
    where: str, before: Mapping[str, Any], config: ResolvedConfig, tuned: Iterable[str] = ()
) -> None:
    phrases = [text for text in changes(before, config) if text.partition(" ")[0] not in tuned]
    if phrases:
        raise UserError(
            f"{where} with another configuration: {'; '.join(phrases)}. Pick another folder or "
            "undo the change."
        )


def _tune_as_text(tune: Mapping[str, Any] | None) -> str:
    if not tune:
        return "nothing"
    grid = "; ".join(
        f"{path}: {', '.join(map(str, levels))}" for path, levels in tune["grid"].items()
    )
    return f"{grid} (seeds {', '.join(map(str, tune['seeds']))})"
