"""Processes that share an accelerator: how much of its memory each of them may use."""

import os
from types import SimpleNamespace

import pytest
from launch_requests import request, runs, training

from cnnjax.errors import OutOfMemory, UserError
from cnnjax.train import loop, session
from common import small
from launch import grouping, local, processes, work

FRACTIONS = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """A function that starts one of several processes and returns its variables about memory."""
    for name in FRACTIONS:
        monkeypatch.delenv(name, raising=False)
    environments: list = []
    process = SimpleNamespace(pid=0)
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda *_, env, **__: environments.append(env) or process
    )

    def start(workers):
        pool = processes.Pool(request(tmp_path), workers, 1)
        processes.Worker(pool, 0, set())._status.close()
        last = environments[-1]
        return {name: last[name] for name in FRACTIONS if name in last}

    return start


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (None, None, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.25"}),  # jax takes 0.75
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9", {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.3"}),
        ("XLA_CLIENT_MEM_FRACTION", "0.6", {"XLA_CLIENT_MEM_FRACTION": "0.2"}),
    ],
)
def test_each_of_three_processes_gets_a_third(started, monkeypatch, name, value, told):
    if name:
        monkeypatch.setenv(name, value)
    assert started(workers=3) == told


def test_a_fraction_that_is_not_a_number_is_an_error(started, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "half")
    told = "^XLA_PYTHON_CLIENT_MEM_FRACTION: 'half' is not valid; allowed: a number"
    with pytest.raises(UserError, match=told):
        started(workers=2)


def test_only_the_first_process_writes_a_profile(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda words, **_: asked.append(words) or SimpleNamespace()
    )
    profiled = request(tmp_path, profile=tmp_path / "trace")
    for number in (0, 1):
        pool = processes.Pool(profiled, 2, 1)
        processes.Worker(pool, number, set())._status.close()
    word = f"--profile={tmp_path / 'trace'}"
    assert [word in words for words in asked] == [True, False]


@pytest.mark.parametrize("before", [None, "true"])
def test_a_process_that_checks_leaves_the_memory_to_those_that_train(monkeypatch, before):
    name, seen = "XLA_PYTHON_CLIENT_PREALLOCATE", []
    monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv(name, before)

    def start(*, trains, **_):
        seen.append((trains, os.environ.get(name)))
        return SimpleNamespace(note=None)

    monkeypatch.setattr(session, "Session", start)
    local.open_session(training({}))
    local.open_session(training({}), trains=True)
    assert seen == [(False, "false"), (True, before)]
    assert os.environ.get(name) == before, "processes that are started later have it as it was"


def test_runs_that_need_too_much_memory_together_are_halved(session, tmp_path, monkeypatch, capsys):
    """Two runs at a time fit, but not five."""
    real, tried = loop.train, []

    def too_large(session, jobs, *, replica_axis, **others):
        tried.append([job.seed for job in jobs])
        if len(jobs) > 2:
            raise OutOfMemory(f"training.batch_size: 50 of {len(jobs)} runs at a time: no room.")
        return real(session, jobs, replica_axis=replica_axis, **others)

    requested = runs(tmp_path, ["a"], seeds=5)
    monkeypatch.setattr(loop, "train", too_large)
    five = training({"a": small(training__steps=4)}, replicas=5)
    assert work.work(session, five, requested, quiet=True) == 0
    assert tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3], [4]]
    assert [run.result().status for run in requested] == ["finished"] * 5
    assert requested[3].result().runtime["replica_axis"] == [["a", 2], ["a", 3]]
    told = "a: training.batch_size: 50 of 5 runs at a time: no room.; these runs go on 2 at a time"
    assert told in capsys.readouterr().out


def test_too_little_memory_while_timing_is_reported(session, monkeypatch, capsys, tmp_path):
    """Fewer are tried on an accelerator; on a CPU, where it does not pay, one after another."""
    monkeypatch.setitem(grouping.MIN_SECONDS, "cpu", 0.0)
    steps = grouping.step_function

    def too_large(session, config, seeds, **options):
        call = steps(session, config, seeds, **options)

        def timed(count=1):
            if len(seeds) > 1:
                import jax

                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 b")
            return call(count)

        return timed

    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(grouping, "step_function", too_large)
    requested = runs(tmp_path, ["a"])
    chosen = grouping.choose_dispatches(session, training({"a": small()}), requested, processes=1)
    assert chosen == {"a": grouping.Dispatch()}
    assert "a: training.batch_size: 50 of 3 runs at a time: needs more" in capsys.readouterr().out
