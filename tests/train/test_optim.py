import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import catalog
from cnnjax.config import Optimizer, Schedule
from cnnjax.train import optim

PARAMS = {"fc": {"kernel": jnp.array([[2.0, -1.0]]), "bias": jnp.array([3.0, 4.0])}}
GRADIENT = {"fc": {"kernel": jnp.array([[0.5, 1.0]]), "bias": jnp.array([1.0, -2.0])}}


def step(config, rate, decay, steps=1):
    """The parameters after some steps of a constant gradient, with traced numbers."""
    make = optim.optimizer(config)
    state, params = make(0.0, 0.0).init(PARAMS), PARAMS

    @jax.jit
    def once(params, state, rate, decay):
        updates, state = make(rate, decay).update(GRADIENT, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = once(params, state, rate, decay)
    return params["fc"]


def test_sgd_and_weight_decay_that_spares_biases():
    params = step(Optimizer(name="sgd"), 0.1, 0.01)
    np.testing.assert_allclose(params["kernel"], [[2 - 0.1 * (0.5 + 0.02), -1 - 0.1 * (1 - 0.01)]])
    np.testing.assert_allclose(params["bias"], [3 - 0.1, 4 + 0.2])


def test_decay_all_decays_biases_too():
    params = step(Optimizer(name="sgd", decay_all=True), 0.1, 0.01)
    np.testing.assert_allclose(params["bias"], [3 - 0.1 * (1 + 0.03), 4 - 0.1 * (-2 + 0.04)])


def test_momentum_and_nesterov_by_hand():
    params = step(Optimizer(name="momentum", momentum=0.5), 0.1, 0.0, steps=2)
    np.testing.assert_allclose(params["bias"][0], 3 - 0.1 * (1 + 1.5), rtol=1e-6)
    params = step(Optimizer(name="nesterov", momentum=0.5), 0.1, 0.0, steps=2)
    np.testing.assert_allclose(params["bias"][0], 3 - 0.1 * (1.5 + 1.75), rtol=1e-6)


def test_adam_moves_by_the_rate_at_first_and_adamw_decouples_the_decay():
    params = step(Optimizer(name="adam"), 0.1, 0.0)
    np.testing.assert_allclose(params["bias"], [2.9, 4.1], rtol=1e-5)
    params = step(Optimizer(name="adamw"), 0.1, 0.5)
    np.testing.assert_allclose(params["kernel"], [[2 - 0.1 - 0.1, -1 - 0.1 + 0.05]], rtol=1e-5)
    np.testing.assert_allclose(params["bias"], [2.9, 4.1], rtol=1e-5)


def test_rmsprop_divides_by_the_running_root_mean_square():
    params = step(Optimizer(name="rmsprop"), 0.01, 0.0)
    move = 0.01 / np.sqrt(0.1)
    np.testing.assert_allclose(params["bias"], [3 - move, 4 + move], rtol=1e-4)
    params = step(Optimizer(name="rmsprop"), 0.01, 0.0, steps=2)
    move += 0.01 / np.sqrt(0.9 * 0.1 + 0.1)
    np.testing.assert_allclose(params["bias"], [3 - move, 4 + move], rtol=1e-4)


def test_betas_and_epsilon_by_hand():
    """Kingma and Ba 2015, algorithm 1. Of a constant gradient 1 the corrected averages are 1, and
    only epsilon shows; the betas show where the gradient changes."""
    for name in ("adam", "adamw"):
        params = step(Optimizer(name=name, epsilon=0.25), 0.1, 0.0, steps=2)
        np.testing.assert_allclose(params["bias"][0], 3 - 2 * 0.1 / 1.25, rtol=1e-5)
        make = optim.optimizer(Optimizer(name=name, beta1=0.5, beta2=0.75))(1.0, 0.0)
        params = {"w": jnp.ones((1,))}
        moments = make.init(params)
        for value in (1.0, 3.0):
            updates, moments = make.update({"w": jnp.full((1,), value)}, moments, params)
        first = (0.5 * 0.5 * 1 + 0.5 * 3) / (1 - 0.5**2)
        second = (0.75 * 0.25 * 1 + 0.25 * 9) / (1 - 0.75**2)
        np.testing.assert_allclose(updates["w"], [-first / np.sqrt(second)], rtol=1e-5)


def test_rmsprop_decay_and_epsilon_by_hand():
    params = step(Optimizer(name="rmsprop", rmsprop_decay=0.5, epsilon=0.25), 0.1, 0.0)
    np.testing.assert_allclose(params["bias"][0], 3 - 0.1 / np.sqrt(0.5 + 0.25), rtol=1e-5)
    params = step(Optimizer(name="rmsprop", rmsprop_decay=0.5), 0.1, 0.0, steps=2)
    move = 0.1 / np.sqrt(0.5) + 0.1 / np.sqrt(0.75)
    np.testing.assert_allclose(params["bias"][0], 3 - move, rtol=1e-5)


def test_every_optimizer_is_tried_by_hand_above():
    """Each with the first step, or two, that its paper gives."""
    tried = {"sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lars"}
    assert tried == set(catalog.OPTIMIZERS)


def test_lars_scales_the_rate_of_a_kernel_with_the_trust_ratio():
    params = step(Optimizer(name="lars", momentum=0.0), 1.0, 0.0)
    ratio = 0.001 * np.sqrt(5) / np.sqrt(1.25)
    np.testing.assert_allclose(params["kernel"], [[2 - ratio * 0.5, -1 - ratio]], rtol=1e-5)
    np.testing.assert_allclose(params["bias"], [2.0, 6.0], rtol=1e-6)


def test_clipping_bounds_the_global_norm():
    params = step(Optimizer(name="sgd", clip_norm=1.25), 1.0, 0.0)
    norm = np.sqrt(0.25 + 1 + 1 + 4)
    np.testing.assert_allclose(params["bias"], [3 - 1.25 / norm, 4 + 2.5 / norm], rtol=1e-6)


def rates(total=10, per_epoch=2.0, peak=1.0, **fields):
    return optim.learning_rates(Schedule(**fields), peak, total, per_epoch, range(total))


def test_schedules_by_hand():
    np.testing.assert_allclose(rates(name="constant"), np.ones(10))
    np.testing.assert_allclose(
        rates(name="step", boundaries_epochs=(2, 4), factor=0.1), [1] * 4 + [0.1] * 4 + [0.01] * 2
    )
    cosine = rates(name="cosine")
    np.testing.assert_allclose(cosine, 0.5 * (1 + np.cos(np.pi * np.arange(10) / 10)), atol=1e-6)
    assert rates(name="cosine", final=0.2, total=1000)[-1] == pytest.approx(0.2, abs=1e-4)
    np.testing.assert_allclose(rates(name="linear", factor=0.5), 1 - 0.05 * np.arange(10))
    np.testing.assert_allclose(
        rates(name="exponential", factor=0.01), 0.01 ** (np.arange(10) / 10), rtol=1e-5
    )
    cycle = rates(name="one_cycle", total=100)
    assert cycle.argmax() == 30
    assert cycle[0] == pytest.approx(1 / 25)


@pytest.mark.parametrize("name", catalog.SCHEDULES)
def test_warm_up_rises_to_the_peak(name):
    schedule = rates(name=name, warmup_epochs=2, boundaries_epochs=(4,), peak=0.4)
    if name == "one_cycle":
        assert schedule.argmax() == 4
    else:
        np.testing.assert_allclose(schedule[:5], [0.1, 0.2, 0.3, 0.4, 0.4], rtol=1e-5)
    assert schedule.dtype == np.float32
    assert schedule[0] < schedule[3] <= 0.4 + 1e-6


def test_step_boundaries_count_from_the_start_of_the_run():
    schedule = rates(name="step", boundaries_epochs=(3,), warmup_epochs=1, factor=0.1)
    np.testing.assert_allclose(schedule, [0.5, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1], rtol=1e-6)
