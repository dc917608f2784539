"""Trains the runs of one process, one after another or several together."""

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
from typing import TYPE_CHECKING

from cnnjax import files
from cnnjax.ablation.study import RunFolder
from cnnjax.errors import MachineError, OutOfMemory, Stopped, one_line
from cnnjax.result import RunResult
from launch import crashes, grouping, signals
from launch.grouping import Group
from launch.progress import Progress, result_time
from launch.training import TrainingSetup

if TYPE_CHECKING:
    from cnnjax.train.probe import Probes
    from cnnjax.train.profile import Profile
    from cnnjax.train.session import Session

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES)
_REFUSED = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT)
MAX_ERROR = 300  # characters shown of an error after which runs are tried again


@dataclasses.dataclass(frozen=True)
class Context:
    """What all groups of runs of a process are trained with: see `work`, and `loop.train` for
    `profile` and `stop`."""

    session: "Session"
    training: TrainingSetup
    profile: "Profile"
    stop: Callable[[], str]


def work(
    session: "Session",
    training: TrainingSetup,
    runs: Sequence[RunFolder],
    *,
    quiet: bool,
    processes: int = 1,
    ended: int = 0,
    total: int = 0,
) -> int:
    """Trains runs to their end; returns 1 if one failed, else 0. Raises Stopped after a signal,
    when the runs that are being trained have been saved.

    Args:
      session: what the runs share.
      training: what they are trained with.
      runs: the runs; those that another process trains, or has trained, are left out.
      quiet: whether to leave out the remaining time.
      processes: the number of processes that share the runs.
      ended: the number of runs counted before these.
      total: the number of runs to count; these by default.
    """
    failed = done = 0
    started, progress = time.monotonic(), Progress(training, len(runs), ended=ended, total=total)
    written = {run: result_time(run) for run in runs}
    from cnnjax.train.profile import Profile

    profile = Profile(training.profile, functools.partial(print, flush=True))
    with signals.deferred() as stop:
        context = Context(session, training, profile, stop)
        dispatches = grouping.choose_dispatches(session, training, runs, processes=processes)
        for group in grouping.make_groups(runs, dispatches, grouping.replica_keys(training)):
            if stop():
                break
            if time.monotonic() - started > 60 * (training.max_minutes or math.inf):
                minutes = f"{training.max_minutes:g} minutes"
                print(f"{minutes} are over; the same command goes on from here.")
                break
            results = _train_unlocked(context, group, written)
            remaining = 0.0 if quiet else progress.remaining(done + len(group.runs))
            for number, (run, result) in enumerate(results.items(), done + 1):
                failed += result.status == "failed"
                print(progress.line(run, result, number, remaining), flush=True)
            done += len(group.runs)
    profile.close()
    return 1 if failed else 0


def _train_unlocked(
    context: Context, group: Group, written: Mapping[RunFolder, int]
) -> dict[RunFolder, RunResult]:
    """Trains the runs of a group, without those that another process trains or has trained:
    `written` has the times of their results before. Returns the results."""
    with contextlib.ExitStack() as locks:
        locked = []
        for run in group.runs:
            free = locks.enter_context(grouping.lock(run))
            if free and not run.ended and result_time(run) == written[run]:
                locked.append(run)
        for run in locked:
            crashes.count_attempt(run)
        results = {run: _fail_by_crashes(run) for run in filter(crashes.has_failed, locked)}
        pending = [run for run in locked if run not in results]
        started = all(map(_is_started, pending))
        if len(pending) > 1 or (not started and len(group.replica_axis) > 1):
            results |= _train_together(context, group._replace(runs=pending))
        elif pending:
            results |= _train_alone(context, group._replace(runs=pending))
        return results


class _RunError(Exception):
    """One of the runs that were being trained raised its cause; which one is not known."""


def _train_together(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """Trains the runs of a group together. If that fails, they are trained one after another, or
    half of them at a time if none was started and the device has too little memory for all."""
    size = 1
    try:
        if not any(map(crashes.must_be_alone, group.runs)):
            return _train(context, group)
    except _RunError as failure:
        lines = str(failure.__cause__).strip().splitlines() or [""]
        arms = ", ".join(dict.fromkeys(run.arm for run in group.runs))
        if isinstance(failure.__cause__, OutOfMemory) and not any(map(_is_started, group.runs)):
            size = max(1, len(group.runs) // 2)
        how = f"{size} at a time" if size > 1 else "one after another"
        print(f"{arms}: {lines[0][:MAX_ERROR]}; these runs go on {how}")
    results: dict[RunFolder, RunResult] = {}
    for start in range(0, len(group.runs), size):
        runs = group.runs[start : start + size]
        axis, train = tuple(map(crashes.key, runs)), _train_together
        if len(runs) == 1:
            axis, train = grouping.replica_axis(runs[0]) or axis, _train_alone
        results |= train(context, group._replace(runs=runs, replica_axis=axis))
    return results


def _is_started(run: RunFolder) -> bool:
    return grouping.replica_axis(run) is not None


def _train_alone(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """Trains the only run of a group. It has failed where it raises an error."""
    try:
        return _train(context, group)
    except _RunError as failure:
        error = failure.__cause__
        assert error is not None
        text = "".join(traceback.format_exception(error))
        (run,) = group.runs
        return {run: fail(run, one_line(error, context.training.path), text)}


def _fail_by_crashes(run: RunFolder) -> RunResult:
    """The result of a run that has killed its process too often. The next command does not try it
    again, since it could die before other runs have ended or a report is written."""
    silent = "process ended without a word (memory?)"
    remedy = f"remove {crashes.record(run)} to try it again"
    details = f"{silent}, {crashes.MAX_CRASHES} times\n"
    return fail(run, f"{silent}; {remedy}", details, reset_crashes=False)


def fail(run: RunFolder, error: str, details: str, *, reset_crashes: bool = True) -> RunResult:
    """Writes and returns the result of a run that failed, with the `details` beside it.
    `reset_crashes` lets the next command try it again whatever killed its processes."""
    files.write_text(run.directory / "error.txt", details)
    result = RunResult(
        arm=run.arm, block=run.block, seed=run.seed, status="failed", error=error[:2000]
    )
    result.write(run.directory / "result.json")
    if reset_crashes:
        crashes.record(run).unlink(missing_ok=True)
    return result


def _train(context: Context, group: Group) -> dict[RunFolder, RunResult]:
    """Trains the runs of a group. Raises _RunError from an error of one of them, MachineError for
    what would fail all runs, and Stopped, also from an error after a signal, since the processes
    that read data may have received it as well."""
    from cnnjax.train import loop

    runs, training = group.runs, context.training
    try:
        with crashes.training(runs):
            results = loop.train(
                context.session,
                [
                    loop.Job(training.configs[run.arm], run.seed, run.directory, run.arm, run.block)
                    for run in runs
                ],
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
        raise _RunError from error


def _probes(names: Sequence[str]) -> "Probes":
    """The functions of the probes with these names."""
    from cnnjax.analysis import layers, probes
    from cnnjax.train.probe import Probes

    return Probes(
        {name: probe for name, probe in probes.MEASURES.items() if name in names},
        {name: probe for name, probe in probes.SIGNALS.items() if name in names},
        layers.multiply_adds,
    )


def stop_for_machine(error: BaseException, directory: Path) -> None:
    """Raises MachineError if an error, or one of its causes, says that the machine refused
    something, which is no result of a run."""
    from cnnjax.train import checkpoint

    if isinstance(error, MachineError) and error.errno not in _FULL:
        raise error
    for cause in (error, *checkpoint.system_errors(error)):
        number = cause.errno if isinstance(cause, OSError | MachineError) else None
        if number in _FULL or (cause is error and number in _READ_ONLY):
            with_path = isinstance(cause, OSError) and cause.filename
            reason = str(cause) if with_path else os.strerror(number)
            raise MachineError(
                f"{directory}: cannot be written ({reason}); make room, then give the same "
                "command.",
                errno=number,
            ) from None
        if number in _REFUSED:
            raise MachineError(
                f"{directory}: cannot be read or written just now ({os.strerror(number)}); the "
                "same command goes on from here.",
                errno=number,
            ) from None
