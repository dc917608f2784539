"""How runs are put into groups, and the fastest way to train them is measured."""

import json
import re
from types import SimpleNamespace

import pytest
from launch_requests import axis, begin, runs, training

from common import small
from launch import grouping, work
from launch.grouping import Way


def grouped(asked, alike=None, **numbers):
    """The groups of runs whose arms have so many replicates; by default no arms are alike."""
    ways = {arm: Way(number) for arm, number in numbers.items()}
    return grouping.groups(asked, ways, alike or {arm: arm for arm in numbers})


def sizes(groups):
    return [(group.runs[0].arm, len(group.runs), group.replica_axis) for group in groups]


def test_an_arms_runs_are_dealt_into_groups_of_about_equal_size(tmp_path):
    asked = runs(tmp_path, ["a", "b"], seeds=9)
    found = grouped(asked, a=8, b=1)
    first, second = axis(0, 1, 2, 3, 4), axis(5, 6, 7, 8)
    assert sizes(found) == [("a", 5, first), ("a", 4, second)] + [("b", 1, ())] * 9
    assert [run for group in found for run in group.runs] == asked


def test_where_the_time_is_short_the_first_groups_of_all_arms_come_first(tmp_path):
    asked = sorted(runs(tmp_path, ["a", "b"], seeds=4), key=lambda run: run.seed)
    found = grouped(asked, a=2, b=3)
    assert [(group.runs[0].arm, group.runs[0].seed) for group in found] == [
        ("a", 0), ("b", 0), ("a", 2), ("b", 2),
    ]  # fmt: skip


def test_runs_go_on_the_way_they_began(tmp_path):
    """Seed 3 with the seeds it was started with, of which 9 is not asked for."""
    asked = runs(tmp_path, ["a"], seeds=6)
    begin(asked[1], replicas="one after another")
    begin(asked[3], replicas="together", replica_axis=[3, 9, 5])
    begin(asked[5], replicas="together", replica_axis=[3, 9, 5])
    alone = grouped(asked, a=1)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in alone] == [
        ([0], ()), ([1], ()), ([2], ()), ([3, 5], axis(3, 9, 5)), ([4], ()),
    ]  # fmt: skip
    found = grouped(asked, a=8)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in found] == [
        ([0, 2, 4], axis(0, 2, 4)), ([1], ()), ([3, 5], axis(3, 9, 5)),
    ]  # fmt: skip


def test_one_that_begins_anew_is_among_those_it_was_with(tmp_path):
    """Seed 1 was removed, what 2 has is not whole, 0 and 3 have ended; 4 is new."""
    asked = runs(tmp_path, ["a"], seeds=5)
    for run in (asked[0], asked[3]):
        begin(run, replicas="together", replica_axis=[0, 1, 2, 3])
    asked[2].directory.mkdir(parents=True)
    (asked[2].directory / "checkpoints" / "7").mkdir(parents=True)
    (asked[2].directory / "runtime.json").write_text(json.dumps({"replica_axis": [2]}))
    found = grouped([asked[1], asked[2], asked[4]], a=3)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in found] == [
        ([1, 2], axis(0, 1, 2, 3)), ([4], axis(4)),
    ]  # fmt: skip


def test_replica_axes_without_sense_are_those_of_the_run(tmp_path):
    asked = runs(tmp_path, ["a"], seeds=2)
    begin(asked[0], replicas="together", replica_axis=[7, 8])
    begin(asked[1], replicas="together", replica_axis="no")
    assert [grouping.replica_axis(run) for run in asked] == [axis(0), None]


def test_arms_that_are_alike_are_in_one_group(tmp_path):
    """Where the time is short too, the first seeds of all of them come first."""
    asked = runs(tmp_path, ["a", "b", "c"], seeds=2)
    alike = {"a": "x", "b": "y", "c": "x"}
    found = grouped(asked, alike, a=4, b=4, c=4)
    x, y = axis(0, 1) + axis(0, 1, arm="c"), axis(0, 1, arm="b")
    assert sizes(found) == [("a", 4, x), ("b", 2, y)]
    found = grouped(sorted(asked, key=lambda run: run.seed), alike, a=2, b=2, c=2)
    assert [group.replica_axis for group in found] == [
        (("a", 0), ("c", 0)), y, (("a", 1), ("c", 1)),
    ]  # fmt: skip


def test_replica_axes_that_were_written_by_hand_mix_no_programs(tmp_path):
    asked = runs(tmp_path, ["a", "b"], seeds=1)
    both = axis(0) + axis(0, arm="b")
    for run in asked:
        begin(run, replicas="together", replica_axis=both)
    assert [len(group.runs) for group in grouped(asked, a=2, b=2)] == [1, 1]
    (group,) = grouped(asked, {"a": "x", "b": "x"}, a=2, b=2)
    assert (len(group.runs), group.replica_axis) == (2, both)


def test_those_that_failed_before_are_not_among_the_others(tmp_path):
    asked = runs(tmp_path, ["a"], seeds=4)
    work.fail(asked[1], "a fault", "")
    found = grouped([asked[0], *asked[2:], asked[1]], a=4)
    assert [group.replica_axis for group in found] == [axis(0, 2, 3), axis(1)]


def test_replica_axes_of_an_older_version_were_seeds(tmp_path):
    asked = runs(tmp_path, ["a"], seeds=2)
    begin(asked[1], replicas="together", replica_axis=[0, 1, 2])
    assert grouping.replica_axis(asked[1]) == axis(0, 1, 2)
    assert [group.replica_axis for group in grouped(asked, a=2)] == [axis(0, 1, 2)]


def test_what_has_no_checkpoint_has_not_begun(tmp_path):
    (run,) = runs(tmp_path, ["a"], seeds=1)
    begin(run, replicas="together", replica_axis=[0, 1])
    (run.directory / "checkpoints" / "7").rmdir()
    assert grouping.replica_axis(run) is None


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """{(network, replicates, steps a call if they are several): images per second} in place of
    measuring; and what was asked."""
    speeds, asked = {}, []

    def calls(session, config, seeds, *, together, steps_per_call):
        what = (config.model.name, len(seeds), *([steps_per_call] if steps_per_call > 1 else []))
        asked.append((*what, together))
        if isinstance(speeds[what], Exception):
            raise speeds[what]
        images = len(seeds) * steps_per_call * config.training.batch_size
        clock.append(grouping.TIMED * images / speeds[what])
        return lambda count: None

    clock = [0.0]
    times = iter(range(10**9))
    monkeypatch.setattr(grouping.time, "perf_counter", lambda: next(times) * clock[-1])
    monkeypatch.setattr(grouping, "calls", calls)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    return speeds, asked


@pytest.mark.parametrize(("faster", "number"), [(3.0, 6), (1.0, 1), (0.2, 1)])
def test_the_faster_way_is_taken_and_measured_once(
    session, measured, monkeypatch, capsys, faster, number, tmp_path
):
    monkeypatch.setitem(grouping.LEAST, "cpu", 1.0)
    speeds, asked = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 6): faster * 1000.0}
    request = training({"a": small(), "b": small(optimizer__learning_rate=0.3)})
    for _ in range(2):
        chosen = grouping.ways(session, request, runs(tmp_path, ["a", "b"]), processes=1)
        assert chosen == {"a": Way(number), "b": Way(number)}
    assert asked == [("mlp", 1, False), ("mlp", 6, True)]
    way = "6 runs together" if number > 1 else "one run"
    told = f"images/s of one run 1,000, 6 runs together {faster * 1000:,.0f}; taken: {way}"
    assert told in capsys.readouterr().out


def test_both_ways_are_really_timed(session, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(grouping.LEAST, "cpu", 0.0)
    asked_for = runs(tmp_path, ["a"])
    chosen = grouping.ways(session, training({"a": small()}), asked_for, processes=1)["a"]
    alone, together, way = re.search(
        r"images/s of one run ([\d,]+), 3 runs together ([\d,]+); taken: (.*)\n",
        capsys.readouterr().out,
    ).groups()
    faster = int(together.replace(",", "")) > 1.05 * int(alone.replace(",", ""))
    assert (chosen, way) == ((Way(3), "3 runs together") if faster else (Way(), "one run"))
    assert len(list((tmp_path / "cache" / "speeds").iterdir())) == 2


def test_what_is_soon_over_is_not_measured_further(session, measured, tmp_path):
    speeds, asked = measured
    speeds["mlp", 1] = 1000.0
    asked_for = runs(tmp_path, ["a"])
    assert grouping.ways(session, training({"a": small()}), asked_for, processes=1) == {"a": Way()}
    assert asked == [("mlp", 1, False)]


def test_steps_that_need_too_much_memory_are_taken_one_after_another(
    session, measured, monkeypatch, tmp_path
):
    monkeypatch.setitem(grouping.LEAST, "cpu", 1.0)
    speeds, _ = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 3): RuntimeError("RESOURCE_EXHAUSTED")}
    asked_for = runs(tmp_path, ["a"])
    assert grouping.ways(session, training({"a": small()}), asked_for, processes=1) == {"a": Way()}


def accelerator(session):
    """A session of a machine with two accelerators, as much of it as is needed."""
    return SimpleNamespace(
        runtime={"backend": "gpu"}, devices=[0, 1], dataset=session.dataset,
        convolution=lambda config: "xla",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("speeds", "way"),
    [
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): 20000.0}, Way(8, 5)),
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): 3000.0}, Way(1, 5)),
        ({(1,): 1000.0, (1, 5): 900.0, (8,): 5000.0}, Way(8, 1)),
        ({(1,): 1000.0, (1, 5): 1020.0, (8, 5): 900.0}, Way()),
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): MemoryError(), (4, 5): 9000.0}, Way(4, 5)),
    ],
)
def test_on_an_accelerator_steps_a_call_are_measured_too(
    session, measured, monkeypatch, speeds, way, tmp_path
):
    """Small runs have a line every five steps. Where eight are too many, four are tried."""
    monkeypatch.setattr(grouping, "ON_ACCELERATORS", 0.1)
    measured[0].update({("mlp", *key): speed for key, speed in speeds.items()})
    request, asked_for = training({"a": small()}), runs(tmp_path, ["a"], seeds=8)
    chosen = grouping.ways(accelerator(session), request, asked_for, processes=1)
    assert chosen == {"a": way}
    assert [what[:-1] for what in measured[1]] == [("mlp", *key) for key in speeds]


def test_the_longest_call_leaves_no_single_steps_over():
    lines = {1: 1, 7: 7, 10: 10, 50: 25, 64: 32, 97: 1, 100: 25}
    for every, steps in lines.items():
        assert grouping.longest_call(small(training__log_every_steps=every)) == steps


def test_what_cannot_be_together_is_not_measured(session, measured, tmp_path):
    _, asked = measured
    request = training(
        {
            "mapped": small(training__parallel="pmap"),
            "streamed": small(data__pipeline="stream"),
            "a": small(),
        }
    )
    asked_for = runs(tmp_path, ["mapped", "streamed"])
    chosen = grouping.ways(session, request, asked_for, processes=1)
    assert chosen == {"mapped": Way(), "streamed": Way()}
    one_seed = runs(tmp_path, ["a"], seeds=1)
    assert grouping.ways(session, request, one_seed, processes=1) == {"a": Way()}
    assert not asked


def test_the_number_asked_for_is_taken_unless_a_process_would_idle(session, tmp_path):
    request, asked_for = training({"a": small()}), runs(tmp_path, ["a"], seeds=10)
    assert grouping.ways(session, request, asked_for, processes=2) == {"a": Way()}
    request = training({"a": small()}, replicas=8)
    assert grouping.ways(session, request, asked_for, processes=1) == {"a": Way(8)}
    assert grouping.ways(session, request, asked_for, processes=2) == {"a": Way(5)}


def test_the_steps_that_are_timed_are_those_of_the_runs(session):
    config = small()
    alone = [grouping.calls(session, config, [seed]) for seed in (0, 1)]
    together = grouping.calls(session, config, [0, 1], together=True)
    for _ in range(3):
        assert together() == pytest.approx([one for step in alone for one in step()], rel=1e-4)
    three_more = grouping.calls(session, config, [0], steps_per_call=3)
    assert three_more(2) == pytest.approx(alone[0](3), rel=1e-4)


def test_a_compilation_for_timing_is_the_first_runs(session, tmp_path, monkeypatch):
    from cnnjax.train import loop

    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    config = small(training__steps=4, model__hidden=(19,))
    asked_for = runs(tmp_path, ["a"])
    chosen = grouping.ways(session, training({"a": config}), asked_for, processes=1)
    assert chosen == {"a": Way()}
    results = [loop.run(session, config, run.seed, run.directory) for run in asked_for]
    assert [result.compilations for result in results] == [1, 0, 0]
