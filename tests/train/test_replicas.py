"""Runs that are trained together: their results, and how they are stopped and resumed."""

import json

import numpy as np
import pytest

from cnnjax.errors import Stopped, UserError
from cnnjax.train import folder, loop, state
from cnnjax.train.active_run import Job
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.probe import Probes
from common import small, train_alone

CONFIG = small(
    model__norm__kind="batch",
    model__dropout__keep_prob=0.9,
    training__steps=8,
    evaluation__every_epochs=0.1,
    data__augmentation__shift_pixels=1,
)
NEWER = ("steps_per_call", "matmul_precision", "deterministic")
REPLICA_AXIS = [("a", 0), ("a", 1), ("a", 2)]


def jobs(directory, seeds=(0, 1, 2), config=CONFIG):
    return [Job(config, seed, directory / f"seed-{seed}", "a") for seed in seeds]


def params(directory, step):
    with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
        return state.flat(checkpoints.weights(step)["params"])


def figures(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    timing = {"seconds", "images_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in timing} for line in lines]


@pytest.fixture(scope="module")
def together(session, tmp_path_factory):
    directory = tmp_path_factory.mktemp("together")
    return directory, loop.train(session, jobs(directory), replica_axis=REPLICA_AXIS)


def test_replicas_give_the_results_of_single_runs(together, session, tmp_path):
    directory, results = together
    alone = train_alone(session, CONFIG, 1, tmp_path, arm="a")
    stacked = results[1]
    assert stacked.model_fields_set == alone.model_fields_set
    assert (stacked.arm, stacked.seed, stacked.steps) == ("a", 1, 8)
    for split in ("validation", "test"):
        loss = alone.figures(split).get("loss")
        assert stacked.figures(split).get("loss") == pytest.approx(loss, rel=1e-4)
        kept = directory / "seed-1" / f"predictions_{split}.npz"
        np.testing.assert_allclose(
            np.load(kept)["logits"],
            np.load(tmp_path / kept.name)["logits"],
            rtol=1e-3,
            atol=1e-4,
        )
    for mine, other in zip(figures(directory / "seed-1"), figures(tmp_path), strict=True):
        assert mine.pop("split") == other.pop("split")
        assert mine == pytest.approx(other, rel=1e-3)
    expected = params(tmp_path, 8)
    for path, leaf in params(directory / "seed-1", 8).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-3, atol=1e-5)


def test_results_record_the_replicas_and_share_the_time(together, session, tmp_path):
    _, results = together
    assert [result.runtime["replicas"] for result in results] == ["together"] * 3
    assert [result.runtime["convolution"] for result in results] == ["xla"] * 3
    assert [result.compilations for result in results] == [1, 0, 0]
    assert len({result.params_digest for result in results}) == 3
    assert all(result.seconds > 0 for result in results)
    alone = train_alone(session, CONFIG, 0, tmp_path)
    assert alone.runtime["replicas"] == "one after another"


class Stop(Exception):
    pass


def stopped(session, directory, kind, method, at):
    """Trains replicas until the `at`-th call of a method, and stops as a killed process would."""
    real, calls = getattr(kind, method), []

    def stop(self, *args):
        calls.append(0)
        if len(calls) == at:
            raise Stop
        real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, method, stop)
        with pytest.raises(Stop):
            loop.train(session, jobs(directory), replica_axis=REPLICA_AXIS)


def assert_same(results, expected, directory, expected_directory):
    for result in results:
        (other,) = [other for other in expected if other.seed == result.seed]
        assert result.params_digest == other.params_digest
        name = f"seed-{result.seed}"
        assert figures(directory / name) == figures(expected_directory / name)


def test_replicas_that_were_killed_are_resumed_bit_for_bit(together, session, tmp_path):
    expected, results = together
    stopped(session, tmp_path, loop.Clock, "tick", 7)
    messages = []
    again = loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS, log=messages.append)
    assert messages == [f"resumed: a seed {seed} at step 5 of 8" for seed in range(3)]
    assert_same(again, results, tmp_path, expected)


def test_replicas_that_were_asked_to_stop_are_resumed_bit_for_bit(together, session, tmp_path):
    expected, results = together
    asked = iter(range(9))
    with pytest.raises(Stopped, match="stopped by SIGHUP at step 4 of 8"):
        loop.train(
            session,
            jobs(tmp_path),
            replica_axis=REPLICA_AXIS,
            stop=lambda: "SIGHUP" if next(asked) >= 4 else "",
        )
    messages = []
    again = loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS, log=messages.append)
    assert messages == [f"resumed: a seed {seed} at step 4 of 8" for seed in range(3)]
    assert_same(again, results, tmp_path, expected)


def test_replicas_of_an_older_version_are_resumed_bit_for_bit(together, session, tmp_path):
    """Its replica axis was called lanes and had seeds of the one arm, and it wrote less."""
    expected, results = together
    stopped(session, tmp_path, loop.Clock, "tick", 7)
    for path in tmp_path.glob("seed-*/runtime.json"):
        runtime = json.loads(path.read_text())
        runtime = {name: value for name, value in runtime.items() if name not in NEWER}
        del runtime["replica_axis"]
        old = {"replicates": runtime.pop("replicas"), "lanes": [0, 1, 2]}
        path.write_text(json.dumps(runtime | old))
    assert_same(
        loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS), results, tmp_path, expected
    )


def test_a_replica_at_an_earlier_step_catches_up_bit_for_bit(together, session, tmp_path):
    """Stopped between the checkpoints of the second and of the third seed, at step 5."""
    expected, results = together
    stopped(session, tmp_path, Checkpoints, "save", 6)
    messages = []
    again = loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS, log=messages.append)
    assert [line.rpartition(" at ")[2] for line in messages] == [
        "step 5 of 8", "step 5 of 8", "step 3 of 8",
    ]  # fmt: skip
    assert_same(again, results, tmp_path, expected)


def test_a_single_replica_is_resumed_at_its_index_bit_for_bit(together, session, tmp_path):
    expected, results = together
    stopped(session, tmp_path, loop.Clock, "tick", 7)
    last = loop.train(session, jobs(tmp_path, [2]), replica_axis=REPLICA_AXIS)
    assert_same(last, results, tmp_path, expected)


def test_a_replica_that_diverges_does_not_change_the_others(
    together, session, tmp_path, monkeypatch
):
    _, results = together
    figures_of, seen = loop.Replicas.figures, []

    def with_a_fault(self, metrics):
        values = figures_of(self, metrics)
        seen.append(0)
        if len(seen) == 5:
            values[1][0] |= {"finite": 0.0, "loss": float("nan")}
        return values

    monkeypatch.setattr(loop.Replicas, "figures", with_a_fault)
    first, second, third = loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS)
    assert (second.status, second.diverged_at_step) == ("diverged", 5)
    assert second.validation is None
    assert second.examples_seen == 250
    assert max(line["step"] for line in figures(tmp_path / "seed-1")) == 5
    assert first.params_digest == results[0].params_digest
    assert third.params_digest == results[2].params_digest
    assert not (tmp_path / "seed-1" / "predictions_validation.npz").exists()


def test_training_ends_when_all_replicas_have_diverged(session, tmp_path):
    config = CONFIG.model_copy(
        update={"optimizer": CONFIG.optimizer.model_copy(update={"learning_rate": 1e30})}
    )
    results = loop.train(session, jobs(tmp_path, config=config), replica_axis=REPLICA_AXIS)
    assert {result.status for result in results} == {"diverged"}
    assert max(result.steps for result in results) < 8


def test_probes_measure_each_replica(session, tmp_path):
    def norm(subject):
        leaf = next(iter(state.flat(subject.variables["params"]).values()))
        return {"first": {"norm": float(np.linalg.norm(leaf))}}

    probes = Probes({"seed": lambda subject, split: {"seed": subject.seed}}, {"norm": norm})
    results = loop.train(session, jobs(tmp_path), replica_axis=REPLICA_AXIS, probes=probes)
    assert [result.measures["test"]["seed"] for result in results] == [0, 1, 2]
    for moment in ("start", "end"):
        assert len({result.signals[moment]["first"]["norm"] for result in results}) == 3


def test_a_run_of_replicas_cannot_be_resumed_alone(together, session):
    directory, _ = together
    assert folder.resumed_settings(directory / "seed-0")["replicas"] == "together"
    assert folder.resumed_settings(directory / "seed-0")["replica_axis"] == [
        ["a", 0],
        ["a", 1],
        ["a", 2],
    ]
    with pytest.raises(UserError, match="replicas is 'together' there and 'one after another'"):
        train_alone(session, CONFIG, 0, directory / "seed-0")


def test_pmap_does_not_train_replicas(session, tmp_path):
    config = small(training__parallel="pmap", training__steps=2)
    with pytest.raises(UserError, match=r"--replicas: .*=pmap are trained one after another"):
        loop.train(session, jobs(tmp_path, config=config), replica_axis=REPLICA_AXIS)
