"""What one process does: the runs it is given, one after another or several together."""

import contextlib
import dataclasses
import errno
import functools
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import files
from cnnjax.ablation.study import RunFolder
from cnnjax.errors import MachineError, NoRoom, Stopped, one_line
from cnnjax.result import RunResult
from launch import deaths, grouping, signals
from launch.grouping import Group
from launch.progress import Pace, line, stamp
from launch.training import Training

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES)
_REFUSED = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT)
LINE = 300  # characters of an error that are shown where runs go on all the same
Stop = Callable[[], str]


@dataclasses.dataclass(frozen=True)
class Context:
    """What all groups of runs of a process are trained with: see `work`, and `loop.train` for
    `profile` and `stop`."""

    session: Any
    training: Training
    profile: Any
    stop: Stop


def work(
    session: Any,
    training: Training,
    runs: Sequence[RunFolder],
    *,
    quiet: bool,
    processes: int = 1,
    ended: int = 0,
    total: int | None = None,
) -> int:
    """Takes runs to their end; returns 1 if one failed, else 0. Raises Stopped when a signal asked
    to stop, after what is under way is kept.

    Args:
      session: what the runs share.
      training: what they are trained with.
      runs: the runs; those that another process has, or had, are left out.
      quiet: whether the time left is not said.
      processes: how many processes share the runs.
      ended: how many runs have been counted before.
      total: how many there are to count, these by default.
    """
    failed = done = 0
    total = total or len(runs)
    started, pace = time.monotonic(), Pace(len(runs), 1, training.max_minutes)
    before = {run: stamp(run) for run in runs}
    from cnnjax.train.profile import Profile

    profile = Profile(training.profile, functools.partial(print, flush=True))
    with signals.held() as stop:
        context = Context(session, training, profile, stop)
        ways = grouping.ways(session, training, runs, processes=processes)
        for group in grouping.groups(runs, ways, grouping.alike(training)):
            if stop():
                break
            if time.monotonic() - started > 60 * (training.max_minutes or math.inf):
                minutes = f"{training.max_minutes:g} minutes"
                print(f"{minutes} are over; the same command goes on from here.")
                break
            results = _locked(context, group, before)
            first = ended + done + 1
            done += len(group.runs)
            left = pace.left(done) if done else 0.0
            for number, (run, result) in enumerate(results.items(), first):
                failed += result.status == "failed"
                left = 0.0 if quiet else left
                shown = line(run, result, training.primary, number, total, left)
                print(shown, flush=True)
    profile.close()
    return 1 if failed else 0


def _locked(
    context: Context, group: Group, before: Mapping[RunFolder, int]
) -> dict[RunFolder, RunResult]:
    """The results of the runs of a group, without those that another process has, or had since
    `before` was their result's time."""
    with contextlib.ExitStack() as locks:
        mine = []
        for run in group.runs:
            files.refuse_links(run.directory, below=run.directory.parents[1])
            lock = locks.enter_context(files.lock(run.directory / ".lock", wait=False))
            if lock and not run.ended and stamp(run) == before[run]:
                mine.append(run)
        for run in mine:
            deaths.count_left(run)
        results = {run: _given_up(run) for run in filter(deaths.too_often, mine)}
        mine = [run for run in mine if run not in results]
        fresh = [run for run in mine if grouping.replica_axis(run) is None]
        if len(mine) > 1 or (fresh and len(group.replica_axis) > 1):
            results |= _together(context, group._replace(runs=mine))
        elif mine:
            results |= _one(context, group._replace(runs=mine))
        return results


class _Fault(Exception):
    """Runs that were to be trained together could not be: which one is to blame is not known."""


def _together(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """Runs to their end that are trained together; where that cannot be, one after another, and
    where a device has no room for so many that have not begun, half of them at a time."""
    size = 1
    try:
        if not any(map(deaths.alone, group.runs)):
            return _train(context, group)
    except _Fault as fault:
        lines = str(fault.__cause__).strip().splitlines() or [""]
        arms = ", ".join(dict.fromkeys(run.arm for run in group.runs))
        if isinstance(fault.__cause__, NoRoom) and not any(map(_has_begun, group.runs)):
            size = max(1, len(group.runs) // 2)
        how = f"{size} at a time" if size > 1 else "one after another"
        print(f"{arms}: {lines[0][:LINE]}; these runs go on {how}")
    results: dict[RunFolder, RunResult] = {}
    for at in range(0, len(group.runs), size):
        part = group._replace(runs=group.runs[at : at + size])
        if len(part.runs) > 1:
            part = part._replace(replica_axis=tuple(map(deaths.key, part.runs)))
            results |= _together(context, part)
        else:
            (run,) = part.runs
            axis = grouping.replica_axis(run) or (deaths.key(run),)
            results |= _one(context, part._replace(replica_axis=axis))
    return results


def _has_begun(run: RunFolder) -> bool:
    return grouping.replica_axis(run) is not None


def _one(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """The one run of a group to its end. A fault becomes its result."""
    try:
        return _train(context, group)
    except _Fault as fault:
        error = fault.__cause__
        assert error is not None
        text = "".join(traceback.format_exception(error))
        (run,) = group.runs
        return {run: fail(run, one_line(error, context.training.path), text)}


def _given_up(run: RunFolder) -> RunResult:
    """The result of a run that has ended its process too often. It is not tried again by the next
    command, which would end with it before others were done or a report was written."""
    silent = "process ended without a word (memory?)"
    again = f"remove {deaths.record(run)} to try it again"
    return fail(run, f"{silent}; {again}", f"{silent}, {deaths.MOST} times\n", forget=False)


def fail(run: RunFolder, error: str, details: str, *, forget: bool = True) -> RunResult:
    """Writes and returns the result of a run that failed; `details` are kept beside it. Unless
    `forget` is false, a next command tries it as if no process had ended with it."""
    files.write_bytes(run.directory / "error.txt", details.encode())
    result = RunResult(**_identity(run), status="failed", error=error[:2000])
    result.write(run.directory / "result.json")
    if forget:
        deaths.forget(run)
    return result


def _train(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """Trains the runs of a group. Raises _Fault from what went wrong with one of them, UserError
    for what would go wrong with all, and Stopped; also from a fault after that was asked for, since
    processes that read data may have been asked to stop as well."""
    from cnnjax.train import loop

    runs, training = group.runs, context.training
    try:
        with deaths.at(runs):
            results = loop.train(
                context.session,
                [
                    loop.Job(training.configs[run.arm], run.seed, run.directory, _identity(run))
                    for run in runs
                ],
                together=bool(group.replica_axis),
                replica_axis=group.replica_axis,
                steps_per_call=group.steps_per_call,
                probes=_probes(training.probes),
                log=functools.partial(print, flush=True),
                profile=context.profile,
                stop=context.stop,
            )
        return dict(zip(runs, results, strict=True))
    except Exception as error:
        stop_for_machine(error, runs[0].directory)
        if context.stop():
            raise Stopped(f"stopped by {context.stop()}") from error
        raise _Fault from error


def _identity(run: RunFolder) -> dict[str, Any]:
    return {"arm": run.arm, "block": run.block, "seed": run.seed}


def _probes(names: Sequence[str]) -> Any:
    """The probes of an experiment, as functions."""
    from cnnjax.analysis import layers, probes
    from cnnjax.train.probe import Probes

    return Probes(
        {name: probe for name, probe in probes.MEASURES.items() if name in names},
        {name: probe for name, probe in probes.SIGNALS.items() if name in names},
        layers.multiply_adds,
    )


def stop_for_machine(error: BaseException, directory: Path) -> None:
    """What the machine refuses is no result of a run: raises MachineError for it."""
    from cnnjax.train import damage

    if isinstance(error, MachineError) and error.errno not in _FULL:
        raise error
    for refused in (error, *damage.refusals(error)):
        number = refused.errno if isinstance(refused, OSError | MachineError) else None
        said = refused if isinstance(refused, OSError) and refused.filename else None
        if number in _FULL or (refused is error and number in _READ_ONLY):
            raise MachineError(
                f"{directory}: cannot be written ({said or os.strerror(number)}); make room, then "
                "give the same command.",
                errno=number,
            ) from None
        if number in _REFUSED:
            raise MachineError(
                f"{directory}: cannot be read or written just now ({os.strerror(number)}); the "
                "same command goes on from here.",
                errno=number,
            ) from None
