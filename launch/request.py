"""Makes a request for runs from flags, without jax, so that typos are reported at once."""

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
from cnnjax.errors import UserError
from cnnjax.fingerprint import Fingerprint
from launch import flags, question
from launch.training import TrainingSetup


@dataclasses.dataclass(frozen=True)
class Request:
    """The runs that a command line requests.

    Attributes:
      experiment: the value of --experiment.
      loaded: the experiment and its file.
      training: what the runs are trained with, including the configuration of each arm.
      seeds: the requested seeds.
      changes: the fields that --set changes.
      workdir: the folder of the study.
      text: the content of the experiment's file if it has to be written into the workdir.
      tuning: whether these are the runs that tune the arms of the experiment.
    """

    experiment: str
    loaded: experiments.ExperimentFile
    training: TrainingSetup
    seeds: Sequence[int]
    changes: Mapping[str, Any]
    workdir: Path
    text: str | None = None
    tuning: bool = False

    @property
    def configs(self) -> Mapping[str, ResolvedConfig]:
        """The resolved configuration of each requested arm."""
        return self.training.configs

    @property
    def folder(self) -> Path:
        """The folder that --workdir names."""
        return self.workdir.parent if self.tuning else self.workdir

    @property
    def tunes(self) -> bool:
        """Whether the arms are tuned before they are compared."""
        return self.loaded.experiment.tune is not None

    @property
    def runs(self) -> list[study.RunFolder]:
        """All requested runs."""
        return study.runs(self.workdir, list(self.configs), self.seeds)

    @property
    def pending(self) -> list[study.RunFolder]:
        """The runs that have not ended: arm by arm, which compiles least, or with --max_minutes
        seed by seed, so that arms can be compared. Runs that failed before come last, since they
        may kill their process again."""
        pending = [run for run in self.runs if not run.ended]
        if self.training.max_minutes is not None:
            pending.sort(key=lambda run: run.seed)
        return sorted(pending, key=_has_failed)

    @property
    def sweep_flags(self) -> list[str]:
        """The flags of `launch.sweep` that make the same request."""
        given = [
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
                given.append(f"--{name}={value}")
        return given

    def without(self, arms: Collection[str]) -> "Request":
        """The same request without some arms."""
        configs = {arm: config for arm, config in self.configs.items() if arm not in arms}
        training = dataclasses.replace(self.training, configs=configs)
        return dataclasses.replace(self, training=training)

    def weight_changes(self) -> list[str]:
        """A line for each arm whose configuration is changed by the weights that it starts from."""
        experiment, levels = self.loaded.experiment, self.loaded.levels
        default, lines = flat(RunConfig()), []
        for arm, config in self.configs.items():
            weights = experiment.weights_config(arm, self.changes, levels)
            changed = [
                f"{path}={value}"
                for path, value in weights.items()
                if value != experiment.base.get(path, default[path])
            ]
            if changed:
                source = config.transfer.init_from
                lines.append(f"{arm}: the weights of {source} set {', '.join(changed)}")
        return lines

    def check(self) -> None:
        """Raises UserError if the workdir is of another experiment or configuration, weights to
        start from are missing, runs cannot be trained together, or a call would take more steps
        than there are between two lines."""
        experiment, steps = self.loaded.experiment, self.training.steps_per_call or 1
        untuned = [arm for arm in self.configs if self.tunes and arm not in experiment.chosen]
        final = self.without(untuned).configs
        study.check(self.workdir, experiment, final, self._planned, self.loaded.metrics)
        for arm, config in self.configs.items():
            if (self.training.replicas or 1) > 1 and config.training.parallel == "pmap":
                raise UserError(
                    f"--replicas: arm {arm!r} has training.parallel=pmap, whose runs are trained "
                    "one after another. Leave the flag out, or --set training.parallel=jit"
                )
            log_every = config.training.log_every_steps
            if steps > log_every:
                raise UserError(
                    f"--steps_per_call: {steps} is more than "
                    f"training.log_every_steps of arm {arm!r} ({log_every}), and no call goes "
                    f"beyond a line. Add --set training.log_every_steps={steps}, or use "
                    f"--steps_per_call={log_every}"
                )
            source = config.transfer.init_from
            if source is not None and not (Path(source) / "checkpoints").is_dir():
                raise UserError(
                    f"arm {arm!r}: transfer.init_from: {source} holds no weights "
                    "(no checkpoints/ in it)."
                )

    def write_question(self) -> None:
        """Writes the file of an experiment that --vary defines. Raises UserError where it would
        replace a file that --vary did not write."""
        if self.text is None:
            return
        path = self.loaded.path
        if path.exists() and not question.is_generated(path.read_bytes()):
            raise UserError(f"--workdir: {path} is a file of your own; pick another folder.")
        files.write_text(path, self.text)

    @property
    def _planned(self) -> dict[str, ResolvedConfig]:
        """The configurations of all arms of the experiment, except for invalid ones."""
        experiment, configs = self.loaded.experiment, dict(self.configs)
        for arm in experiment.arms:
            with contextlib.suppress(UserError):
                configs[arm] = experiment.config(arm, self.changes, self.loaded.levels)
        return configs

    def write(self, data: Sequence[Fingerprint]) -> None:
        """Creates the study, or adds the new arms and seeds of this request to it; `data` are the
        data sets of its runs. A lost study.json is written again, which is reported in a line."""
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


def _has_failed(run: study.RunFolder) -> bool:
    result = run.result()
    return result is not None and result.status == "failed"


def from_flags(
    arms: str | None, arguments: Sequence[str], *, stage: Literal["main", "plan", "tuning"] = "main"
) -> Request:
    """Makes a request from the flags; validates everything that can be validated without jax.

    Args:
      arms: arms separated by commas; None for all, "" if the program needs one and has none.
      arguments: the words of the command line that are not flags.
      stage: `tuning` for the runs that tune the arms, `main` for the runs that are compared, with
        the choices of tuning, `plan` for the same with the choices made so far.

    Raises UserError.
    """
    workdir = flags.path("workdir")
    name, loaded, text, changes = _load_experiment(workdir, _changes(arguments))
    experiment, is_tuning = loaded.experiment, _is_given("tuning")
    if is_tuning:
        experiment = tuning.tuning_experiment(experiment)
    flag = "arm" if "arm" in flags.FLAGS else "arms"
    if arms == "":
        raise UserError(f"--{flag}: is missing; the arms are {', '.join(experiment.arms)}.")
    where = f"experiment {experiment.name}: arm"
    chosen = flags.names(flag, arms, experiment.arms, where)
    seeds = flags.FLAGS.seeds
    if stage == "tuning":
        assert experiment.tune is not None
        chosen = [name for arm in chosen for name in tuning.tuning_arms(experiment.tune, arm)]
        is_tuning, experiment, seeds = True, tuning.tuning_experiment(experiment), None
    elif experiment.tune:
        choose = tuning.choose if stage == "main" else tuning.choose_finished
        experiment = tuning.with_choices(experiment, choose(experiment.tune, workdir, chosen))
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
    arms_in_order = [arm for arm in experiment.arms if arm in chosen]
    training = TrainingSetup(
        {arm: experiment.config(arm, changes, loaded.levels) for arm in arms_in_order},
        loaded.metrics,
        experiment.probes,
        loaded.levels,
        loaded.path,
        data_dir,
        flags.FLAGS.max_minutes if _is_given("max_minutes") else None,
        flags.FLAGS.replicas,
        flags.FLAGS.steps_per_call,
        flags.folder("profile") if _is_given("profile") else None,
        flags.FLAGS.devices,
    )
    folder = workdir / tuning.FOLDER if is_tuning else workdir
    return Request(name, loaded, training, seeds, changes, folder, text, is_tuning)


def _is_given(flag: str) -> bool:
    """Whether the program has a flag and it was given."""
    return flag in flags.FLAGS and bool(flags.FLAGS[flag].value)


def _changes(arguments: Sequence[str]) -> dict[str, Any]:
    """{path: value} of the fields that the flags change in the base."""
    changes = flags.changes(arguments)
    if _is_given("init_from"):
        changes["transfer.init_from"] = paths.weights(flags.FLAGS.init_from)
    if _is_given("examples"):
        changes["training.max_examples"] = flags.FLAGS.examples
    return changes


def _load_experiment(
    workdir: Path, changes: Mapping[str, Any]
) -> tuple[str, experiments.ExperimentFile, str | None, Mapping[str, Any]]:
    """Returns the name or path of the experiment, the experiment, the content of its file if that
    has to be written, and the changes that are not in that file. The file also has all earlier
    seeds of the study."""
    if not any(_is_given(flag) for flag in ("vary", "on", "base")):
        name = flags.require("experiment")
        return name, experiments.load(name), None, changes
    if flags.FLAGS.experiment:
        raise UserError("--experiment: --vary asks a question of its own; leave one of them out.")
    if not _is_given("vary"):
        raise UserError("--vary: is missing; --base and --on go with it. See --help.")
    values, path = flags.FLAGS, workdir / "experiment.py"
    seeds = None if values.seeds is None else flags.seeds(values.seeds)
    asked = question.ask(values.base, values.vary, values.on, changes=changes, seeds=seeds)
    earlier_seeds = study.read(workdir)["seeds"] if (workdir / "study.json").is_file() else []
    text = asked.text(sorted({*asked.experiment.seeds, *earlier_seeds}))
    loaded = experiments.ExperimentFile(asked.experiment, {}, path)
    return str(path), loaded, text, {} if asked.fixed else changes


def list_experiments() -> str:
    """The experiments with their questions."""
    lines = ["Experiments:"]
    for name in experiments.names():
        experiment = experiments.load(name).experiment
        size = f"{len(experiment.arms)} arms x {len(experiment.seeds)} seeds"
        lines += [f"  {name} ({size})", f"      {experiment.question}"]
    return "\n".join([*lines, "A file of your own is taken by its path: --experiment=mine.py"])


def command() -> str:
    """The command line of this program, quoted for a shell."""
    program = Path(sys.argv[0])
    arguments = sys.argv[1:]
    if program.parent.name == "launch":
        return shlex.join(["python", "-m", f"launch.{program.stem}", *arguments])
    return shlex.join([program.name, *arguments])
