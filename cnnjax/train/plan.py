"""What a run derives from its configuration before its first step. It takes little memory, however
long the run is."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from cnnjax import data
from cnnjax.config import ResolvedConfig
from cnnjax.train import optim

CHUNK = 2**20  # steps whose learning rates are computed at a time


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run derives from its configuration, in one place and after all overrides.

    Attributes:
      total_steps: the number of steps.
      steps_per_epoch: examples over batch size; not rounded.
      evaluate_every: steps between evaluations of the validation split, not rounded; it is also
        evaluated at the end.
      save_every: steps between checkpoints; there is also one with each evaluation.
      log_every: steps between lines of metrics; there is also one with each checkpoint.
      rates: (n) -> the learning rates of the n-th `CHUNK` steps, float32; n starts at 0.
    """

    total_steps: int
    steps_per_epoch: float
    evaluate_every: float
    save_every: int | None
    log_every: int
    rates: Callable[[int], np.ndarray]

    def calls(self, first: int, last: int, steps_per_call: int) -> Iterator[range]:
        """The steps `first` + 1 to `last`, divided into calls: `steps_per_call` steps each, but
        single ones where fewer are left before something is written.

        Where a call ends depends only on where it begins, so that a run which was stopped between
        two calls is resumed with the same calls."""
        step = first
        while step < last:
            end = step + steps_per_call
            if end > last or any(map(self.due, range(step + 1, end))):
                end = step + 1
            yield range(step + 1, end + 1)
            step = end

    def rate(self, step: int) -> float:
        """The learning rate of a step; the first step is 1."""
        chunk, index = divmod(step - 1, CHUNK)
        return float(self.rates(chunk)[index])

    def evaluates(self, step: int) -> bool:
        """Whether the validation split is evaluated after a step."""
        count = int(step / self.evaluate_every)
        marks = (math.ceil(self.evaluate_every * n - 1e-9) for n in (count, count + 1))
        return step == self.total_steps or step in marks

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after a step."""
        if self.save_every is not None and step % self.save_every == 0:
            return True
        return self.evaluates(step)

    def due(self, step: int) -> bool:
        """Whether a line of metrics or a checkpoint is written after a step."""
        return step % self.log_every == 0 or self.saves(step)


def make_plan(config: ResolvedConfig, order: data.Order) -> Plan:
    """Derives the plan of a run from its configuration and its number of training examples."""
    total = order.total_steps(config.training)
    per_epoch = order.examples / config.training.batch_size
    schedule, peak = config.schedule, config.optimizer.learning_rate

    @functools.lru_cache(1)
    def rates(chunk: int) -> np.ndarray:
        first = chunk * CHUNK
        count = min(CHUNK, total - first)
        return optim.learning_rates(schedule, peak, total, per_epoch, first=first, count=count)

    return Plan(
        total,
        per_epoch,
        config.evaluation.every_epochs * per_epoch,
        config.checkpointing.every_steps,
        config.training.log_every_steps,
        rates,
    )
