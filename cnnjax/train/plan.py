"""What a run derives from its configuration before its first step. It takes little memory, however
long the run is."""

import functools
import math
from collections.abc import Iterator

import numpy as np

from cnnjax import data
from cnnjax.config import ResolvedConfig
from cnnjax.train import optim

CHUNK = 2**20  # steps whose learning rates are computed at a time


class Plan:
    """What a run derives from its configuration and its number of training examples, in one place
    and after all overrides.

    Attributes:
      total_steps: the number of steps.
      steps_per_epoch: examples over batch size; not rounded.
      log_every: steps between lines of metrics; there is also one with each checkpoint.
      rates: (n) -> the learning rates of the n-th `CHUNK` steps, float32; n starts at 0.
    """

    def __init__(self, config: ResolvedConfig, order: data.Order):
        self.total_steps = total = order.total_steps(config.training)
        self.steps_per_epoch = per_epoch = order.examples / config.training.batch_size
        self.log_every = config.training.log_every_steps
        self._evaluate_every = config.evaluation.every_epochs * per_epoch  # steps, not rounded
        self._save_every = config.checkpointing.every_steps
        schedule, peak = config.schedule, config.optimizer.learning_rate

        @functools.lru_cache(1)
        def rates(chunk: int) -> np.ndarray:
            steps = range(total)[chunk * CHUNK : (chunk + 1) * CHUNK]
            return optim.learning_rates(schedule, peak, total, per_epoch, steps)

        self.rates = rates

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
        count = int(step / self._evaluate_every)
        marks = (math.ceil(self._evaluate_every * n - 1e-9) for n in (count, count + 1))
        return step == self.total_steps or step in marks

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after a step."""
        due = self._save_every is not None and step % self._save_every == 0
        return due or self.evaluates(step)

    def due(self, step: int) -> bool:
        """Whether a line of metrics or a checkpoint is written after a step."""
        return step % self.log_every == 0 or self.saves(step)
