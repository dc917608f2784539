"""The tasks by name."""

from collections.abc import Mapping
from typing import Any

from cnnjax.tasks import classification
from cnnjax.tasks.task import Task

TASKS = {"classification": classification.TASK}


def find(name: str, levels: Mapping[str, Mapping[str, Any]] | None = None) -> Task:
    """The task of a name, which the schema has checked: one of TASKS, or of the user's own."""
    task: Task = {**TASKS, **(levels or {}).get("task", {})}[name]
    return task
