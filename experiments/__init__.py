"""The experiments by name: one file a question, each defining EXPERIMENT."""

import importlib.util
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cnnjax import catalog, metric, paths
from cnnjax.ablation.experiment import Experiment
from cnnjax.config import Levels
from cnnjax.errors import UserError, location, unknown
from cnnjax.metric import Metric
from cnnjax.tasks.task import Task


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment with its file and the levels that the file defines."""

    experiment: Experiment
    levels: Levels
    path: Path

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the experiment's task."""
        return metric.task_metrics(self.experiment.task, self.levels)


def names() -> list[str]:
    """The names of the built-in experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str, flag: str = "--experiment") -> ExperimentFile:
    """The experiment called `name`, or the one in the user's file if `name` is a path. `flag` is
    the flag that gave the name.

    Raises UserError for an unknown name, a missing file, or a file that does not define one.
    """
    if name.endswith(".py") or "/" in name:
        path = paths.parse(flag, name)
        if not path.is_file():
            raise UserError(f"{flag}: no file {name}.")
        path = path.resolve()
        if path.suffix != ".py":
            raise UserError(f"{flag}: {name} is no Python file (.py).")
        if str(path.parent) not in sys.path:  # at the end: it may import what lies beside it
            sys.path.append(str(path.parent))
    elif name in names():
        path = Path(__path__[0]) / f"{name}.py"
    else:
        raise unknown(flag, name, names())
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        where = location(error, path.parent) or f"{path.name}: "
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{Path(error.filename).name}, line {error.lineno}: "
        text = f"{path.parent / where}{type(error).__name__}: {error}."
        raise UserError(text) from None
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path}: defines no EXPERIMENT = Experiment(...).")
    loaded = ExperimentFile(experiment, _levels(path, getattr(module, "LEVELS", {})), path)
    tasks = {**metric.TASKS, **loaded.levels.get("task", {})}
    if experiment.task not in tasks:
        raise unknown(f"{path}: base: task", experiment.task, tasks)
    experiment.check_claims(loaded.metrics)
    return loaded


def _levels(path: Path, levels: object) -> Levels:
    if not isinstance(levels, dict):
        raise UserError(f"{path}: LEVELS must be a dict of dicts.")
    built_in = {
        "activation": catalog.ACTIVATIONS,
        "initializer": catalog.INITIALIZERS,
        "model": (*catalog.MODELS, *catalog.SEGMENTATION_MODELS),
        "decoder": catalog.DECODERS,
        "task": metric.TASKS,
    }
    for kind, functions in levels.items():
        if kind not in built_in:
            raise unknown(f"{path}: LEVELS", kind, built_in)
        if not isinstance(functions, dict):
            raise UserError(f"{path}: LEVELS[{kind!r}]: must be a dict, name -> function.")
        for name, value in functions.items():
            if name in built_in[kind] or name == "default":
                raise UserError(f"{path}: LEVELS[{kind!r}]: {name!r} is a built-in name already.")
            if kind == "task" and not isinstance(value, Task):
                hint = "make one with cnnjax.tasks.task.Task"
                raise UserError(f"{path}: LEVELS['task'][{name!r}]: is not a Task; {hint}.")
            if kind != "task" and not callable(value):
                raise UserError(f"{path}: LEVELS[{kind!r}][{name!r}]: is not callable.")
    return levels
