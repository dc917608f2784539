import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Model
from cnnjax.nn import ingredients
from cnnjax.nn.convolution import SparseConv
from cnnjax.nn.initializers import INITIALIZERS, fans

SHAPE = (5, 5, 40, 80)  # n_in 1000, n_out 2000: 80,000 numbers
N_IN, N_OUT = 1000, 2000
SD = {
    "small": 0.03,
    "lecun": 1 / math.sqrt(N_IN),
    "xavier": math.sqrt(2) / math.sqrt(N_IN + N_OUT),
    "he": math.sqrt(2) / math.sqrt(N_IN),
    "lenet": 2.4 / N_IN / math.sqrt(3),
}
RANDOM = [name for name in INITIALIZERS if name.partition("_")[0] in SD]


def draw(name, shape=SHAPE, groups=1, **fields):
    model = Model(initializer=name, **fields)
    return INITIALIZERS[name](model, groups)(jax.random.key(1, impl="rbg"), shape, jnp.float32)


@pytest.mark.parametrize("name", RANDOM)
def test_the_deviation_is_the_formula(name):
    values, sd = np.asarray(draw(name)), SD[name.partition("_")[0]]
    # The sd of a sample deviation is at most sd / sqrt(2 * 80,000) = 0.25 %: four of them.
    assert values.std() == pytest.approx(sd, rel=0.01)
    assert abs(values.mean()) < 4 * sd / math.sqrt(values.size)
    widest = np.abs(values).max() / sd
    if name.endswith("uniform"):
        assert 1.72 < widest <= math.sqrt(3) + 1e-6
    elif "truncated" in name:
        assert 2.2 < widest <= 2 / 0.8796 + 1e-4
    else:
        assert widest > 3.5


def test_every_level_is_tested_here():
    assert set(RANDOM) | {"zeros", "constant", "orthogonal", "lsuv"} == set(INITIALIZERS)


def test_fields_of_the_configuration():
    assert not draw("zeros").any()
    assert (draw("constant", (2, 3), initializer_value=0.5) == 0.5).all()
    assert float(draw("small_normal", initializer_sd=2.0).std()) == pytest.approx(2.0, rel=0.01)


def test_fans():
    assert fans((7, 3)) == (7, 3)
    assert fans((5, 5, 6, 16)) == (150, 400)
    # 8 channels to 12 in 4 groups: each output sees 2 channels, each input reaches 3.
    assert fans((3, 3, 2, 12), groups=4) == (18, 27)


@pytest.mark.parametrize("groups", [1, 4])
def test_grouped_convolutions_get_their_own_fans(groups):
    make = ingredients.build(Model(initializer="xavier_normal"))
    layer = make.conv(64, 5, groups=groups, name="conv")
    kernel = layer.init(jax.random.key(0, impl="rbg"), jnp.zeros((1, 8, 8, 64)))["params"]["kernel"]
    assert kernel.shape == (5, 5, 64 // groups, 64)
    expected = math.sqrt(2 / (25 * 64 / groups * 2))
    assert float(kernel.std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["orthogonal", "lsuv"])
def test_orthogonal_columns_or_rows(name):
    tall = draw(name, (3, 3, 4, 8)).reshape(36, 8)
    np.testing.assert_allclose(tall.T @ tall, np.eye(8), atol=1e-5)
    wide = draw(name, (4, 8))
    np.testing.assert_allclose(wide @ wide.T, np.eye(4), atol=1e-5)


def test_orthogonal_within_each_group():
    kernel = draw("orthogonal", (1, 1, 4, 8), groups=2).reshape(4, 8)
    for part in (kernel[:, :4], kernel[:, 4:]):
        np.testing.assert_allclose(part.T @ part, np.eye(4), atol=1e-5)
    assert not np.allclose(kernel[:, :4], kernel[:, 4:])


CONNECTIONS = ((0, 1), (1, 2), (2, 0), (0, 1, 2))


def test_a_sparse_convolution_is_a_masked_dense_one():
    layer = SparseConv(CONNECTIONS, (3, 3), nn.initializers.normal(1.0))
    x = jax.random.normal(jax.random.key(0, impl="rbg"), (2, 6, 6, 3))
    variables = layer.init(jax.random.key(1, impl="rbg"), x)
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.shape == (3, 3, 9)
    dense, connection = np.zeros((3, 3, 3, 4), np.float32), 0
    for output, row in enumerate(CONNECTIONS):
        for channel in row:
            dense[:, :, channel, output] = kernel[:, :, connection]
            connection += 1
    reference = nn.Conv(4, (3, 3), padding="VALID")
    expected = reference.apply({"params": {"kernel": dense, "bias": np.full(4, 0.5)}}, x)
    variables = {"params": variables["params"] | {"bias": jnp.full(4, 0.5)}}
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_a_sparse_convolution_knows_its_fans():
    shapes = []

    def record(key, shape, dtype):
        shapes.append(tuple(shape))
        return jnp.zeros(shape, dtype)

    layer = SparseConv(CONNECTIONS, (3, 3), record)
    layer.init(jax.random.key(1, impl="rbg"), jnp.zeros((1, 6, 6, 3)))
    # 9 connections of 3 inputs: each reaches 3 outputs.
    assert set(shapes) == {(3, 3, 2, 3), (3, 3, 3, 3)}
