"""The protocol between a process that is timed and its parent: numbers of steps in, seconds out.

Each contender is a process, so that libraries cannot disturb each other and each has its own number
of threads. All processes exist at the same time, so that they can take turns.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError


def serve(
    step: Callable[[], float | list[float]],
    about: Mapping[str, Any],
    peak: Callable[[], int] | None = None,
) -> None:
    """Writes one JSON object per line to stdout until stdin ends.

    The first has `about` and the losses of two steps on one batch. The others have, for each number
    read from stdin, the seconds of that many calls of `step` and the peak memory in bytes.

    Args:
      step: takes one training step, or several, waits for it, and returns the loss before each.
      about: facts about this contender, for example its version.
      peak: returns the peak memory in bytes, by default the resident memory of this process.
    """
    output, sys.stdout = sys.stdout, sys.stderr
    losses: list[float] = []
    while len(losses) < 2:
        loss = step()
        losses += loss if isinstance(loss, list) else [loss]
    print(json.dumps({**about, "losses": losses[:2]}), file=output, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        peak_bytes = (peak or peak_resident_bytes)()
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes}), file=output, flush=True)


def peak_resident_bytes() -> int:
    """The peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_jax_bytes() -> int:
    """The peak memory of jax's first device, in bytes; on a CPU, the peak resident memory."""
    import jax

    stats = jax.local_devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats else peak_resident_bytes()


class TimedProcess:
    """A process that runs `serve`.

    Its methods raise UserError, with the last line of its errors, if it has ended.

    Args:
      name: its name in errors.
      words: the words after `python -m`.
      directory: its working directory, by default that of this process.
      environment: its environment variables besides those of this process.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.peak_bytes = 0
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """The `about` of `serve`; waits until the process has started."""
        return self._read()

    def time(self, steps: int) -> list[float]:
        """Takes some steps and returns the seconds of each."""
        self.start_steps(steps)
        return self.read_seconds()

    def start_steps(self, steps: int) -> None:
        """Starts some steps, for which `read_seconds` waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()

    def read_seconds(self) -> list[float]:
        """Waits for the steps that were started; returns the seconds of each."""
        figures = self._read()
        self.peak_bytes = figures["peak_bytes"]
        return list(figures["seconds"])

    def steps_within(self, seconds: float) -> int:
        """Warms up, and returns the number of steps that take about `seconds`, at least 2."""
        self.time(2)
        return max(2, round(seconds / min(self.time(3))))

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no reason given"])[-1]
            self.stop()
            raise UserError(f"{self.name} stopped: {last}")
        return dict(json.loads(line))
