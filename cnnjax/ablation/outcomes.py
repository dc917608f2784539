"""Right or wrong, image by image: what runs kept of a split in predictions_<split>.npz."""

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


class Outcomes:
    """The outcomes of the runs of one workdir on one split; each file is read once."""

    def __init__(self, workdir: Path, split: str):
        self._place, self._split = (workdir, f"predictions_{split}.npz"), split
        self._read: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}

    def of(self, run: Run) -> tuple[np.ndarray, np.ndarray] | None:
        """(ids, right) of a finished run, `right` bool [images]; None where they were not kept, or
        are not those of its result."""
        if run.place not in self._read:
            workdir, name = self._place
            kept = _load(workdir / run.place / name) if run.status == "finished" else None
            accuracy = run.result.figures(self._split).get("accuracy")
            if kept and accuracy is not None:
                _, right = kept
                kept = kept if abs(right.mean() - accuracy) < 0.5 / len(right) else None
            self._read[run.place] = kept
        return self._read[run.place]

    def scores(self, arms: Iterable[Arm], seeds: Iterable[int]) -> tuple[np.ndarray, bytes] | None:
        """The share of arms that are right, float64 [seeds, images], and which images these are.

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
            table.append(np.mean(row, axis=0))
        return None if images is None else (np.array(table), images.tobytes())


def _load(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with files.open_regular(path) as file, np.load(file, allow_pickle=False) as kept:
            ids, labels, logits = kept["ids"], kept["labels"], kept["logits"]
    except (UserError, OSError, EOFError, KeyError, *_TORN):
        return None
    whole = ids.shape == labels.shape == logits.shape[:1] and logits.ndim == 2 and logits.size
    numbers = all(values.dtype.kind in "biuf" for values in (ids, labels, logits))
    return (ids, np.argmax(logits, axis=-1) == labels) if whole and numbers else None
