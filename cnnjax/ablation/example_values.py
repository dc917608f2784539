"""A metric of runs example by example, from their predictions_<split>.npz."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnnjax.ablation import arrays
from cnnjax.ablation.results import Arm, Run, Study
from cnnjax.errors import UserError
from cnnjax.metric import Metric
from cnnjax.result import OUTCOME

LARGE = 1e30
"""All values of examples are smaller."""


class ExampleValues:
    """The value of a metric, a mean over examples, for each example of the split of a study, for
    its runs; each file is read once."""

    def __init__(self, study: Study, metric: Metric):
        self._study, self._metric = study, metric
        self._key = OUTCOME if metric == study.primary else f"{OUTCOME}_{metric.name}"
        self._cache: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}

    def of_run(self, run: Run) -> tuple[np.ndarray, np.ndarray] | None:
        """(ids, values) [examples] of a finished run; None if there is no file, it is damaged, or
        the mean of the values is not the metric in the run's result."""
        if run.path not in self._cache:
            split = self._study.split
            path = self._study.workdir / run.path / f"predictions_{split}.npz"
            loaded = _load(path, self._key) if run.status == "finished" else None
            mean = run.result.figures(split).get(self._metric.name)
            if loaded and mean is not None:
                _, values = loaded
                share = self._metric.kind == "share"
                tolerance = 0.5 / len(values) if share else 1e-4 * max(1.0, abs(mean))
                loaded = loaded if abs(values.mean(dtype=np.float64) - mean) < tolerance else None
            self._cache[run.path] = loaded
        return self._cache[run.path]

    def missing(self, arms: Iterable[Arm]) -> tuple[str, ...]:
        """The finished runs whose values cannot be read; none if the metric is no mean over
        examples."""
        if self._metric.kind not in ("share", "mean"):
            return ()
        finished = [run for arm in arms for run in arm.runs if run.status == "finished"]
        return tuple(run.path for run in finished if self.of_run(run) is None)

    def mean(self, arms: Iterable[Arm], seeds: Iterable[int]) -> tuple[np.ndarray, bytes] | None:
        """The mean over arms, float64 [seeds, examples], and the bytes of the examples' ids; None
        if a run has no values, or runs differ in their examples."""
        arms, ids, table = list(arms), None, []
        for seed in seeds:
            row = []
            for arm in arms:
                loaded = next((self.of_run(run) for run in arm.runs if run.seed == seed), None)
                if loaded is None or (ids is not None and not np.array_equal(ids, loaded[0])):
                    return None
                ids = loaded[0]
                row.append(loaded[1])
            table.append(np.mean(row, axis=0, dtype=np.float64))
        return None if ids is None else (np.array(table), ids.tobytes())


def _load(path: Path, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        loaded = arrays.read(path, ("ids", key))
        if OUTCOME == key not in loaded:
            older = arrays.read(path, ("ids", "labels", "logits"))
            return _correctness(older["ids"], older["labels"], older["logits"])
        ids, values = loaded["ids"], loaded[key]
    except (UserError, KeyError):
        return None
    shapes = ids.shape == values.shape and ids.ndim == 1 and ids.size
    dtypes = ids.dtype.kind in "biu" and values.dtype.kind in "biuf"
    return (ids, values) if shapes and dtypes and (np.abs(values) < LARGE).all() else None


def _correctness(
    ids: np.ndarray, labels: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The ids of the examples and whether each is classified correctly, from a file of an older
    version, which had labels and logits."""
    shapes = ids.shape == labels.shape == logits.shape[:1] and logits.ndim == 2 and logits.size
    dtypes = all(array.dtype.kind in "biuf" for array in (ids, labels, logits))
    return (ids, np.argmax(logits, axis=-1) == labels) if shapes and dtypes else None
