"""A trace of some training steps, for TensorBoard or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

from cnnjax.train.folder import Log

FIRST, CALLS = 3, 10
"""The number of calls before the trace, which may compile, and of calls in the trace."""


class Profile:
    """Traces some calls of the first run of a process, or of the first runs that are trained
    together, that makes enough calls.

    Args:
      directory: the folder that the trace is written to, for TensorBoard; None for no trace.
      log: called with each line for the user.
    """

    def __init__(self, directory: Path | None = None, log: Log = print):
        self._directory, self._log = directory, log
        self._label, self._calls = "", 0

    def before(self, call: int, label: str, wait: Callable[[], None]) -> None:
        """Starts or stops the trace before a call where that is due.

        Args:
          call: how many calls the run has made since it was started or resumed.
          label: the name of the run.
          wait: waits until these calls are complete.
        """
        if self._directory is None or call < FIRST:
            return
        if call == FIRST:
            wait()
            jax.profiler.start_trace(self._directory)
            self._label = label
        elif call == FIRST + CALLS:
            wait()
            self.end()
            return
        self._calls += 1

    def end(self) -> None:
        """Stops and reports the trace if it is running."""
        if self._calls and self._directory is not None:
            jax.profiler.stop_trace()
            self._log(
                f"profile: {self._calls} calls of {self._label} are in {self._directory}; open it "
                f"with tensorboard --logdir {self._directory}, or its .trace.json.gz in "
                "https://ui.perfetto.dev"
            )
            self._directory = None

    def close(self) -> None:
        """Reports if no run was traced."""
        if self._directory is not None:
            self._log(f"profile: no trace, since no run made more than {FIRST} calls")
