"""What the person at the terminal reads of a sweep."""

import time

from cnnjax.ablation import study
from cnnjax.metric import Metric
from cnnjax.result import RunResult


class Pace:
    """How long runs still take. The first of each process has started it and compiled, so that as
    soon as there are others, they alone tell."""

    def __init__(self, runs: int, processes: int = 1, max_minutes: float | None = None):
        self._runs, self._processes = runs, processes
        self._started = time.monotonic()
        self._most = None if max_minutes is None else 60 * max_minutes
        self._first: tuple[int, float] | None = None

    def left(self, done: int) -> float:
        """Seconds, now that so many runs have ended."""
        passed = time.monotonic() - self._started
        if self._first is None and done >= self._processes:
            self._first = done, passed
        since, at = self._first or (0, 0.0)
        if done - since < self._processes:
            since, at = 0, 0.0
        ended = max(done - since, self._processes)  # those under way are about as far
        left = (passed - at) / ended * (self._runs - done)
        return left if self._most is None else min(left, max(0.0, self._most - passed))


def line(
    run: study.RunFolder, result: RunResult, primary: Metric, number: int, of: int, left: float
) -> str:
    """A run's result with its number and the time left in seconds (from a second on)."""
    return f"[{number:>{len(str(of))}}/{of}] {describe(run, result, primary)}" + (
        f"; about {duration(left)} left" if left >= 1 else ""
    )


def describe(run: study.RunFolder, result: RunResult, primary: Metric) -> str:
    """A run's result in one line, with the primary metric; the test split stays out of sight until
    the report is final."""
    label = f"{run.arm} seed {run.seed}"
    if result.status == "failed":
        return f"{label}: FAILED: {result.error[:200]}"
    if result.status == "diverged":
        return f"{label}: diverged at step {result.diverged_at_step}"
    value = result.figures("validation").get(primary.name)
    took = [] if result.seconds is None else [f"{result.seconds:.1f} s"]
    speed = result.train_images_per_second
    took += [] if speed is None else [f"{speed:,.0f} images/s"]
    return f"{label}: validation {primary.show(value)} ({', '.join(took)})"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def stamp(run: study.RunFolder) -> int:
    """When the run's result was written, 0 if it was not."""
    try:
        return (run.directory / "result.json").stat().st_mtime_ns
    except OSError:
        return 0
