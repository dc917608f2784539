"""Runs that end their process, for want of memory as a rule, which no exception tells.

A process of a sweep and its parent share an open file: in it the parent says which runs to leave
out, and the process which runs it is at. The parent, when it sees the process die, counts that in
deaths.json in the folder of the run, for the next sweep too. A machine that goes down takes the
parent along, and is not counted.
"""

import json
import os
from collections.abc import Collection, Sequence

from cnnjax import files
from cnnjax.ablation.study import Run
from cnnjax.errors import UserError

MOST = 2
"""Deaths of a run that is trained alone before it counts as failed."""

STATUS = "CNNJAX_STATUS"
"""Variable with the number of the file that a process shares with its parent."""

Key = tuple[str, int]


def key(run: Run) -> Key:
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


def at(runs: Sequence[Run]) -> None:
    """In a process of a sweep: tells the parent which runs it is at from now on."""
    if STATUS in os.environ:
        write(int(os.environ[STATUS]), {key(run) for run in runs})


def count(runs: Sequence[Run]) -> list[Run]:
    """Counts the death of a process that was at these runs. Of several that were trained together
    nobody knows which one is to blame: they go on one after another, see `alone`.

    Returns those that have ended their process too often."""
    died = 1 if len(runs) == 1 else 0
    counts = {run: (_deaths(run) or 0) + died for run in runs}
    for run, deaths in counts.items():
        files.write_json(run.directory / "deaths.json", {"deaths": deaths})
    return [run for run, deaths in counts.items() if deaths >= MOST]


def alone(run: Run) -> bool:
    """Whether a run is not trained together with others, since a process died with it."""
    return _deaths(run) is not None


def forget(run: Run) -> None:
    """Counts the deaths of a run anew."""
    (run.directory / "deaths.json").unlink(missing_ok=True)


def _deaths(run: Run) -> int | None:
    """How often a run has ended its process; None where no process ever died with it."""
    path = run.directory / "deaths.json"
    if not path.exists():
        return None
    try:
        return int(files.read_json(path)["deaths"])
    except (UserError, KeyError, TypeError, ValueError):
        return 0
