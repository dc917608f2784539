"""What a workdir and a request must agree in before anything is added to it. No jax."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import files, fingerprint, metric
from cnnjax.ablation.experiment import Experiment
from cnnjax.config import ResolvedConfig, changes
from cnnjax.errors import UserError
from cnnjax.fingerprint import Fingerprint
from cnnjax.metric import Metric


def same_question(workdir: Path, study: Mapping[str, Any], experiment: Experiment) -> None:
    """Raises UserError where a workdir is of another experiment, or tuned in another way."""
    name = study["experiment"]["name"]
    if name != experiment.name:
        raise UserError(
            f"--workdir: {workdir} belongs to experiment {name!r}, not {experiment.name!r}; "
            "pick another folder."
        )
    tune = experiment.plain_tune
    if study.get("tune", tune) != tune and any(workdir.glob("*/seed-*/config.json")):
        raise UserError(
            f"--workdir: {workdir} has arms tuned by {_in_words(study['tune'])}, not by "
            f"{_in_words(tune)}: all arms of a study choose from one grid. Pick another folder."
        )


def same_metrics(workdir: Path, study: Mapping[str, Any], metrics: Sequence[Metric]) -> None:
    """Raises UserError where runs of a workdir were measured by other metrics than the task has."""
    decide = operator.attrgetter("name", "unit", "higher_is_better", "kind", "ends")
    before = [*map(metric.read, study["metrics"])]
    same = [*map(decide, before)] == [*map(decide, metrics)]
    if before and not same and any(workdir.glob("*/seed-*/config.json")):
        named = (", ".join(each.name for each in known) for known in (before, metrics))
        raise UserError(
            f"--workdir: {workdir} has runs measured by other metrics ({' -> '.join(named)}; name, "
            "unit, direction, kind and ends count). Pick another folder or undo the change."
        )


def same_arms(
    workdir: Path, study: Mapping[str, Any], configs: Mapping[str, ResolvedConfig]
) -> None:
    """Raises UserError where an arm of which a run has begun had another configuration."""
    for arm, config in configs.items():
        if arm in study["arms"] and any((workdir / arm).glob("seed-*/config.json")):
            _same(f"--workdir: {workdir} has arm {arm!r}", study["arms"][arm]["config"], config)


def adoptable(
    workdir: Path, experiment: Experiment, configs: Mapping[str, ResolvedConfig]
) -> dict[str, list[int]]:
    """{arm: seeds} of the runs in a workdir that has lost its study.json. Raises UserError where
    one of them is of no arm of the experiment, or of one with another configuration.

    Args:
      workdir: the folder.
      experiment: the experiment that the runs are to belong to.
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
        chosen = experiment.tune.grid if experiment.tune else ()
        _same(f"{lost} {path.parent} is a run", before, configs[arm], chosen)
        runs.setdefault(arm, []).append(int(number))
    return runs


def same_data(workdir: Path, known: Iterable[Any], current: Iterable[Fingerprint]) -> None:
    """Raises UserError where the data are not those that runs of a workdir were begun on."""
    if text := fingerprint.changed(known, current):
        raise UserError(
            f"--workdir: {workdir} has runs on other data, {text}. Put the data back, or pick "
            "another folder."
        )


def _same(
    where: str, before: Mapping[str, Any], config: ResolvedConfig, tuned: Iterable[str] = ()
) -> None:
    phrases = [each for each in changes(before, config) if each.partition(" ")[0] not in tuned]
    if phrases:
        raise UserError(
            f"{where} with another configuration: {'; '.join(phrases)}. Pick another folder or "
            "undo the change."
        )


def _in_words(tune: Any) -> str:
    """What arms are tuned by."""
    if not tune:
        return "nothing"
    grid = "; ".join(
        f"{path}: {', '.join(map(str, levels))}" for path, levels in tune["grid"].items()
    )
    return f"{grid} (seeds {', '.join(map(str, tune['seeds']))})"
