"""SIGTERM and SIGHUP: how a scheduler, or a terminal that closes, asks a program to end.

A program that one of them stops says so in a line and exits with 75 (EX_TEMPFAIL): the same command
goes on from there. Where runs are trained, the step that is being taken is completed and kept
first. A further signal ends the program at once; but not within two seconds, since one request may
come several times, from the scheduler to all processes and again from the process that started
this one. A signal that is ignored, as by nohup, stays so.
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
    """Makes the signals end the program from now on, wherever it is: files are whole or absent at
    any time. No exception does that, since Python drops one in a callback of its own, of the
    garbage collector for one."""

    def end(name: str) -> None:
        os.write(2, f"{line(f'stopped by {name}')}\n".encode())
        os._exit(EXIT_CODE)

    _handle_with(end)


def line(stopped: object) -> str:
    """What is said at the end."""
    return f"{stopped}; the same command goes on from here."


@contextlib.contextmanager
def held() -> Iterator[Callable[[], str]]:
    """While the block runs, a signal is only kept. Yields a function that tells its name, or "";
    raises Stopped at the end of the block where there was one."""
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
    """Calls `act` with the name of the first signal; returns the handlers until now."""
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
