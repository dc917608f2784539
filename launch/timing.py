"""How a process that is timed talks to the one that times it: numbers of steps in, seconds out.

What is compared are processes of their own, so that libraries cannot disturb each other and each
has its own number of threads. They live at once, so that they can take turns.
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
    """Answers on stdout, one JSON object a line, until stdin ends.

    First the losses of two steps on one batch, with `about`. Then, for each number read, the
    seconds of that many calls of `step` and the most memory so far in bytes.

    Args:
      step: takes one training step, or several, waits for it, and returns the loss before each.
      about: what is to be known of this contender: its version, for example.
      peak: the most memory so far, by default what was resident in this process.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    losses: list[float] = []
    while len(losses) < 2:
        found = step()
        losses += found if isinstance(found, list) else [found]
    print(json.dumps({**about, "losses": losses[:2]}), file=answers, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        most = (peak or resident)()
        print(json.dumps({"seconds": seconds, "peak_bytes": most}), file=answers, flush=True)


def resident() -> int:
    """The most memory that was resident in this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def on_jax_device() -> int:
    """The most memory that jax has used on its first device; on a CPU, what was resident."""
    import jax

    figures = jax.local_devices()[0].memory_stats()
    return int(figures["peak_bytes_in_use"]) if figures else resident()


class Timed:
    """A process that answers as `serve` does.

    Its methods raise UserError, with the last line of its errors, where it has ended.

    Args:
      name: what errors call it.
      words: what follows `python -m`.
      directory: where it runs; where this process does, by default.
      environment: variables that it gets besides those of this process.
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
        """What it says of itself; waits until it has started."""
        return self._answer()

    def time(self, steps: int) -> list[float]:
        """The seconds of each of so many steps."""
        self.ask(steps)
        return self.answer()

    def ask(self, steps: int) -> None:
        """Starts so many steps; `answer` waits for them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()

    def answer(self) -> list[float]:
        """The seconds of each of the steps asked for."""
        answer = self._answer()
        self.peak_bytes = answer["peak_bytes"]
        return list(answer["seconds"])

    def steps_in(self, seconds: float) -> int:
        """The number of steps that take about so long, 2 at least; warms up."""
        self.time(2)
        return max(2, round(seconds / min(self.time(3))))

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no reason given"])[-1]
            self.stop()
            raise UserError(f"{self.name} stopped: {last}")
        return dict(json.loads(line))
