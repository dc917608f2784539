"""The figures of a run for TensorBoard."""

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from cnnjax.train.folder import Log


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Lets imports find no such module, unless it was imported before."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


with _without("torch"):  # tensorboardX imports it where it is installed: a second, 200 MB
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import masked_crc32c


class Board:
    """An event file. What cannot be written is dropped, and said once: a logger fails no run.

    Events are written here and not through tensorboardX's `SummaryWriter`, which hands them to a
    thread by a queue and waits for ever for a place in it once that thread has died.

    Args:
      directory: the folder of the event files.
      first_step: events of this step and later ones in other files there are of no more interest.
      log: where lines for the user go.
    """

    def __init__(self, directory: Path, first_step: int, log: Log):
        self._directory, self._log = directory, log
        self._file: IO[bytes] | None = None
        with self._dropping():
            directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
            self._file = open(directory / name, "wb")  # noqa: SIM115
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures of a step by their tags."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Ends the file."""
        file, self._file = self._file, None
        if file:
            with self._dropping():
                file.close()

    def _write(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        parts = [part + struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        with self._dropping():
            self._file.write(b"".join(parts))
            self._file.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            file, self._file = self._file, None
            self._log(
                f"{self._directory}: cannot be written ({error.strerror or error}); TensorBoard "
                "will not see the rest of this run."
            )
            if file:
                with contextlib.suppress(OSError):
                    file.close()
