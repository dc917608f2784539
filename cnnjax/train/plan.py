"""What a run derives from its configuration before its first step."""

import dataclasses
import math

import numpy as np

from cnnjax import data
from cnnjax.config import RunConfig
from cnnjax.train import optim


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run derives from its configuration, in one place and after all overrides.

    Attributes:
      total_steps: the number of steps.
      steps_per_epoch: examples over batch size; not rounded.
      learning_rates: float32 [total_steps].
      evaluations: the steps after which the validation split is evaluated.
      checkpoints: the steps after which a checkpoint is written; all evaluations are among them.
      lines: every how many steps a line is written; one is with each checkpoint too.
    """

    total_steps: int
    steps_per_epoch: float
    learning_rates: np.ndarray
    evaluations: frozenset[int]
    checkpoints: frozenset[int]
    lines: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 1 on."""
        return float(self.learning_rates[step - 1])

    def due(self, step: int) -> bool:
        """Whether something is written after a step."""
        return step % self.lines == 0 or step in self.checkpoints


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
    checkpoints = evaluations | frozenset(extra)
    return Plan(total, per_epoch, rates, evaluations, checkpoints, config.training.log_every_steps)
