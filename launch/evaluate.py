"""Evaluates checkpoints on a whole split.

python -m launch.evaluate --workdir=DIR [--arm=NAME] [--seeds=0,1] [--split=test]
    [--step=N|best|last] [--output=FILE] [--data_dir=DIR] [--set path=value ...]
python -m launch.evaluate --init_from=DIR [--set data.name=NAME] [...]

`--workdir` is a study (all its runs, or those of --arm and --seeds) or the folder of one run;
`--init_from` is a folder with config.json and checkpoints/. The figures are printed, written beside
each run as evaluation-<split>-<step>.json (with `-other-data` if --set changes the data), and
written to --output, for several runs with the means of each arm. Looks at the test split are
counted in study.json. Exits 1 if a run was left out because it has no checkpoint that can be used.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import experiments
from cnnjax import files, metric
from cnnjax.config import Levels, ResolvedConfig
from cnnjax.errors import UserError, unknown
from cnnjax.metric import PERCENT, Metric
from launch import flags, trained

SPLITS = ("test", "validation", "train")


def main(arguments: Sequence[str]) -> int:
    """Evaluates; returns the exit code."""
    values = flags.FLAGS
    changes = flags.changes(arguments)
    if values.split not in SPLITS:
        raise unknown("--split", values.split, SPLITS)
    step, study = trained.step(), trained.folder()
    output = flags.path("output") if values.output else None
    if output and output.is_dir():
        raise UserError(f"--output: {output} is a folder; name a file.")
    directories = _runs(study) if values.workdir else [study]
    levels = experiments.load(values.experiment).levels if values.experiment else {}
    several = len(directories) > 1
    started = [run for run in directories if not several or (run / "checkpoints").is_dir()]
    for directory in directories:
        if directory not in started:
            print(f"left out: {directory}: holds no checkpoints.")
        elif values.workdir:
            files.refuse_links(directory, below=study)
    configs = {directory: trained.config(directory, changes, levels) for directory in started}

    results = _evaluate(configs, levels, step, several=several)
    metrics = metric.task_metrics(next(iter(configs.values())).task, levels)
    for result in results:
        figures = ", ".join(f"{of.title} {_shown(of, result[of.name])}" for of in metrics)
        label = f"{result['run']}, step {result['step']}, {result['split']}"
        print(f"{label}: {figures}, {result['examples']} examples")
    if values.split == "test" and not any(path.startswith("data.") for path in changes):
        _count_looks(started)
    if output:
        files.write_json(output, _with_means(results, metrics) if several else results[0])
    return 1 if len(results) < len(directories) else 0


def _shown(of: Metric, value: float | None) -> str:
    if value is None:
        return "not finite"
    return of.show(value) if of.unit == PERCENT else f"{value:.4f}"


def _evaluate(
    configs: Mapping[Path, ResolvedConfig], levels: Levels, which: trained.Step, *, several: bool
) -> list[dict[str, Any]]:
    """The figures of the runs in these folders on --split, at the step that `which` names. One of
    `several` that cannot be evaluated is left out."""
    from cnnjax.train import evaluation
    from cnnjax.train.session import Session

    split = flags.FLAGS.split
    session = Session(data_dir=flags.FLAGS.data_dir, levels=levels)
    results = []
    for directory, config in configs.items():
        dataset = session.dataset(config, trained.seed(directory))
        if split not in dataset.splits:
            raise unknown(f"--split: {config.data.name}", split, dataset.splits)
        program = session.program(config)
        try:
            step, variables = trained.restore(directory, config, session, which)
        except UserError as error:
            if not several:
                raise
            print(f"left out: {error}")
            continue
        requested = config.evaluation.batch_size
        measured = evaluation.evaluate(
            program.task,
            program.compiled,
            variables,
            session.store(config, program),
            dataset,
            split,
            batch_size=evaluation.batch_size(requested, dataset, len(session.devices)),
            keep_prob=float(config.model.dropout.keep_prob),
        )
        about = {"run": str(directory), "step": step, "split": split, "data": config.data.name}
        result = {**measured.figures().model_dump(), **about}
        if flags.FLAGS.workdir:
            same = config.data == trained.config(directory, {}, levels).data
            other = "" if same else "-other-data"
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
            study.count_look(folder, command())


def _runs(workdir: Path) -> list[Path]:
    """The folders of the requested runs of a study, or of the one run that `workdir` is."""
    from cnnjax.ablation import study

    if (workdir / "config.json").is_file():
        if flags.FLAGS.arm or flags.FLAGS.seeds:
            raise UserError(
                f"--arm, --seeds: {workdir} is one run; leave them out or name the study."
            )
        return [workdir]
    record = study.read(workdir)
    arms, seeds = list(record["arms"]), list(record["seeds"])
    if flags.FLAGS.arm:
        if flags.FLAGS.arm not in arms:
            raise unknown("--arm", flags.FLAGS.arm, arms)
        arms = [flags.FLAGS.arm]
    if flags.FLAGS.seeds:
        requested = flags.seeds(flags.FLAGS.seeds)
        missing = [seed for seed in requested if seed not in seeds]
        if missing:
            raise unknown("--seeds", missing[0], [str(seed) for seed in seeds])
        seeds = requested
    directories = [run.directory for run in study.runs(workdir, arms, seeds)]
    if not any((directory / "checkpoints").is_dir() for directory in directories):
        raise UserError(f"--workdir: {workdir} holds no checkpoints of the runs asked for.")
    return directories


def _with_means(
    results: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]
) -> Mapping[str, Any]:
    """The figures of several runs, and the means over the runs of each arm."""
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        arms.setdefault(Path(result["run"]).parent.name, []).append(result)
    means = {arm: _mean(runs, metrics) for arm, runs in arms.items()}
    return {"arms": means, "runs": results}


def _mean(runs: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Mapping[str, Any]:
    means = {}
    for of in metrics:
        values = [run[of.name] for run in runs]
        means[of.name] = None if None in values else sum(values) / len(values)
    return {**means, "examples": runs[0]["examples"], "runs": len(runs)}


if __name__ == "__main__":
    flags.start("evaluate", main)
