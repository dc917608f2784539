"""How a process trains its runs: one after another, or several together, as measured."""

import json
import shutil
import tempfile

import pytest
from launch_requests import axis, runs, start, training

from cnnjax import result as results
from cnnjax.errors import UserError
from common import program, small
from launch import crashes, grouping, work

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


def test_a_removed_run_is_trained_again_with_the_same_bits(session, tmp_path):
    requested = runs(tmp_path, ["a"])
    request = training({"a": small(training__steps=4, model__norm__kind="batch")}, replicas=3)
    assert work.work(session, request, requested, quiet=True) == 0
    before = requested[1].result()
    shutil.rmtree(requested[1].directory)
    assert work.work(session, request, requested[1:2], quiet=True) == 0
    again = requested[1].result()
    assert again.params_digest == before.params_digest
    assert again.runtime["replica_axis"] == [["a", 0], ["a", 1], ["a", 2]]


def test_a_run_that_cannot_be_trained_with_its_replicas_again_is_trained_alone(
    session, tmp_path, monkeypatch, capsys
):
    from cnnjax.train import loop

    real = loop.train

    def too_large(session, jobs, *, replica_axis, **others):
        if len(replica_axis) > 1:
            raise MemoryError("too little memory")
        return real(session, jobs, replica_axis=replica_axis, **others)

    requested = runs(tmp_path, ["a"])
    start(requested[0], replicas="together", replica_axis=[0, 1, 2])
    monkeypatch.setattr(loop, "train", too_large)
    request = training({"a": small(training__steps=4)}, replicas=3)
    assert work.work(session, request, requested[1:2], quiet=True) == 0
    assert requested[1].result().runtime["replica_axis"] == [["a", 1]]
    assert "a: too little memory; these runs go on one after another" in capsys.readouterr().out


def test_arms_are_trained_together_and_end_where_they_end_alone(session, tmp_path):
    """Each with the learning rates of its own schedule, its decay, dropout and initial weights."""
    changes = {"training__steps": 8, "model__norm__kind": "batch"}
    configs = {
        "a": small(**changes, model__dropout__keep_prob=0.9),
        "b": small(
            **changes, model__dropout__keep_prob=0.7, optimizer__learning_rate=0.2,
            optimizer__weight_decay=0.01, schedule__name="linear", training__label_smoothing=0.1,
            model__initializer="lecun_normal",
        ),
    }  # fmt: skip
    together, alone = training(configs, replicas=4), training(configs, replicas=1)
    trained = {}
    for request, name in ((together, "together"), (alone, "alone")):
        requested = runs(tmp_path / name, ["a", "b"], seeds=2)
        assert work.work(session, request, requested, quiet=True) == 0
        trained[name] = [run.result() for run in requested]
    axis = [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    assert [result.runtime["replica_axis"] for result in trained["together"]] == [axis] * 4
    for mine, other in zip(trained["together"], trained["alone"], strict=True):
        assert mine.test.get("loss") == pytest.approx(other.test.get("loss"), rel=1e-4)
    losses = {round(result.test.get("loss"), 3) for result in trained["alone"]}
    assert len(losses) == 4
    rates = [
        [json.loads(line).get("learning_rate") for line in path.read_text().splitlines()]
        for path in sorted(tmp_path.glob("*/b/seed-0/metrics.jsonl"))
    ]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2


def test_a_sweep_trains_replicas_together(tmp_path):
    """The same command without the flag finds nothing left to do; seeds are added the other way."""
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    words = ["launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}"]
    done = program(*words, "--workers=1", "--replicas=3", "--arms=low")
    assert done.stdout.count("validation") >= 3
    for seed in range(3):
        result = results.read(tmp_path / f"study/low/seed-{seed}/result.json")
        assert (result.status, result.runtime["replicas"]) == ("finished", "together")
    again = program(*words, "--workers=1")
    assert "3 of 6 runs have ended already" in again.stdout
    other = results.read(tmp_path / "study/high/seed-0/result.json")
    assert other.runtime["replicas"] == "one after another"
    text = (tmp_path / "study/report.md").read_text()
    assert "Runs differ in replicas" in text
    assert "Runs that were trained together share their time equally." in text


def test_steps_per_call_are_those_of_the_flag(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    words = ["launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}"]
    done = program(*words, "--steps_per_call=11", check=2)
    assert done.stderr == (
        "error: --steps_per_call: 11 is more than training.log_every_steps of arm 'low' (10), and "
        "no call goes beyond a line. Add --set training.log_every_steps=11, or use "
        "--steps_per_call=10\n"
    )
    assert not (tmp_path / "study").exists()
    program(*words, "--steps_per_call=3", "--arms=low", "--seeds=0", "--workers=2")
    result = results.read(tmp_path / "study/low/seed-0/result.json")
    assert (result.status, result.runtime["steps_per_call"]) == ("finished", 3)


def test_a_profile_is_written_to_a_folder(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    words = ["launch.train", f"--experiment={file}", f"--workdir={tmp_path / 'study'}"]
    words += ["--set=training.steps=20", "--arm=low", "--seeds=0"]
    done = program(*words, f"--profile={file}", check=2)
    assert done.stderr == f"error: --profile: {file} is a file; name a folder.\n"
    done = program(*words, f"--profile={file}/trace", check=2)
    assert done.stderr == f"error: --profile: {file}/trace cannot be made (Not a directory).\n"
    assert not (tmp_path / "study").exists()
    done = program(*words, f"--profile={tmp_path / 'trace'}")
    assert f"profile: 10 calls of low seed 0 are in {tmp_path / 'trace'}; open it" in done.stdout
    assert len(list(tmp_path.glob("trace/plugins/profile/*/*.trace.json.gz"))) == 1


def test_pmap_is_refused_before_anything_is_written(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(EXPERIMENT)
    done = program(
        "launch.sweep", f"--experiment={file}", f"--workdir={tmp_path / 'study'}",
        "--replicas=3", "--set", "training.parallel=pmap", check=2,
    )  # fmt: skip
    assert "--replicas: arm 'low' has training.parallel=pmap" in done.stderr
    assert not (tmp_path / "study").exists()


def test_an_error_of_replicas_fails_only_one_run(session, tmp_path, monkeypatch, capsys):
    """What goes wrong together is tried one after another, so that the others end."""
    from cnnjax.train import loop

    real = loop.train

    def faulty(session, jobs, **others):
        if any(job.seed == 1 for job in jobs):
            raise ValueError("a bad seed")
        return real(session, jobs, **others)

    monkeypatch.setattr(loop, "train", faulty)
    request = training({"a": small(training__steps=4)}, replicas=3)
    requested = runs(tmp_path, ["a"])
    assert work.work(session, request, requested, quiet=True) == 1
    assert [run.result().status for run in requested] == ["finished", "failed", "finished"]
    assert requested[1].result().error == "ValueError: a bad seed"
    assert "faulty" in (requested[1].directory / "error.txt").read_text()
    assert "a: a bad seed; these runs go on one after another" in capsys.readouterr().out


@pytest.fixture
def faulty_calls(monkeypatch):
    """What loop.train is called with, which faults each time: the seeds, the replica axis, and the
    runs that the parent of this process believes it to be at; last, those when it has ended."""
    from cnnjax.train import loop

    calls = []
    with tempfile.TemporaryFile() as status:
        monkeypatch.setenv(crashes.STATUS, str(status.fileno()))

        def faulty(session, jobs, *, replica_axis, **_):
            calls.append(
                ([job.seed for job in jobs], replica_axis, crashes.read_runs(status.fileno()))
            )
            raise ValueError("a fault")

        monkeypatch.setattr(loop, "train", faulty)
        yield calls
        assert crashes.read_runs(status.fileno()) == set()


def test_a_process_records_which_runs_it_is_training(session, tmp_path, faulty_calls):
    requested = runs(tmp_path, ["a"], seeds=2)
    work.work(session, training({"a": small()}, replicas=3), requested, quiet=True)
    assert faulty_calls == [
        ([0, 1], axis(0, 1), {("a", 0), ("a", 1)}),
        ([0], axis(0), {("a", 0)}),
        ([1], axis(1), {("a", 1)}),
    ]


def test_runs_that_a_process_died_with_are_trained_one_after_another(
    session, tmp_path, faulty_calls
):
    requested = runs(tmp_path, ["a"], seeds=2)
    assert crashes.count(requested) == []
    work.work(session, training({"a": small()}, replicas=3), requested, quiet=True)
    assert [call[:2] for call in faulty_calls] == [([0], axis(0)), ([1], axis(1))]


def test_a_run_that_failed_by_its_deaths_is_not_tried_again(session, tmp_path, faulty_calls):
    """Without another process that sees it die, a sweep would never come to its report."""
    (run,) = runs(tmp_path, ["a"], seeds=1)
    crashes.count([run])
    crashes.count([run])
    for _ in range(2):
        assert work.work(session, training({"a": small()}, replicas=3), [run], quiet=True) == 1
        error = run.result().error
        assert error == (
            f"process ended without a word (memory?); remove {crashes.record(run)} to try it again"
        )
    assert not faulty_calls
    crashes.record(run).unlink()
    work.work(session, training({"a": small()}, replicas=3), [run], quiet=True)
    assert len(faulty_calls) == 1


def test_a_run_folder_with_a_link_stops_the_sweep(session, tmp_path, faulty_calls):
    (tmp_path / "home/20").mkdir(parents=True)
    (tmp_path / "w/a/seed-0").mkdir(parents=True)
    (tmp_path / "w/a/seed-0/checkpoints").symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="checkpoints: is a link to"):
        work.work(
            session, training({"a": small()}, replicas=3), runs(tmp_path / "w", ["a"]), quiet=True
        )
    assert not faulty_calls


def test_not_even_a_lock_is_written_through_a_link(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "w/a").mkdir(parents=True)
    (tmp_path / "w/a/seed-0").symlink_to(tmp_path / "home")
    requested, request = runs(tmp_path / "w", ["a"]), training({"a": small()})
    with pytest.raises(UserError, match="seed-0: is a link to"):
        grouping.choose_dispatches(None, request, requested, processes=1)
    with pytest.raises(UserError, match="seed-0: is a link to"), crashes.training(requested):
        pass
    assert not list((tmp_path / "home").iterdir())


def test_what_another_process_has_is_left_to_it(session, tmp_path):
    from cnnjax import files

    request = training({"a": small(training__steps=4)}, replicas=3)
    requested = runs(tmp_path, ["a"])
    with files.lock(requested[1].directory / ".lock", wait=False):
        assert work.work(session, request, requested, quiet=True) == 0
    assert [run.ended for run in requested] == [True, False, True]


def test_a_full_disk_stops_replicates_too(session, tmp_path, monkeypatch):
    from cnnjax.train import loop

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "train", full)
    request = training({"a": small()}, replicas=3)
    with pytest.raises(UserError, match="make room"):
        work.work(session, request, runs(tmp_path, ["a"]), quiet=True)
