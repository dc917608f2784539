"""What a run derives from its configuration before its first step."""

import math
import time

import numpy as np
import pytest

from cnnjax import catalog
from cnnjax.config import RunConfig, Schedule, override
from cnnjax.data.order import Order
from cnnjax.train import optim, plan


def make_plan(examples=1212, **changes):
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    config = override(RunConfig(), dotted)
    return plan.Plan(config, Order(examples, config.training.batch_size, 0))


@pytest.mark.parametrize("every", [1, 0.5, 1 / 3, 0.01, 0.001, 2.7])
@pytest.mark.parametrize("steps", [1, 57, 300])
def test_the_split_is_evaluated_at_multiples_of_every_epochs_and_at_the_end(every, steps):
    run_plan = make_plan(evaluation__every_epochs=every, training__steps=steps)
    after = every * 1212 / 64
    marks = {math.ceil(after * count - 1e-9) for count in range(1, int(steps / after) + 1)}
    evaluated = {step for step in range(1, steps + 1) if run_plan.evaluates(step)}
    assert evaluated == {mark for mark in marks if mark <= steps} | {steps}


def test_checkpoints_are_written_between_evaluations_and_lines_with_both():
    run_plan = make_plan(
        evaluation__every_epochs=1, training__steps=40, checkpointing__every_steps=15,
        training__log_every_steps=18,
    )  # fmt: skip
    assert [step for step in range(1, 41) if run_plan.saves(step)] == [15, 19, 30, 38, 40]
    assert [step for step in range(1, 41) if run_plan.due(step)] == [15, 18, 19, 30, 36, 38, 40]


def whole_rates(steps):
    return optim.learning_rates(Schedule(), 0.05, steps, 1212 / 64, range(steps))


@pytest.mark.parametrize("name", catalog.SCHEDULES)
def test_learning_rates_in_chunks_are_those_of_the_whole_run(name, monkeypatch):
    settings = {"name": name, "warmup_epochs": 3, "boundaries_epochs": (5, 9), "final": 0.01}
    whole = optim.learning_rates(Schedule(**settings), 0.1, 1000, 1212 / 64, range(1000))
    monkeypatch.setattr(plan, "CHUNK", 96)
    run_plan = make_plan(
        training__steps=1000, optimizer__learning_rate=0.1,
        **{f"schedule__{field}": value for field, value in settings.items()},
    )  # fmt: skip
    parts = np.array([run_plan.rate(step) for step in range(1, 1001)], np.float32)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(plan, "CHUNK", 2**20)
    np.testing.assert_array_equal(make_plan(training__steps=50).rates(0), whole_rates(50))


def test_the_plan_of_a_billion_steps_is_made_in_seconds():
    started = time.perf_counter()
    run_plan = make_plan(training__steps=10**9, evaluation__every_epochs=1e-6)
    assert run_plan.rate(1) == pytest.approx(0.05)
    assert run_plan.evaluates(1)
    assert run_plan.rate(10**9) == pytest.approx(0, abs=1e-6)
    assert run_plan.rates(0).size == plan.CHUNK
    assert time.perf_counter() - started < 5
