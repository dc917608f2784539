"""Exact evaluation: every example of a split once, whatever the batch size."""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from cnnjax import data, files
from cnnjax.result import OUTCOME, Figures
from cnnjax.tasks.task import Task
from cnnjax.train import memory
from cnnjax.train.parallel import Compiled


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one split, per example and in the order of the split.

    Attributes:
      task: what was evaluated.
      ids: the examples' ids [N].
      targets: what the data set says of them, {name: [N, ...]}.
      statistics: those of the task, {name: [N, ...]}.
      predictions: what the task keeps of the network's outputs, {name: [N, ...]}.
    """

    task: Task
    ids: np.ndarray
    targets: Mapping[str, np.ndarray]
    statistics: Mapping[str, np.ndarray]
    predictions: Mapping[str, np.ndarray]

    @property
    def finite(self) -> bool:
        """Whether every statistic and prediction is a number."""
        arrays = (*self.statistics.values(), *self.predictions.values())
        return all(bool(np.isfinite(each).all()) for each in arrays)

    def figures(self) -> Figures:
        """The task's metrics; one that is not finite is None."""
        values = {
            name: value if np.isfinite(value) else None
            for name, value in self.task.evaluated(self.statistics).items()
        }
        return Figures(**values, examples=len(self.ids))

    @property
    def outcome(self) -> np.ndarray | None:
        """The value of the primary metric for each example [N], where it is a mean over them."""
        primary = self.task.primary.name
        return self.statistics[primary] if primary in self.task.means else None

    def write(self, path: Path) -> None:
        """Writes ids, targets, predictions and outcome as a compressed npz, atomically."""
        arrays = {"ids": self.ids, **self.targets, **self.predictions}
        if self.outcome is not None:
            arrays[OUTCOME] = self.outcome
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        files.write_bytes(path, buffer.getvalue())


def evaluate(
    task: Task,
    compiled: Compiled,
    variables: Any,
    store: Any,
    dataset: data.Dataset,
    split: str,
    *,
    batch_size: int,
    keep_prob: ArrayLike = 1.0,
) -> Evaluation:
    """Evaluates `variables` on a whole split.

    Args:
      task: what the network is trained for.
      compiled: the compiled steps.
      variables: `params` and `batch_stats`.
      store: the examples on the devices, or an empty mapping where they are streamed.
      dataset: the data set.
      split: `train`, `validation` or `test`.
      batch_size: examples per call; the last batch is padded and the padding cut off again.
      keep_prob: what classic dropout scales with.

    Raises NoRoom where a batch needs more memory than the device has.
    """
    outputs = []
    with memory.told(f"evaluation.batch_size: {batch_size}", "a smaller evaluation.batch_size"):
        for batch in dataset.eval_batches(split, batch_size):
            mask = np.asarray(batch["mask"], bool)
            inputs = {name: value for name, value in batch.items() if name != "mask"}
            found = compiled.evaluate(variables, store, inputs, np.asarray(keep_prob, np.float32))
            outputs.append((found, mask))
        joined = jax.tree.map(
            lambda *parts: np.concatenate(parts),
            *[jax.tree.map(lambda each, m=mask: np.asarray(each)[m], f) for f, mask in outputs],
        )
    kept = dataset.splits[split]
    return Evaluation(task, kept.ids, kept.targets, joined["statistics"], joined["predictions"])


def batch_size(asked: int, dataset: data.Dataset, devices: int) -> int:
    """The evaluation batch: as asked, but no larger than the largest split evaluated, and such
    that it can be dealt out evenly to the devices."""
    largest = max(len(split) for name, split in dataset.splits.items() if name != "train")
    return -(-min(asked, largest) // devices) * devices


def chance(task: Task, dataset: data.Dataset, split: str) -> Figures:
    """What the best prediction scores that is the same for all examples of a split."""
    kept = dataset.splits[split]
    targets: Mapping[str, Any] = kept.targets
    if task.derives_targets:
        targets = task.targets(*dataset.first(split, len(kept)))
    values: Mapping[str, Any] = task.constant({n: np.asarray(each) for n, each in targets.items()})
    return Figures(**values)
