"""A trace of some training steps, for TensorBoard or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

from cnnjax.train.folder import Say

FIRST, CALLS = 3, 10
"""The calls of a run before its trace, which may compile or find the device cold; and in it."""


class Profile:
    """The trace of the first run, or replicates, of a process that take enough calls.

    Args:
      directory: where it is written, as TensorBoard expects it; None for no trace.
      say: where lines for the user go.
    """

    def __init__(self, directory: Path | None = None, say: Say = print):
        self._directory, self._say = directory, say
        self._running = False

    def before(self, call: int, label: str, wait: Callable[[], None]) -> None:
        """Begins or ends the trace where that is due.

        Args:
          call: how many calls the run has made since it was started or resumed.
          label: what the run is called.
          wait: waits until they are complete.
        """
        if self._directory is None:
            return
        if self._running and call == FIRST + CALLS:
            wait()
            self.end()
            self._say(
                f"profile: {CALLS} calls of {label} are in {self._directory}; open it with "
                f"tensorboard --logdir {self._directory}, or its .trace.json.gz in "
                "https://ui.perfetto.dev"
            )
            self._directory = None
        elif not self._running and call == FIRST:
            wait()
            jax.profiler.start_trace(self._directory)
            self._running = True

    def end(self) -> None:
        """Ends a trace that is under way. One that a run was too short for begins anew in the
        next."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
