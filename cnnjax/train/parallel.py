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

from cnnjax.data.inputs import Batch
from cnnjax.errors import UserError
from cnnjax.tasks.task import Arrays
from cnnjax.train.state import HParams, TrainState
from cnnjax.train.step import EvalStep, TrainStep

AXIS = "devices"

Gather = Callable[[Mapping[str, jax.Array], Batch], Batch]
Train = Callable[[TrainState, Any, Batch, HParams], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The steps of one structure, ready to call with host batches.

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
      replicate: puts a tree on the devices, one whole copy on each.
      feed: (batch, several) -> the batch on the devices, sharded as `train` takes it, or as
        `train_steps` if it is of several steps; its transfer need not be complete on return.
      shard: stacks trees along a new leading axis, which is sharded over the devices.
      copy: copies a tree, so that a later step which donates the tree leaves the copy alone.
      traces: how often the train step has been traced.
      new_traces: how often it has been traced since the last call of this function.
      devices: the number of devices.
    """

    train: Train
    train_steps: Train
    train_replicas: Train | None
    train_replicas_steps: Train | None
    evaluate: Callable[[Any, Any, Batch, ArrayLike], dict[str, Arrays]]
    replicate: Callable[[Any], Any]
    feed: Callable[[Batch, bool], Batch]
    shard: Callable[[Sequence[Any]], Any]
    copy: Callable[[Any], Any]
    traces: Callable[[], int]
    new_traces: Callable[[], int]
    devices: int


def compile(
    train: TrainStep,
    evaluate: EvalStep,
    gather: Gather,
    *,
    mode: str,
    devices: Sequence[jax.Device],
    compiler_options: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compiles a train step and an eval step for `devices`.

    Args:
      train: the pure step, built with `axis_name=AXIS` where `mode` is pmap.
      evaluate: the pure eval step.
      gather: (store, batch) -> batch of images and targets: looks indices up on the device.
      mode: `jit` shards the batch over a mesh; `pmap` maps the step over the devices.
      devices: the devices to use.
      compiler_options: what `jax.jit` is given for the steps; `pmap` takes none.
    """
    jit = functools.partial(jax.jit, compiler_options=dict(compiler_options or {}) or None)
    mesh = Mesh(np.asarray(devices), (AXIS,))
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    split_steps = NamedSharding(mesh, PartitionSpec(None, AXIS))
    traces = reported = 0

    def gathered_train(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        nonlocal traces
        traces += 1
        return train(state, gather(store, batch), hparams)

    def new_traces() -> int:
        nonlocal reported
        new, reported = traces - reported, traces
        return new

    def gathered_eval(variables: Any, store: Any, batch: Batch, keep_prob: ArrayLike) -> Any:
        return evaluate(variables, gather(store, batch), keep_prob)

    evaluated = jit(gathered_eval, in_shardings=(whole, whole, split, whole), out_shardings=split)

    def feed(batch: Batch, several: bool) -> Batch:
        if mode == "pmap":  # which divides batches on the host
            return batch
        return jax.device_put(batch, split_steps if several else split)

    scanned = _scan_steps(gathered_train)
    train_one: Train
    train_steps: Train
    train_replicas: Train | None = None
    train_replicas_steps: Train | None = None
    if mode == "jit":
        train_one, train_steps = (
            jit(
                function,
                in_shardings=(whole, whole, sharding, whole),
                out_shardings=(whole, whole),
                donate_argnums=0,
            )
            for function, sharding in ((gathered_train, split), (scanned, split_steps))
        )
        train_replicas, train_replicas_steps = (
            jit(
                jax.vmap(function, in_axes=(0, None, 0, 0)),
                in_shardings=(split, whole, split, split),
                out_shardings=(split, split),
                donate_argnums=0,
            )
            for function in (gathered_train, scanned)
        )
    else:
        train_one, train_steps = _pmapped(gathered_train, devices), _pmapped(scanned, devices, 1)
    return Compiled(
        train=train_one,
        train_steps=train_steps,
        train_replicas=train_replicas,
        train_replicas_steps=train_replicas_steps,
        evaluate=evaluated,
        replicate=lambda tree: jax.device_put(tree, whole),
        feed=feed,
        shard=lambda trees: jax.device_put(_stacked(trees), split),
        copy=jax.jit(lambda tree: jax.tree.map(jnp.copy, tree)),
        traces=lambda: traces,
        new_traces=new_traces,
        devices=len(devices),
    )


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def check_batch(batch_size: int, devices: int, field: str = "training.batch_size") -> None:
    """Raises UserError where the batch cannot be divided evenly."""
    if batch_size % devices:
        near = max(devices, round(batch_size / devices) * devices)
        raise UserError(
            f"{field}: {batch_size} cannot be divided among {devices} devices; try {near}."
        )


def _scan_steps(step: Train) -> Train:
    """A function that takes one step for each entry of the leading axis of its batch and of its
    learning rate."""

    def steps(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def body(state: TrainState, inputs: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            batch, learning_rate = inputs
            return step(
                state, store, batch, dataclasses.replace(hparams, learning_rate=learning_rate)
            )

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
    count = len(devices)

    def call(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def divided(value: Any) -> Any:
            parts = (count, value.shape[axis] // count)
            return np.moveaxis(
                np.reshape(value, (*value.shape[:axis], *parts, *value.shape[axis + 1 :])), axis, 0
            )

        return mapped(state, store, jax.tree.map(divided, batch), hparams)

    return call
