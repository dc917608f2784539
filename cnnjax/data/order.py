"""Which examples a step sees: a pure function of (seed, step)."""

import math

import numpy as np

from cnnjax import config as configs
from cnnjax.data import keys


class Order:
    """Epoch permutations of `examples`, concatenated and cut into batches.

    Nothing is dropped: a batch may hold the end of one epoch and the start of the next. There is
    no iterator state, so a resumed run sees the same examples. The permutation of an epoch is keyed
    by ("order", seed, epoch) alone; the last two used are cached.

    Args:
      examples: size of the training set, at least 1.
      batch_size: examples of a step, at least 1.
      seed: the run's seed.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        if examples < 1 or batch_size < 1:
            raise ValueError(f"examples ({examples}) and batch_size ({batch_size}) start at 1")
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self._epochs: dict[int, np.ndarray] = {}

    def indices(self, step: int) -> np.ndarray:
        """Positions in the training set that step `step` (from 0) sees, int32 [batch_size]."""
        return self.span(step * self.batch_size, (step + 1) * self.batch_size)

    def span(self, start: int, stop: int) -> np.ndarray:
        """Elements `start` to `stop` of the endless sequence of epochs, int32 [stop - start]."""
        if start < 0:
            raise ValueError(f"start ({start}) is negative")
        first, last = start // self.examples, max(stop - 1, start) // self.examples
        sequence = np.concatenate([self._epoch(epoch) for epoch in range(first, last + 1)])
        return sequence[start - first * self.examples : stop - first * self.examples]

    def steps(self, epochs: float) -> int:
        """The steps of `epochs` epochs: ceil(epochs * examples / batch_size)."""
        return math.ceil(epochs * self.examples / self.batch_size - 1e-9)

    def total_steps(self, training: configs.Training) -> int:
        """The steps of a run: `steps`, else those of `epochs`, at most `max_examples`."""
        total = training.steps or self.steps(training.epochs)
        if training.max_examples:
            total = min(total, max(1, training.max_examples // self.batch_size))
        return total

    def _epoch(self, epoch: int) -> np.ndarray:
        cached = self._epochs
        if epoch not in cached:
            permutation = keys.permutation(self.examples, "order", self.seed, epoch)
            self._epochs = {**dict(list(cached.items())[-1:]), epoch: permutation}
            return permutation
        return cached[epoch]
