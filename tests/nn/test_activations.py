import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Model
from cnnjax.nn import ingredients
from cnnjax.nn.activations import ACTIVATIONS, PReLU

X = jnp.array([-2.0, -0.5, 0.0, 1.0])
E = np.exp
BY_HAND = {
    "sigmoid": [1 / (1 + E(2.0)), 1 / (1 + E(0.5)), 0.5, 1 / (1 + E(-1.0))],
    "tanh": [-0.9640276, -0.4621172, 0.0, 0.7615942],
    "scaled_tanh": [-1.492939, -0.5516837, 0.0, 0.9999974],
    "relu": [0.0, 0.0, 0.0, 1.0],
    "leaky_relu": [-0.02, -0.005, 0.0, 1.0],
    "elu": [E(-2.0) - 1, E(-0.5) - 1, 0.0, 1.0],
    "selu": [1.0507010 * 1.6732632 * (E(-2.0) - 1), -0.6917582, 0.0, 1.0507010],
    "gelu": [-0.0455003, -0.1542688, 0.0, 0.8413447],
    "silu": [-2 / (1 + E(2.0)), -0.5 / (1 + E(0.5)), 0.0, 1 / (1 + E(-1.0))],
    "softplus": [np.log1p(E(-2.0)), np.log1p(E(-0.5)), np.log(2.0), np.log1p(E(1.0))],
    "identity": [-2.0, -0.5, 0.0, 1.0],
}


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "prelu"])
def test_values_by_hand(name):
    np.testing.assert_allclose(ACTIVATIONS[name](X), BY_HAND[name], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_sigmoid_is_a_quarter_at_most():
    assert float(jax.grad(ACTIVATIONS["sigmoid"])(0.0)) == pytest.approx(0.25)


def test_leaky_slope_comes_from_the_configuration():
    make = ingredients.build(Model(activation="leaky_relu", leaky_slope=0.3))
    np.testing.assert_allclose(make.activation("a")(X), [-0.6, -0.15, 0.0, 1.0], rtol=1e-6)


def test_prelu_learns_one_slope_per_channel():
    x = jnp.array([[[[-2.0, -4.0]]]])
    variables = PReLU().init(jax.random.key(0, impl="rbg"), x)
    assert variables["params"]["slope"].tolist() == [0.25, 0.25]
    np.testing.assert_allclose(PReLU().apply(variables, x), [[[[-0.5, -1.0]]]])
    slope = jax.grad(lambda v: PReLU().apply(v, x).sum())(variables)["params"]["slope"]
    np.testing.assert_allclose(slope, [-2.0, -4.0])


def test_a_module_class_of_ones_own_is_made_with_its_name():
    class Twice(nn.Module):
        def __call__(self, x):
            return 2 * x

    make = ingredients.build(
        Model.model_validate({"activation": "t"}, context={"levels": {"activation": {"t": 1}}}),
        levels={"activation": {"t": Twice}},
    )
    assert Twice(name="a").apply({}, X).tolist() == make.activation("a").apply({}, X).tolist()
