import numpy as np
import pytest

from cnnjax.data import Order, keys


def test_each_epoch_is_seen_exactly_and_batches_span_epochs():
    order = Order(examples=10, batch_size=4, seed=0)
    steps = order.steps(2)
    assert steps == 5
    sequence = np.concatenate([order.indices(step) for step in range(steps)])
    assert sequence.dtype == np.int32
    assert sorted(sequence[:10]) == sorted(sequence[10:]) == list(range(10))
    assert list(sequence[:10]) != list(sequence[10:])
    np.testing.assert_array_equal(order.indices(2), sequence[8:12])


def test_a_batch_is_a_function_of_seed_and_step_alone():
    forward, fresh = Order(103, 16, seed=3), Order(103, 16, seed=3)
    seen = [forward.indices(step) for step in range(40)]
    for step in (39, 0, 17, 6):
        np.testing.assert_array_equal(fresh.indices(step), seen[step])
    assert not np.array_equal(Order(103, 16, seed=4).indices(0), seen[0])


def test_the_batch_size_only_cuts_the_same_sequence():
    sequence = Order(50, 7, seed=1).span(0, 140)
    np.testing.assert_array_equal(Order(50, 20, seed=1).indices(3), sequence[60:80])


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 4), (2, 7), (0.5, 2), (0.1, 1), (10, 34), (0.3, 1)]
)
def test_steps_are_rounded_up(epochs, steps):
    assert Order(10, 3, seed=0).steps(epochs) == steps


def test_random_numbers_do_not_change_between_versions():
    assert Order(8, 8, seed=0).indices(0).tolist() == [6, 3, 4, 2, 0, 7, 5, 1]
    assert keys.words(2, "a").tolist() != keys.words(2, "b").tolist()


def test_permutation_and_uniform():
    assert sorted(keys.permutation(1000, "x", 1)) == list(range(1000))
    draws = keys.uniform(10_000, "x")
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01


@pytest.mark.parametrize(("examples", "batch"), [(0, 4), (4, 0)])
def test_empty_orders_are_refused(examples, batch):
    with pytest.raises(ValueError, match="start at 1"):
        Order(examples, batch, seed=0)
