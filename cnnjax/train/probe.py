"""Probes: functions that measure the network of a run at its start and its end.

They are passed to the training loop, which depends on none of them; see `cnnjax.analysis.probes`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cnnjax import data
from cnnjax.data.inputs import to_float
from cnnjax.errors import UserError
from cnnjax.tasks.task import Arrays, Task
from cnnjax.train import evaluation, numerics
from cnnjax.train.parallel import Compiled


@dataclasses.dataclass(frozen=True)
class ProbeContext:
    """A network at one moment of its run.

    Attributes:
      task: what the network is trained for.
      module: the network.
      variables: `params` and `batch_stats`; the averages where there are any.
      normalize: images in 0..1 -> the network's inputs.
      dataset: the data of the run.
      seed: the run's seed.
      keep_prob: the probability to keep a unit in dropout.
      matmul_precision: the precision of the run, see `cnnjax.train.numerics.resolve`.
    """

    task: Task
    module: nn.Module
    variables: Mapping[str, Any]
    normalize: Callable[[jax.Array], jax.Array]
    dataset: data.Dataset
    seed: int
    keep_prob: float
    matmul_precision: str
    _compiled: Compiled
    _store: Mapping[str, jax.Array]
    _batch_size: int

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which functions are traced with the precision of the run; not needed for
        `evaluate`."""
        return numerics.precision(self.matmul_precision)

    def evaluate(
        self, split: str, change: Callable[[jax.Array], jax.Array] | None = None
    ) -> evaluation.SplitEvaluation:
        """Returns the exact evaluation of a split, after `change` of its images (uint8
        [N, H, W, C]).

        Raises UserError where images are to be changed that are not in memory.
        """
        store = self._store
        if change is not None:
            if not store:
                raise UserError("data.pipeline: this probe needs the data in memory")
            store = {**store, "images": change(store["images"])}
        return evaluation.evaluate(
            self.task,
            self._compiled,
            self.variables,
            store,
            self.dataset,
            split,
            batch_size=self._batch_size,
            keep_prob=self.keep_prob,
        )

    def batch(self, split: str, count: int) -> tuple[np.ndarray, Arrays]:
        """The first images of a split, uint8 [count, H, W, C], and their targets, [count, ...]
        each."""
        images, targets = self.dataset.first(split, count)
        return images, self.task.targets(images, targets)

    @property
    def inputs(self) -> Callable[[jax.Array], jax.Array]:
        """Images uint8 [B, H, W, C] -> the network's inputs."""
        return _inputs(self.normalize)


@functools.cache
def _inputs(normalize: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    return lambda images: normalize(to_float(images))


Measure = Callable[[ProbeContext, str], Mapping[str, float]]
"""(network at the end of its run, split) -> {name: number}, for `measures` of the result."""
Signal = Callable[[ProbeContext], Mapping[str, Mapping[str, float]]]
"""(network) -> {layer: {name: number}}, for `signals` of the result, at the start and the end."""


@dataclasses.dataclass(frozen=True)
class Probes:
    """The probes of a run by name; `multiply_adds` is (network, image shape) -> their number."""

    measures: Mapping[str, Measure] = dataclasses.field(default_factory=dict)
    signals: Mapping[str, Signal] = dataclasses.field(default_factory=dict)
    multiply_adds: Callable[[nn.Module, tuple[int, int, int]], int] | None = None

    def measure(self, context: ProbeContext, splits: tuple[str, ...]) -> dict[str, Any]:
        """{split: {name: number}} of all measures."""
        return {
            split: {
                name: float(value)
                for probe in self.measures.values()
                for name, value in probe(context, split).items()
            }
            for split in splits
        }

    def signal(self, context: ProbeContext) -> dict[str, Any]:
        """{layer: {name: number}} of all signals."""
        layers: dict[str, dict[str, float]] = {}
        for probe in self.signals.values():
            for layer, values in probe(context).items():
                numbers = {name: float(value) for name, value in values.items()}
                layers.setdefault(layer, {}).update(numbers)
        return layers
