"""How runs are grouped, and how the fastest dispatch of their steps is measured."""

import json
import re
from types import SimpleNamespace

import pytest
from launch_requests import axis, runs, start, training

from common import small, train_alone
from launch import grouping, work
from launch.grouping import Dispatch


def grouped(requested, keys=None, **replicas):
    """The groups of runs whose arms have so many replicas; by default each arm has its own key."""
    dispatches = {arm: Dispatch(count) for arm, count in replicas.items()}
    return grouping.make_groups(requested, dispatches, keys or {arm: arm for arm in replicas})


def sizes(groups):
    return [(group.runs[0].arm, len(group.runs), group.replica_axis) for group in groups]


def test_runs_of_an_arm_are_divided_into_groups_of_about_equal_size(tmp_path):
    requested = runs(tmp_path, ["a", "b"], seeds=9)
    groups = grouped(requested, a=8, b=1)
    first, second = axis(0, 1, 2, 3, 4), axis(5, 6, 7, 8)
    assert sizes(groups) == [("a", 5, first), ("a", 4, second)] + [("b", 1, ())] * 9
    assert [run for group in groups for run in group.runs] == requested


def test_groups_are_in_the_order_of_their_first_runs(tmp_path):
    requested = sorted(runs(tmp_path, ["a", "b"], seeds=4), key=lambda run: run.seed)
    groups = grouped(requested, a=2, b=3)
    assert [(group.runs[0].arm, group.runs[0].seed) for group in groups] == [
        ("a", 0), ("b", 0), ("a", 2), ("b", 2),
    ]  # fmt: skip


def test_resumed_runs_keep_their_replica_axis(tmp_path):
    """Seed 3 with the seeds it was started with, of which 9 is not requested."""
    requested = runs(tmp_path, ["a"], seeds=6)
    start(requested[1], replicas="one after another")
    start(requested[3], replicas="together", replica_axis=[3, 9, 5])
    start(requested[5], replicas="together", replica_axis=[3, 9, 5])
    alone = grouped(requested, a=1)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in alone] == [
        ([0], ()), ([1], ()), ([2], ()), ([3, 5], axis(3, 9, 5)), ([4], ()),
    ]  # fmt: skip
    groups = grouped(requested, a=8)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in groups] == [
        ([0, 2, 4], axis(0, 2, 4)), ([1], ()), ([3, 5], axis(3, 9, 5)),
    ]  # fmt: skip


def test_a_run_that_starts_anew_keeps_its_replica_axis(tmp_path):
    """Seed 1 was removed, what 2 has is not whole, 0 and 3 have ended; 4 is new."""
    requested = runs(tmp_path, ["a"], seeds=5)
    for run in (requested[0], requested[3]):
        start(run, replicas="together", replica_axis=[0, 1, 2, 3])
    requested[2].directory.mkdir(parents=True)
    (requested[2].directory / "checkpoints" / "7").mkdir(parents=True)
    (requested[2].directory / "runtime.json").write_text(json.dumps({"replica_axis": [2]}))
    groups = grouped([requested[1], requested[2], requested[4]], a=3)
    assert [([run.seed for run in group.runs], group.replica_axis) for group in groups] == [
        ([1, 2], axis(0, 1, 2, 3)), ([4], axis(4)),
    ]  # fmt: skip


def test_invalid_replica_axes_are_replaced(tmp_path):
    requested = runs(tmp_path, ["a"], seeds=2)
    start(requested[0], replicas="together", replica_axis=[7, 8])
    start(requested[1], replicas="together", replica_axis="no")
    assert [grouping.replica_axis(run) for run in requested] == [axis(0), None]


def test_arms_with_the_same_key_are_in_one_group(tmp_path):
    """Where the time is short too, the first seeds of all of them come first."""
    requested = runs(tmp_path, ["a", "b", "c"], seeds=2)
    keys = {"a": "x", "b": "y", "c": "x"}
    groups = grouped(requested, keys, a=4, b=4, c=4)
    x, y = axis(0, 1) + axis(0, 1, arm="c"), axis(0, 1, arm="b")
    assert sizes(groups) == [("a", 4, x), ("b", 2, y)]
    groups = grouped(sorted(requested, key=lambda run: run.seed), keys, a=2, b=2, c=2)
    assert [group.replica_axis for group in groups] == [
        (("a", 0), ("c", 0)), y, (("a", 1), ("c", 1)),
    ]  # fmt: skip


def test_replica_axes_that_were_written_by_hand_mix_no_programs(tmp_path):
    requested = runs(tmp_path, ["a", "b"], seeds=1)
    both = axis(0) + axis(0, arm="b")
    for run in requested:
        start(run, replicas="together", replica_axis=both)
    assert [len(group.runs) for group in grouped(requested, a=2, b=2)] == [1, 1]
    (group,) = grouped(requested, {"a": "x", "b": "x"}, a=2, b=2)
    assert (len(group.runs), group.replica_axis) == (2, both)


def test_runs_that_failed_before_are_in_groups_of_their_own(tmp_path):
    requested = runs(tmp_path, ["a"], seeds=4)
    work.fail(requested[1], "a fault", "")
    groups = grouped([requested[0], *requested[2:], requested[1]], a=4)
    assert [group.replica_axis for group in groups] == [axis(0, 2, 3), axis(1)]


def test_replica_axes_of_an_older_version_were_seeds(tmp_path):
    requested = runs(tmp_path, ["a"], seeds=2)
    start(requested[1], replicas="together", replica_axis=[0, 1, 2])
    assert grouping.replica_axis(requested[1]) == axis(0, 1, 2)
    assert [group.replica_axis for group in grouped(requested, a=2)] == [axis(0, 1, 2)]


def test_a_run_without_a_checkpoint_has_no_recorded_axis(tmp_path):
    (run,) = runs(tmp_path, ["a"], seeds=1)
    start(run, replicas="together", replica_axis=[0, 1])
    (run.directory / "checkpoints" / "7").rmdir()
    assert grouping.replica_axis(run) is None


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """{(network, replicas, steps per call if there are several): images per second} instead of
    measuring, and what was measured."""
    speeds, asked = {}, []

    def step_function(session, config, seeds, *, together, steps_per_call):
        key = (config.model.name, len(seeds), *([steps_per_call] if steps_per_call > 1 else []))
        asked.append((*key, together))
        if isinstance(speeds[key], Exception):
            raise speeds[key]
        images = len(seeds) * steps_per_call * config.training.batch_size
        clock.append(grouping.CALLS_PER_ROUND * images / speeds[key])
        return lambda count: None

    clock = [0.0]
    times = iter(range(10**9))
    monkeypatch.setattr(grouping.time, "perf_counter", lambda: next(times) * clock[-1])
    monkeypatch.setattr(grouping, "step_function", step_function)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    return speeds, asked


@pytest.mark.parametrize(("faster", "number"), [(3.0, 6), (1.0, 1), (0.2, 1)])
def test_the_faster_dispatch_is_chosen_and_measured_once(
    session, measured, monkeypatch, capsys, faster, number, tmp_path
):
    monkeypatch.setitem(grouping.MIN_SECONDS, "cpu", 1.0)
    speeds, asked = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 6): faster * 1000.0}
    request = training({"a": small(), "b": small(optimizer__learning_rate=0.3)})
    for _ in range(2):
        chosen = grouping.choose_dispatches(
            session, request, runs(tmp_path, ["a", "b"]), processes=1
        )
        assert chosen == {"a": Dispatch(number), "b": Dispatch(number)}
    assert asked == [("mlp", 1, False), ("mlp", 6, True)]
    way = "6 runs together" if number > 1 else "one run"
    told = f"images/s of one run 1,000, 6 runs together {faster * 1000:,.0f}; taken: {way}"
    assert told in capsys.readouterr().out


def test_single_runs_and_replicas_are_really_timed(session, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(grouping.MIN_SECONDS, "cpu", 0.0)
    requested = runs(tmp_path, ["a"])
    chosen = grouping.choose_dispatches(session, training({"a": small()}), requested, processes=1)[
        "a"
    ]
    alone, together, way = re.search(
        r"images/s of one run ([\d,]+), 3 runs together ([\d,]+); taken: (.*)\n",
        capsys.readouterr().out,
    ).groups()
    faster = int(together.replace(",", "")) > 1.05 * int(alone.replace(",", ""))
    assert (chosen, way) == (
        (Dispatch(3), "3 runs together") if faster else (Dispatch(), "one run")
    )
    assert len(list((tmp_path / "cache" / "speeds").iterdir())) == 2


def test_short_runs_are_measured_alone_only(session, measured, tmp_path):
    speeds, asked = measured
    speeds["mlp", 1] = 1000.0
    requested = runs(tmp_path, ["a"])
    assert grouping.choose_dispatches(
        session, training({"a": small()}), requested, processes=1
    ) == {"a": Dispatch()}
    assert asked == [("mlp", 1, False)]


def test_replicas_that_need_too_much_memory_are_not_used(session, measured, monkeypatch, tmp_path):
    monkeypatch.setitem(grouping.MIN_SECONDS, "cpu", 1.0)
    speeds, _ = measured
    speeds |= {("mlp", 1): 1000.0, ("mlp", 3): RuntimeError("RESOURCE_EXHAUSTED")}
    requested = runs(tmp_path, ["a"])
    assert grouping.choose_dispatches(
        session, training({"a": small()}), requested, processes=1
    ) == {"a": Dispatch()}


def accelerator(session):
    """A session of a machine with two accelerators, as much of it as is needed."""
    return SimpleNamespace(
        runtime={"backend": "gpu"}, devices=[0, 1], dataset=session.dataset,
        convolution=lambda config: "xla",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("speeds", "way"),
    [
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): 20000.0}, Dispatch(8, 5)),
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): 3000.0}, Dispatch(1, 5)),
        ({(1,): 1000.0, (1, 5): 900.0, (8,): 5000.0}, Dispatch(8, 1)),
        ({(1,): 1000.0, (1, 5): 1020.0, (8, 5): 900.0}, Dispatch()),
        ({(1,): 1000.0, (1, 5): 4000.0, (8, 5): MemoryError(), (4, 5): 9000.0}, Dispatch(4, 5)),
    ],
)
def test_on_an_accelerator_several_steps_per_call_are_measured_too(
    session, measured, monkeypatch, speeds, way, tmp_path
):
    """Small runs have a line every five steps. Where eight are too many, four are tried."""
    monkeypatch.setattr(grouping, "MIN_SECONDS_ON_ACCELERATORS", 0.1)
    measured[0].update({("mlp", *key): speed for key, speed in speeds.items()})
    request, requested = training({"a": small()}), runs(tmp_path, ["a"], seeds=8)
    chosen = grouping.choose_dispatches(accelerator(session), request, requested, processes=1)
    assert chosen == {"a": way}
    assert [measurement[:-1] for measurement in measured[1]] == [("mlp", *key) for key in speeds]


def test_the_longest_call_leaves_no_single_steps_over():
    lines = {1: 1, 7: 7, 10: 10, 50: 25, 64: 32, 97: 1, 100: 25}
    for every, steps in lines.items():
        assert grouping.longest_call(small(training__log_every_steps=every)) == steps


def test_runs_that_cannot_be_trained_together_are_not_measured(session, measured, tmp_path):
    _, asked = measured
    request = training(
        {
            "mapped": small(training__parallel="pmap"),
            "streamed": small(data__pipeline="stream"),
            "a": small(),
        }
    )
    requested = runs(tmp_path, ["mapped", "streamed"])
    chosen = grouping.choose_dispatches(session, request, requested, processes=1)
    assert chosen == {"mapped": Dispatch(), "streamed": Dispatch()}
    one_seed = runs(tmp_path, ["a"], seeds=1)
    assert grouping.choose_dispatches(session, request, one_seed, processes=1) == {"a": Dispatch()}
    assert not asked


def test_the_requested_number_is_used_unless_a_process_would_idle(session, tmp_path):
    request, requested = training({"a": small()}), runs(tmp_path, ["a"], seeds=10)
    assert grouping.choose_dispatches(session, request, requested, processes=2) == {"a": Dispatch()}
    request = training({"a": small()}, replicas=8)
    assert grouping.choose_dispatches(session, request, requested, processes=1) == {
        "a": Dispatch(8)
    }
    assert grouping.choose_dispatches(session, request, requested, processes=2) == {
        "a": Dispatch(5)
    }


def test_the_steps_that_are_timed_are_those_of_the_runs(session):
    config = small()
    alone = [grouping.step_function(session, config, [seed]) for seed in (0, 1)]
    together = grouping.step_function(session, config, [0, 1], together=True)
    for _ in range(3):
        assert together() == pytest.approx([loss for step in alone for loss in step()], rel=1e-4)
    three_more = grouping.step_function(session, config, [0], steps_per_call=3)
    assert three_more(2) == pytest.approx(alone[0](3), rel=1e-4)


def test_the_first_run_reports_the_compilation_for_timing(session, tmp_path, monkeypatch):

    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    config = small(training__steps=4, model__hidden=(19,))
    requested = runs(tmp_path, ["a"])
    chosen = grouping.choose_dispatches(session, training({"a": config}), requested, processes=1)
    assert chosen == {"a": Dispatch()}
    results = [train_alone(session, config, run.seed, run.directory) for run in requested]
    assert [result.compilations for result in results] == [1, 0, 0]
