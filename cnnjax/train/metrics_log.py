"""What a run writes while it is trained: metrics.jsonl, TensorBoard files, a progress bar."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax import files
from cnnjax.tasks.task import Task
from cnnjax.train.board import Board
from cnnjax.train.folder import Log
from cnnjax.train.plan import Plan


class MetricsLog:
    """The metrics of a run by step. Use as a context.

    Lines after the restored step are removed, so that the file is what an uninterrupted run would
    have written.

    Args:
      directory: the run's folder.
      task: what the network is trained for.
      plan: the steps of the run and their learning rates.
      restored_step: the step that the run is resumed from; 0 for a new run.
      label: the label of the progress bar; None for no bar.
      notes: what `notes` returned when the restored step was saved.
      log: called with each line for the user.

    Attributes:
      lines: the lines so far.
      seconds: seconds of training until the restored checkpoint, or else until the last line then.
    """

    def __init__(
        self,
        directory: Path,
        task: Task,
        plan: Plan,
        *,
        restored_step: int,
        label: str | None,
        notes: Mapping[str, Any],
        log: Log,
    ):
        self._path, self._task, self._plan = directory / "metrics.jsonl", task, plan
        self.lines = [
            line
            for line in files.read_lines(self._path)
            if 0 < line.get("step", 0) <= restored_step
        ]
        last = self.lines[-1] if self.lines else {"seconds": 0.0}
        self.seconds: float = notes["seconds"] if "seconds" in notes else last["seconds"]
        content = "".join(json.dumps(line) + "\n" for line in self.lines)
        files.write_text(self._path, content)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = Board(directory / "tensorboard", restored_step + 1, log)
        self._bar = tqdm(
            total=plan.total_steps,
            initial=restored_step,
            desc=label,
            unit="step",
            leave=False,
            disable=label is None or not sys.stderr.isatty(),
        )
        self._window: list[Mapping[str, float]] = list(notes.get("window", ()))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        self._board.close()
        self._file.close()

    def notes(self, seconds: float) -> dict[str, Any]:
        """What a checkpoint needs so that the lines after it are those of an uninterrupted run: the
        metrics of the steps since the last line, and the seconds so far."""
        return {"window": [dict(metrics) for metrics in self._window], "seconds": seconds}

    @property
    def speed(self) -> float:
        """Images per second of the last line that has them, 0.0 if none has."""
        speeds = [line.get("images_per_second", 0.0) for line in self.lines]
        return next((speed for speed in reversed(speeds) if speed), 0.0)

    def validations(self) -> list[dict[str, Any]]:
        """The lines of the validation split so far."""
        return [line for line in self.lines if line["split"] == "validation"]

    def advance(self, steps: int) -> None:
        """Moves the progress bar by a number of complete steps."""
        self._bar.update(steps)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of one training step."""
        self._window.append(metrics)

    def write_training(self, step: int, speed: float, seconds: float) -> None:
        """Writes the means over the steps since the last line, if there were any steps."""
        if not self._window:
            return
        means = {
            name: float(np.mean([metrics[name] for metrics in self._window]))
            for name in dict.fromkeys(("loss", *self._task.train_metrics))
        }
        self._window = []
        extra = {"learning_rate": self._plan.rate(step), "images_per_second": round(speed, 1)}
        self.write(step, "train", means | extra, seconds)
        primary = self._task.primary
        parts = [f"loss {means['loss']:.3f}", f"{speed:,.0f} img/s"]
        if primary.name in means:
            parts.insert(1, f"{primary.title} {primary.show(means[primary.name])}")
        self._bar.set_postfix_str(", ".join(parts))

    def write(self, step: int, split: str, figures: Mapping[str, Any], seconds: float) -> None:
        """Writes one line; values that are not finite are written as null."""
        epoch = round(step / self._plan.steps_per_epoch, 4)
        line: dict[str, Any] = {"step": step, "epoch": epoch, "split": split}
        line |= {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in figures.items()
        }
        line["seconds"] = round(seconds, 3)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self.lines.append(line)
        numbers = {name: value for name, value in figures.items() if value is not None}
        self._board.scalars(step, {f"{split}/{name}": value for name, value in numbers.items()})


class Clock:
    """Measures seconds per step from the times at which calls were found to be complete."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.durations: list[float] = []

    def tick(self, steps: int = 1) -> None:
        """Records that a call of `steps` steps is complete."""
        now = time.perf_counter()
        if self._last is not None:
            self.durations += [(now - self._last) / steps] * steps
        self._last = now

    def restart(self) -> None:
        """Leaves out the time since the last tick, which was not spent on training."""
        self._last = time.perf_counter()

    def speed(self, batch_size: int, recent: int | None = None) -> float:
        """Images per second: `batch_size` over the median duration of all steps, or of the last
        `recent`; 0.0 before two ticks."""
        durations = self.durations[-recent:] if recent else self.durations
        return batch_size / float(np.median(durations)) if durations else 0.0
