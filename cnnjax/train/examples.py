"""The examples of a split that a report shows, kept with their images: examples_<split>.npz."""

from pathlib import Path

import numpy as np

from cnnjax.data import Dataset
from cnnjax.train.evaluation import SplitEvaluation, write_arrays

EACH = 2
"""How many of the best, of the median and of the worst examples are kept."""
MISTAKES = 4
"""How many of the most confident mistakes are kept."""


def choose(evaluated: SplitEvaluation) -> list[tuple[str, int]]:
    """The kind (`best`, `median`, `worst`, `mistake`) and the position in the split of the examples
    to be kept.

    Examples are ordered by the first metric of the task that is a mean over examples, among equal
    ones by the next such metric, at last by id. A split with few examples has fewer of each kind.
    `mistake` are those of which the network was surest, as `Task.mistakes` says.

    Returns:
      one after another by kind, the best first, the worst last, the surest mistake first; [] if no
      metric is a mean over examples.
    """
    task = evaluated.task
    means = [metric for metric in task.metrics if metric.name in task.means]
    if not means:
        return []
    columns = [-each.sign * np.asarray(evaluated.statistics[each.name], float) for each in means]
    order = np.lexsort([evaluated.ids, *columns[::-1]])  # the last key counts first, NaN is last
    middle = max(0, len(order) // 2 - EACH // 2)
    parts = {
        "median": order[middle : middle + EACH],
        "worst": order[max(EACH, len(order) - EACH) :],
        "best": order[:EACH],
    }  # an example in several is of the last of these kinds
    kinds = {position: kind for kind, positions in parts.items() for position in positions.tolist()}
    chosen = [(kinds[position], position) for position in order.tolist() if position in kinds]
    if task.mistakes is None:
        return chosen
    sureness = np.asarray(task.mistakes(evaluated.predictions, evaluated.targets), float)
    surest = np.lexsort([evaluated.ids, -sureness])[:MISTAKES].tolist()
    return chosen + [("mistake", position) for position in surest if sureness[position] > 0]


def write(path: Path, evaluated: SplitEvaluation, dataset: Dataset, split: str) -> None:
    """Writes the chosen examples of an evaluated split as a compressed npz, atomically; nothing if
    there are none.

    The arrays, the first axis of which is the example: `kind` and `ids`; `images`, uint8
    [n, H, W, C]; `target.NAME`, what is to be predicted; `prediction.NAME`, what the task keeps of
    the network's outputs; `metric.NAME`, the metrics that are means over examples. Besides these
    `class_names` and `mask_names`.
    """
    chosen = choose(evaluated)
    if not chosen:
        return
    positions = np.array([position for _, position in chosen])
    images, targets = dataset.at(split, positions)
    predictions, statistics = evaluated.predictions, evaluated.statistics
    arrays = {
        **{f"target.{name}": values for name, values in targets.items()},
        **{f"prediction.{name}": values[positions] for name, values in predictions.items()},
        **{f"metric.{name}": statistics[name][positions] for name in evaluated.task.means},
        "kind": np.array([kind for kind, _ in chosen]),
        "ids": evaluated.ids[positions],
        "images": images,
        "class_names": np.array(dataset.spec.class_names, str),
        "mask_names": np.array(dataset.spec.mask_names, str),
    }
    write_arrays(path, arrays)
