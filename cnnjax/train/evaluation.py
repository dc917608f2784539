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
class SplitEvaluation:
    """The evaluation of one split, per example and in the order of the split.

    Attributes:
      task: what the network is trained for.
      ids: the ids of the examples [N].
      targets: their targets in the data set, {name: [N, ...]}.
      statistics: the statistics of the task, {name: [N, ...]}.
      predictions: what the task keeps of the network's outputs, {name: [N, ...]}.
    """

    task: Task
    ids: np.ndarray
    targets: Mapping[str, np.ndarray]
    statistics: Mapping[str, np.ndarray]
    predictions: Mapping[str, np.ndarray]

    @property
    def finite(self) -> bool:
        """Whether all statistics and predictions are finite."""
        arrays = (*self.statistics.values(), *self.predictions.values())
        return all(bool(np.isfinite(array).all()) for array in arrays)

    def figures(self) -> Figures:
        """The metrics of the task; None instead of values that are not finite."""
        values = {
            name: value if np.isfinite(value) else None
            for name, value in self.task.evaluated(self.statistics).items()
        }
        return Figures(**values, examples=len(self.ids))

    @property
    def outcomes(self) -> dict[str, np.ndarray]:
        """The metrics that are means over examples, [N] each, by the key in the file."""
        primary = self.task.primary.name
        return {
            OUTCOME if name == primary else f"{OUTCOME}_{name}": self.statistics[name]
            for name in self.task.means
        }

    def write(self, path: Path) -> None:
        """Writes ids, targets, predictions and outcomes as a compressed npz, atomically."""
        write_arrays(path, {"ids": self.ids, **self.targets, **self.predictions, **self.outcomes})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a compressed npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
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
) -> SplitEvaluation:
    """Evaluates `variables` on a whole split.

    Args:
      task: what the network is trained for.
      compiled: the compiled steps.
      variables: `params` and `batch_stats`.
      store: the examples on the devices, or an empty mapping where they are streamed.
      dataset: the data set.
      split: `train`, `validation` or `test`.
      batch_size: examples per call; the last batch is padded, and the padding removed again.
      keep_prob: the scale of classic dropout.

    Raises OutOfMemory where a batch needs more memory than the device has.
    """
    outputs = []
    with memory.explain(f"evaluation.batch_size: {batch_size}", "a smaller evaluation.batch_size"):
        for batch in dataset.eval_batches(split, batch_size):
            inputs = {name: value for name, value in batch.items() if name != "valid"}
            result = compiled.evaluate(variables, store, inputs, np.asarray(keep_prob, np.float32))
            outputs.append(result)
        examples = dataset.splits[split]  # without the padding, which is at the end
        joined = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(examples)], *outputs)
    return SplitEvaluation(
        task, examples.ids, examples.targets, joined["statistics"], joined["predictions"]
    )


def batch_size(requested: int, dataset: data.Dataset, devices: int) -> int:
    """The requested evaluation batch size, but no larger than the largest split to be evaluated,
    and rounded up to a multiple of the number of devices."""
    largest = max(len(split) for name, split in dataset.splits.items() if name != "train")
    return -(-min(requested, largest) // devices) * devices


def chance(task: Task, dataset: data.Dataset, split: str) -> Figures:
    """The metrics of the best prediction that is the same for all examples of a split."""
    examples = dataset.splits[split]
    targets: Mapping[str, Any] = examples.targets
    if task.derives_targets:
        targets = task.targets(*dataset.first(split, len(examples)))
    arrays = {name: np.asarray(target) for name, target in targets.items()}
    values: Mapping[str, Any] = task.constant(arrays)
    return Figures(**values)
