"""What SIGTERM and SIGHUP do to a program, and to the runs of one."""

import signal
import subprocess
import sys

import pytest
from launch_requests import training

from cnnjax.ablation import study
from cnnjax.errors import Stopped
from cnnjax.train import loop
from common import ROOT, small
from launch import signals, work

HELD = """
import gc, os, signal, sys, time
from launch import signals
if sys.argv[1] == "at once":
    signals.exit_at_once()
    gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    gc.collect()
    print("went on")
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    del sys.argv[1]
with signals.held() as stop:
    for name in sys.argv[1:]:
        if name == "later":
            signals.SAME_REQUEST = -1.0
        else:
            os.kill(os.getpid(), getattr(signal, name))
            print(stop(), flush=True)
"""


def held(*names):
    words = [sys.executable, "-c", HELD, *names]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.split(), done.stderr


def test_a_signal_ends_a_program_at_once_and_with_a_line():
    """Where an exception would be dropped, too."""
    code, told, error = held("at once")
    assert (code, told) == (75, [])
    assert error == "stopped by SIGTERM; the same command goes on from here.\n"


def test_while_it_is_held_the_block_goes_on_and_stopped_comes_at_its_end():
    handler = signal.getsignal(signal.SIGTERM)
    told = []

    def block():
        with signals.held() as stop:
            told.append(stop())
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            told.append(stop())

    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        block()
    assert told == ["", "SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_request_that_comes_twice_is_one_and_a_later_one_ends_at_once():
    code, told, _ = held("SIGTERM", "SIGHUP", "SIGTERM")
    assert (code, told) == (1, ["SIGTERM"] * 3)  # Stopped, which nothing here catches
    code, told, error = held("SIGTERM", "later", "SIGHUP", "SIGTERM")
    assert (code, told, error) == (-signal.SIGHUP, ["SIGTERM"], "")


def test_what_is_ignored_stays_ignored():
    code, told, error = held("nohup", "SIGHUP")
    assert (code, told, error) == (0, [], "")


def together(replicas):
    return training({"a": small(training__steps=8)}, replicas=replicas)


def test_between_runs_no_further_one_is_begun(session, tmp_path, monkeypatch):
    real = loop.train

    def asked_to_stop(*positional, **named):
        results = real(*positional, **named)
        signal.raise_signal(signal.SIGTERM)
        return results

    monkeypatch.setattr(loop, "train", asked_to_stop)
    runs = study.runs(tmp_path, ["a"], range(3))
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        work.work(session, together(1), runs, quiet=True)
    assert [run.ended for run in runs] == [True, False, False]


def test_replicates_stop_where_they_are_and_go_on(session, tmp_path, monkeypatch, capsys):
    real, calls = loop.Clock.tick, []

    def tick(self, steps):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGHUP)
        real(self, steps)

    monkeypatch.setattr(loop.Clock, "tick", tick)
    runs = study.runs(tmp_path, ["a"], range(3))
    with pytest.raises(Stopped, match=r"stopped by SIGHUP at step [345] of 8"):
        work.work(session, together(3), runs, quiet=True)
    assert not any(run.ended for run in runs)
    assert work.work(session, together(3), runs, quiet=True) == 0
    told = capsys.readouterr().out
    assert all(f"resumed: a seed {seed} at step" in told for seed in range(3))


def test_a_fault_after_the_request_is_no_result(session, tmp_path, monkeypatch):
    """As of processes that read the data and were told to end as well."""

    def fault(*_, **__):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("Worker process was terminated unexpectedly")

    monkeypatch.setattr(loop, "train", fault)
    runs = study.runs(tmp_path, ["a"], [0])
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        work.work(session, together(3), runs, quiet=True)
    assert runs[0].result() is None
