"""What SIGTERM and SIGHUP do to a program and to its runs."""

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

DEFERRED = """
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
with signals.deferred() as stop:
    for name in sys.argv[1:]:
        if name == "later":
            signals.SAME_REQUEST = -1.0
        else:
            os.kill(os.getpid(), getattr(signal, name))
            print(stop(), flush=True)
"""


def run_deferred(*names):
    words = [sys.executable, "-c", DEFERRED, *names]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.split(), done.stderr


def test_a_signal_ends_a_program_at_once_with_one_line():
    """Where an exception would be dropped, too."""
    code, told, error = run_deferred("at once")
    assert (code, told) == (75, [])
    assert error == "stopped by SIGTERM; the same command goes on from here.\n"


def test_a_deferred_signal_raises_stopped_at_the_end_of_the_block():
    handler = signal.getsignal(signal.SIGTERM)
    told = []

    def block():
        with signals.deferred() as stop:
            told.append(stop())
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            told.append(stop())

    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        block()
    assert told == ["", "SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_repeated_request_is_one_and_a_later_signal_ends_at_once():
    code, told, _ = run_deferred("SIGTERM", "SIGHUP", "SIGTERM")
    assert (code, told) == (1, ["SIGTERM"] * 3)  # Stopped, which nothing here catches
    code, told, error = run_deferred("SIGTERM", "later", "SIGHUP", "SIGTERM")
    assert (code, told, error) == (-signal.SIGHUP, ["SIGTERM"], "")


def test_ignored_signals_stay_ignored():
    code, told, error = run_deferred("nohup", "SIGHUP")
    assert (code, told, error) == (0, [], "")


def together(replicas):
    return training({"a": small(training__steps=8)}, replicas=replicas)


def test_no_further_run_is_started_after_a_signal(session, tmp_path, monkeypatch):
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


def test_replicas_stop_and_are_resumed(session, tmp_path, monkeypatch, capsys):
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


def test_an_error_after_a_signal_is_no_result(session, tmp_path, monkeypatch):
    """As of processes that read the data and were told to end as well."""

    def fault(*_, **__):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("Worker process was terminated unexpectedly")

    monkeypatch.setattr(loop, "train", fault)
    runs = study.runs(tmp_path, ["a"], [0])
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        work.work(session, together(3), runs, quiet=True)
    assert runs[0].result() is None
