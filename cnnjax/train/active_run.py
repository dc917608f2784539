"""One run: what it is asked to be, its folder while it is trained, and its result."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cnnjax import data, files
from cnnjax.config import ResolvedConfig
from cnnjax.result import SPLITS, Best, RunResult, Status
from cnnjax.train import evaluation, examples, folder, parallel
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.folder import Log
from cnnjax.train.metrics_log import Clock, MetricsLog
from cnnjax.train.plan import Plan
from cnnjax.train.probe import ProbeContext, Probes
from cnnjax.train.session import Program, Session
from cnnjax.train.state import HParams, TrainState, digest


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to be trained.

    Attributes:
      config: its resolved configuration.
      seed: its seed.
      directory: its folder, whose lock the caller holds.
      arm, block: the names of its arm and of its block.
    """

    config: ResolvedConfig
    seed: int
    directory: Path
    arm: str = ""
    block: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """The arm and the seed, which identify the run within a study."""
        return self.arm, self.seed


def label(jobs: Sequence[Job]) -> str:
    """The name of runs in messages: their arms and seeds."""
    arms = dict.fromkeys(job.arm for job in jobs)
    seeds = dict.fromkeys(str(job.seed) for job in jobs)
    return f"{', '.join(arms)} seed {', '.join(seeds)}".strip()


@dataclasses.dataclass(frozen=True)
class ArmSetup:
    """What the runs of an arm share."""

    session: Session
    config: ResolvedConfig
    program: Program
    runtime: Mapping[str, Any]
    probes: Probes

    def hparams(self, seed: int) -> HParams:
        """The traced numbers and the random keys of a run."""
        return self.session.hparams(self.config, seed, self.program)

    @property
    def store(self) -> Mapping[str, jax.Array]:
        """The examples on the devices."""
        return self.session.store(self.config, self.program)

    @functools.cached_property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of the network for one image, forward; None where no probe counts them."""
        if self.probes.multiply_adds is None:
            return None
        shape = self.session.load(self.config.data).spec.image_shape
        return self.probes.multiply_adds(self.session.module(self.config), shape)

    def splits(self, dataset: data.Dataset) -> tuple[str, ...]:
        """The splits that are evaluated at the end."""
        names = SPLITS if self.config.evaluation.test else SPLITS[:1]
        return tuple(name for name in names if name in dataset.splits)


class ActiveRun:
    """A run that is being trained, from its last checkpoint on. Made by `open_run`.

    Attributes:
      job: the run.
      setup: what it shares with the other runs of its arm.
      plan: its steps and their learning rates.
      dataset: its data set.
      state: the state before its next steps; at the end the final one.
      outcome: its result; None until it has ended.
    """

    def __init__(
        self,
        setup: ArmSetup,
        job: Job,
        dataset: data.Dataset,
        plan: Plan,
        state: TrainState,
        checkpoints: Checkpoints,
        metrics_log: MetricsLog,
    ):
        self.job, self.setup, self.plan = job, setup, plan
        self.dataset, self.state = dataset, state
        self.outcome: RunResult | None = None
        self.evaluations: dict[str, evaluation.SplitEvaluation] = {}
        self._checkpoints, self._metrics_log = checkpoints, metrics_log
        self._config, self._probes = setup.config, setup.probes
        self._task = setup.program.task
        self._parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        self._eval_batch = evaluation.batch_size(
            setup.config.evaluation.batch_size, dataset, len(setup.session.devices)
        )
        self._clock, self._share = Clock(), 1
        self._earlier_seconds, self._last_saved = metrics_log.seconds, int(state.step)
        self._started: float | None = None

    def begin(self, clock: Clock, share: int) -> None:
        """Starts the clock before steps that are taken together with those of `share` - 1 other
        runs."""
        self._earlier_seconds = self._seconds()
        self._clock, self._share, self._started = clock, share, time.perf_counter()

    def advance(self, steps: int) -> None:
        """Moves the progress bar by steps that are complete; `add` gets their metrics later."""
        self._metrics_log.advance(steps)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a training step. The run has diverged where they are not finite."""
        self._metrics_log.add(metrics)
        if not metrics["finite"]:
            self._diverge(step)

    def log(self, step: int, recent: int | None = None) -> None:
        """Writes a line with the mean metrics since the last one and the speed of the last `recent`
        steps."""
        speed = self._clock.speed(self._share * self._config.training.batch_size, recent)
        self._metrics_log.write_training(step, speed, self._seconds())

    def save(self, step: int, state: TrainState) -> None:
        """Evaluates the validation split where that is due, and writes a checkpoint. The run has
        diverged where the evaluation is not finite."""
        score = None
        if self.plan.evaluates(step):
            evaluated = self._context(state).evaluate("validation")
            if not evaluated.finite:
                self._diverge(step)
                return
            figures = evaluated.figures()
            score = self._score(figures.values)
            self._metrics_log.write(step, "validation", figures.model_dump(), self._seconds())
        copy = parallel.copy(state)
        notes = self._metrics_log.notes(self._seconds())
        self._checkpoints.save(copy, self._config.model_dump(mode="json"), score, notes)
        self._last_saved = step

    def stop(self, step: int, state: TrainState) -> None:
        """Saves the last step, unless it is saved already, and waits until it is on disk."""
        if step > self._last_saved:
            self.save(step, state)
        self._checkpoints.wait()

    def write_start_signals(self) -> None:
        """Writes the signals before the first step, which cannot be measured after resuming."""
        if self._probes.signals and int(self.state.step) == 0:
            signals = self._probes.signal(self._context(self.state))
            files.write_json(self._signals_path, {"start": signals})

    def finish(self) -> None:
        """Evaluates the final state of a run that has not diverged."""
        if self.outcome:
            return
        state, ema = self.state, self.state.ema
        context, splits = self._context(state), self.setup.splits(self.dataset)
        self.evaluations = {split: context.evaluate(split) for split in splits}
        self.outcome = self._result(
            "finished",
            self.plan.total_steps,
            params_digest=digest(
                state.params if ema is None else {"params": state.params, "ema": ema.params}
            ),
            **{split: evaluated.figures() for split, evaluated in self.evaluations.items()},
            **self._probe(context),
        )

    def write(self, compilations: int) -> RunResult:
        """Writes and returns the result. The checkpoints must be on disk."""
        directory = self.job.directory
        assert self.outcome is not None
        for split, evaluated in self.evaluations.items():
            evaluated.write(directory / f"predictions_{split}.npz")
            examples.write(directory / f"examples_{split}.npz", evaluated, self.dataset, split)
        runtime = files.read_json(directory / "runtime.json") | {"jax": jax.__version__}
        changes: dict[str, Any] = {"compilations": compilations, "runtime": runtime}
        if self._probes.signals and self._signals_path.is_file():  # absent if probed later on
            changes["signals"] = files.read_json(self._signals_path) | self.outcome.signals
        result = self.outcome.model_copy(update=changes)
        result.write(directory / "result.json")
        return result

    @property
    def _signals_path(self) -> Path:
        return self.job.directory / "signals.json"

    def _context(self, state: TrainState) -> ProbeContext:
        return ProbeContext(
            self._task,
            self.setup.program.module,
            state.variables,
            self.setup.program.normalize,
            self.dataset,
            self.job.seed,
            float(self._config.model.dropout.keep_prob),
            self.setup.program.matmul_precision,
            self.setup.program.compiled,
            self.setup.store,
            self._eval_batch,
        )

    def _probe(self, context: ProbeContext) -> dict[str, Any]:
        """The fields of the result that the probes measure at the end."""
        fields: dict[str, Any] = {}
        if self._probes.measures:
            fields["measures"] = self._probes.measure(context, self.setup.splits(self.dataset))
        if self._probes.signals:
            fields["signals"] = {"end": self._probes.signal(context)}
        return fields

    def _seconds(self) -> float:
        """The training time of the run. Runs that are trained together share it equally."""
        if self._started is None:
            return self._earlier_seconds
        return self._earlier_seconds + (time.perf_counter() - self._started) / self._share

    def _diverge(self, step: int) -> None:
        self.log(step)
        self.outcome = self._result("diverged", step, diverged_at_step=step)

    def _result(self, status: Status, steps: int, **fields: Any) -> RunResult:
        """The result after `steps` steps; `fields` replace what is None by default."""
        batch_size = self._config.training.batch_size
        speed = self._clock.speed(self._share * batch_size) or self._metrics_log.speed
        defaults: dict[str, Any] = dict.fromkeys((*SPLITS, "params_digest"))
        return RunResult(
            arm=self.job.arm,
            block=self.job.block,
            seed=self.job.seed,
            status=status,
            steps=steps,
            **(defaults | fields),
            chance={
                split: evaluation.chance(self._task, self.dataset, split)
                for split in self.setup.splits(self.dataset)
            },
            best_validation=self._best(),
            examples_seen=steps * batch_size,
            seconds=round(self._seconds(), 3),
            train_images_per_second=round(speed, 1),
            parameters=self._parameters,
            multiply_adds=self.setup.multiply_adds,
        )

    def _score(self, figures: Mapping[str, float | None]) -> float:
        """The value of the primary metric, with its sign such that larger is better."""
        primary = self._task.primary
        value = figures.get(primary.name)
        return -math.inf if value is None else primary.sign * value

    def _best(self) -> Best | None:
        """The best evaluation of the validation split so far, the first among equal ones."""
        lines = self._metrics_log.validations()
        best = max(lines, key=lambda line: (self._score(line), -line["step"]), default=None)
        names = ("step", "epoch", *(metric.name for metric in self._task.metrics))
        return None if best is None else Best(**{name: best[name] for name in names})


@contextlib.contextmanager
def open_run(setup: ArmSetup, job: Job, *, bar: str | None, log: Log) -> Iterator[ActiveRun]:
    """Opens the folder of a run and restores its last checkpoint.

    Args:
      setup: what it shares with the other runs of its arm.
      job: the run.
      bar: the label of its progress bar; None for no bar.
      log: called with each line for the user.

    Raises UserError where the folder is of another configuration or cannot be read.
    """
    dataset, directory = setup.session.dataset(setup.config, job.seed), job.directory
    plan = Plan(setup.config, dataset.order)
    fresh = setup.session.initial_state(setup.config, setup.program, dataset, job.seed)
    folder.keep_settings(directory, setup.config, setup.runtime, log)
    keep_last = setup.config.checkpointing.keep_last
    with Checkpoints(directory / "checkpoints", keep_last=keep_last) as checkpoints:
        restored = checkpoints.restore_latest(fresh, log)
        state, notes = restored or (fresh, {})
        step = int(state.step)
        if restored:
            log(f"resumed: {label([job])} at step {step} of {plan.total_steps}")
        with MetricsLog(
            directory,
            setup.program.task,
            plan,
            restored_step=step,
            label=bar,
            notes=notes,
            log=log,
        ) as metrics_log:
            run = ActiveRun(setup, job, dataset, plan, state, checkpoints, metrics_log)
            run.write_start_signals()
            yield run
