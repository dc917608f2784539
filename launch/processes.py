"""Several processes that share the runs of a sweep, watched and started again by this one."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cnnjax.ablation import study
from cnnjax.errors import UserError
from launch.progress import Pace, line, stamp
from launch.request import Request

RESTARTS = 2
PARENT = "CNNJAX_PARENT"


def share(request: Request, runs: Sequence[study.Run], threads: int, workers: int) -> int:
    """Processes of `threads` threads each work on `runs`; shows progress; restarts the killed."""
    logs = request.workdir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    print(f"{len(runs)} runs, {workers} processes of {threads} thread(s); logs in {logs}")
    processes = {number: _start(request, number, workers, threads) for number in range(workers)}
    restarts = dict.fromkeys(processes, 0)
    waiting = {(run.arm, run.seed): run for run in runs}
    before = {key: stamp(run) for key, run in waiting.items()}
    pace = Pace(len(runs), workers, request.max_minutes)
    code, noted = 0, False
    try:
        with tqdm(total=len(runs), unit="run", disable=not sys.stderr.isatty()) as bar:
            while processes:
                time.sleep(0.2)
                _show_finished(waiting, before, len(runs), pace, bar)
                noted = noted or _show_note(_log(request, 0), bar)
                for number, process in list(processes.items()):
                    ended = process.poll()
                    if ended is None:
                        continue
                    del processes[number]
                    if ended in (0, 1):
                        code = max(code, ended)
                    elif ended == 2:
                        raise UserError(_last_error(_log(request, number)))
                    elif restarts[number] < RESTARTS:
                        restarts[number] += 1
                        print(f"process {number} ended with {ended}; starting it again")
                        processes[number] = _start(request, number, workers, threads)
                    else:
                        print(f"process {number} ended with {ended}; see {logs}")
                        code = 1
            _show_finished(waiting, before, len(runs), pace, bar)
            noted = noted or _show_note(_log(request, 0), bar)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return code


def _show_finished(
    waiting: dict[tuple[str, int], study.Run],
    before: dict[tuple[str, int], int],
    total: int,
    pace: Pace,
    bar: Any,
) -> None:
    for key, run in list(waiting.items()):
        if stamp(run) == before[key]:
            continue
        result = run.result()
        if result is None:
            continue
        del waiting[key]
        done = total - len(waiting)
        bar.update()
        bar.write(line(run, result, done, total, pace.left(done)), file=sys.stdout)
        sys.stdout.flush()


def _show_note(log: Path, bar: Any) -> bool:
    """Shows what a process noted of how it computes; returns whether it did."""
    lines = log.read_text(errors="replace").splitlines()
    note = next((text for text in lines if text.startswith("note: ")), None)
    if note:
        bar.write(note, file=sys.stdout)
    return bool(note)


def _start(request: Request, number: int, workers: int, threads: int) -> subprocess.Popen[bytes]:
    share = [f"--workers={workers}", f"--worker={number}"]
    if request.max_minutes is not None:
        share.append(f"--max_minutes={request.max_minutes:g}")
    with open(_log(request, number), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "launch.sweep", *request.words, *share],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PJRT_NPROC": str(threads),
                "OMP_NUM_THREADS": str(threads),
                PARENT: str(os.getpid()),
            },
        )


def _log(request: Request, number: int) -> Path:
    return request.workdir / "logs" / f"worker-{number}.log"


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else f"a process stopped; see {log}"


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends, or ends it if that has happened
    already; the kernel's part on Linux only."""
    if sys.platform.startswith("linux"):
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):
        sys.exit(1)
