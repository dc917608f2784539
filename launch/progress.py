"""Lines about the progress of a sweep for the terminal."""

import math
import time

from cnnjax.ablation import study
from cnnjax.metric import Metric
from cnnjax.result import RunResult
from launch.training import TrainingSetup


class Progress:
    """Counts runs that end, and estimates their remaining time. The first run of each process
    includes start-up and compilation, so that only later runs count as soon as there are any.

    Args:
      training: what the runs are trained with.
      runs: the number of runs.
      processes: the number of processes that share them.
      ended: the number of runs counted before these.
      total: the number of runs to count; these by default.
    """

    def __init__(
        self,
        training: TrainingSetup,
        runs: int,
        *,
        processes: int = 1,
        ended: int = 0,
        total: int = 0,
    ):
        self._training, self._runs, self._processes = training, runs, processes
        self._ended, self._total = ended, total or runs
        self._started = time.monotonic()
        self._first: tuple[int, float] | None = None

    def remaining(self, done: int) -> float:
        """The remaining seconds after `done` runs have ended."""
        elapsed = time.monotonic() - self._started
        if self._first is None and done >= self._processes:
            self._first = done, elapsed
        first_runs, first_seconds = self._first or (0, 0.0)
        if done - first_runs < self._processes:
            first_runs, first_seconds = 0, 0.0
        ended = max(done - first_runs, self._processes)  # runs in progress are about as far
        seconds = (elapsed - first_seconds) / ended * (self._runs - done)
        return min(seconds, max(0.0, 60 * (self._training.max_minutes or math.inf) - elapsed))

    def line(self, run: study.RunFolder, result: RunResult, done: int, remaining: float) -> str:
        """The result of the run that is number `done` of those that have ended, and the remaining
        seconds if there is at least one."""
        number = f"{self._ended + done:>{len(str(self._total))}}"
        text = f"[{number}/{self._total}] {describe(run, result, self._training.primary)}"
        return f"{text}; about {duration(remaining)} left" if remaining >= 1 else text


def describe(run: study.RunFolder, result: RunResult, primary: Metric) -> str:
    """A run's result in one line, with the primary metric on the validation split: the test split
    is not shown before the final report."""
    label = f"{run.arm} seed {run.seed}"
    if result.status == "failed":
        return f"{label}: FAILED: {result.error[:200]}"
    if result.status == "diverged":
        return f"{label}: diverged at step {result.diverged_at_step}"
    value = result.figures("validation").get(primary.name)
    costs = [] if result.seconds is None else [f"{result.seconds:.1f} s"]
    speed = result.train_images_per_second
    costs += [] if speed is None else [f"{speed:,.0f} images/s"]
    return f"{label}: validation {primary.title} {primary.show(value)} ({', '.join(costs)})"


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def result_time(run: study.RunFolder) -> int:
    """When the result of a run was written, in nanoseconds; 0 if there is none."""
    try:
        return (run.directory / "result.json").stat().st_mtime_ns
    except OSError:
        return 0
