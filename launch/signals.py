"""SIGTERM and SIGHUP, by which a scheduler or a terminal that closes asks a program to end.

The program prints one line and exits with 75 (EX_TEMPFAIL); the same command continues from there.
While runs are trained, the current step is completed and saved first. A second signal ends the
program at once, unless it comes within two seconds: one request may arrive several times, from the
scheduler and from the parent process. Signals that are ignored, as under nohup, stay ignored.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from cnnjax.errors import Stopped

EXIT_CODE = os.EX_TEMPFAIL
SAME_REQUEST = 2.0  # seconds


def exit_at_once() -> None:
    """Lets the signals end the program at once from now on; files are whole or absent at any time.
    This does not raise an exception, since Python drops exceptions in some callbacks, such as those
    of the garbage collector."""

    def end(name: str) -> None:
        os.write(2, f"{message(f'stopped by {name}')}\n".encode())
        os._exit(EXIT_CODE)

    _handle_with(end)


def message(stopped: object) -> str:
    """The last line of a program that was stopped."""
    return f"{stopped}; the same command goes on from here."


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], str]]:
    """Defers signals while the block runs. Yields a function that returns the name of the signal
    that was received, "" if none was; raises Stopped at the end of the block if one was."""
    names: list[str] = []
    before = _handle_with(names.append)
    try:
        yield lambda: "".join(names)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if names:
        raise Stopped(f"stopped by {names[0]}")


def _handle_with(act: Callable[[str], None]) -> dict[signal.Signals, Any]:
    """Calls `act` with the name of the first signal; returns the previous handlers."""
    first: list[float] = []

    def handle(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            act(signal.Signals(number).name)
        elif now - first[0] > SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    return before
