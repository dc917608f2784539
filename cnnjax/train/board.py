"""Event files for TensorBoard."""

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
    """A context in which a module cannot be imported, unless it was imported before."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


with _without("torch"):  # which tensorboardX would import: one second, 200 MB
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import masked_crc32c


class Board:
    """Writes an event file. If that fails, it logs one line and drops all further events, since
    logging must not fail a run.

    It does not use tensorboardX's `SummaryWriter`, which passes events to a thread through a queue
    and blocks for ever on a full queue once that thread has died.

    Args:
      directory: the folder of the event files.
      first_step: TensorBoard hides events of this and later steps in older files of the folder.
      log: called with each line for the user.
    """

    def __init__(self, directory: Path, first_step: int, log: Log):
        self._directory, self._log = directory, log
        self._file: IO[bytes] | None = None
        with self._stop_on_error():
            directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
            self._file = open(directory / name, "wb")  # noqa: SIM115
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes the values of a step by tag."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            with self._stop_on_error():
                self._file.close()

    def _write(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        parts = [part + struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        with self._stop_on_error():
            self._file.write(b"".join(parts))
            self._file.flush()

    @contextlib.contextmanager
    def _stop_on_error(self) -> Iterator[None]:
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
