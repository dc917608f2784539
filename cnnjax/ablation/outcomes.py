"""How good runs are image by image: what they kept of a split in predictions_<split>.npz."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnnjax import files
from cnnjax.ablation.results import Arm, Run
from cnnjax.errors import UserError
from cnnjax.metric import ACCURACY, Metric
from cnnjax.result import OUTCOME

_TORN = (
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise on a file that is torn or was never one of predictions."""


LARGE = 1e30
"""No value of an example is as large."""


class Outcomes:
    """The outcomes of the runs of one workdir on one split, by the task's primary metric; each file
    is read once."""

    def __init__(self, workdir: Path, split: str, primary: Metric = ACCURACY):
        self._place, self._split = (workdir, f"predictions_{split}.npz"), split
        self.of_metric = primary
        self._read: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}

    def of(self, run: Run) -> tuple[np.ndarray, np.ndarray] | None:
        """(ids, values) of a finished run, the value of the metric for each image, whose mean is
        that of the run's result; None where they were not kept, or are not those."""
        if run.place not in self._read:
            workdir, name = self._place
            kept = _load(workdir / run.place / name) if run.status == "finished" else None
            value = run.result.figures(self._split).get(self.of_metric.name)
            if kept and value is not None:
                _, values = kept
                share = self.of_metric.kind == "share"
                near = 0.5 / len(values) if share else 1e-4 * max(1.0, abs(value))
                kept = kept if abs(values.mean(dtype=np.float64) - value) < near else None
            self._read[run.place] = kept
        return self._read[run.place]

    def scores(self, arms: Iterable[Arm], seeds: Iterable[int]) -> tuple[np.ndarray, bytes] | None:
        """The mean value over arms, float64 [seeds, images], and which images these are.

        None where a run has no outcomes, or runs differ in their images.
        """
        arms, images, table = list(arms), None, []
        for seed in seeds:
            row = []
            for arm in arms:
                kept = next((self.of(run) for run in arm.runs if run.seed == seed), None)
                if kept is None or (images is not None and not np.array_equal(images, kept[0])):
                    return None
                images = kept[0]
                row.append(kept[1])
            table.append(np.mean(row, axis=0, dtype=np.float64))
        return None if images is None else (np.array(table), images.tobytes())


def _load(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with files.open_regular(path) as file, np.load(file, allow_pickle=False) as kept:
            if OUTCOME not in kept:
                return _right(kept["ids"], kept["labels"], kept["logits"])
            ids, values = kept["ids"], kept[OUTCOME]
    except (UserError, OSError, EOFError, KeyError, *_TORN):
        return None
    whole = ids.shape == values.shape and ids.ndim == 1 and ids.size
    numbers = ids.dtype.kind in "biu" and values.dtype.kind in "biuf"
    return (ids, values) if whole and numbers and (np.abs(values) < LARGE).all() else None


def _right(
    ids: np.ndarray, labels: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The outcomes in a file of an older version, which kept labels and logits."""
    whole = ids.shape == labels.shape == logits.shape[:1] and logits.ndim == 2 and logits.size
    numbers = all(values.dtype.kind in "biuf" for values in (ids, labels, logits))
    return (ids, np.argmax(logits, axis=-1) == labels) if whole and numbers else None
