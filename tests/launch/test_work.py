"""How a process takes its runs: one after another, or replicates together, as measured."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from cnnjax.ablation import study
from cnnjax.errors import UserError
from common import program, small
from launch import deaths, replicates, work

EXPERIMENT = """
from cnnjax.ablation.experiment import Experiment
EXPERIMENT = Experiment(
    name="pair", question="?",
    base={"model.name": "mlp", "model.hidden": [8], "data.name": "digits", "training.steps": 6,
          "training.batch_size": 50},
    arms={"low": {"optimizer.learning_rate": 0.01}, "high": {"optimizer.learning_rate": 0.1}},
    seeds=range(3),
)
"""


class Request:
    """As much of a request as is needed."""

    replicates = None
    seeds = range(20)

    def __init__(self, **configs):
        self.configs = configs
        self.loaded = type("Loaded", (), {"levels": {}, "path": Path("mine.py")})


def runs(folder, arms, seeds=3):
    return study.runs(folder, arms, range(seeds))


def sweep(**configs):
    """A request of a sweep that trains three seeds together."""
    request = Request(**configs)
    request.replicates, request.max_minutes = 3, None
    request.loaded.experiment = type("Experiment", (), {"probes": ()})
    return request


def sizes(groups):
    return [(group.runs[0].arm, len(group.runs), group.lanes) for group in groups]


def test_an_arms_runs_are_dealt_into_groups_of_about_equal_size(tmp_path):
    asked = runs(tmp_path, ["a", "b"], seeds=9)
    found = replicates.groups(asked, {"a": 8, "b": 1}, in_turn=False)
    first, second = (0, 1, 2, 3, 4), (5, 6, 7, 8)
    assert sizes(found) == [("a", 5, first), ("a", 4, second)] + [("b", 1, ())] * 9
    assert [run for group in found for run in group.runs] == asked


def test_where_the_time_is_short_the_first_groups_of_all_arms_come_first(tmp_path):
    asked = sorted(runs(tmp_path, ["a", "b"], seeds=4), key=lambda run: run.seed)
    found = replicates.groups(asked, {"a": 2, "b": 3}, in_turn=True)
    assert [(group.runs[0].arm, group.runs[0].seed) for group in found] == [
        ("a", 0), ("b", 0), ("a", 2), ("b", 2),
    ]  # fmt: skip


def begin(run, **runtime):
    """Makes a run look begun, with a checkpoint."""
    (run.directory / "checkpoints" / "7").mkdir(parents=True)
    machine = {"backend": "cpu", "device_kind": "cpu", "devices": 1, "threads": 1}
    known = {**machine, "convolution": "xla", "replicates": "together", **runtime}
    (run.directory / "runtime.json").write_text(json.dumps(known))


def test_runs_go_on_the_way_they_began(tmp_path):
    """Seed 3 with the seeds it was started with, of which 9 is not asked for."""
    asked = runs(tmp_path, ["a"], seeds=6)
    begin(asked[1], replicates="one after another")
    begin(asked[3], replicates="together", lanes=[3, 9, 5])
    begin(asked[5], replicates="together", lanes=[3, 9, 5])
    alone = replicates.groups(asked, {"a": 1}, in_turn=False)
    assert [([run.seed for run in group.runs], group.lanes) for group in alone] == [
        ([0], ()), ([1], ()), ([2], ()), ([3, 5], (3, 9, 5)), ([4], ()),
    ]  # fmt: skip
    found = replicates.groups(asked, {"a": 8}, in_turn=False)
    assert [([run.seed for run in group.runs], group.lanes) for group in found] == [
        ([0, 2, 4], (0, 2, 4)), ([1], ()), ([3, 5], (3, 9, 5)),
    ]  # fmt: skip


def test_one_that_begins_anew_is_among_those_it_was_with(tmp_path):
    """Seed 1 was removed, what 2 has is not whole, 0 and 3 have ended; 4 is new."""
    asked = runs(tmp_path, ["a"], seeds=5)
    for run in (asked[0], asked[3]):
        begin(run, replicates="together", lanes=[0, 1, 2, 3])
    asked[2].directory.mkdir(parents=True)
    (asked[2].directory / "checkpoints" / "7").mkdir(parents=True)
    (asked[2].directory / "runtime.json").write_text(json.dumps({"lanes": [2]}))
    found = replicates.groups([asked[1], asked[2], asked[4]], {"a": 3}, in_turn=False)
    assert [([run.seed for run in group.runs], group.lanes) for group in found] == [
        ([1, 2], (0, 1, 2, 3)), ([4], (4,)),
    ]  # fmt: skip


def test_a_seed_that_is_made_again_has_the_same_bits(session, tmp_path):
    asked = runs(tmp_path, ["a"])
    request = sweep(a=small(training__steps=4, model__norm__kind="batch"))
    assert work.work(session, request, asked, quiet=True) == 0
    before = asked[1].result()
    shutil.rmtree(asked[1].directory)
    assert work.work(session, request, asked[1:2], quiet=True) == 0
    again = asked[1].result()
    assert again["params_digest"] == before["params_digest"]
    assert again["runtime"]["lanes"] == [0, 1, 2]


def test_one_that_cannot_be_among_the_others_again_goes_on_alone(
    session, tmp_path, monkeypatch, capsys
):
    from cnnjax.train import loop

    real = loop.replicates

    def too_large(session, config, jobs, *, lanes, **others):
        if len(lanes) > 1:
            raise MemoryError("too little memory")
        return real(session, config, jobs, lanes=lanes, **others)

    asked = runs(tmp_path, ["a"])
    begin(asked[0], replicates="together", lanes=[0, 1, 2])
    monkeypatch.setattr(loop, "replicates", too_large)
    request = sweep(a=small(training__steps=4))
    assert work.work(session, request, asked[1:2], quiet=True) == 0
    assert asked[1].result()["runtime"]["lanes"] == [1]
    assert "a: too little memory; its seeds go on one after another" in capsys.readouterr().out


def test_lanes_without_sense_are_those_of_the_run(tmp_path):
    asked = runs(tmp_path, ["a"], seeds=2)
    begin(asked[0], replicates="together", lanes=[7, 8])
    begin(asked[1], replicates="together", lanes="no")
    assert [replicates.begun_with(run) for run in asked] == [(0,), None]


def test_what_has_no_checkpoint_has_not_begun(tmp_path):
    (run,) = runs(tmp_path, ["a"], seeds=1)
    begin(run, replicates="together", lanes=[0, 1])
    (run.directory / "checkpoints" / "7").rmdir()
    assert replicates.begun_with(run) is None


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """{(network, replicates): images per second} in place of measuring; and what was asked."""
    speeds, asked = {}, []

    def steps(session, config, seeds, *, together):
        asked.append((config.model.name, len(seeds), together))
        speed = speeds[config.model.name, len(seeds)]
        if isinstance(speed, Exception):
            raise speed
        clock.append(len(seeds) * config.training.batch_size / speed)
        return lambda: None

    clock = [0.0]
    times = iter(range(10**9))
    monkeypatch.setattr(replicates.time, "perf_counter", lambda: next(times) * clock[-1])
    monkeypatch.setattr(replicates, "steps", steps)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    return speeds, asked


@pytest.mark.parametrize(("faster", "number"), [(3.0, 3), (1.0, 1), (0.2, 1)])
def test_the_faster_way_is_taken_and_measured_once(
    session, measured, monkeypatch, capsys, faster, number, tmp_path
):
    monkeypatch.setitem(replicates.LEAST, "cpu", 1.0)
    speeds, asked = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 3): faster * 1000.0}
    request = Request(a=small(), b=small(optimizer__learning_rate=0.3))
    for _ in range(2):
        chosen = replicates.numbers(session, request, runs(tmp_path, ["a", "b"]), processes=1)
        assert chosen == {"a": number, "b": number}
    assert asked == [("mlp", 1, False), ("mlp", 3, True)]
    way = "3 seeds at a time" if number > 1 else "one seed after another"
    assert f"images/s, one 1,000: {way}" in capsys.readouterr().out


def test_both_ways_are_really_timed(session, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(replicates.LEAST, "cpu", 0.0)
    asked_for = runs(tmp_path, ["a"])
    chosen = replicates.numbers(session, Request(a=small()), asked_for, processes=1)["a"]
    together, alone, way = re.search(
        r"3 replicates trained together take ([\d,]+) images/s, one ([\d,]+): (.*)\n",
        capsys.readouterr().out,
    ).groups()
    faster = int(together.replace(",", "")) > 1.05 * int(alone.replace(",", ""))
    assert (chosen, way) == ((3, "3 seeds at a time") if faster else (1, "one seed after another"))
    assert len(list((tmp_path / "cache" / "speeds").iterdir())) == 2


def test_what_is_soon_over_is_not_measured_further(session, measured, tmp_path):
    speeds, asked = measured
    speeds["mlp", 1] = 1000.0
    asked_for = runs(tmp_path, ["a"])
    assert replicates.numbers(session, Request(a=small()), asked_for, processes=1) == {"a": 1}
    assert asked == [("mlp", 1, False)]


def test_steps_that_need_too_much_memory_are_taken_one_after_another(
    session, measured, monkeypatch, tmp_path
):
    monkeypatch.setitem(replicates.LEAST, "cpu", 1.0)
    speeds, _ = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 3): RuntimeError("RESOURCE_EXHAUSTED")}
    asked_for = runs(tmp_path, ["a"])
    assert replicates.numbers(session, Request(a=small()), asked_for, processes=1) == {"a": 1}


def test_what_cannot_be_together_is_not_measured(session, measured, tmp_path):
    _, asked = measured
    request = Request(
        mapped=small(training__parallel="pmap"), streamed=small(data__pipeline="stream"), a=small()
    )
    asked_for = runs(tmp_path, ["mapped", "streamed"])
    chosen = replicates.numbers(session, request, asked_for, processes=1)
    assert chosen == {"mapped": 1, "streamed": 1}
    one_seed = runs(tmp_path, ["a"], seeds=1)
    assert replicates.numbers(session, request, one_seed, processes=1) == {"a": 1}
    assert not asked


def test_the_number_asked_for_is_taken_unless_a_process_would_idle(session, tmp_path):
    request, asked_for = Request(a=small()), runs(tmp_path, ["a"], seeds=10)
    assert replicates.numbers(session, request, asked_for, processes=2) == {"a": 1}
    request.replicates = 8
    assert replicates.numbers(session, request, asked_for, processes=1) == {"a": 8}
    assert replicates.numbers(session, request, asked_for, processes=2) == {"a": 5}


def test_the_steps_that_are_timed_are_those_of_the_runs(session):
    config = small()
    alone = [replicates.steps(session, config, [seed], together=False) for seed in (0, 1)]
    together = replicates.steps(session, config, [0, 1], together=True)
    for _ in range(3):
        assert together() == pytest.approx([one for step in alone for one in step()], rel=1e-4)


def test_a_compilation_for_timing_is_the_first_runs(session, tmp_path, monkeypatch):
    from cnnjax.train import loop

    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    config = small(training__steps=4, model__hidden=(19,))
    asked_for = runs(tmp_path, ["a"])
    chosen = replicates.numbers(session, Request(a=config), asked_for, processes=1)
    assert chosen == {"a": 1}
    results = [loop.run(session, config, run.seed, run.directory) for run in asked_for]
    assert [result["compilations"] for result in results] == [1, 0, 0]


def test_a_sweep_trains_replicates_together(tmp_path):
    """The same command without the flag finds nothing left to do; seeds are added the other way."""
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    words = ["launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}"]
    done = program(*words, "--workers=1", "--replicates=3", "--arms=low")
    assert done.stdout.count("validation") >= 3
    for seed in range(3):
        result = json.loads((tmp_path / f"study/low/seed-{seed}/result.json").read_text())
        assert (result["status"], result["runtime"]["replicates"]) == ("finished", "together")
    again = program(*words, "--workers=1")
    assert "3 of 6 runs have ended already" in again.stdout
    other = json.loads((tmp_path / "study/high/seed-0/result.json").read_text())
    assert other["runtime"]["replicates"] == "one after another"
    text = (tmp_path / "study/report.md").read_text()
    assert "Runs differ in replicates" in text
    assert "Seeds that were trained together share their time equally." in text


def test_pmap_is_refused_before_anything_is_written(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    done = program(
        "launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}",
        "--replicates=3", "--set", "training.parallel=pmap", check=2,
    )  # fmt: skip
    assert "--replicates: arm 'low' has training.parallel=pmap" in done.stderr
    assert not (tmp_path / "study").exists()


def test_a_fault_of_replicates_is_that_of_one(session, tmp_path, monkeypatch, capsys):
    """What goes wrong together is tried one after another, so that the others end."""
    from cnnjax.train import loop

    real = loop.replicates

    def faulty(session, config, jobs, **others):
        if any(job.seed == 1 for job in jobs):
            raise ValueError("a bad seed")
        return real(session, config, jobs, **others)

    monkeypatch.setattr(loop, "replicates", faulty)
    request = sweep(a=small(training__steps=4))
    asked = runs(tmp_path, ["a"])
    assert work.work(session, request, asked, quiet=True) == 1
    assert [run.result()["status"] for run in asked] == ["finished", "failed", "finished"]
    assert asked[1].result()["error"] == "ValueError: a bad seed"
    assert "faulty" in (asked[1].directory / "error.txt").read_text()
    assert "a: a bad seed; its seeds go on one after another" in capsys.readouterr().out


@pytest.fixture
def told(monkeypatch):
    """What loop.replicates is called with, which faults each time: the seeds, their lanes, and the
    runs that the parent of this process believes it to be at; last, those when it has ended."""
    from cnnjax.train import loop

    calls = []
    with tempfile.TemporaryFile() as status:
        monkeypatch.setenv(deaths.STATUS, str(status.fileno()))

        def faulty(session, config, jobs, *, lanes, **_):
            calls.append(([job.seed for job in jobs], lanes, deaths.read(status.fileno())))
            raise ValueError("a fault")

        monkeypatch.setattr(loop, "replicates", faulty)
        yield calls
        assert deaths.read(status.fileno()) == set()


def test_a_process_says_which_runs_it_is_at(session, tmp_path, told):
    asked = runs(tmp_path, ["a"], seeds=2)
    work.work(session, sweep(a=small()), asked, quiet=True)
    assert told == [
        ([0, 1], (0, 1), {("a", 0), ("a", 1)}),
        ([0], (0,), {("a", 0)}),
        ([1], (1,), {("a", 1)}),
    ]


def test_runs_that_a_process_died_with_go_one_by_one(session, tmp_path, told):
    asked = runs(tmp_path, ["a"], seeds=2)
    assert deaths.count(asked) == []
    work.work(session, sweep(a=small()), asked, quiet=True)
    assert [call[:2] for call in told] == [([0], (0,)), ([1], (1,))]


def test_a_run_that_was_given_up_ends_no_further_command(session, tmp_path, told):
    """Without another process that sees it die, a sweep would never come to its report."""
    (run,) = runs(tmp_path, ["a"], seeds=1)
    deaths.count([run])
    deaths.count([run])
    for _ in range(2):
        assert work.work(session, sweep(a=small()), [run], quiet=True) == 1
        error = run.result()["error"]
        assert error == (
            f"process ended without a word (memory?); remove {deaths.record(run)} to try it again"
        )
    assert not told
    deaths.record(run).unlink()
    work.work(session, sweep(a=small()), [run], quiet=True)
    assert len(told) == 1


def test_a_folder_that_leads_elsewhere_stops_the_sweep(session, tmp_path, told):
    (tmp_path / "home/20").mkdir(parents=True)
    (tmp_path / "w/a/seed-0").mkdir(parents=True)
    (tmp_path / "w/a/seed-0/checkpoints").symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="checkpoints: is a link to"):
        work.work(session, sweep(a=small()), runs(tmp_path / "w", ["a"]), quiet=True)
    assert not told


def test_not_even_a_lock_is_written_through_a_link(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "w/a").mkdir(parents=True)
    (tmp_path / "w/a/seed-0").symlink_to(tmp_path / "home")
    asked, request = runs(tmp_path / "w", ["a"]), Request(a=small())
    with pytest.raises(UserError, match="seed-0: is a link to"):
        replicates.numbers(None, request, asked, processes=1)
    with pytest.raises(UserError, match="seed-0: is a link to"), deaths.at(asked):
        pass
    assert not list((tmp_path / "home").iterdir())


def test_what_another_process_has_is_left_to_it(session, tmp_path):
    from cnnjax import files

    request = sweep(a=small(training__steps=4))
    asked = runs(tmp_path, ["a"])
    with files.lock(asked[1].directory / ".lock", wait=False):
        assert work.work(session, request, asked, quiet=True) == 0
    assert [run.ended for run in asked] == [True, False, True]


def test_a_full_disk_stops_replicates_too(session, tmp_path, monkeypatch):
    from cnnjax.train import loop

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "replicates", full)
    request = sweep(a=small())
    with pytest.raises(UserError, match="make room"):
        work.work(session, request, runs(tmp_path, ["a"]), quiet=True)
