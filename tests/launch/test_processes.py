"""Processes that share runs: how they die, are stopped, and what is shown of them.

Here they are small programs, which take runs as the processes of a sweep do, but train nothing.
"""

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from launch_requests import request

from cnnjax import files
from cnnjax.ablation import study
from cnnjax.errors import Stopped, UserError
from common import ROOT
from launch import crashes, processes, work

WORKER = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
sys.path[:0] = ["{root}"]
from launch import crashes
from cnnjax import files
from cnnjax.ablation import study
number = int(sys.argv[-1].removeprefix("--worker="))
excluded = crashes.excluded_runs()
runs = [run for run in study.runs(Path("{workdir}"), {arms}, {seeds}) if not run.ended]
runs = [run for run in runs if crashes.key(run) not in excluded]

def end(run, status="finished"):
    result = dict(status=status, arm=run.arm, seed=run.seed, seconds=1.0, error="it says", steps=1,
        train_images_per_second=1.0, validation=dict(accuracy=0.5))
    files.write_json(run.directory / "result.json", result)

def take():
    for run in runs:
        with files.lock(run.directory / ".lock", wait=False) as mine:
            if mine and not run.ended:
                mark = crashes.training([run])
                mark.__enter__()
                yield run
                mark.__exit__(None, None, None)

"""


@pytest.fixture
def share(tmp_path, monkeypatch):
    """Shares runs among processes that run some code; returns the exit code."""
    workdir = tmp_path / "w"

    def start(code, arms=("a",), seeds=(0, 1, 2), workers=1):
        script = tmp_path / "worker"
        facts = {"workdir": workdir, "arms": list(arms), "seeds": list(seeds)}
        head = WORKER.format(python=sys.executable, root=ROOT, **facts)
        script.write_text(head + textwrap.dedent(code))
        script.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(script))
            runs = [run for run in study.runs(workdir, arms, seeds) if not run.ended]
            pool = processes.Pool(request(workdir, arms, seeds), workers, threads=1)
            return processes.share(pool, runs)

    return start


def results(folder, arm="a", seeds=3):
    return [run.result() for run in study.runs(folder / "w", [arm], range(seeds))]


def test_a_run_that_kills_its_process_twice_has_failed_and_others_are_trained(
    share, tmp_path, capsys
):
    code = """
    for run in take():
        print("at", run.seed)
        if run.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        end(run)
    """
    assert share(code) == 0
    first, second, third = results(tmp_path)
    assert (first.status, third.status) == ("finished", "finished")
    assert second.status == "failed"
    assert second.error == "process ended with -9 (memory?)"
    folder = tmp_path / "w/a/seed-1"
    assert (folder / "error.txt").read_text() == f"{second.error}; it wrote:\nat 1\n"
    assert not (folder / "crashes.json").exists(), "the next sweep counts anew"
    text = capsys.readouterr().out
    assert text.count("process 0 ended with -9 (memory?); all that it wrote: ") == 2
    assert "a seed 1: FAILED: process ended with -9 (memory?)" in text
    assert "[3/3] a seed 2" in text


def test_deaths_are_counted_across_sweeps_but_not_signals(share, tmp_path):
    """The first sweep ends with its process, the second at the first crash."""
    folder = tmp_path / "w/a/seed-0"
    with pytest.raises(Stopped, match="process 0 was stopped"):
        share("next(take()); os.kill(os.getpid(), signal.SIGTERM)")
    assert not (folder / "crashes.json").exists()
    code = """
    next(take())
    if not runs[0].directory.joinpath("crashes.json").exists():
        sys.exit(7)
    sys.exit(2)
    """
    with pytest.raises(UserError):
        share(code)
    assert json.loads((folder / "crashes.json").read_text()) == {"crashes": 1}
    assert share("for run in take(): sys.exit(7)", seeds=[0]) == 0
    assert results(tmp_path)[0].error == "process ended with 7"


def test_a_failed_run_is_not_tried_again_by_a_process_that_is_started_again(share, tmp_path):
    code = """
    for run in take():
        with open(run.directory / "tries", "a") as file:
            file.write("x")
        if run.seed == 2 and len(excluded) < 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        end(run, "failed" if run.seed == 0 else "finished")
    """
    assert share(code) == 0
    tries = [(tmp_path / f"w/a/seed-{seed}/tries").read_text() for seed in range(3)]
    assert tries == ["x", "x", "xx"]
    assert results(tmp_path)[2].error == "process ended with -11 (SIGSEGV)"


def test_user_code_that_exits_the_process_fails_the_run(share, tmp_path):
    assert share("for run in take(): sys.exit(0)", seeds=[0]) == 0
    assert results(tmp_path)[0].error == "process ended with 0"


def test_runs_that_died_together_are_trained_one_after_another(share, tmp_path):
    code = """
    if not any(map(crashes.must_be_alone, runs)):
        with crashes.training(runs):
            os.kill(os.getpid(), signal.SIGKILL)
    for run in take():
        assert crashes.must_be_alone(run)
        with open(run.directory / "tries", "a") as file:
            file.write("x")
        if run.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        end(run)
    """
    assert share(code) == 0
    assert [result.status for result in results(tmp_path)] == ["finished", "failed", "finished"]
    assert (tmp_path / "w/a/seed-1/tries").read_text() == "xx", "that of the three does not count"


def test_a_process_that_dies_before_any_run_is_restarted_twice_and_given_up(
    share, tmp_path, capsys
):
    code = """
    raise RuntimeError("no such device")
    """
    assert share(code) == 1
    text = capsys.readouterr().out
    log = tmp_path / "w/logs/worker-0.log"
    line = f"process 0 ended with 1: RuntimeError: no such device; all that it wrote: {log}\n"
    assert text.count(line) == 1 + processes.RESTARTS
    assert text.endswith("no process is left for 3 runs that have not ended\n")
    assert log.read_text().count("--- process 0, started ") == 1 + processes.RESTARTS
    assert log.read_text().count("Traceback") == 1 + processes.RESTARTS, "none is lost"


def test_a_mistake_that_a_process_reports_ends_the_sweep(share):
    with pytest.raises(UserError, match=r"^training\.steps: no\.$"):
        share("print('error: training.steps: no.', file=sys.stderr); sys.exit(2)")


def test_notes_and_resumed_runs_of_processes_are_shown_once(share, capsys):
    code = """
    print("note: slow"); print("something"); print("resumed: a seed 0 at step 5 of 9")
    for run in take():
        end(run)
    print(f"resumed: by {number}")
    """
    assert share(code, workers=2) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.startswith(("note", "some", "resumed"))]
    assert sorted(shown) == [
        "note: slow", "resumed: a seed 0 at step 5 of 9", "resumed: by 0", "resumed: by 1",
    ]  # fmt: skip


def send(number, *files_):
    """Sends this process a signal as soon as all these files are there."""

    def wait():
        while not all(file.exists() for file in files_):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


STEPS = """
def stop(*_):
    (run.directory / "saved").touch()
    sys.exit(75)
taken = take()
run = next(taken)
signal.signal(signal.SIGTERM, stop)
(run.directory / "going").touch()
time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_waited_for(share, tmp_path, capsys, number):
    folders = [tmp_path / f"w/a/seed-{seed}" for seed in (0, 1)]
    send(number, *(folder / "going" for folder in folders))
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"^stopped by {number.name}$"):
        share(STEPS, workers=2)
    assert signal.getsignal(number) == before
    assert all((folder / "saved").exists() for folder in folders)
    assert not any((folder / "crashes.json").exists() for folder in folders)
    assert "ended with" not in capsys.readouterr().out


def test_a_signal_to_a_process_alone_stops_the_sweep_too(share, tmp_path):
    code = """
    for run in take():
        if run.seed == 1:
            sys.exit(75)
        end(run)
    """
    with pytest.raises(Stopped, match="process 0 was stopped"):
        share(code)
    assert results(tmp_path)[0].status == "finished"


def test_a_signal_is_passed_on_though_a_process_was_stopped_before(share, tmp_path, capsys):
    code = f"""
    {"if number == 0: sys.exit(75)"}
    {STEPS.replace(chr(10), chr(10) + "    ")}
    """
    folders = [tmp_path / f"w/a/seed-{seed}" for seed in (0, 1, 2)]
    send(signal.SIGTERM, tmp_path / "stopped")
    said = threading.Timer(1.5, (tmp_path / "stopped").touch)
    said.start()
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM$"):
        share(code, workers=2)
    assert any((folder / "saved").exists() for folder in folders)
    assert "process 0 was stopped; the others finish their runs" in capsys.readouterr().out


def test_ignored_hangups_stay_ignored(share, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        send(signal.SIGHUP, tmp_path / "w/a/seed-0/result.json")
        assert share("for run in take():\n    end(run)\n    time.sleep(0.3)") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's part is Linux's")
def test_a_process_ends_with_its_parent():
    """Though it waits for nothing: the kernel ends it."""
    child = (
        "import time; from launch import processes; "
        "processes.die_with_parent(); print(1, end='', flush=True); time.sleep(20)"
    )
    parent = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-c', {child!r}], close_fds=False)"
    )
    reading, writing = os.pipe()  # a reader sees its end when the last of the two has ended
    started = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=writing)
    os.close(writing)
    assert os.read(reading, 1) == b"1"
    started.kill()
    started.wait()
    ended, _, _ = select.select([reading], [], [], 10)
    os.close(reading)
    assert ended


def test_a_log_that_is_a_link_is_left_alone(share, tmp_path):
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / "w/logs").mkdir(parents=True)
    (tmp_path / "w/logs/worker-0.log").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match=r"worker-0\.log: cannot be written: it is a link"):
        share("pass")
    assert (tmp_path / "mine").read_text() == "mine\n"


def dies(*runs):
    """Leaves the files of a process without a parent that dies while it trains these runs."""
    with pytest.raises(SystemExit), crashes.training(runs):
        sys.exit()


def test_the_next_process_counts_the_death_of_one_without_a_parent(tmp_path):
    first, second = study.runs(tmp_path, ["a"], [0, 1])
    with crashes.training([first, second]):
        pass
    crashes.count_attempt(first)
    assert not crashes.must_be_alone(first)  # the block has ended normally
    dies(first, second)
    for run in (first, second):
        crashes.count_attempt(run)
        assert crashes.must_be_alone(run)
        assert not crashes.has_failed(run)
    dies(first)
    for _ in range(3):  # it is counted once
        crashes.count_attempt(first)
    assert not crashes.has_failed(first)
    dies(first)
    crashes.count_attempt(first)
    assert crashes.has_failed(first)


def test_a_death_after_another_checkpoint_or_with_the_machine_is_not_counted(tmp_path, monkeypatch):
    (run,) = study.runs(tmp_path, ["a"], [0])
    for step in range(1, 4):
        dies(run)
        (run.directory / "checkpoints" / str(step)).mkdir(parents=True)
        crashes.count_attempt(run)
    for boot in "abc":
        monkeypatch.setattr(crashes.machine, "boot", lambda boot=boot: boot)
        crashes.count_attempt(run)
        dies(run)
    assert not crashes.must_be_alone(run)


def test_a_damaged_count_of_deaths_is_zero(tmp_path):
    (run,) = study.runs(tmp_path, ["a"], [0])
    assert not crashes.must_be_alone(run)
    for content in (b"", b"[]", b'{"crashes": "many"}'):
        files.write_bytes(run.directory / "crashes.json", content)
        assert crashes.must_be_alone(run)
        assert crashes.count([run]) == []
    assert crashes.count([run]) == [run]
    work.fail(run, "no", "no")
    assert not crashes.must_be_alone(run)
