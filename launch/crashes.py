"""Counts runs that kill their process, usually by lack of memory, without an exception.

A process of a sweep and its parent share an open file. First the parent writes into it which runs
to leave out, then the process which runs it is training. When the process dies, the parent counts
that in crashes.json in the folder of the run, also for the next sweep. A process without a parent
writes attempt.json in the folder of the run, which remains if it dies; the next process counts
that, unless the run has a later checkpoint. A reboot of the machine is not counted.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from cnnjax import files, machine
from cnnjax.ablation.study import RunFolder
from cnnjax.errors import UserError

MAX_CRASHES = 2
"""Deaths of a run that is trained alone after which it has failed."""

STATUS = "CNNJAX_STATUS"
"""Environment variable with the file descriptor that a process shares with its parent."""

Key = tuple[str, int]


def key(run: RunFolder) -> Key:
    """The arm and seed of a run, which identify it within a sweep."""
    return run.arm, run.seed


def write_runs(status: int, runs: Collection[Key]) -> None:
    """Replaces the runs in a shared file."""
    os.ftruncate(status, 0)
    os.pwrite(status, json.dumps(sorted(runs)).encode(), 0)


def read_runs(status: int) -> set[Key]:
    """The runs in a shared file; none if a process died while it wrote them."""
    content = os.pread(status, os.fstat(status).st_size, 0)
    return {(arm, seed) for arm, seed in json.loads(content)} if content.endswith(b"]") else set()


def excluded_runs() -> set[Key]:
    """The runs that a process of a sweep must leave out; to be called before `training`."""
    return read_runs(int(os.environ[STATUS])) if STATUS in os.environ else set()


@contextlib.contextmanager
def training(runs: Sequence[RunFolder]) -> Iterator[None]:
    """Marks runs as being trained by this process while the block runs. The mark remains where the
    user's own code exits. Raises UserError for a folder of a run that is a link."""
    status = os.environ.get(STATUS)
    with contextlib.ExitStack() as marks:
        if status:
            write_runs(int(status), {key(run) for run in runs})
            marks.callback(write_runs, int(status), ())
        for run in () if status else runs:
            files.refuse_links(run.directory, below=run.directory.parents[1])
            attempt = {"boot": machine.boot(), "step": _last_step(run), "together": len(runs) > 1}
            files.write_json(_attempt_path(run), attempt)
            marks.callback(_attempt_path(run).unlink, missing_ok=True)
        try:
            yield
        except (SystemExit, GeneratorExit):
            marks.pop_all()
            raise


def count_attempt(run: RunFolder) -> None:
    """Counts the crash of a process without a parent, if an attempt to train the run remains. The
    caller holds the lock of the run."""
    try:
        attempt = dict(files.read_json(_attempt_path(run)))
    except (UserError, TypeError, ValueError):
        return
    _attempt_path(run).unlink(missing_ok=True)
    if attempt.get("boot") == machine.boot() != "" and attempt.get("step") == _last_step(run):
        _add(run, 0 if attempt.get("together") else 1)


def has_failed(run: RunFolder) -> bool:
    """Whether a run has killed its process so often that it has failed."""
    return (_crashes(run) or 0) >= MAX_CRASHES


def count(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Counts the crash of a process that was training these runs; returns those that have failed.
    Which of several runs killed it is not known: they have to be trained one after another, see
    `must_be_alone`."""
    for run in runs:
        _add(run, 1 if len(runs) == 1 else 0)
    return list(filter(has_failed, runs))


def _add(run: RunFolder, crashes: int) -> None:
    files.write_json(record(run), {"crashes": (_crashes(run) or 0) + crashes})


def must_be_alone(run: RunFolder) -> bool:
    """Whether a run must not be trained together with others, since a process died with it."""
    return _crashes(run) is not None


def _crashes(run: RunFolder) -> int | None:
    """How many processes have crashed while they trained a run; None if no process died with it."""
    path = record(run)
    if not path.exists():
        return None
    try:
        return int(files.read_json(path)["crashes"])
    except (UserError, KeyError, TypeError, ValueError):
        return 0


def record(run: RunFolder) -> Path:
    """The file with the number of crashes of a run."""
    return run.directory / "crashes.json"


def _attempt_path(run: RunFolder) -> Path:
    return run.directory / "attempt.json"


def _last_step(run: RunFolder) -> int:
    """The step of the last checkpoint of a run, 0 if there is none."""
    from cnnjax.train import folder

    return max(folder.steps(run.directory / "checkpoints"), default=0)
