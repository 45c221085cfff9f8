"""The table of all tasks."""

from vitreous.errors import unknown
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION,)}
"""Every task by its name."""


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        InputError: there is none; names the nearest.

    >>> find_task("classification").metric.label
    'top-1'
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
