"""The states of runs that take their steps at the same time.

A run alone has its state as it is. The replicates of an arm that are trained together have theirs
stacked along a leading axis, over which the same pure step is mapped and which is dealt out to the
devices: that needs no communication. The axis has a lane for each run, whose place stays, and a
copy of another run's state in lanes without one, or to be a multiple of the number of devices: so
that the bits of a run do not depend on which others still go on.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.errors import UserError
from cnnjax.train.parallel import Compiled
from cnnjax.train.state import HParams, TrainState
from cnnjax.train.step import Batch

Metrics = Mapping[str, jax.Array]


class Lanes:
    """Runs of one arm, at the same step, by their places.

    Args:
      compiled: the steps of the arm.
      store: the examples on the devices.
      states: the state of each run. They are not to be used any more.
      hparams: the numbers and the keys of each run.
      width: the number of lanes; 0 for a run alone, whose state is not stacked.

    Raises UserError where the arm's steps cannot be taken together.
    """

    def __init__(
        self,
        compiled: Compiled,
        store: Any,
        states: Mapping[int, TrainState],
        hparams: Mapping[int, HParams],
        *,
        width: int,
    ):
        self._compiled, self._store = compiled, store
        self._places = list(states)
        self._width = -(-width // compiled.devices) * compiled.devices
        if not width:
            (self._state,), (self._hparams,) = states.values(), hparams.values()
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

    def step(self, batches: Mapping[int, Batch], learning_rate: float) -> Metrics:
        """One step of all runs, each on its batch; it need not be complete on return."""
        batch: Any = next(iter(batches.values()))
        rate: Any = np.float32(learning_rate)
        if self._width:
            filled = self._filled(batches)
            batch = {name: np.stack([each[name] for each in filled]) for name in batch}
            rate = np.full(self._width, rate)
        hparams = dataclasses.replace(self._hparams, learning_rate=rate)
        self._state, metrics = self._train(self._state, self._store, batch, hparams)
        return metrics

    def wait(self, metrics: Metrics) -> dict[int, dict[str, float]]:
        """Waits until a step is complete; returns the figures of each run."""
        values = {name: np.asarray(value) for name, value in metrics.items()}
        return {
            place: {
                name: float(value[place] if self._width else value)
                for name, value in values.items()
            }
            for place in self._places
        }

    def state(self, place: int) -> TrainState:
        """The state of one run; the next step may take it away, unless runs are stacked."""
        if not self._width:
            return self._state
        return self._compiled.place(jax.tree.map(lambda leaf: leaf[place], self._state))

    def _filled(self, values: Mapping[int, Any]) -> list[Any]:
        some = next(iter(values.values()))
        return [values.get(place, some) for place in range(self._width)]
