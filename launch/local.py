"""The executor on this machine: one process, or several that share the runs.

Processes share nothing but the workdir: each takes the next run whose lock is free. A process that
is killed is started again, and its run goes on from its last checkpoint. The bits of a run depend
on the number of threads, so a run that was started with another number gets a process of its own
kind.
"""

import collections
import contextlib
import errno
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cnnjax import files
from cnnjax.ablation import study
from cnnjax.errors import UserError
from launch.request import Request

RESTARTS = 3
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def execute(request: Request, *, workers: int = 1, worker: str | None = None) -> int:
    """Runs what is pending, and returns the exit code: 1 if a run failed, else 0.

    Args:
      request: what was asked for.
      workers: the number of processes.
      worker: in a process that this function started: its number.
    """
    request.check()
    if worker is not None:
        die_with_parent()
        mine = [run for run in request.pending if _threads(run, cores()) == cores()]
        return _work(request, _from(mine, int(worker), workers), quiet=True)
    here = cores() if workers == 1 else max(1, cores() // workers)
    groups = collections.defaultdict(list)
    for run in request.pending:
        groups[_threads(run, here)].append(run)
    if groups:
        _check_data(request)
    request.write()
    done = len(request.runs) - len(request.pending)
    if done:
        print(f"{done} of {len(request.runs)} runs have ended already in {request.workdir}")
    code = 0
    if workers == 1 and len(groups) == 1:
        os.environ["PJRT_NPROC"] = str(next(iter(groups)))
        code = _work(request, request.pending, quiet=False)
    else:
        for threads, runs in groups.items():
            code = max(code, _share(request, runs, threads, min(workers, len(runs))))
    return max(code, _summary(request))


def cores() -> int:
    """The cores that this process may use: PJRT_NPROC where it is set."""
    asked = os.environ.get("PJRT_NPROC", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends; Linux only."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _threads(run: study.Run, otherwise: int) -> int:
    """The threads that a run was started with, `otherwise` if it was not started yet."""
    with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
        return int(files.read_json(run.directory / "runtime.json")["threads"])
    return otherwise


def _from(runs: Sequence[study.Run], worker: int, workers: int) -> list[study.Run]:
    """The runs, each worker beginning at another place, so that they seldom meet."""
    start = worker * len(runs) // max(workers, 1)
    return [*runs[start:], *runs[:start]]


def _check_data(request: Request) -> None:
    """Raises UserError where a data set is missing or too small for an arm's batch."""
    from cnnjax import data

    loaded: dict[str, data.Loaded] = {}
    for config in request.configs.values():
        key = config.data.model_dump_json()
        if key not in loaded:
            loaded[key] = data.load(config.data, request.data_dir)
        loaded[key].for_seed(0, config.training.batch_size)


def _work(request: Request, runs: Sequence[study.Run], *, quiet: bool) -> int:
    """Runs one after another in this process; returns 1 if one failed."""
    from cnnjax.train.session import Session

    session = Session(data_dir=request.data_dir, levels=request.loaded.levels)
    failed = 0
    started = time.monotonic()
    before = {run: _stamp(run) for run in runs}
    for number, run in enumerate(runs, 1):
        result = _one(session, request, run, before[run])
        if result is None:
            continue
        failed += result["status"] == "failed"
        left = (time.monotonic() - started) / number * (len(runs) - number)
        print(_line(run, result, number, len(runs), 0 if quiet else left), flush=True)
    return 1 if failed else 0


def _one(session: Any, request: Request, run: study.Run, before: int) -> dict[str, Any] | None:
    """One run to its end; None where another process has it, or had it since `before` was its
    result's time. A fault becomes the run's result."""
    from cnnjax.train import loop

    identity = {"arm": run.arm, "block": run.block, "seed": run.seed}
    with files.lock(run.directory / ".lock", wait=False) as mine:
        if not mine or run.ended or _stamp(run) != before:
            return None
        try:
            return loop.run(
                session, request.configs[run.arm], run.seed, run.directory, identity=identity
            )
        except Exception as error:
            _stop_without_room(error, run.directory)
            text = traceback.format_exc()
            files.write_bytes(run.directory / "error.txt", text.encode())
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            lines = str(error).strip().splitlines() or [""]
            result = {
                **identity,
                "status": "failed",
                "error": f"{kind}{' '.join(lines)}"[:2000],
                "validation": None,
                "test": None,
            }
            files.write_json(run.directory / "result.json", result)
            return result


def _stop_without_room(error: BaseException, directory: Path) -> None:
    """A full or unwritable disk is no result of a run: it stops everything."""
    full = isinstance(error, OSError) and error.errno in _NO_ROOM
    if full or "No space left on device" in str(error):
        raise UserError(
            f"{directory}: cannot be written ({error}); make room, then give the same command."
        ) from None
    if isinstance(error, UserError) and "cannot be written" in str(error):
        raise error


def _line(run: study.Run, result: dict[str, Any], number: int, of: int, left: float) -> str:
    return f"[{number:>{len(str(of))}}/{of}] {describe(run, result)}" + (
        f"; about {duration(left)} left" if left >= 1 else ""
    )


def describe(run: study.Run, result: dict[str, Any]) -> str:
    """A run's result in one line."""
    if result["status"] == "failed":
        return f"{run.arm} seed {run.seed}: FAILED: {result.get('error', '')[:200]}"
    if result["status"] == "diverged":
        return f"{run.arm} seed {run.seed}: diverged at step {result['diverged_at_step']}"
    figures = [
        f"{split} {100 * result[split]['accuracy']:.2f} %"
        for split in ("validation", "test")
        if result.get(split)
    ]
    speed = f"{result['train_images_per_second']:,.0f} images/s"
    return f"{run.arm} seed {run.seed}: {', '.join(figures)} ({result['seconds']:.1f} s, {speed})"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _share(request: Request, runs: Sequence[study.Run], threads: int, workers: int) -> int:
    """Processes of `threads` threads each work on `runs`; shows progress; restarts the killed."""
    logs = request.workdir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    print(f"{len(runs)} runs, {workers} processes of {threads} thread(s); logs in {logs}")
    processes = {number: _start(request, number, workers, threads) for number in range(workers)}
    restarts = 0
    waiting = {(run.arm, run.seed): run for run in runs}
    before = {key: _stamp(run) for key, run in waiting.items()}
    started = time.monotonic()
    code = 0
    try:
        with tqdm(total=len(runs), unit="run", disable=not sys.stderr.isatty()) as bar:
            while processes:
                time.sleep(0.2)
                _show_finished(waiting, before, len(runs), started, bar)
                for number, process in list(processes.items()):
                    ended = process.poll()
                    if ended is None:
                        continue
                    del processes[number]
                    if ended in (0, 1):
                        code = max(code, ended)
                    elif ended == 2:
                        raise UserError(_last_error(_log(request, number)))
                    elif restarts < RESTARTS:
                        restarts += 1
                        print(f"process {number} ended with {ended}; starting it again")
                        processes[number] = _start(request, number, workers, threads)
                    else:
                        print(f"process {number} ended with {ended}; see {logs}")
                        code = 1
            _show_finished(waiting, before, len(runs), started, bar)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return code


def _show_finished(
    waiting: dict[tuple[str, int], study.Run],
    before: dict[tuple[str, int], int],
    total: int,
    started: float,
    bar: Any,
) -> None:
    for key, run in list(waiting.items()):
        if _stamp(run) == before[key]:
            continue
        result = run.result()
        if result is None:
            continue
        del waiting[key]
        done = total - len(waiting)
        left = (time.monotonic() - started) / done * len(waiting)
        bar.update()
        bar.write(_line(run, result, done, total, left), file=sys.stdout)
        sys.stdout.flush()


def _stamp(run: study.Run) -> int:
    try:
        return (run.directory / "result.json").stat().st_mtime_ns
    except OSError:
        return 0


def _start(request: Request, number: int, workers: int, threads: int) -> subprocess.Popen[bytes]:
    share = [f"--workers={workers}", f"--worker={number}"]
    with open(_log(request, number), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "launch.sweep", *request.words, *share],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PJRT_NPROC": str(threads)},
        )


def _log(request: Request, number: int) -> Path:
    return request.workdir / "logs" / f"worker-{number}.log"


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else f"a process stopped; see {log}"


def _summary(request: Request) -> int:
    """Prints what failed and what is left; returns 1 if anything did or is."""
    results = {run: run.result() for run in request.runs}
    failed = [run for run, result in results.items() if result and result["status"] == "failed"]
    open_ = [run for run, result in results.items() if result is None]
    diverged = sum(1 for result in results.values() if result and result["status"] == "diverged")
    ended = len(results) - len(failed) - len(open_)
    count = f"{ended} of {len(results)}"
    print(f"{count} runs have ended ({diverged} diverged), {len(failed)} failed")
    for run in failed:
        result = results[run] or {}
        print(f"  {describe(run, result)}\n    whole error: {run.directory / 'error.txt'}")
    for run in open_:
        print(f"  {run.arm} seed {run.seed}: has not ended; give the same command again")
    return 1 if failed or open_ else 0
