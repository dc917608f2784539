"""Evaluates checkpoints on a whole split.

python -m launch.evaluate --workdir=DIR [--arm=NAME] [--seeds=0,1] [--split=test]
    [--step=N|best|last] [--output=FILE] [--data_dir=DIR] [--set path=value ...]
python -m launch.evaluate --init_from=DIR [--set data.name=NAME] [...]

`--workdir` is a study (all its runs, or those of --arm and --seeds) or the folder of one run;
`--init_from` is a folder with config.json and checkpoints/. The figures are printed, kept beside
each run as evaluation-<split>-<step>.json (with `-other-data` where --set changed the data), and
written to --output, of several runs with the means of each arm. Looks at the test split are counted
in study.json. Exits 1 if a run was left out, because it has no checkpoint that can be used.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import experiments
from cnnjax import config as configs
from cnnjax import files, metric
from cnnjax.config import Levels, RunConfig, override
from cnnjax.errors import UserError, shown, unknown
from cnnjax.metric import PERCENT, Metric
from launch import flags

SPLITS = ("test", "validation", "train")


def main(arguments: Sequence[str]) -> int:
    """Evaluates; returns the exit code."""
    asked = flags.FLAGS
    changes = flags.changes(arguments)
    if asked.split not in SPLITS:
        raise unknown("--split", asked.split, SPLITS)
    step: Any = asked.step
    if step not in ("best", "last"):
        if not re.fullmatch(r"[0-9]{1,18}", step):
            raise UserError(f"--step: {shown(step)} is not valid; write a step, best or last.")
        step = int(step)
    if bool(asked.workdir) == bool(asked.init_from):
        raise UserError("--workdir, --init_from: give one of the two. See --help.")
    output = flags.path("output") if asked.output else None
    if output and output.is_dir():
        raise UserError(f"--output: {output} is a folder; name a file.")
    study = flags.path("workdir" if asked.workdir else "init_from")
    directories = _runs(study) if asked.workdir else [study]
    levels = experiments.load(asked.experiment).levels if asked.experiment else {}
    several = len(directories) > 1
    started = [each for each in directories if not several or (each / "checkpoints").is_dir()]
    for directory in directories:
        if directory not in started:
            print(f"left out: {directory}: holds no checkpoints.")
        elif asked.workdir:
            files.refuse_links(directory, below=study)
    found = [(directory, _config(directory, changes, levels)) for directory in started]

    results = _evaluate(
        found, levels, asked.split, step, asked.data_dir, keep=not asked.init_from, several=several
    )
    metrics = metric.of_task(found[0][1].task, levels)
    for result in results:
        said = ", ".join(f"{each.title} {_shown(each, result[each.name])}" for each in metrics)
        where = f"{result['run']}, step {result['step']}, {result['split']}"
        print(f"{where}: {said}, {result['examples']} examples")
    if asked.split == "test" and not any(path.startswith("data.") for path in changes):
        _count_looks(started)
    if output:
        files.write_json(output, _together(results, metrics) if several else results[0])
    return 1 if len(results) < len(directories) else 0


def _shown(of: Metric, value: float | None) -> str:
    if value is None:
        return "not finite"
    return of.show(value) if of.unit == PERCENT else f"{value:.4f}"


def _evaluate(
    found: Sequence[tuple[Path, RunConfig]],
    levels: Levels,
    split: str,
    which: Any,
    data_dir: str | None,
    *,
    keep: bool,
    several: bool,
) -> list[dict[str, Any]]:
    from cnnjax.train import evaluation, folder, state
    from cnnjax.train.checkpoint import Checkpoints
    from cnnjax.train.session import Session

    session = Session(data_dir=data_dir, levels=levels)
    results = []
    for directory, config in found:
        seed = _seed(directory)
        dataset = session.dataset(config, seed)
        if split not in dataset.splits:
            raise unknown(f"--split: {config.data.name}", split, dataset.splits)
        program = session.program(config)
        try:
            if config.data.name == _config(directory, {}, levels).data.name:
                folder.same_data(directory, dataset.loaded.fingerprint)
            with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
                step = checkpoints.find(which)
                fresh = program.initialize(state.keys(seed)["params"])
                variables = checkpoints.variables(step, program.compiled.replicate(fresh))
        except UserError as error:
            if not several:
                raise
            print(f"left out: {error}")
            continue
        measured = evaluation.evaluate(
            program.task,
            program.compiled,
            variables,
            session.store(config, program),
            dataset,
            split,
            batch_size=evaluation.batch_size(
                config.evaluation.batch_size, dataset, len(session.devices)
            ),
            keep_prob=float(config.model.dropout.keep_prob),
        )
        about = {"run": str(directory), "step": step, "split": split, "data": config.data.name}
        result = {**measured.figures().model_dump(), **about}
        if keep:
            other = "" if config.data == _config(directory, {}, levels).data else "-other-data"
            files.write_json(directory / f"evaluation-{split}-{step}{other}.json", result)
        results.append(result)
    if not results:
        raise UserError("--workdir: no run there could be evaluated.")
    return results


def _count_looks(directories: Sequence[Path]) -> None:
    """Counts a look at the test split in every study that the runs belong to."""
    from cnnjax.ablation import study
    from launch.request import command

    for folder in dict.fromkeys(directory.resolve().parents[1] for directory in directories):
        if (folder / "study.json").is_file():
            study.look(folder, command())


def _runs(workdir: Path) -> list[Path]:
    """The folders of the runs asked for in a study, or the one run that `workdir` is."""
    from cnnjax.ablation import study

    if (workdir / "config.json").is_file():
        if flags.FLAGS.arm or flags.FLAGS.seeds:
            raise UserError(
                f"--arm, --seeds: {workdir} is one run; leave them out or name the study."
            )
        return [workdir]
    known = study.read(workdir)
    arms, seeds = list(known["arms"]), list(known["seeds"])
    if flags.FLAGS.arm:
        if flags.FLAGS.arm not in arms:
            raise unknown("--arm", flags.FLAGS.arm, arms)
        arms = [flags.FLAGS.arm]
    if flags.FLAGS.seeds:
        asked = flags.seeds(flags.FLAGS.seeds)
        strange = [seed for seed in asked if seed not in seeds]
        if strange:
            raise unknown("--seeds", strange[0], [str(seed) for seed in seeds])
        seeds = asked
    directories = [run.directory for run in study.runs(workdir, arms, seeds)]
    if not any((directory / "checkpoints").is_dir() for directory in directories):
        raise UserError(f"--workdir: {workdir} holds no checkpoints of the runs asked for.")
    return directories


def _config(directory: Path, changes: Mapping[str, Any], levels: Levels) -> RunConfig:
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory}: holds no run (no config.json in it).")
    try:
        known = configs.read(path, levels)
    except UserError as error:
        raise UserError(f"{path}: {error}{_hint(directory)}") from None
    # Nothing is trained, so the data may be fewer than a batch.
    return override(known, {**changes, "training.batch_size": 1}, levels)


def _hint(directory: Path) -> str:
    """Where the user's own levels may come from. Code is run only from a file that is named on
    the command line, never because a study names it."""
    from cnnjax.ablation import record

    for folder in (directory, *directory.parents[:2]):
        if (folder / "study.json").is_file():
            source = record.read(folder / "study.json")["source"].get("path")
            return f"\nIf it is a level of your own, add --experiment={source}" if source else ""
    return ""


def _seed(directory: Path) -> int:
    prefix, _, number = directory.resolve().name.rpartition("-")
    return int(number) if prefix == "seed" and number.isdecimal() else 0


def _together(results: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Mapping[str, Any]:
    """The figures of several runs, and their means over the runs of each arm."""
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        arms.setdefault(Path(result["run"]).parent.name, []).append(result)
    return {
        "arms": {arm: _mean(runs, metrics) for arm, runs in arms.items()},
        "runs": list(results),
    }


def _mean(runs: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Mapping[str, Any]:
    means = {}
    for each in metrics:
        values = [run[each.name] for run in runs]
        means[each.name] = None if None in values else sum(values) / len(values)
    return {**means, "examples": runs[0]["examples"], "runs": len(runs)}


if __name__ == "__main__":
    flags.define("evaluate")
    flags.start(main)
