"""Starts, watches and restarts several processes that share the runs of a sweep."""

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cnnjax import files, machine
from cnnjax.ablation.study import RunFolder
from cnnjax.errors import Stopped, UserError
from launch import crashes, signals
from launch.progress import Progress, result_time
from launch.request import Request
from launch.work import fail

RESTARTS = 2  # of a process that dies while it is training no run
PARENT = "CNNJAX_PARENT"
MAX_OUTPUT = 10_000
"""Characters of a process's output that are kept with a run that killed it."""

_STOPPED = (signals.EXIT_CODE, -signal.SIGTERM, -signal.SIGHUP)
_SHOWN = ("note: ", "resumed: ", "profile: ")  # beginnings of lines shown in the terminal


@dataclasses.dataclass(frozen=True)
class Pool:
    """The processes of a sweep.

    Attributes:
      request: the requested runs.
      workers: the number of processes.
      threads: the number of threads of each process.
    """

    request: Request
    workers: int
    threads: int


class Worker:
    """A process that trains its share of the runs. Its output is appended to its log.

    Args:
      pool: the processes that it belongs to.
      number: its number.
      excluded: runs that it must leave out.
    """

    def __init__(self, pool: Pool, number: int, excluded: set[crashes.Key]):
        training = pool.request.training
        self.log = pool.request.workdir / "logs" / f"worker-{number}.log"
        words = [*pool.request.sweep_flags, f"--workers={pool.workers}", f"--worker={number}"]
        if training.max_minutes is not None:
            words.append(f"--max_minutes={training.max_minutes:g}")
        if training.profile is not None and number == 0:
            words.append(f"--profile={training.profile}")
        memory = machine.share_of_accelerator(pool.workers)
        self.runs: set[crashes.Key] = set()  # that it was training when it ended
        with files.open_log(self.log) as output:
            self._status = tempfile.TemporaryFile()  # noqa: SIM115
            status = self._status.fileno()
            crashes.write_runs(status, excluded)
            now = datetime.datetime.now().isoformat(" ", "seconds")
            output.write(f"--- process {number}, started {now}\n")
            output.flush()
            self._start = self._shown_size = os.fstat(output.fileno()).st_size
            self._process = subprocess.Popen(
                [sys.executable, "-m", "launch.sweep", *words],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                pass_fds=[status],
                env={
                    **os.environ,
                    **memory,
                    "PJRT_NPROC": str(pool.threads),
                    "OMP_NUM_THREADS": str(pool.threads),
                    "PYTHONUNBUFFERED": "1",
                    PARENT: str(os.getpid()),
                    crashes.STATUS: str(status),
                },
            )

    def exit_code(self) -> int | None:
        """Its exit code, None if it has not ended."""
        code = self._process.poll()
        if code is not None and not self._status.closed:
            self.runs = crashes.read_runs(self._status.fileno())
            self._status.close()
        return code

    def signal(self, number: int) -> None:
        """Sends a signal to the process."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()
        self._status.close()

    def new_lines(self) -> list[str]:
        """The complete lines that it has written since the last call."""
        whole, newline, _ = self._output(self._shown_size).rpartition(b"\n")
        self._shown_size += len(whole + newline)
        return whole.decode(errors="replace").splitlines()

    def output(self) -> str:
        """Its whole output."""
        return self._output(self._start).decode(errors="replace")

    def reason(self) -> str:
        """Why it ended: the last of its error lines, else its last line."""
        lines = [text for text in self.output().splitlines() if text.strip()]
        errors = [text for text in lines if text.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1].strip().removeprefix("error: ")[:500]

    def _output(self, start: int) -> bytes:
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read()


class SweepProgress(Progress):
    """The runs that processes share, as their parent sees and shows them."""

    def __init__(self, pool: Pool, runs: Sequence[RunFolder], bar: Any, ended: int, total: int):
        super().__init__(
            pool.request.training, len(runs), processes=pool.workers, ended=ended, total=total
        )
        self.pending = {crashes.key(run): run for run in runs}
        self._written = {key: result_time(run) for key, run in self.pending.items()}
        self._bar = bar
        self._shown: set[str] = set()

    @property
    def ended(self) -> set[crashes.Key]:
        """The runs whose results were written since the sweep was started."""
        return self._written.keys() - self.pending.keys()

    def print(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def show(self, worker: Worker) -> None:
        """Shows new results, and new lines of a process, each once."""
        for text in worker.new_lines():
            if text.startswith(_SHOWN) and text not in self._shown:
                self._shown.add(text)
                self.print(text)
        for key, run in list(self.pending.items()):
            if result_time(run) == self._written[key] or (result := run.result()) is None:
                continue
            del self.pending[key]
            done = len(self.ended)
            self._bar.update()
            self.print(self.line(run, result, done, self.remaining(done)))

    def count_crash(self, worker: Worker, how: str) -> bool:
        """Counts the crash of a process for the runs that it was training, which may have failed by
        that. Returns whether there are any."""
        runs = [self.pending[key] for key in sorted(worker.runs) if key in self.pending]
        for run in crashes.count(runs):
            with files.lock(run.directory / ".lock", wait=False) as free:
                if free:
                    output = worker.output()[-MAX_OUTPUT:]
                    fail(run, f"process {how}", f"process {how}; it wrote:\n{output}")
        return bool(runs)


def share(pool: Pool, runs: Sequence[RunFolder], *, ended: int = 0, total: int = 0) -> int:
    """Trains runs in the processes of a pool and shows their progress. Processes that die are
    restarted as long as there are runs to try.

    Args:
      pool: the processes.
      runs: the runs.
      ended: the number of runs counted before these.
      total: the number of runs to count; these by default.

    Returns 1 if runs remain that no process is left for, else 0. Raises UserError for the mistake
    that a process ended with. A signal is passed on to all processes; raises Stopped when they have
    ended. If one process alone was stopped, the others finish their runs first.
    """
    print(f"{len(runs)} runs, {pool.workers} processes of {pool.threads} thread(s); ", end="")
    print(f"logs in {pool.request.workdir / 'logs'}")
    processes: dict[int, Worker] = {}
    restarts = dict.fromkeys(range(pool.workers), 0)
    given_up, stopped = False, ""

    def start(number: int) -> None:
        processes[number] = Worker(pool, number, progress.ended)

    with (
        tqdm(total=len(runs), unit="run", disable=not sys.stderr.isatty()) as bar,
        signals.deferred() as stop,
    ):
        progress = SweepProgress(pool, runs, bar, ended, total)
        try:
            for number in range(pool.workers):
                start(number)
            while processes:
                time.sleep(0.2)
                if stop() and stopped != stop():
                    stopped = stop()
                    for worker in processes.values():
                        worker.signal(signal.SIGTERM)
                for number, worker in list(processes.items()):
                    code = worker.exit_code()
                    progress.show(worker)
                    if code is None:
                        continue
                    del processes[number]
                    if code == 2:
                        raise UserError(worker.reason())
                    if code in _STOPPED and not stopped:
                        stopped = f"process {number}"
                        progress.print(f"{stopped} was stopped; the others finish their runs")
                    if stopped or (code == 0 and not progress.pending.keys() & worker.runs):
                        continue
                    how = _describe_exit(code)
                    reason = f": {worker.reason()}" if code > 0 else ""
                    progress.print(
                        f"process {number} {how}{reason}; all that it wrote: {worker.log}"
                    )
                    restarts[number] += not progress.count_crash(worker, how)
                    progress.show(worker)
                    if progress.pending and restarts[number] <= RESTARTS:
                        progress.print(f"process {number} is started again")
                        start(number)
                    else:
                        given_up = True
        finally:
            for worker in processes.values():
                worker.kill()
    if stopped and progress.pending:
        raise Stopped(f"{stopped} was stopped")
    if given_up and progress.pending:
        print(f"no process is left for {len(progress.pending)} runs that have not ended")
        return 1
    return 0


def _describe_exit(code: int) -> str:
    """How a process with this exit code ended."""
    if code == -signal.SIGKILL:
        return f"ended with {code} (memory?)"
    names = {-number.value: f" ({number.name})" for number in signal.Signals}
    return f"ended with {code}{names.get(code, '')}"


def die_with_parent() -> None:
    """Exits if the parent of this process has ended. On Linux the kernel is also told to kill this
    process when the parent ends."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):
        sys.exit(1)
