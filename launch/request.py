"""From flags to what is to be run. No jax: a typo is answered at once."""

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import experiments
from cnnjax import files, paths
from cnnjax.ablation import study, tuning
from cnnjax.config import ResolvedConfig, RunConfig, flat
from cnnjax.errors import UserError, unknown
from cnnjax.fingerprint import Fingerprint
from launch import flags, question
from launch.training import Training


@dataclasses.dataclass(frozen=True)
class Request:
    """Runs asked for on the command line.

    Attributes:
      experiment: the flag as typed.
      loaded: the experiment and its file.
      training: what the runs are trained with, the configuration of each arm among it.
      seeds: the seeds asked for.
      changes: what --set changes.
      workdir: the study's folder.
      text: the experiment's file, where it is yet to be written into the workdir.
      tuning: whether these are the runs that the experiment's arms are tuned by.
    """

    experiment: str
    loaded: experiments.Loaded
    training: Training
    seeds: Sequence[int]
    changes: Mapping[str, Any]
    workdir: Path
    text: str | None = None
    tuning: bool = False

    @property
    def configs(self) -> Mapping[str, ResolvedConfig]:
        """The resolved configuration of each arm asked for."""
        return self.training.configs

    @property
    def folder(self) -> Path:
        """What --workdir names."""
        return self.workdir.parent if self.tuning else self.workdir

    @property
    def tunes(self) -> bool:
        """Whether the arms are tuned before they are compared."""
        return self.loaded.experiment.tune is not None

    @property
    def runs(self) -> list[study.RunFolder]:
        """All runs asked for."""
        return study.runs(self.workdir, list(self.configs), self.seeds)

    @property
    def pending(self) -> list[study.RunFolder]:
        """The runs that have not ended: arm by arm, which compiles least, or seed by seed where
        the time is short, so that what there is can be compared. Those that failed before come
        last, since one may end its process again."""
        pending = [run for run in self.runs if not run.ended]
        if self.training.max_minutes is not None:
            pending.sort(key=lambda run: run.seed)
        return sorted(pending, key=lambda run: _failed(run))

    @property
    def words(self) -> list[str]:
        """The flags of `launch.sweep` that ask for the same."""
        words = [
            f"--experiment={self.experiment}",
            f"--arms={','.join(self.configs)}",
            f"--seeds={','.join(map(str, self.seeds))}",
            f"--workdir={self.folder}",
            *(["--tuning"] if self.tuning else []),
            *(f"--set={path}={json.dumps(value)}" for path, value in self.changes.items()),
        ]
        training = self.training
        for name in ("replicas", "steps_per_call", "devices", "data_dir"):
            if value := getattr(training, name):
                words.append(f"--{name}={value}")
        return words

    def words_without(self, *flags: str) -> list[str]:
        """`words` but for some flags."""
        return [word for word in self.words if word.partition("=")[0] not in flags]

    def without(self, arms: Collection[str]) -> "Request":
        """The same, but for some arms."""
        return dataclasses.replace(self, training=self.training.without(arms))

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
        there are no weights to start from, runs cannot be trained together, or a call would take
        more steps than there are between two lines."""
        experiment, steps = self.loaded.experiment, self.training.steps_per_call or 1
        settled = {  # what an arm that is not tuned yet will be is not known
            arm: config
            for arm, config in self.configs.items()
            if not self.tunes or arm in experiment.chosen
        }
        study.check(self.workdir, experiment, settled, self._planned, self.loaded.metrics)
        for arm, config in self.configs.items():
            if (self.training.replicas or 1) > 1 and config.training.parallel == "pmap":
                raise UserError(
                    f"--replicas: arm {arm!r} has training.parallel=pmap, whose runs are trained "
                    "one after another. Leave the flag out, or --set training.parallel=jit"
                )
            lines = config.training.log_every_steps
            if steps > lines:
                raise UserError(
                    f"--steps_per_call: {steps} is more than "
                    f"training.log_every_steps of arm {arm!r} ({lines}), and no call goes beyond a "
                    f"line. Add --set training.log_every_steps={steps}, or use "
                    f"--steps_per_call={lines}"
                )
            source = config.transfer.init_from
            if source is not None and not (Path(source) / "checkpoints").is_dir():
                raise UserError(
                    f"arm {arm!r}: transfer.init_from: {source} holds no weights "
                    "(no checkpoints/ in it)."
                )

    def keep_question(self) -> None:
        """Writes the file of an experiment that was asked for on the command line. Raises UserError
        where a file that is none of these would be lost."""
        if self.text is None:
            return
        path = self.loaded.path
        if path.exists() and not question.asked(path.read_bytes()):
            raise UserError(f"--workdir: {path} is a file of your own; pick another folder.")
        files.write_bytes(path, self.text.encode())

    @property
    def _planned(self) -> dict[str, ResolvedConfig]:
        """The configurations of all arms of the experiment, but for those that cannot be made."""
        experiment, found = self.loaded.experiment, dict(self.configs)
        for arm in experiment.arms:
            with contextlib.suppress(UserError):
                found[arm] = experiment.config(arm, self.changes, self.loaded.levels)
        return found

    def write(self, data: Sequence[Fingerprint]) -> None:
        """Starts the study, or adds what is new in this request to it; `data` is what its runs are
        to be trained on. A study.json that was lost is made again, which is said in a line."""
        adopted = study.extend(
            self.workdir,
            self.loaded.experiment,
            self.loaded.path,
            self.configs,
            self.seeds,
            metrics=self.loaded.metrics,
            planned=self._planned,
            data=data,
            changes=self.changes,
            command=command(),
        )
        if adopted:
            print(
                f"{self.workdir} had lost its study.json, which is made again with the {adopted} "
                "runs that are there; claims count as made after their results"
            )


def _failed(run: study.RunFolder) -> bool:
    before = run.result()
    return before is not None and before.status == "failed"


def from_flags(
    arms: str | None, arguments: Sequence[str], *, stage: Literal["main", "plan", "tuning"] = "main"
) -> Request:
    """Validates everything that can be validated without jax.

    Args:
      arms: arms separated by commas; None for all, "" where one had to be named.
      arguments: what stands on the command line besides flags.
      stage: `tuning` for the runs that the arms are tuned by, `main` for those that are compared,
        with what tuning chose, `plan` for the same where it may not have chosen yet.

    Raises UserError.
    """
    workdir = flags.path("workdir")
    name, loaded, text, changes = _asked(workdir, _changes(arguments))
    of_tuning = _given("tuning")
    if of_tuning:
        loaded = dataclasses.replace(loaded, experiment=tuning.experiment(loaded.experiment))
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
    seeds = flags.FLAGS.seeds
    if stage == "tuning":
        assert experiment.tune is not None
        chosen = [name for arm in chosen for name in tuning.arms_of(experiment.tune, arm)]
        of_tuning, experiment, seeds = True, tuning.experiment(experiment), None
    elif experiment.tune and stage == "main":
        choices = tuning.choose(experiment.tune, workdir, chosen)
        experiment = tuning.tuned(experiment, choices)
    elif experiment.tune:
        experiment = tuning.tuned(
            experiment, tuning.chosen_already(experiment.tune, workdir, chosen)
        )
    loaded = dataclasses.replace(loaded, experiment=experiment)
    seeds = list(experiment.seeds) if seeds is None else flags.seeds(seeds)
    if experiment.tune and (shared := set(seeds) & set(experiment.tune.seeds)):
        raise UserError(
            f"--seeds: {min(shared)} is one that experiment {experiment.name} tunes its arms with; "
            f"the comparison needs others than {', '.join(map(str, experiment.tune.seeds))}."
        )
    data_dir = flags.FLAGS.data_dir
    if data_dir is not None and not paths.parse("--data_dir", data_dir).is_dir():
        raise UserError(f"--data_dir: no folder {data_dir}.")
    training = Training(
        {
            arm: experiment.config(arm, changes, loaded.levels)
            for arm in experiment.arms
            if arm in chosen
        },
        loaded.metrics,
        experiment.probes,
        loaded.levels,
        loaded.path,
        data_dir,
        flags.FLAGS.max_minutes if _given("max_minutes") else None,
        flags.FLAGS.replicas,
        flags.FLAGS.steps_per_call,
        flags.folder("profile"),
        flags.FLAGS.devices,
    )
    folder = workdir / tuning.FOLDER if of_tuning else workdir
    return Request(name, loaded, training, seeds, changes, folder, text, of_tuning)


def _given(flag: str) -> bool:
    """Whether the program takes a flag, and it was given."""
    return flag in flags.FLAGS and bool(flags.FLAGS[flag].value)


def _changes(arguments: Sequence[str]) -> dict[str, Any]:
    """What the flags change in the base."""
    changes = flags.changes(arguments)
    if _given("init_from"):
        changes["transfer.init_from"] = paths.weights(flags.FLAGS.init_from)
    if _given("examples"):
        changes["training.max_examples"] = flags.FLAGS.examples
    return changes


def _asked(
    workdir: Path, changes: Mapping[str, Any]
) -> tuple[str, experiments.Loaded, str | None, Mapping[str, Any]]:
    """The experiment: its name or path, itself, and its file where that is yet to be written; and
    what is to be changed in it. The file has that too, and all seeds of the study so far."""
    if not any(_given(flag) for flag in ("vary", "on", "base")):
        name = flags.need("experiment")
        return name, experiments.load(name), None, changes
    if flags.FLAGS.experiment:
        raise UserError("--experiment: --vary asks a question of its own; leave one of them out.")
    if not _given("vary"):
        raise UserError("--vary: is missing; --base and --on go with it. See --help.")
    asked, path = flags.FLAGS, workdir / "experiment.py"
    seeds = None if asked.seeds is None else flags.seeds(asked.seeds)
    made = question.ask(asked.base, asked.vary, asked.on, changes=changes, seeds=seeds)
    before = study.read(workdir)["seeds"] if (workdir / "study.json").is_file() else []
    text = made.text(sorted({*made.experiment.seeds, *before}))
    loaded = experiments.Loaded(made.experiment, {}, path)
    return str(path), loaded, text, {} if made.fixed else changes


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
