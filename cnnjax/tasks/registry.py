"""The tasks by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn

from cnnjax.tasks import classification, localization, segmentation
from cnnjax.tasks.task import Task

if TYPE_CHECKING:
    from cnnjax.data import DatasetSpec

TASKS = {
    "classification": classification.TASK,
    "segmentation": segmentation.TASK,
    "localization": localization.TASK,
}


def find(name: str, levels: Mapping[str, Mapping[str, Any]] | None = None) -> Task:
    """The task of that name, which the schema has checked: one of TASKS or of the user's own."""
    tasks: dict[str, Task] = {**TASKS, **(levels or {}).get("task", {})}
    return tasks[name]


def head(task: Task, name: str, spec: "DatasetSpec") -> nn.Module | None:
    """The head of the task called `name` for a data set; None for the backbone's own last layer.
    Raises TypeError if it is not a flax module."""
    if task.head is None:
        return None
    module = task.head(spec)
    if not isinstance(module, nn.Module):
        raise TypeError(f"task {name!r}: head: {module!r} is not a flax.linen module")
    return module
