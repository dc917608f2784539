"""Exact evaluation: every example of a split once, whatever the batch size."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from cnnjax import data, files
from cnnjax.result import Figures
from cnnjax.train import memory
from cnnjax.train.parallel import Compiled


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one split, per example and in the order of the split.

    Attributes:
      ids: the examples' ids [N].
      labels: int32 [N].
      logits: float32 [N, classes].
      losses: float32 [N], nats.
      correct: float32 [N], 0 or 1.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    losses: np.ndarray
    correct: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether every logit and loss is a number."""
        return bool(np.isfinite(self.logits).all() and np.isfinite(self.losses).all())

    def figures(self) -> Figures:
        """The accuracy and the loss in nats; one that is not finite is None."""
        loss = float(self.losses.mean(dtype=np.float64))
        return Figures(
            accuracy=float(self.correct.mean(dtype=np.float64)),
            loss=loss if np.isfinite(loss) else None,
            examples=len(self.labels),
        )

    def write(self, path: Path) -> None:
        """Writes ids, labels and logits as a compressed npz, atomically."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, ids=self.ids, labels=self.labels, logits=self.logits)
        files.write_bytes(path, buffer.getvalue())


def evaluate(
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
            figures = compiled.evaluate(variables, store, inputs, np.asarray(keep_prob, np.float32))
            outputs.append((figures, mask))
        joined = {
            name: np.concatenate([np.asarray(figures[name])[mask] for figures, mask in outputs])
            for name in ("logits", "loss", "correct")
        }
    kept = dataset.splits[split]
    return Evaluation(kept.ids, kept.labels, joined["logits"], joined["loss"], joined["correct"])


def batch_size(asked: int, dataset: data.Dataset, devices: int) -> int:
    """The evaluation batch: as asked, but no larger than the largest split evaluated, and such
    that it can be dealt out evenly to the devices."""
    largest = max(len(split.labels) for name, split in dataset.splits.items() if name != "train")
    return -(-min(asked, largest) // devices) * devices


def chance(labels: np.ndarray) -> Figures:
    """The best that a prediction which is the same for all examples can reach: the accuracy of the
    most frequent class; the loss, in nats, of predicting the shares of the classes (their
    entropy)."""
    counts = np.bincount(labels)
    shares = counts[counts > 0] / len(labels)
    entropy = float(np.sum(shares * np.log(1 / shares)))
    return Figures(accuracy=float(shares.max()), loss=entropy)
