"""From flags to what is to be run. No jax: a typo is answered at once."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import experiments
from cnnjax.ablation import study
from cnnjax.config import RunConfig, flat
from cnnjax.errors import UserError, unknown
from launch import flags


@dataclasses.dataclass(frozen=True)
class Request:
    """Runs asked for on the command line.

    Attributes:
      experiment: the flag as typed.
      loaded: the experiment and its file.
      configs: the resolved configuration of each arm asked for.
      seeds: the seeds asked for.
      changes: what --set changes.
      workdir: the study's folder.
      data_dir: where data sets are looked for, or None.
    """

    experiment: str
    loaded: experiments.Loaded
    configs: Mapping[str, RunConfig]
    seeds: Sequence[int]
    changes: Mapping[str, Any]
    workdir: Path
    data_dir: str | None

    @property
    def runs(self) -> list[study.Run]:
        """All runs asked for."""
        return study.runs(self.workdir, list(self.configs), self.seeds)

    @property
    def pending(self) -> list[study.Run]:
        """The runs that have not ended."""
        return [run for run in self.runs if not run.ended]

    @property
    def words(self) -> list[str]:
        """The flags of `launch.sweep` that ask for the same."""
        words = [
            f"--experiment={self.experiment}",
            f"--arms={','.join(self.configs)}",
            f"--seeds={','.join(map(str, self.seeds))}",
            f"--workdir={self.workdir}",
            *(f"--set={path}={json.dumps(value)}" for path, value in self.changes.items()),
        ]
        return [*words, f"--data_dir={self.data_dir}"] if self.data_dir else words

    def brought(self) -> list[str]:
        """What the weights that arms start from change in them, a line for each arm."""
        experiment, levels = self.loaded.experiment, self.loaded.levels
        default, lines = flat(RunConfig()), []
        for arm, config in self.configs.items():
            weights = experiment.brought(arm, self.changes, levels)
            said = [
                f"{path}={value}"
                for path, value in weights.items()
                if value != experiment.base.get(path, default[path])
            ]
            if said:
                source = config.transfer.init_from
                lines.append(f"{arm}: with the weights of {source} come {', '.join(said)}")
        return lines

    def check(self) -> None:
        """Raises UserError where the workdir is of another experiment or configuration, or where
        there are no weights to start from."""
        study.check(self.workdir, self.loaded.experiment, self.configs)
        for arm, config in self.configs.items():
            source = config.transfer.init_from
            if source is not None and not (Path(source) / "checkpoints").is_dir():
                raise UserError(
                    f"arm {arm!r}: transfer.init_from: {source} holds no weights "
                    "(no checkpoints/ in it)."
                )

    def write(self) -> None:
        """Starts the study, or adds what is new in this request to it."""
        study.extend(
            self.workdir,
            self.loaded.experiment,
            self.loaded.path,
            self.configs,
            self.seeds,
            changes=self.changes,
            command=command(),
        )


def from_flags(arms: str | None, arguments: Sequence[str]) -> Request:
    """Validates everything that can be validated without jax.

    Args:
      arms: arms separated by commas; None for all, "" where one had to be named.
      arguments: what stands on the command line besides flags.

    Raises UserError.
    """
    loaded = experiments.load(flags.need("experiment"))
    experiment = loaded.experiment
    if arms == "":
        flag = "arm" if "arm" in flags.FLAGS else "arms"
        raise UserError(f"--{flag}: is missing; the arms are {', '.join(experiment.arms)}.")
    chosen = [arm.strip() for arm in arms.split(",")] if arms else list(experiment.arms)
    for arm in chosen:
        if arm not in experiment.arms:
            raise unknown(f"experiment {experiment.name}: arm", arm, experiment.arms)
        if chosen.count(arm) > 1:
            raise UserError(f"--arms: {arm!r} is given twice.")
    data_dir = flags.FLAGS.data_dir
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise UserError(f"--data_dir: no folder {data_dir}.")
    changes, seeds = flags.changes(arguments), flags.FLAGS.seeds
    if "init_from" in flags.FLAGS and flags.FLAGS.init_from:  # a rehearsal gets what it stands for
        changes["transfer.init_from"] = str(Path(flags.FLAGS.init_from).expanduser())
    return Request(
        flags.FLAGS.experiment,
        loaded,
        {
            arm: experiment.config(arm, changes, loaded.levels)
            for arm in experiment.arms
            if arm in chosen
        },
        list(experiment.seeds) if seeds is None else flags.seeds(seeds),
        changes,
        Path(flags.need("workdir")).expanduser(),
        data_dir,
    )


def list_experiments() -> str:
    """The experiments with their questions."""
    lines = ["Experiments:"]
    for name in experiments.names():
        found = experiments.load(name).experiment
        size = f"{len(found.arms)} arms x {len(found.seeds)} seeds"
        lines += [f"  {name} ({size})", f"      {found.question}"]
    return "\n".join([*lines, "A file of your own is taken by its path: --experiment=mine.py"])


def command() -> str:
    """The command as typed, fit for a shell."""
    program = Path(sys.argv[0])
    words = sys.argv[1:]
    if program.parent.name == "launch":
        return shlex.join(["python", "-m", f"launch.{program.stem}", *words])
    return shlex.join([program.name, *words])
