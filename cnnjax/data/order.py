"""Which examples a step sees: a pure function of (seed, step)."""

import math

import numpy as np

from cnnjax import config as configs
from cnnjax.data import keys


class Order:
    """Epoch permutations of `examples` laid end to end and cut into batches.

    Nothing is dropped: a batch may hold the end of one epoch and the start of the next. There is
    no iterator state, so a resumed run sees the same examples. The permutation of an epoch is keyed
    by ("order", seed, epoch) alone; the two last used are kept, for speed.

    Args:
      examples: size of the training set, at least 1.
      batch_size: examples of a step, at least 1.
      seed: the run's seed.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        if examples < 1 or batch_size < 1:
            raise ValueError(f"examples ({examples}) and batch_size ({batch_size}) start at 1")
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self._kept: dict[int, np.ndarray] = {}

    def indices(self, step: int) -> np.ndarray:
        """Positions in the training set that step `step` (from 0) sees, int32 [batch_size]."""
        return self.span(step * self.batch_size, (step + 1) * self.batch_size)

    def span(self, start: int, stop: int) -> np.ndarray:
        """The places `start` to `stop` of the endless row of epochs, int32 [stop - start]."""
        if start < 0:
            raise ValueError(f"start ({start}) is negative")
        first, last = start // self.examples, max(stop - 1, start) // self.examples
        row = np.concatenate([self._epoch(epoch) for epoch in range(first, last + 1)])
        return row[start - first * self.examples : stop - first * self.examples]

    def steps(self, epochs: float) -> int:
        """Steps that `epochs` epochs take: ceil(epochs * examples / batch_size)."""
        return math.ceil(epochs * self.examples / self.batch_size - 1e-9)

    def total(self, training: configs.Training) -> int:
        """The steps of a run: `steps`, else `epochs`, but for `max_examples`."""
        total = training.steps or self.steps(training.epochs)
        if training.max_examples:
            total = min(total, max(1, training.max_examples // self.batch_size))
        return total

    def _epoch(self, epoch: int) -> np.ndarray:
        kept = self._kept
        if epoch not in kept:
            made = keys.permutation(self.examples, "order", self.seed, epoch)
            self._kept = {**dict(list(kept.items())[-1:]), epoch: made}
            return made
        return kept[epoch]
