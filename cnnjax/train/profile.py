"""A trace of some training steps, for TensorBoard or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

from cnnjax.train.folder import Log

FIRST, CALLS = 3, 10
"""The calls of a run before its trace, which may compile or find the device cold; and in it."""


class Profile:
    """The trace of the first run, or of the first that are trained together, of a process that
    takes enough calls.

    Args:
      directory: where it is written, as TensorBoard expects it; None for no trace.
      log: where lines for the user go.
    """

    def __init__(self, directory: Path | None = None, log: Log = print):
        self._directory, self._log = directory, log
        self._label, self._taken = "", 0

    def before(self, call: int, label: str, wait: Callable[[], None]) -> None:
        """Begins or ends the trace where that is due.

        Args:
          call: how many calls the run has made since it was started or resumed.
          label: what the run is called.
          wait: waits until they are complete.
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
        self._taken += 1

    def end(self) -> None:
        """Ends a trace that is under way: the run, or the trace, is at its end."""
        if self._taken and self._directory is not None:
            jax.profiler.stop_trace()
            self._log(
                f"profile: {self._taken} calls of {self._label} are in {self._directory}; open it "
                f"with tensorboard --logdir {self._directory}, or its .trace.json.gz in "
                "https://ui.perfetto.dev"
            )
            self._directory = None

    def close(self) -> None:
        """Says where there was nothing to trace."""
        if self._directory is not None:
            self._log(f"profile: no trace, since no run made more than {FIRST} calls")
