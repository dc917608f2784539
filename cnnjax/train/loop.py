"""The only training loop: from a configuration and a seed to a folder with a result."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax import data, files
from cnnjax.config import RunConfig
from cnnjax.train import evaluation, folder, optim
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.probe import Probes, Subject
from cnnjax.train.records import Clock, Records
from cnnjax.train.session import Program, Session
from cnnjax.train.state import HParams, TrainState, digest

Say = Callable[[str], None]
SPLITS = ("validation", "test")
NO_PROBES = Probes()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run derives from its configuration, in one place and after all overrides.

    Attributes:
      total_steps: the number of steps.
      steps_per_epoch: examples over batch size; not rounded.
      learning_rates: float32 [total_steps].
      evaluations: the steps after which the validation split is evaluated.
      checkpoints: the steps after which a checkpoint is written; all evaluations are among them.
    """

    total_steps: int
    steps_per_epoch: float
    learning_rates: np.ndarray
    evaluations: frozenset[int]
    checkpoints: frozenset[int]


def plan(config: RunConfig, order: data.Order) -> Plan:
    """Derives the plan of a run from its configuration and its number of training examples."""
    total = order.total(config.training)
    per_epoch = order.examples / config.training.batch_size
    every = config.evaluation.every_epochs * per_epoch
    marks = (math.ceil(every * count - 1e-9) for count in range(1, int(total / every) + 1))
    evaluations = frozenset({*(mark for mark in marks if mark <= total), total})
    between = config.checkpointing.every_steps
    extra = range(between, total, between) if between else ()
    rates = optim.learning_rates(config.schedule, config.optimizer.learning_rate, total, per_epoch)
    return Plan(total, per_epoch, rates, evaluations, evaluations | frozenset(extra))


def run(
    session: Session,
    config: RunConfig,
    seed: int,
    directory: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    probes: Probes = NO_PROBES,
    say: Say = print,
) -> dict[str, Any]:
    """Trains one run to its end, from where it was left, and writes and returns its result.

    Args:
      session: what the runs of this process share.
      config: the resolved configuration.
      seed: the run's seed.
      directory: the run's folder; the caller holds its lock.
      identity: what comes first in result.json: arm, block, seed.
      probes: what else is asked of the network; answers go into result.json.
      say: where lines for the user go.

    Raises UserError for what the user can mend; the folder keeps what was written.
    """
    identity = identity or {"arm": "", "block": "", "seed": seed}
    label = f"{identity['arm']} seed {seed}".strip()
    dataset = session.dataset(config, seed)
    convolution = session.convolution(config, begun_with=folder.begun_with(directory))
    program = session.program(config, convolution)
    traces = program.compiled.traces()
    planned = plan(config, dataset.order)
    fresh = session.initial_state(config, program, dataset, seed)
    folder.settle(directory, config, {**session.runtime, "convolution": convolution})
    with Checkpoints(
        directory / "checkpoints", keep_last=config.checkpointing.keep_last
    ) as checkpoints:
        state = checkpoints.restore_latest(fresh, say)
        if state is not None:
            say(f"{label}: resumed at step {int(state.step)} of {planned.total_steps}")
        training = _Training(session, config, program, dataset, planned, checkpoints, seed, probes)
        start = fresh if state is None else state
        with Records(
            directory, restored_step=int(start.step), total_steps=planned.total_steps, label=label
        ) as records:
            training.signal(start, directory / "signals.json")
            outcome = training.run(start, records)
    outcome["compilations"] = program.compiled.traces() - traces
    for split, found in outcome.pop("evaluations", {}).items():
        found.write(directory / f"predictions_{split}.npz")
    kept = directory / "signals.json"  # not there where probes were asked for after the start
    if probes.signals and kept.is_file():
        outcome["signals"] = files.read_json(kept) | outcome["signals"]
    runtime = files.read_json(directory / "runtime.json") | {"jax": jax.__version__}
    result = {**identity, **outcome, "runtime": runtime}
    files.write_json(directory / "result.json", result)
    return result


@dataclasses.dataclass
class _Training:
    """One run under way: what its steps need."""

    session: Session
    config: RunConfig
    program: Program
    dataset: data.Dataset
    planned: Plan
    checkpoints: Checkpoints
    seed: int
    probes: Probes

    def __post_init__(self) -> None:
        self.hparams: HParams = self.session.hparams(self.config, self.seed, self.program)
        self.store = self.session.store(self.config, self.program)
        self.eval_batch = evaluation.batch_size(
            self.config.evaluation.batch_size, self.dataset, len(self.session.devices)
        )
        wanted = SPLITS if self.config.evaluation.test else SPLITS[:1]
        self.splits = tuple(split for split in wanted if split in self.dataset.splits)
        self.clock = Clock()
        self.started = time.perf_counter()
        self.before = 0.0

    def run(self, state: TrainState, records: Records) -> dict[str, Any]:
        """All remaining steps, then the final evaluation. Returns the outcome."""
        self.before = records.seconds
        first = int(state.step)
        pending: Mapping[str, jax.Array] | None = None
        batches = self.dataset.train_batches(first, self.planned.total_steps)
        for step, batch in enumerate(batches, first + 1):
            hparams = dataclasses.replace(
                self.hparams, learning_rate=self.planned.learning_rates[step - 1]
            )
            state, metrics = self.program.compiled.train(state, self.store, batch, hparams)
            if pending is not None and not self._complete(pending, records):
                return self._diverged(step - 1, state, records)
            pending = metrics
            if self._due(step):
                if not self._complete(pending, records):
                    return self._diverged(step, state, records)
                pending = None
                if not self._mark(step, state, records):
                    return self._diverged(step, state, records)
        return self._finished(state, records)

    def _complete(self, metrics: Mapping[str, jax.Array], records: Records) -> bool:
        """Waits for a step; returns whether its loss and gradient were finite."""
        values = {name: float(value) for name, value in metrics.items()}
        self.clock.tick()
        records.trained(values)
        return bool(values["finite"])

    def _due(self, step: int) -> bool:
        logged = step % self.config.training.log_every_steps == 0
        return logged or step in self.planned.checkpoints

    def _mark(self, step: int, state: TrainState, records: Records) -> bool:
        """Logs, evaluates and saves what is due; False where the evaluation is not finite."""
        every = self.config.training.log_every_steps
        epoch = step / self.planned.steps_per_epoch
        speed = self.clock.speed(self.config.training.batch_size, recent=every)
        rate = self.planned.learning_rates[step - 1]
        records.write_training(step, epoch, rate, speed, self._seconds())
        if step not in self.planned.checkpoints:
            return True
        accuracy = None
        if step in self.planned.evaluations:
            found = self._evaluate(state, "validation")
            if not found.finite:
                return False
            figures = found.figures()
            accuracy = figures["accuracy"]
            records.write(step, epoch, "validation", figures, self._seconds())
        copy = self.program.compiled.copy(state)
        self.checkpoints.save(copy, self.config.model_dump(mode="json"), accuracy)
        self.clock.go_on()
        return True

    def _evaluate(self, state: TrainState, split: str) -> evaluation.Evaluation:
        return evaluation.evaluate(
            self.program.compiled,
            state.variables,
            self.store,
            self.dataset,
            split,
            batch_size=self.eval_batch,
            keep_prob=self.hparams.keep_prob,
        )

    def signal(self, state: TrainState, path: Path) -> None:
        """Keeps the signals before the first step, which a run that goes on cannot see again."""
        if self.probes.signals and int(state.step) == 0:
            files.write_json(path, {"start": self.probes.signal(self._subject(state))})

    def _subject(self, state: TrainState) -> Subject:
        return Subject(
            self.program.module,
            state.variables,
            self.program.normalize,
            self.dataset,
            self.seed,
            float(self.config.model.dropout.keep_prob),
            self.program.compiled,
            self.store,
            self.eval_batch,
        )

    def _answers(self, state: TrainState) -> dict[str, Any]:
        """What the probes find at the end."""
        subject, found = self._subject(state), {}
        if self.probes.measures:
            found["measures"] = self.probes.measure(subject, self.splits)
        if self.probes.signals:
            found["signals"] = {"end": self.probes.signal(subject)}
        return found

    def _seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def _diverged(self, step: int, state: TrainState, records: Records) -> dict[str, Any]:
        epoch = step / self.planned.steps_per_epoch
        rate = self.planned.learning_rates[step - 1]
        speed = self.clock.speed(self.config.training.batch_size)
        records.write_training(step, epoch, rate, speed, self._seconds())
        return {
            "status": "diverged",
            "diverged_at_step": step,
            "steps": step,
            "validation": None,
            "test": None,
            "params_digest": None,
            "signals": {},
        } | self._common(step, state, records)

    def _finished(self, state: TrainState, records: Records) -> dict[str, Any]:
        evaluations = {split: self._evaluate(state, split) for split in self.splits}
        ema = state.ema
        return {
            "status": "finished",
            "steps": self.planned.total_steps,
            **{
                split: evaluations[split].figures() if split in evaluations else None
                for split in SPLITS
            },
            "params_digest": digest(
                state.params if ema is None else {"params": state.params, "ema": ema.params}
            ),
            "evaluations": evaluations,
            **self._common(self.planned.total_steps, state, records),
            **self._answers(state),
        }

    def _common(self, steps: int, state: TrainState, records: Records) -> dict[str, Any]:
        best = max(
            records.validations(), key=lambda line: (line["accuracy"], -line["step"]), default=None
        )
        return {
            "chance": {
                split: _most_frequent(self.dataset.splits[split].labels) for split in self.splits
            },
            "best_validation": best
            and {name: best[name] for name in ("step", "epoch", "accuracy", "loss")},
            "examples_seen": steps * self.config.training.batch_size,
            "seconds": round(self._seconds(), 3),
            "train_images_per_second": round(
                self.clock.speed(self.config.training.batch_size) or records.speed, 1
            ),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        }


def _most_frequent(labels: np.ndarray) -> float:
    """The accuracy of guessing the most frequent class: what `chance` means in a result."""
    return float(np.bincount(labels).max() / len(labels))
