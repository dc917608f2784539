"""The states of runs that take their steps at the same time.

A run alone has its state as it is. The replicates of an arm that are trained together have theirs
stacked along a leading axis, over which the same pure step is mapped and which is dealt out to the
devices: that needs no communication. The axis is filled up, with copies of the last state, to a
multiple of the number of devices.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.errors import UserError
from cnnjax.train.parallel import Compiled
from cnnjax.train.state import HParams, TrainState
from cnnjax.train.step import Batch

Metrics = Mapping[str, jax.Array]


class Lanes:
    """Runs of one arm, at the same step.

    Args:
      compiled: the steps of the arm.
      store: the examples on the devices.
      states: the state of each run. They are not to be used any more.
      hparams: the numbers and the keys of each run.
      together: whether the states are stacked; else there is one.

    Raises UserError where the arm's steps cannot be taken together.
    """

    def __init__(
        self,
        compiled: Compiled,
        store: Any,
        states: Sequence[TrainState],
        hparams: Sequence[HParams],
        *,
        together: bool,
    ):
        self._compiled, self._store, self._together = compiled, store, together
        self._count = len(states)
        if not together:
            (self._state,), (self._hparams,) = states, hparams
            self._train = compiled.train
            return
        if compiled.together is None:
            raise UserError(
                "--replicates: runs with training.parallel=pmap are trained one after another; use "
                "--replicates=1, or jit."
            )
        self._train = compiled.together
        self._state = compiled.deal(self._filled(states))
        self._hparams = compiled.deal(self._filled(hparams))

    def step(self, batches: Sequence[Batch], learning_rate: float) -> Metrics:
        """One step of all runs, each on its batch; it need not be complete on return."""
        batch: Any = batches[0]
        rate: Any = np.float32(learning_rate)
        if self._together:
            batches = self._filled(batches)
            batch = {name: np.stack([each[name] for each in batches]) for name in batch}
            rate = np.full(len(batches), rate)
        hparams = dataclasses.replace(self._hparams, learning_rate=rate)
        self._state, metrics = self._train(self._state, self._store, batch, hparams)
        return metrics

    def wait(self, metrics: Metrics) -> list[dict[str, float]]:
        """Waits until a step is complete; returns the figures of each run."""
        values = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
        return [
            {name: float(value[place]) for name, value in values.items()}
            for place in range(self._count)
        ]

    def state(self, place: int) -> TrainState:
        """The state of one run; the next step may take it away, unless runs are stacked."""
        if not self._together:
            return self._state
        return self._compiled.place(jax.tree.map(lambda leaf: leaf[place], self._state))

    def _filled(self, values: Sequence[Any]) -> list[Any]:
        return [*values, *[values[-1]] * (-len(values) % self._compiled.devices)]
