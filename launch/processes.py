"""Several processes that share the runs of a sweep, watched and started again by this one."""

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cnnjax import files, machine
from cnnjax.ablation import study
from cnnjax.errors import Stopped, UserError
from launch import deaths, signals
from launch.progress import Pace, line, stamp
from launch.training import Training
from launch.work import fail

RESTARTS = 2  # of a process that dies before it is at a run
PARENT = "CNNJAX_PARENT"
LOG = 10_000
"""Characters of a process's output that are kept with a run that ended it."""

_STOPPED = (signals.EXIT_CODE, -signal.SIGTERM, -signal.SIGHUP)
_SHOWN = (
    "note: ",
    "resumed: ",
    "profile: ",
)  # lines of a process that the person at the terminal is to see


@dataclasses.dataclass(frozen=True)
class Pool:
    """The processes of a sweep.

    Attributes:
      flags: those of `launch.sweep` that ask for the runs.
      logs: the folder of what the processes write.
      workers: how many there are.
      threads: how many each computes with.
    """

    flags: Sequence[str]
    logs: Path
    workers: int
    threads: int


class Worker:
    """A process that takes its share of the runs; what it writes is added to its log.

    Args:
      pool: the processes that it is one of.
      number: which of them it is.
      training: what the runs are trained with.
      left_out: runs that it is not to take.
    """

    def __init__(self, pool: Pool, number: int, training: Training, left_out: set[deaths.Key]):
        self.number = number
        self.log = pool.logs / f"worker-{number}.log"
        words = [*pool.flags, f"--workers={pool.workers}", f"--worker={number}"]
        if training.max_minutes is not None:
            words.append(f"--max_minutes={training.max_minutes:g}")
        if training.profile is not None and number == 0:
            words.append(f"--profile={training.profile}")
        memory = machine.share_of_accelerator(pool.workers)
        self.runs: set[deaths.Key] = set()  # those that it was at when it ended
        with files.open_log(self.log) as output:
            self._status = tempfile.TemporaryFile()  # noqa: SIM115
            status = self._status.fileno()
            deaths.write(status, left_out)
            now = datetime.datetime.now().isoformat(" ", "seconds")
            output.write(f"--- process {number}, started {now}\n")
            output.flush()
            self._start = self._read = os.fstat(output.fileno()).st_size
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
                    deaths.STATUS: str(status),
                },
            )

    def code(self) -> int | None:
        """How it ended, None where it has not."""
        code = self._process.poll()
        if code is not None and not self._status.closed:
            self.runs = deaths.read(self._status.fileno())
            self._status.close()
        return code

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._status.close()

    def new_lines(self) -> list[str]:
        """The whole lines that it has written since this was asked last."""
        whole, newline, _ = self._output(self._read).rpartition(b"\n")
        self._read += len(whole + newline)
        return whole.decode(errors="replace").splitlines()

    def output(self) -> str:
        """All that it has written."""
        return self._output(self._start).decode(errors="replace")

    def reason(self) -> str:
        """Why it ended, as far as it said so: the last of its errors, else its last line."""
        lines = [text for text in self.output().splitlines() if text.strip()]
        errors = [text for text in lines if text.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1].strip().removeprefix("error: ")[:500]

    def _output(self, start: int) -> bytes:
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read()


class Tally:
    """The runs that processes share, as the parent sees them, and what it shows of them."""

    def __init__(
        self,
        training: Training,
        runs: Sequence[study.RunFolder],
        workers: int,
        bar: Any,
        counted: tuple[int, int],
    ):
        self._counted, self._total = counted
        self.waiting = {deaths.key(run): run for run in runs}
        self._before = {key: stamp(run) for key, run in self.waiting.items()}
        self._pace = Pace(len(runs), workers, training.max_minutes)
        self._primary = training.primary
        self._bar = bar
        self._shown: set[str] = set()

    @property
    def ended(self) -> set[deaths.Key]:
        """The runs that have a result since the sweep began."""
        return self._before.keys() - self.waiting.keys()

    def say(self, text: str) -> None:
        """Writes a line above the progress bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def show(self, worker: Worker) -> None:
        """Shows what there is of new results and of a process's lines, each once."""
        for text in worker.new_lines():
            if text.startswith(_SHOWN) and text not in self._shown:
                self._shown.add(text)
                self.say(text)
        for key, run in list(self.waiting.items()):
            if stamp(run) == self._before[key] or (result := run.result()) is None:
                continue
            del self.waiting[key]
            done = len(self.ended)
            self._bar.update()
            number = self._counted + done
            left = self._pace.left(done)
            self.say(line(run, result, self._primary, number, self._total, left))

    def count(self, worker: Worker, how: str) -> bool:
        """Counts the death of a process for the runs that it was at, which may make them failed;
        returns whether it was at any."""
        runs = [self.waiting[key] for key in sorted(worker.runs) if key in self.waiting]
        for run in deaths.count(runs):
            with files.lock(run.directory / ".lock", wait=False) as free:
                if free:
                    fail(
                        run, f"process {how}", f"process {how}; it wrote:\n{worker.output()[-LOG:]}"
                    )
        return bool(runs)


def share(
    pool: Pool,
    training: Training,
    runs: Sequence[study.RunFolder],
    *,
    ended: int = 0,
    total: int | None = None,
) -> int:
    """The processes of a pool work on `runs`; shows progress; starts those that die
    again, as long as there are runs to try.

    Args:
      pool: the processes.
      training: what the runs are trained with.
      runs: the runs.
      ended: how many runs have been counted before.
      total: how many there are to count, these by default.

    Returns 1 where that had to end before its time, else 0. Raises UserError for the mistake that a
    process ended with, and Stopped when a signal asked to stop, after all processes have: it is
    passed on to them. Where the scheduler asked a process alone, the others go on first.
    """
    print(f"{len(runs)} runs, {pool.workers} processes of {pool.threads} thread(s); ", end="")
    print(f"logs in {pool.logs}")
    processes: dict[int, Worker] = {}
    restarts = dict.fromkeys(range(pool.workers), 0)
    given_up, stopped = False, ""

    def start(number: int) -> None:
        processes[number] = Worker(pool, number, training, tally.ended)

    with (
        tqdm(total=len(runs), unit="run", disable=not sys.stderr.isatty()) as bar,
        signals.held() as stop,
    ):
        tally = Tally(training, runs, pool.workers, bar, (ended, total or len(runs)))
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
                    code = worker.code()
                    tally.show(worker)
                    if code is None:
                        continue
                    del processes[number]
                    if code == 2:
                        raise UserError(worker.reason())
                    if code in _STOPPED and not stopped:
                        stopped = f"process {number}"
                        tally.say(f"{stopped} was stopped; the others finish their runs")
                    if stopped or (code == 0 and not tally.waiting.keys() & worker.runs):
                        continue
                    how = _how(code)
                    reason = f": {worker.reason()}" if code > 0 else ""
                    tally.say(f"process {number} {how}{reason}; all that it wrote: {worker.log}")
                    restarts[number] += not tally.count(worker, how)
                    tally.show(worker)
                    if tally.waiting and restarts[number] <= RESTARTS:
                        tally.say(f"process {number} is started again")
                        start(number)
                    else:
                        given_up = True
        finally:
            for worker in processes.values():
                worker.kill()
    if stopped and tally.waiting:
        raise Stopped(f"{stopped} was stopped")
    if given_up and tally.waiting:
        print(f"no process is left for {len(tally.waiting)} runs that have not ended")
        return 1
    return 0


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code == -signal.SIGKILL:
        return f"ended with {code} (memory?)"
    names = {-number.value: f" ({number.name})" for number in signal.Signals}
    return f"ended with {code}{names.get(code, '')}"


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends, or ends it if that has happened
    already; the kernel's part on Linux only."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):
        sys.exit(1)
