"""The number of processes of a sweep is chosen by measured speeds, which are cached."""

import dataclasses
import importlib.metadata
from pathlib import Path

import pytest
from launch_requests import request, training

from cnnjax import machine
from cnnjax.errors import UserError
from common import program, small
from launch import division


def workload(configs, images, runs, **fields):
    """A request for so many runs, and the number of images of each arm."""
    some = request(Path("nowhere"), configs, range(runs // len(configs)))
    some = dataclasses.replace(some, training=training(configs, **fields))
    return some, dict.fromkeys(configs, images)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """{(arm, processes): images per second} instead of measuring, and what was measured."""
    speeds, asked = {}, []

    def measure(workload, arm, number, threads, progress):
        asked.append((arm, number, threads))
        return {
            "images_per_second": speeds[arm, number],
            "peak_bytes": 10**9,
            "backend": speeds.get("backend", "cpu"),
        }

    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(division, "_measure", measure)
    monkeypatch.setattr(machine, "free_memory", lambda: 12e9)
    return speeds, asked


def test_the_fastest_number_of_processes_is_chosen_and_measured_once(measured, capsys):
    speeds, asked = measured
    some = workload({"a": small()}, 100_000, 20)
    speeds |= {("a", 1): 100.0, ("a", 2): 150.0, ("a", 4): 190.0, ("a", 8): 160.0}
    for _ in range(2):
        assert division.choose(*some, 8)[0] == 4
    assert asked == [("a", 1, 8), ("a", 2, 4), ("a", 4, 2), ("a", 8, 1)]
    assert "with 4 processes of 2 threads" in capsys.readouterr().out


def test_fewer_processes_are_chosen_if_more_are_hardly_faster(measured):
    speeds, _ = measured
    speeds |= {("a", 1): 100.0, ("a", 2): 104.0}
    assert division.choose(*workload({"a": small()}, 100_000, 5), 2)[0] == 1


def test_processes_are_limited_by_runs_and_memory(measured, monkeypatch):
    speeds, _ = measured
    speeds |= {("a", number): 100.0 * number for number in range(1, 9)}
    some = workload({"a": small()}, 100_000, 3)
    assert division.choose(*some, 8)[0] == 3
    monkeypatch.setattr(machine, "free_memory", lambda: 2.6e9)
    assert division.choose(*some, 8)[0] == 2
    assert division.choose(*workload({"a": small()}, 100_000, 1), 8)[0] == 1
    assert division.choose(*some, 1)[0] == 1


def test_short_studies_are_measured_with_one_process_only(measured):
    speeds, asked = measured
    speeds |= {("a", 1): 1000.0}
    assert division.choose(*workload({"a": small()}, 59_000, 9), 4)[0] == 4
    assert asked == [("a", 1, 4)]


def test_arms_of_equal_speed_are_measured_once(measured):
    speeds, asked = measured
    configs = {
        "a": small(),
        "rate": small(optimizer__learning_rate=0.3),
        "wide": small(model__hidden=(99,)),
    }
    speeds |= {("a", 1): 100.0, ("a", 2): 150.0, ("wide", 1): 100.0, ("wide", 2): 20.0}
    assert division.choose(*workload(configs, 100_000, 9), 2)[0] == 1
    assert {arm for arm, *_ in asked} == {"a", "wide"}


def test_a_user_level_is_measured_for_each_version_of_its_file(measured, tmp_path):
    speeds, asked = measured
    speeds |= {("a", 1): 1000.0}
    config = small().model_copy(
        update={"model": small().model.model_copy(update={"activation": "mine"})}
    )
    file = tmp_path / "mine.py"
    for text in ("1", "1", "2"):
        file.write_text(text)
        levels = {"activation": {"mine": abs}}
        division.choose(*workload({"a": config}, 100, 9, levels=levels, path=file), 2)
    assert len(asked) == 2


def test_a_cache_that_cannot_be_written_changes_nothing(measured, monkeypatch):
    speeds, _ = measured
    speeds |= {("a", 1): 100.0, ("a", 2): 50.0}
    monkeypatch.setenv("CNNJAX_CACHE", "/proc/no/such")
    assert division.choose(*workload({"a": small()}, 100_000, 9), 2)[0] == 1


def test_on_an_accelerator_one_process_is_chosen(measured):
    speeds, asked = measured
    speeds |= {("a", 1): 100.0, "backend": "gpu"}
    assert division.choose(*workload({"a": small()}, 10**6, 9), 8)[0] == 1
    assert len(asked) == 1


def test_an_error_while_timing_is_left_to_the_run(measured, monkeypatch):
    def broken(*_):
        raise UserError("stopped")

    monkeypatch.setattr(division, "_measure", broken)
    assert division.choose(*workload({"a": small()}, 10**6, 9), 2)[0] == 2


def test_a_sweep_measures_real_steps_and_prints_its_choice(tmp_path):
    """Notes and output of the user's file do not disturb the measurement."""
    file = tmp_path / "loud.py"
    file.write_text(
        "from cnnjax.ablation.experiment import Experiment\n"
        "print('loud')\n"
        "EXPERIMENT = Experiment(name='loud', question='?', base={'model.name': 'mlp',\n"
        "    'data.name': 'digits', 'training.epochs': 1}, arms={'only': {}}, seeds=range(2))\n"
    )
    done = program(
        "launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}",
        threads=2, CNNJAX_CACHE=str(tmp_path / "cache"), CXX="no-such-compiler",
    )  # fmt: skip
    assert "arm 'only' (1 of 1): starting 1 process of 2 threads" in done.stdout
    assert "arm 'only' (1 of 1): timing steps" in done.stdout
    assert "2 runs, 2 processes of 1 thread(s)" in done.stdout
    assert done.stdout.count("note: convolutions are XLA's") == 1
    (kept,) = (tmp_path / "cache" / "speeds").iterdir()
    assert '"backend": "cpu"' in kept.read_text()


def test_weights_of_all_arms_are_checked_before_anything_is_timed(monkeypatch, capsys):
    class Stopped:
        def __init__(self, name, words, environment):
            asked.append((words[-1], environment["XLA_PYTHON_CLIENT_MEM_FRACTION"]))

        @property
        def about(self):
            raise UserError("weights do not fit")

        def stop(self):
            pass

    asked: list = []
    monkeypatch.setattr(division, "TimedProcess", Stopped)
    started = small(transfer__init_from="/weights")
    configs = {"a": small(), "b": started, "c": small(), "d": started}
    some, _ = workload(configs, 100, 4)
    with pytest.raises(UserError, match="weights do not fit"):
        division._measure(some, "b", 1, 2, "1 of 2")
    assert asked == [("--arms=b,d", "0.75")]
    with pytest.raises(UserError):
        division._measure(some, "b", 3, 3, "1 of 2")
    assert asked[1:] == [("--arms=b,d", "0.25")] * 3, "they share an accelerator"
    assert "timing" not in capsys.readouterr().out


def test_speeds_are_cached_also_for_a_checkout_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    installed = importlib.metadata.version

    def version(name):
        if name == "cnnjax":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert division.cached("what", lambda: {"seconds": 1}) == {"seconds": 1}
    assert division.cached("what", lambda: {"seconds": 2}) == {"seconds": 1}
