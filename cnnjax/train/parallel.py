"""How a pure step is compiled: over a device mesh with jit, or with pmap.

The only place that knows about devices. In both ways the state is one replicated copy outside the
step, so that checkpoints and everything else look the same.
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
      train_steps: the same for several steps in one call, by a scan: the arrays of the batch and
        the learning rate have a leading axis of steps, as the metrics then have.
      train_replicas: `train` for replicas: all but the store have a leading axis, which is sharded
        over the devices, so that its length is a multiple of their number; None under pmap.
      train_replicas_steps: `train_steps` for replicas; the axis of steps comes second. None under
        pmap.
      evaluate: (variables, store, batch, keep_prob) -> statistics and predictions of each example.
      replicate: puts a tree on the devices, one whole copy on each.
      feed: (batch, steps) -> the batch of one or of several steps on the devices, sharded as
        `train` and `train_steps` want it; its transfer need not be complete on return.
      shard: stacks trees along a new leading axis, which is sharded over the devices.
      copy: a copy of a tree that a later, donating step leaves alone.
      traces: how often the train step was traced so far.
      new_traces: how often since this was last called: by a run, and by timing its steps before.
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
    traces = told = 0

    def gathered_train(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        nonlocal traces
        traces += 1
        return train(state, gather(store, batch), hparams)

    def new_traces() -> int:
        nonlocal told
        new, told = traces - told, traces
        return new

    def gathered_eval(variables: Any, store: Any, batch: Batch, keep_prob: ArrayLike) -> Any:
        return evaluate(variables, gather(store, batch), keep_prob)

    evaluated = jit(gathered_eval, in_shardings=(whole, whole, split, whole), out_shardings=split)

    def feed(batch: Batch, steps: bool) -> Batch:
        if mode == "pmap":  # which divides the batches of the host itself
            return batch
        return jax.device_put(batch, split_steps if steps else split)

    several = _several(gathered_train)
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
            for function, sharding in ((gathered_train, split), (several, split_steps))
        )
        train_replicas, train_replicas_steps = (
            jit(
                jax.vmap(function, in_axes=(0, None, 0, 0)),
                in_shardings=(split, whole, split, split),
                out_shardings=(split, split),
                donate_argnums=0,
            )
            for function in (gathered_train, several)
        )
    else:
        train_one, train_steps = _pmapped(gathered_train, devices), _pmapped(several, devices, 1)
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


def _several(step: Train) -> Train:
    """A step that takes as many as its batch and its learning rate have along their first axis."""

    def steps(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def body(state: TrainState, given: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            batch, learning_rate = given
            numbers = dataclasses.replace(hparams, learning_rate=learning_rate)
            return step(state, store, batch, numbers)

        return jax.lax.scan(body, state, (batch, hparams.learning_rate))

    return steps


def _pmapped(step: Train, devices: Sequence[jax.Device], axis: int = 0) -> Train:
    """A step mapped over the devices, among which the axis of a batch is divided."""
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
