"""Runs that end their process, for want of memory as a rule, which no exception tells.

A process of a sweep and its parent share an open file: in it the parent says which runs to leave
out, and the process which runs it is at. The parent, when it sees the process die, counts that in
deaths.json in the folder of the run, for the next sweep too. A process without a parent says it in
attempt.json in the folder of the run, which is left there where it dies; the next one counts that,
unless the run got to another checkpoint. A machine that goes down is not counted.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from cnnjax import files, machine
from cnnjax.ablation.study import RunFolder
from cnnjax.errors import UserError

MOST = 2
"""Deaths of a run that is trained alone before it counts as failed."""

STATUS = "CNNJAX_STATUS"
"""Variable with the number of the file that a process shares with its parent."""

Key = tuple[str, int]


def key(run: RunFolder) -> Key:
    """What a run is told apart by in a sweep."""
    return run.arm, run.seed


def write(status: int, runs: Collection[Key]) -> None:
    """Makes these the runs in a shared file."""
    os.ftruncate(status, 0)
    os.pwrite(status, json.dumps(sorted(runs)).encode(), 0)


def read(status: int) -> set[Key]:
    """The runs in a shared file; none where a process died while it wrote them."""
    content = os.pread(status, os.fstat(status).st_size, 0)
    return {(arm, seed) for arm, seed in json.loads(content)} if content.endswith(b"]") else set()


def left_out() -> set[Key]:
    """In a process of a sweep, before it says what it is at: the runs to leave out."""
    return read(int(os.environ[STATUS])) if STATUS in os.environ else set()


@contextlib.contextmanager
def at(runs: Sequence[RunFolder]) -> Iterator[None]:
    """While the block runs, this process is at these runs; it stays so where code of the user's
    own exits in it. Raises UserError for a folder of a run that is a link."""
    status = os.environ.get(STATUS)
    if status:
        write(int(status), {key(run) for run in runs})
    for run in () if status else runs:
        files.refuse_links(run.directory, below=run.directory.parents[1])
        where = {"boot": machine.boot(), "step": _step(run), "together": len(runs) > 1}
        files.write_json(_attempt(run), where)
    exits = False
    try:
        yield
    except (SystemExit, GeneratorExit):
        exits = True
        raise
    finally:
        if status and not exits:
            write(int(status), ())
        for run in () if status or exits else runs:
            _attempt(run).unlink(missing_ok=True)


def count_left(run: RunFolder) -> None:
    """Counts the death of a process that was at a run, where it left word of that. To be called by
    who holds the lock of the run."""
    try:
        left = dict(files.read_json(_attempt(run)))
    except (UserError, TypeError, ValueError):
        return
    _attempt(run).unlink(missing_ok=True)
    if left.get("boot") == machine.boot() != "" and left.get("step") == _step(run):
        _add(run, 0 if left.get("together") else 1)


def too_often(run: RunFolder) -> bool:
    """Whether a run has ended its process so often that it counts as failed."""
    return (_deaths(run) or 0) >= MOST


def count(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Counts the death of a process that was at these runs. Of several that were trained together
    nobody knows which one is to blame: they go on one after another, see `alone`.

    Returns those that have ended their process too often."""
    for run in runs:
        _add(run, 1 if len(runs) == 1 else 0)
    return list(filter(too_often, runs))


def _add(run: RunFolder, died: int) -> None:
    deaths = (_deaths(run) or 0) + died
    files.write_json(record(run), {"deaths": deaths})


def alone(run: RunFolder) -> bool:
    """Whether a run is not trained together with others, since a process died with it."""
    return _deaths(run) is not None


def forget(run: RunFolder) -> None:
    """Counts the deaths of a run anew."""
    record(run).unlink(missing_ok=True)


def _deaths(run: RunFolder) -> int | None:
    """How often a run has ended its process; None where no process ever died with it."""
    path = record(run)
    if not path.exists():
        return None
    try:
        return int(files.read_json(path)["deaths"])
    except (UserError, KeyError, TypeError, ValueError):
        return 0


def record(run: RunFolder) -> Path:
    """Where the deaths of a run are counted."""
    return run.directory / "deaths.json"


def _attempt(run: RunFolder) -> Path:
    return run.directory / "attempt.json"


def _step(run: RunFolder) -> int:
    """The step of a run's last checkpoint."""
    from cnnjax.train import folder

    return max(folder.steps(run.directory / "checkpoints"), default=0)
