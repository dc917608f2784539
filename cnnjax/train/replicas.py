"""The states of runs that take their steps together.

Their states are stacked along a leading axis, the replica axis. The pure step of a single run is
vmapped over this axis, and the axis is sharded over the devices, which need not communicate. Each
run keeps its index on the axis. The entry of a run that has ended, and entries that make the length
a multiple of the number of devices, are copies of another run's state, so that the bits of a run do
not depend on which others are still trained. The state of a run alone is not stacked.
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
    """Runs that share their compiled steps and are at the same step, by index on the replica axis.

    Args:
      compiled: the steps.
      store: the examples on the devices.
      states: the state of each run. They are donated.
      hparams: the traced numbers and the keys of each run.
      width: the length of the replica axis; 0 for a run alone, whose state is not stacked and
        whose index is 0.

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
        self._indices = list(states)
        self._width = -(-width // compiled.devices) * compiled.devices
        if not width:
            (self._state,), (alone,) = states.values(), hparams.values()
            self._hparams = compiled.replicate(alone)
            self._one_step, self._several_steps = compiled.train, compiled.train_steps
            return
        if compiled.train_replicas is None or compiled.train_replicas_steps is None:
            raise UserError(
                "--replicas: runs with training.parallel=pmap are trained one after another; use "
                "--replicas=1, or jit."
            )
        self._one_step = compiled.train_replicas
        self._several_steps = compiled.train_replicas_steps
        self._state = compiled.shard(self._padded(states))
        self._hparams = compiled.shard(self._padded(hparams))

    def batch(self, batches: Mapping[int, Sequence[Batch]]) -> Batch:
        """Returns the argument of `steps` from the batches of each run, one for each step of a
        call. Images are put on the devices; indices are transferred with the call."""
        several = len(next(iter(batches.values()))) > 1
        of_runs = {index: _stacked(each) if several else each[0] for index, each in batches.items()}
        replicas = self._padded(of_runs)
        batch = _stacked(replicas) if self._width else replicas[0]
        if "images" not in batch:
            return batch
        return self._compiled.feed(batch, several and not self._width)

    def steps(self, batch: Batch, learning_rates: Mapping[int, Sequence[float]]) -> Metrics:
        """Takes one or several steps of all runs, with the learning rates of each run and step.
        The steps need not be complete on return."""
        rates: Any = np.asarray(self._padded(learning_rates), np.float32)
        several = rates.shape[1] > 1
        rates = rates if several else rates[:, 0]
        rates = rates if self._width else rates[0]
        hparams = dataclasses.replace(self._hparams, learning_rate=rates)
        take = self._several_steps if several else self._one_step
        self._state, metrics = take(self._state, self._store, batch, hparams)
        return metrics

    def figures(self, metrics: Metrics) -> dict[int, list[Figures]]:
        """The metrics of each run, step by step; waits until the call is complete."""
        values = {
            name: np.asarray(value).reshape(max(1, self._width), -1)
            for name, value in metrics.items()
        }
        steps = len(next(iter(values.values()))[0])
        return {
            index: [
                {name: float(value[index, step]) for name, value in values.items()}
                for step in range(steps)
            ]
            for index in self._indices
        }

    def state(self, index: int) -> TrainState:
        """The state of one run. That of a run alone is donated to its next step."""
        if not self._width:
            return self._state
        return self._compiled.replicate(jax.tree.map(lambda leaf: leaf[index], self._state))

    def _padded(self, values: Mapping[int, Any]) -> list[Any]:
        padding = next(iter(values.values()))
        return [values.get(index, padding) for index in range(max(1, self._width))]


def _stacked(batches: Sequence[Batch]) -> Batch:
    """Batches stacked along a new leading axis."""
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
