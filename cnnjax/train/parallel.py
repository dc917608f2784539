"""How a pure step is compiled: over a device mesh with jit, or with pmap.

The only place that knows about devices. In both ways the state is one replicated copy outside the
step, so that checkpoints and everything else look the same.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from cnnjax.errors import UserError
from cnnjax.train.state import HParams, TrainState
from cnnjax.train.step import Batch, EvalStep, TrainStep

AXIS = "devices"

Gather = Callable[[Mapping[str, jax.Array], Batch], Batch]
Train = Callable[[TrainState, Any, Batch, HParams], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The steps of one structure, ready to call with host batches.

    Attributes:
      train: (state, store, batch, hparams) -> (state, metrics); donates the state.
      together: the same for replicates: all but the store have a leading axis, which is dealt out
        to the devices, so that its length is a multiple of their number; None under pmap.
      evaluate: (variables, store, batch, keep_prob) -> per-example figures.
      place: puts a tree on the devices, one whole copy on each.
      deal: stacks trees along a new leading axis, which is dealt out to the devices.
      copy: a copy of a tree that a later, donating step leaves alone.
      traces: how often the train step was traced so far.
      untold: how often since this was last asked: what a run caused, and timing its steps before.
      devices: the number of devices.
    """

    train: Train
    together: Train | None
    evaluate: Callable[[Any, Any, Batch, ArrayLike], dict[str, jax.Array]]
    place: Callable[[Any], Any]
    deal: Callable[[Sequence[Any]], Any]
    copy: Callable[[Any], Any]
    traces: Callable[[], int]
    untold: Callable[[], int]
    devices: int


def compile(
    train: TrainStep,
    evaluate: EvalStep,
    gather: Gather,
    *,
    mode: str,
    devices: Sequence[jax.Device],
) -> Compiled:
    """Compiles a train step and an eval step for `devices`.

    Args:
      train: the pure step, built with `axis_name=AXIS` where `mode` is pmap.
      evaluate: the pure eval step.
      gather: (store, batch) -> batch of images and labels: looks indices up on the device.
      mode: `jit` shards the batch over a mesh; `pmap` maps the step over the devices.
      devices: the devices to use.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    traces = told = 0

    def gathered_train(
        state: TrainState, store: Any, batch: Batch, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        nonlocal traces
        traces += 1
        return train(state, gather(store, batch), hparams)

    def untold() -> int:
        nonlocal told
        new, told = traces - told, traces
        return new

    def gathered_eval(variables: Any, store: Any, batch: Batch, keep_prob: ArrayLike) -> Any:
        return evaluate(variables, gather(store, batch), keep_prob)

    evaluated = jax.jit(
        gathered_eval, in_shardings=(whole, whole, split, whole), out_shardings=split
    )
    trained: Callable[..., Any]
    together = None
    if mode == "jit":
        trained = jax.jit(
            gathered_train,
            in_shardings=(whole, whole, split, whole),
            out_shardings=(whole, whole),
            donate_argnums=0,
        )
        together = jax.jit(
            jax.vmap(gathered_train, in_axes=(0, None, 0, 0)),
            in_shardings=(split, whole, split, split),
            out_shardings=(split, split),
            donate_argnums=0,
        )
    else:
        trained = _pmapped(gathered_train, devices)
    return Compiled(
        train=trained,
        together=together,
        evaluate=evaluated,
        place=lambda tree: jax.device_put(tree, whole),
        deal=lambda trees: jax.device_put(_stacked(trees), split),
        copy=jax.jit(lambda tree: jax.tree.map(jnp.copy, tree)),
        traces=lambda: traces,
        untold=untold,
        devices=len(devices),
    )


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def check_batch(batch_size: int, devices: int, field: str = "training.batch_size") -> None:
    """Raises UserError where the batch cannot be dealt out evenly."""
    if batch_size % devices:
        near = max(devices, round(batch_size / devices) * devices)
        raise UserError(
            f"{field}: {batch_size} cannot be divided among {devices} devices; try {near}."
        )


def _pmapped(step: Callable[..., Any], devices: Sequence[jax.Device]) -> Callable[..., Any]:
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0, None),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )
    count = len(devices)

    def call(state: Any, store: Any, batch: Batch, hparams: Any) -> Any:
        parts = {
            name: np.reshape(value, (count, value.shape[0] // count, *value.shape[1:]))
            for name, value in batch.items()
        }
        return mapped(state, store, parts, hparams)

    return call
