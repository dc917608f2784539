"""Compiles the pure steps: over a device mesh with jit, or with pmap.

This is the only module that knows about devices. Outside the step the state is one replicated copy
in both cases, so that checkpoints are the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from cnnjax.data.inputs import Batch, gather
from cnnjax.errors import UserError
from cnnjax.tasks.task import Arrays
from cnnjax.train.state import HParams, TrainState
from cnnjax.train.step import EvalStep, StepResult, TrainStep

AXIS = "devices"

Train = Callable[[TrainState, Any, Batch, HParams], StepResult]


class Compiled:
    """A train step and an eval step, compiled for devices and ready to call with host batches.

    Args:
      train: the pure step, built with `axis_name=AXIS` where `mode` is pmap.
      evaluate: the pure eval step.
      mode: `jit` shards the batch over a mesh; `pmap` maps the step over the devices.
      devices: the devices to use.
      compiler_options: what `jax.jit` is given for the steps; `pmap` takes none.

    Attributes:
      train: (state, store, batch, hparams) -> (state, metrics); donates the state.
      train_steps: the same for several steps in one call, by a scan: the arrays of the batch, the
        learning rate and the metrics have a leading axis of steps.
      train_replicas: `train` for replicas: all arguments but the store have a leading axis, which
        is sharded over the devices; its length must be a multiple of their number. None under
        pmap.
      train_replicas_steps: `train_steps` for replicas; the axis of steps comes second. None under
        pmap.
      evaluate: (variables, store, batch, keep_prob) -> statistics and predictions of each example.
      traces: how often the train step has been traced.
      devices: the number of devices.
    """

    train_replicas: Train | None = None
    train_replicas_steps: Train | None = None

    def __init__(
        self,
        train: TrainStep,
        evaluate: EvalStep,
        *,
        mode: str,
        devices: Sequence[jax.Device],
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self.devices, self.traces, self._reported = len(devices), 0, 0
        self._divides_on_host = mode == "pmap"
        mesh = Mesh(np.asarray(devices), (AXIS,))
        self._whole = whole = NamedSharding(mesh, PartitionSpec())
        self._split = split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._split_steps = NamedSharding(mesh, PartitionSpec(None, AXIS))
        jit = functools.partial(jax.jit, compiler_options=dict(compiler_options or {}) or None)

        def gathered_train(
            state: TrainState, store: Any, batch: Batch, hparams: HParams
        ) -> StepResult:
            self.traces += 1
            return train(state, gather(store, batch), hparams)

        def gathered_eval(variables: Any, store: Any, batch: Batch, keep_prob: ArrayLike) -> Any:
            return evaluate(variables, gather(store, batch), keep_prob)

        self.evaluate: Callable[[Any, Any, Batch, ArrayLike], dict[str, Arrays]] = jit(
            gathered_eval, in_shardings=(whole, whole, split, whole), out_shardings=split
        )
        scanned = _scan_steps(gathered_train)
        if mode == "pmap":
            self.train = _pmapped(gathered_train, devices)
            self.train_steps = _pmapped(scanned, devices, 1)
            return

        def sharded(step: Train, batch: NamedSharding, runs: NamedSharding = whole) -> Train:
            return jit(
                step,
                in_shardings=(runs, whole, batch, runs),
                out_shardings=(runs, runs),
                donate_argnums=0,
            )

        replicas = functools.partial(jax.vmap, in_axes=(0, None, 0, 0))
        self.train = sharded(gathered_train, split)
        self.train_steps = sharded(scanned, self._split_steps)
        self.train_replicas = sharded(replicas(gathered_train), split, split)
        self.train_replicas_steps = sharded(replicas(scanned), split, split)

    def new_traces(self) -> int:
        """How often the train step has been traced since the last call of this function."""
        new, self._reported = self.traces - self._reported, self.traces
        return new

    def replicate(self, tree: Any) -> Any:
        """Puts a tree on the devices, one whole copy on each."""
        return jax.device_put(tree, self._whole)

    def shard(self, trees: Sequence[Any]) -> Any:
        """Stacks trees along a new leading axis, which is sharded over the devices."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
        return jax.device_put(stacked, self._split)

    def feed(self, batch: Batch, several: bool) -> Batch:
        """Puts a batch on the devices, sharded as `train` takes it, or as `train_steps` if it is of
        several steps; its transfer need not be complete on return."""
        if self._divides_on_host:
            return batch
        return jax.device_put(batch, self._split_steps if several else self._split)


@jax.jit
def copy(tree: Any) -> Any:
    """Copies a tree, so that a later step which donates the tree leaves the copy alone."""
    return jax.tree.map(jnp.copy, tree)


def check_batch(batch_size: int, devices: int) -> None:
    """Raises UserError where the batch cannot be divided evenly."""
    if batch_size % devices:
        near = max(devices, round(batch_size / devices) * devices)
        raise UserError(
            f"training.batch_size: {batch_size} cannot be divided among {devices} devices; "
            f"try {near}."
        )


def _scan_steps(step: Train) -> Train:
    """A function that takes one step for each entry of the leading axis of its batch and of its
    learning rate."""

    def steps(state: TrainState, store: Any, batch: Batch, hparams: HParams) -> StepResult:
        def body(state: TrainState, inputs: Any) -> StepResult:
            batch, rate = inputs
            return step(state, store, batch, dataclasses.replace(hparams, learning_rate=rate))

        return jax.lax.scan(body, state, (batch, hparams.learning_rate))

    return steps


def _pmapped(step: Train, devices: Sequence[jax.Device], axis: int = 0) -> Train:
    """A step mapped over the devices; the axis `axis` of each array of the batch is divided among
    them."""
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0, None),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )

    def call(state: TrainState, store: Any, batch: Batch, hparams: HParams) -> StepResult:
        parts = {name: np.stack(np.split(each, len(devices), axis)) for name, each in batch.items()}
        return mapped(state, store, parts, hparams)

    return call
