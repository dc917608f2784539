"""What a run derives from its configuration before its first step."""

import math
import time

import numpy as np
import pytest

from cnnjax import catalog
from cnnjax.config import RunConfig, Schedule, override
from cnnjax.data.order import Order
from cnnjax.train import optim, plan


def planned(examples=1212, **changes):
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    config = override(RunConfig(), dotted)
    return plan.plan(config, Order(examples, config.training.batch_size, 0))


@pytest.mark.parametrize("every", [1, 0.5, 1 / 3, 0.01, 0.001, 2.7])
@pytest.mark.parametrize("steps", [1, 57, 300])
def test_evaluations_are_after_whole_shares_of_epochs_and_at_the_end(every, steps):
    made = planned(evaluation__every_epochs=every, training__steps=steps)
    after = every * 1212 / 64
    marks = {math.ceil(after * count - 1e-9) for count in range(1, int(steps / after) + 1)}
    evaluated = {step for step in range(1, steps + 1) if made.evaluates(step)}
    assert evaluated == {mark for mark in marks if mark <= steps} | {steps}


def test_checkpoints_are_in_between_and_lines_with_them():
    made = planned(
        evaluation__every_epochs=1, training__steps=40, checkpointing__every_steps=15,
        training__log_every_steps=18,
    )  # fmt: skip
    assert [step for step in range(1, 41) if made.saves(step)] == [15, 19, 30, 38, 40]
    assert [step for step in range(1, 41) if made.due(step)] == [15, 18, 19, 30, 36, 38, 40]


def planned_whole(steps):
    return optim.learning_rates(Schedule(), 0.05, steps, 1212 / 64)


@pytest.mark.parametrize("name", catalog.SCHEDULES)
def test_rates_in_parts_are_those_of_the_whole_and_a_short_run_is_one_part(name, monkeypatch):
    settings = {"name": name, "warmup_epochs": 3, "boundaries_epochs": (5, 9), "final": 0.01}
    whole = optim.learning_rates(Schedule(**settings), 0.1, 1000, 1212 / 64)
    monkeypatch.setattr(plan, "CHUNK", 96)
    made = planned(
        training__steps=1000, optimizer__learning_rate=0.1,
        **{f"schedule__{field}": value for field, value in settings.items()},
    )  # fmt: skip
    parts = np.array([made.rate(step) for step in range(1, 1001)], np.float32)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(plan, "CHUNK", 2**20)
    np.testing.assert_array_equal(planned(training__steps=50).rates(0), planned_whole(50))


def test_a_run_of_a_billion_steps_is_planned_at_once():
    started = time.perf_counter()
    made = planned(training__steps=10**9, evaluation__every_epochs=1e-6)
    assert made.rate(1) == pytest.approx(0.05)
    assert made.evaluates(1)
    assert made.rate(10**9) == pytest.approx(0, abs=1e-6)
    assert made.rates(0).size == plan.CHUNK
    assert time.perf_counter() - started < 5
