"""One run under way: its folder, what it writes, and what becomes of it."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax import data, files
from cnnjax.config import RunConfig
from cnnjax.train import evaluation, folder
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.folder import Say
from cnnjax.train.plan import Plan
from cnnjax.train.probe import Probes, Subject
from cnnjax.train.records import Clock, Records
from cnnjax.train.session import Program, Session
from cnnjax.train.state import HParams, TrainState, digest

SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is asked for.

    Attributes:
      seed: the run's seed.
      directory: the run's folder; the caller holds its lock.
      identity: what comes first in result.json: arm, block, seed.
    """

    seed: int
    directory: Path
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def named(self) -> dict[str, Any]:
        """The identity, of a run without an arm too."""
        return {"arm": "", "block": "", "seed": self.seed, **self.identity}

    @property
    def label(self) -> str:
        """What the run is called in lines for the user."""
        return f"{self.named['arm']} seed {self.seed}".strip()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the runs of an arm share."""

    session: Session
    config: RunConfig
    program: Program
    runtime: Mapping[str, Any]
    probes: Probes

    def dataset(self, seed: int) -> data.Dataset:
        """The data as one seed sees them."""
        return self.session.dataset(self.config, seed)

    def hparams(self, seed: int) -> HParams:
        """The numbers and the keys of a run."""
        return self.session.hparams(self.config, seed, self.program)

    @property
    def store(self) -> Mapping[str, jax.Array]:
        """The examples on the devices."""
        return self.session.store(self.config, self.program)

    def splits(self, dataset: data.Dataset) -> tuple[str, ...]:
        """The splits that are evaluated at the end."""
        wanted = SPLITS if self.config.evaluation.test else SPLITS[:1]
        return tuple(split for split in wanted if split in dataset.splits)


class Replicate:
    """One run of an arm, from where it was left. Made by `opened`.

    Attributes:
      job: the run.
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
        records: Records,
    ):
        self.job, self.dataset, self.start = job, dataset, start
        self.outcome: dict[str, Any] | None = None
        self.evaluations: dict[str, evaluation.Evaluation] = {}
        self._setting, self._planned = setting, planned
        self._checkpoints, self._records = checkpoints, records
        self._config, self._probes = setting.config, setting.probes
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

    def trained(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is complete; one that is not finite ends the run."""
        self._records.trained(metrics)
        if not metrics["finite"]:
            self._diverge(step)

    def log(self, step: int, recent: int | None = None) -> None:
        """Writes the means since the last such line; the speed is that of the `recent` steps."""
        self._records.write_training(
            step,
            step / self._planned.steps_per_epoch,
            self._planned.rate(step),
            self._clock.speed(self._share * self._config.training.batch_size, recent),
            self._seconds(),
        )

    def save(self, step: int, state: TrainState) -> None:
        """Evaluates what is due and writes a checkpoint; an evaluation that is not finite ends the
        run."""
        accuracy = None
        if self._planned.evaluates(step):
            found = self._evaluate(state, "validation")
            if not found.finite:
                self._diverge(step)
                return
            figures = found.figures()
            accuracy = figures["accuracy"]
            epoch = step / self._planned.steps_per_epoch
            self._records.write(step, epoch, "validation", figures, self._seconds())
        copy, notes = (
            self._setting.program.compiled.copy(state),
            self._records.notes(self._seconds()),
        )
        self._checkpoints.save(copy, self._config.model_dump(mode="json"), accuracy, notes)
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
        splits = self._setting.splits(self.dataset)
        self.evaluations = {split: self._evaluate(state, split) for split in splits}
        ema = state.ema
        self.outcome = {
            "status": "finished",
            "steps": self._planned.total_steps,
            **{
                split: self.evaluations[split].figures() if split in splits else None
                for split in SPLITS
            },
            "params_digest": digest(
                state.params if ema is None else {"params": state.params, "ema": ema.params}
            ),
            **self._common(self._planned.total_steps),
            **self._answers(state),
        }

    def write(self, compilations: int) -> dict[str, Any]:
        """Writes and returns the result; the checkpoints are on the disk by then."""
        directory = self.job.directory
        assert self.outcome is not None
        outcome = self.outcome | {"compilations": compilations}
        for split, found in self.evaluations.items():
            found.write(directory / f"predictions_{split}.npz")
        if self._probes.signals and self._signals.is_file():  # not there where asked for later
            outcome["signals"] = files.read_json(self._signals) | outcome["signals"]
        runtime = files.read_json(directory / "runtime.json") | {"jax": jax.__version__}
        result = {**self.job.named, **outcome, "runtime": runtime}
        files.write_json(directory / "result.json", result)
        return result

    @property
    def _signals(self) -> Path:
        return self.job.directory / "signals.json"

    def _evaluate(self, state: TrainState, split: str) -> evaluation.Evaluation:
        return evaluation.evaluate(
            self._setting.program.compiled,
            state.variables,
            self._setting.store,
            self.dataset,
            split,
            batch_size=self._eval_batch,
            keep_prob=np.float32(self._config.model.dropout.keep_prob),
        )

    def _subject(self, state: TrainState) -> Subject:
        return Subject(
            self._setting.program.module,
            state.variables,
            self._setting.program.normalize,
            self.dataset,
            self.job.seed,
            float(self._config.model.dropout.keep_prob),
            self._setting.program.compiled,
            self._setting.store,
            self._eval_batch,
        )

    def _answers(self, state: TrainState) -> dict[str, Any]:
        """What the probes find at the end."""
        subject, found = self._subject(state), {}
        if self._probes.measures:
            found["measures"] = self._probes.measure(subject, self._setting.splits(self.dataset))
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
        self.outcome = {
            "status": "diverged",
            "diverged_at_step": step,
            "steps": step,
            "validation": None,
            "test": None,
            "params_digest": None,
            "signals": {},
            **self._common(step),
        }

    def _common(self, steps: int) -> dict[str, Any]:
        best = max(
            self._records.validations(),
            key=lambda line: (line["accuracy"], -line["step"]),
            default=None,
        )
        batch_size = self._config.training.batch_size
        speed = self._clock.speed(self._share * batch_size) or self._records.speed
        return {
            "chance": {
                split: evaluation.chance(self.dataset.splits[split].labels)
                for split in self._setting.splits(self.dataset)
            },
            "best_validation": best
            and {name: best[name] for name in ("step", "epoch", "accuracy", "loss")},
            "examples_seen": steps * batch_size,
            "seconds": round(self._seconds(), 3),
            "train_images_per_second": round(speed, 1),
            "parameters": self._parameters,
        }


@contextlib.contextmanager
def opened(
    setting: Setting, job: Job, planned: Plan, *, bar: str | None, say: Say
) -> Iterator[Replicate]:
    """A run with its folder open: its checkpoints, its records, and its state restored.

    Args:
      setting: what it shares with the other runs of its arm.
      job: the run.
      planned: the plan of the arm.
      bar: what its progress bar is called; None for no bar.
      say: where lines for the user go.

    Raises UserError where the folder is of another configuration or cannot be read.
    """
    dataset, directory = setting.dataset(job.seed), job.directory
    fresh = setting.session.initial_state(setting.config, setting.program, dataset, job.seed)
    folder.settle(directory, setting.config, setting.runtime, say)
    keep_last = setting.config.checkpointing.keep_last
    with Checkpoints(directory / "checkpoints", keep_last=keep_last) as checkpoints:
        restored = checkpoints.restore_latest(fresh, say)
        start, notes = restored or (fresh, {})
        step, total = int(start.step), planned.total_steps
        if restored:
            say(f"resumed: {job.label} at step {step} of {total}")
        with Records(
            directory, restored_step=step, total_steps=total, label=bar, notes=notes, say=say
        ) as records:
            made = Replicate(setting, job, dataset, planned, start, checkpoints, records)
            made.signal()
            yield made
