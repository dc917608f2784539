"""Several steps in a call of the compiled program, through the loop, whose host does not wait."""

import json

import jax
import numpy as np
import pytest

from cnnjax.config import RunConfig, override
from cnnjax.data.order import Order
from cnnjax.errors import Stopped
from cnnjax.train import folder, loop, parallel
from cnnjax.train.plan import Plan
from common import small, train_alone

CONFIG = small(
    model__hidden=(17,), model__dropout__keep_prob=0.9, data__augmentation__shift_pixels=1
)
TIMING = ("seconds", "images_per_second")


def lines(directory):
    records = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k not in TIMING} for record in records]


@pytest.fixture(scope="module")
def scanned(session, tmp_path_factory):
    directory = tmp_path_factory.mktemp("scanned")
    return directory, train_alone(session, CONFIG, 1, directory, steps_per_call=4)


def stopping_at(call):
    """Asks for a stop from just before a call on."""
    asked = iter(range(10**6))
    return lambda: "SIGTERM" if next(asked) >= call else ""


def test_calls_end_where_something_is_written_and_depend_on_their_start_alone():
    config = override(RunConfig(), {"training.steps": 23, "training.log_every_steps": 10})
    plan = Plan(config, Order(1212, 64, 0))
    calls = [(steps[0], len(steps)) for steps in plan.calls(0, 23, 4)]
    assert calls == [
        (1, 4), (5, 4), (9, 1), (10, 1), (11, 4), (15, 4), (19, 1), (20, 1), (21, 1), (22, 1),
        (23, 1),
    ]  # fmt: skip
    whole = list(plan.calls(0, 23, 4))
    for index, steps in enumerate(whole):
        assert list(plan.calls(steps[0] - 1, 23, 4)) == whole[index:]
    assert [len(steps) for steps in plan.calls(0, 23, 10)] == [10, *[1] * 9, 1, 1, 1, 1]


def test_several_steps_a_call_give_the_results_of_single_steps(scanned, session, tmp_path):
    directory, result = scanned
    alone = train_alone(session, CONFIG, 1, tmp_path)
    assert result.runtime["steps_per_call"] == 4
    assert alone.runtime["steps_per_call"] == 1
    assert result.compilations == 2  # a call of four steps, and of one
    for split in ("validation", "test"):
        loss = alone.figures(split).get("loss")
        assert result.figures(split).get("loss") == pytest.approx(loss, rel=1e-4)
    for mine, other in zip(lines(directory), lines(tmp_path), strict=True):
        assert mine.pop("split") == other.pop("split")
        assert mine == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("call", [0, 1, 4, 7])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(scanned, session, tmp_path, call):
    """Between any two calls; a run is resumed with the number that it was started with."""
    directory, result = scanned
    step = {0: 0, 1: 4, 4: 10, 7: 13}[call]
    with pytest.raises(Stopped, match=f"stopped by SIGTERM at step {step} of 30"):
        train_alone(session, CONFIG, 1, tmp_path, steps_per_call=4, stop=stopping_at(call))
    assert max(folder.steps(tmp_path / "checkpoints"), default=0) == step
    again = train_alone(session, CONFIG, 1, tmp_path, steps_per_call=1 if step else 4)
    assert again.params_digest == result.params_digest
    assert again.runtime == result.runtime
    assert lines(tmp_path) == lines(directory)


def test_streamed_batches_give_the_same_bits(scanned, session, tmp_path):
    config = CONFIG.model_copy(
        update={"data": CONFIG.data.model_copy(update={"pipeline": "stream"})}
    )
    result = train_alone(session, config, 1, tmp_path, steps_per_call=4)
    assert result.params_digest == scanned[1].params_digest


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_images_are_on_the_devices_before_their_call(
    session, tmp_path, monkeypatch, steps_per_call
):
    """Streamed ones batch by batch, those in memory once and for all: as bytes, either way."""
    seen, steps = [], loop.Replicas.steps

    def looking(self, batch, rates):
        seen.append(batch)
        return steps(self, batch, rates)

    monkeypatch.setattr(loop.Replicas, "steps", looking)
    train_alone(session, small(data__pipeline="stream"), 1, tmp_path, steps_per_call=steps_per_call)
    images = seen[0]["images"]
    assert isinstance(images, jax.Array)
    assert (images.dtype, images.shape[-4:]) == (np.uint8, (50, 8, 8, 1))
    axis = images.ndim - 4
    assert tuple(images.sharding.spec) == (*[None] * axis, parallel.AXIS)
    store = session.store(small(), session.program(small()))
    assert (store["images"].dtype, len(store["images"])) == (np.uint8, 1797)


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_run_that_diverges_ends_with_its_first_step_that_is_not_finite(
    session, tmp_path, steps_per_call
):
    """The host has made further calls by then."""
    config = small(
        optimizer__learning_rate=1e9, schedule__name="linear", schedule__warmup_epochs=0.8,
        training__log_every_steps=20, model__activation="identity", training__steps=20,
    )  # fmt: skip
    single = train_alone(
        session,
        config.model_copy(
            update={"training": config.training.model_copy(update={"log_every_steps": 1})}
        ),
        0,
        tmp_path / "single",
    )
    result = train_alone(session, config, 0, tmp_path / "run", steps_per_call=steps_per_call)
    assert (single.status, result.status) == ("diverged", "diverged")
    assert result.diverged_at_step == single.diverged_at_step == result.steps
    assert result.diverged_at_step % 20
    assert lines(tmp_path / "run")[-1]["step"] == result.diverged_at_step


def test_figures_are_fetched_where_a_line_is_written(session, tmp_path, monkeypatch):
    """Not at each step: thirty steps, of which the lines are after 5, 10, 13, 15, 20, 25 and 30."""
    fetched, dispatched = [], []
    figures, steps = loop.Replicas.figures, loop.Replicas.steps

    def counting_steps(self, batch, rates):
        dispatched.append(len(rates[0]))
        return steps(self, batch, rates)

    def counting_figures(self, metrics):
        fetched.append(sum(dispatched))
        return figures(self, metrics)

    monkeypatch.setattr(loop.Replicas, "steps", counting_steps)
    monkeypatch.setattr(loop.Replicas, "figures", counting_figures)
    train_alone(session, small(), 1, tmp_path)
    assert sorted(set(fetched)) == [5, 10, 13, 15, 20, 25, 30]


def test_no_more_calls_are_in_flight_than_allowed(session, tmp_path, monkeypatch):
    waited, dispatched = [], []
    tick, steps = loop.Clock.tick, loop.Replicas.steps

    def counting(self, batch, rates):
        dispatched.append(0)
        assert len(dispatched) - len(waited) <= 3 + 1
        return steps(self, batch, rates)

    monkeypatch.setattr(loop, "CALLS_IN_FLIGHT", {"cpu": 3})
    monkeypatch.setattr(loop.Replicas, "steps", counting)
    monkeypatch.setattr(
        loop.Clock, "tick", lambda self, count: (waited.append(0), tick(self, count))
    )
    config = small(training__log_every_steps=30, evaluation__every_epochs=30)
    train_alone(session, config, 1, tmp_path)
    assert len(dispatched) == len(waited) == 30


def test_a_run_of_an_older_version_is_resumed_with_single_steps(session, tmp_path):
    with pytest.raises(Stopped):
        train_alone(session, CONFIG, 1, tmp_path, stop=stopping_at(6))
    path = tmp_path / "runtime.json"
    settings = json.loads(path.read_text())
    del settings["steps_per_call"]
    path.write_text(json.dumps(settings))
    result = train_alone(session, CONFIG, 1, tmp_path, steps_per_call=4)
    assert result.status == "finished"
    assert folder.resumed_settings(tmp_path)["steps_per_call"] == 1


@pytest.mark.parametrize("damaged", ["two", 0, None])
def test_an_invalid_number_of_steps_per_call_makes_the_run_start_anew(session, tmp_path, damaged):
    with pytest.raises(Stopped):
        train_alone(session, CONFIG, 1, tmp_path, stop=stopping_at(6))
    path = tmp_path / "runtime.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps_per_call": damaged}))
    assert folder.resumed_settings(tmp_path) == {}
