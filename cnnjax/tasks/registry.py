"""The tasks by name."""

from collections.abc import Mapping
from typing import Any

from cnnjax.tasks import classification
from cnnjax.tasks.task import Task

TASKS = {"classification": classification.TASK}


def find(name: str, levels: Mapping[str, Mapping[str, Any]] | None = None) -> Task:
    """The task of that name, which the schema has checked: one of TASKS or of the user's own."""
    tasks: dict[str, Task] = {**TASKS, **(levels or {}).get("task", {})}
    return tasks[name]
