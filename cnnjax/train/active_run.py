"""One run under way: its folder, what it writes, and what becomes of it."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax import data, files
from cnnjax.result import SPLITS, Best, RunResult, Status
from cnnjax.train import evaluation, folder
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.folder import Log
from cnnjax.train.job import Job, Setting
from cnnjax.train.metrics_log import Clock, MetricsLog
from cnnjax.train.plan import Plan, plan
from cnnjax.train.probe import Subject
from cnnjax.train.state import TrainState, digest


class ActiveRun:
    """One run of an arm, from where it was left. Made by `opened`.

    Attributes:
      job: the run.
      setting: what it shares with the other runs of its arm.
      planned: its steps and their learning rates.
      dataset: the data as it sees them.
      start: the state that it goes on from; at last the final one.
      outcome: what became of it; None while it is under way.
    """

    def __init__(
        self,
        setting: Setting,
        job: Job,
        dataset: data.Dataset,
        planned: Plan,
        start: TrainState,
        checkpoints: Checkpoints,
        records: MetricsLog,
    ):
        self.job, self.setting, self.planned = job, setting, planned
        self.dataset, self.start = dataset, start
        self.outcome: RunResult | None = None
        self.evaluations: dict[str, evaluation.Evaluation] = {}
        self._checkpoints, self._records = checkpoints, records
        self._config, self._probes = setting.config, setting.probes
        self._task = setting.program.task
        self._parameters = sum(leaf.size for leaf in jax.tree.leaves(start.params))
        self._eval_batch = evaluation.batch_size(
            setting.config.evaluation.batch_size, dataset, len(setting.session.devices)
        )
        self._clock, self._share = Clock(), 1
        self._before, self._kept = records.seconds, int(start.step)
        self._started: float | None = None

    def begin(self, clock: Clock, share: int) -> None:
        """A step is about to be taken, at the same time as those of `share` - 1 others."""
        self._before = self._seconds()
        self._clock, self._share, self._started = clock, share, time.perf_counter()

    def advance(self, steps: int) -> None:
        """So many more steps are complete; their figures follow."""
        self._records.advance(steps)

    def trained(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the figures of a step in; one that is not finite ends the run."""
        self._records.trained(metrics)
        if not metrics["finite"]:
            self._diverge(step)

    def log(self, step: int, recent: int | None = None) -> None:
        """Writes the means since the last such line; the speed is that of the `recent` steps."""
        self._records.write_training(
            step,
            step / self.planned.steps_per_epoch,
            self.planned.rate(step),
            self._clock.speed(self._share * self._config.training.batch_size, recent),
            self._seconds(),
        )

    def save(self, step: int, state: TrainState) -> None:
        """Evaluates what is due and writes a checkpoint; an evaluation that is not finite ends the
        run."""
        score = None
        if self.planned.evaluates(step):
            found = self._evaluate(state, "validation")
            if not found.finite:
                self._diverge(step)
                return
            figures = found.figures()
            score = self._score(figures.values)
            epoch = step / self.planned.steps_per_epoch
            self._records.write(step, epoch, "validation", figures.model_dump(), self._seconds())
        copy, notes = (
            self.setting.program.compiled.copy(state),
            self._records.notes(self._seconds()),
        )
        self._checkpoints.save(copy, self._config.model_dump(mode="json"), score, notes)
        self._kept = step

    def stop(self, step: int, state: TrainState) -> None:
        """Keeps the last step, unless it is kept, and waits until that is on the disk."""
        if step > self._kept:
            self.save(step, state)
        self._checkpoints.wait()

    def signal(self) -> None:
        """Keeps the signals before the first step, which a run that goes on cannot see again."""
        if self._probes.signals and int(self.start.step) == 0:
            found = self._probes.signal(self._subject(self.start))
            files.write_json(self._signals, {"start": found})

    def end(self, state: TrainState) -> None:
        """The steps that are taken together with these others are over."""
        self.start = state

    def finish(self) -> None:
        """Evaluates the final state of a run that has not diverged."""
        if self.outcome:
            return
        state = self.start
        splits = self.setting.splits(self.dataset)
        self.evaluations = {split: self._evaluate(state, split) for split in splits}
        ema = state.ema
        self.outcome = self._result(
            "finished",
            self.planned.total_steps,
            params_digest=digest(
                state.params if ema is None else {"params": state.params, "ema": ema.params}
            ),
            **{split: evaluated.figures() for split, evaluated in self.evaluations.items()},
            **self._answers(state),
        )

    def write(self, compilations: int) -> RunResult:
        """Writes and returns the result; the checkpoints are on the disk by then."""
        directory = self.job.directory
        assert self.outcome is not None
        for split, evaluated in self.evaluations.items():
            evaluated.write(directory / f"predictions_{split}.npz")
        signals = self.outcome.signals
        if self._probes.signals and self._signals.is_file():  # not there where asked for later
            signals = files.read_json(self._signals) | signals
        runtime = files.read_json(directory / "runtime.json") | {"jax": jax.__version__}
        changes: dict[str, Any] = {"compilations": compilations, "runtime": runtime}
        changes |= {"signals": signals} if signals else {}
        result = self.outcome.model_copy(update=changes)
        result.write(directory / "result.json")
        return result

    @property
    def _signals(self) -> Path:
        return self.job.directory / "signals.json"

    def _evaluate(self, state: TrainState, split: str) -> evaluation.Evaluation:
        return evaluation.evaluate(
            self._task,
            self.setting.program.compiled,
            state.variables,
            self.setting.store,
            self.dataset,
            split,
            batch_size=self._eval_batch,
            keep_prob=np.float32(self._config.model.dropout.keep_prob),
        )

    def _subject(self, state: TrainState) -> Subject:
        return Subject(
            self._task,
            self.setting.program.module,
            state.variables,
            self.setting.program.normalize,
            self.dataset,
            self.job.seed,
            float(self._config.model.dropout.keep_prob),
            self.setting.program.matmul_precision,
            self.setting.program.compiled,
            self.setting.store,
            self._eval_batch,
        )

    def _answers(self, state: TrainState) -> dict[str, Any]:
        """What the probes find at the end."""
        subject, found = self._subject(state), {}
        if self._probes.measures:
            found["measures"] = self._probes.measure(subject, self.setting.splits(self.dataset))
        if self._probes.signals:
            found["signals"] = {"end": self._probes.signal(subject)}
        return found

    def _seconds(self) -> float:
        """The time of the run: of runs that are trained together, an equal share for each."""
        if self._started is None:
            return self._before
        return self._before + (time.perf_counter() - self._started) / self._share

    def _diverge(self, step: int) -> None:
        self.log(step)
        self.outcome = self._result("diverged", step, diverged_at_step=step)

    def _result(self, status: Status, steps: int, **found: Any) -> RunResult:
        """What became of the run after so many steps."""
        batch_size = self._config.training.batch_size
        speed = self._clock.speed(self._share * batch_size) or self._records.speed
        values: dict[str, Any] = dict.fromkeys((*SPLITS, "params_digest"))
        return RunResult(
            **self.job.named,
            status=status,
            steps=steps,
            **(values | found),
            chance={
                split: evaluation.chance(self._task, self.dataset, split)
                for split in self.setting.splits(self.dataset)
            },
            best_validation=self._best(),
            examples_seen=steps * batch_size,
            seconds=round(self._seconds(), 3),
            train_images_per_second=round(speed, 1),
            parameters=self._parameters,
            multiply_adds=self.setting.multiply_adds,
        )

    def _score(self, figures: Mapping[str, float | None]) -> float:
        """How good figures are, larger being better."""
        primary = self._task.primary
        value = figures.get(primary.name)
        return -math.inf if value is None else primary.sign * value

    def _best(self) -> Best | None:
        """The best evaluation on the validation split so far; of equal ones the first."""
        lines = self._records.validations()
        best = max(lines, key=lambda line: (self._score(line), -line["step"]), default=None)
        names = ("step", "epoch", *(each.name for each in self._task.metrics))
        return None if best is None else Best(**{name: best[name] for name in names})


@contextlib.contextmanager
def opened(setting: Setting, job: Job, *, bar: str | None, log: Log) -> Iterator[ActiveRun]:
    """A run with its folder open: its checkpoints, its records, and its state restored.

    Args:
      setting: what it shares with the other runs of its arm.
      job: the run.
      bar: what its progress bar is called; None for no bar.
      log: where lines for the user go.

    Raises UserError where the folder is of another configuration or cannot be read.
    """
    dataset, directory = setting.dataset(job.seed), job.directory
    planned = plan(setting.config, dataset.order)
    fresh = setting.session.initial_state(setting.config, setting.program, dataset, job.seed)
    folder.keep_settings(directory, setting.config, setting.runtime, log)
    keep_last = setting.config.checkpointing.keep_last
    with Checkpoints(directory / "checkpoints", keep_last=keep_last) as checkpoints:
        restored = checkpoints.restore_latest(fresh, log)
        start, notes = restored or (fresh, {})
        step, total = int(start.step), planned.total_steps
        if restored:
            log(f"resumed: {job.label} at step {step} of {total}")
        with MetricsLog(
            directory,
            setting.program.task,
            restored_step=step,
            total_steps=total,
            label=bar,
            notes=notes,
            log=log,
        ) as records:
            made = ActiveRun(setting, job, dataset, planned, start, checkpoints, records)
            made.signal()
            yield made
