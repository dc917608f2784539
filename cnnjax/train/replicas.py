"""The states of runs that take their steps at the same time.

A run alone has its state as it is. Runs that are trained together have theirs stacked along a
leading axis, the replica axis, over which the same pure step is vmapped and which is sharded over
the devices: that needs no communication. Each run keeps its index on the axis. Where a run has
ended, and where the axis has to be longer to be a multiple of the number of devices, there is a
copy of another run's state, so that the bits of a run do not depend on which others still go on.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.data.inputs import Batch
from cnnjax.errors import UserError
from cnnjax.train.parallel import Compiled
from cnnjax.train.state import HParams, TrainState

Metrics = Mapping[str, jax.Array]
Figures = dict[str, float]


class Replicas:
    """Runs that share their compiled steps, at the same step, by their index on the replica axis.

    Args:
      compiled: the steps.
      store: the examples on the devices.
      states: the state of each run. They are not to be used any more.
      hparams: the numbers and the keys of each run.
      width: the length of the replica axis; 0 for a run alone, whose state is not stacked.

    Raises UserError where the steps cannot be taken together.
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
            (self._state,), (numbers,) = states.values(), hparams.values()
            self._hparams = compiled.replicate(numbers)
            self._one, self._several = compiled.train, compiled.train_steps
            return
        if compiled.train_replicas is None or compiled.train_replicas_steps is None:
            raise UserError(
                "--replicas: runs with training.parallel=pmap are trained one after another; use "
                "--replicas=1, or jit."
            )
        self._one, self._several = compiled.train_replicas, compiled.train_replicas_steps
        self._state = compiled.shard(self._filled(states))
        self._hparams = compiled.shard(self._filled(hparams))

    def batch(self, batches: Mapping[int, Sequence[Batch]]) -> Batch:
        """What `steps` takes: the batches of each run, one for each of the steps of a call. Images
        are put on the devices; indices go there with the call."""
        filled = self._filled({place: _stacked(each) for place, each in batches.items()})
        batch = filled[0]
        if self._width:
            batch = {name: np.stack([each[name] for each in filled]) for name in batch}
        if "images" not in batch:
            return batch
        several = len(next(iter(batches.values()))) > 1
        return self._compiled.feed(batch, several and not self._width)

    def steps(self, batch: Batch, learning_rates: Mapping[int, Sequence[float]]) -> Metrics:
        """Some steps of all runs, with the learning rates of each; they need not be complete on
        return."""
        rates: Any = np.asarray(self._filled(learning_rates), np.float32)
        several = rates.shape[1] > 1
        rates = rates if several else rates[:, 0]
        rates = rates if self._width else rates[0]
        hparams = dataclasses.replace(self._hparams, learning_rate=rates)
        take = self._several if several else self._one
        self._state, metrics = take(self._state, self._store, batch, hparams)
        return metrics

    def figures(self, metrics: Metrics) -> dict[int, list[Figures]]:
        """The figures of each run, step by step, when the call is complete."""
        values = {
            name: np.asarray(value).reshape(max(1, self._width), -1)
            for name, value in metrics.items()
        }
        steps = len(next(iter(values.values()))[0])
        return {
            place: [
                {
                    name: float(value[place if self._width else 0, step])
                    for name, value in values.items()
                }
                for step in range(steps)
            ]
            for place in self._places
        }

    def state(self, place: int) -> TrainState:
        """The state of one run; the next step may take it away, unless runs are stacked."""
        if not self._width:
            return self._state
        return self._compiled.replicate(jax.tree.map(lambda leaf: leaf[place], self._state))

    def _filled(self, values: Mapping[int, Any]) -> list[Any]:
        some = next(iter(values.values()))
        return [values.get(place, some) for place in range(max(1, self._width))]


def _stacked(batches: Sequence[Batch]) -> Batch:
    """The batches of several steps along a leading axis; one as it is."""
    if len(batches) == 1:
        return batches[0]
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
