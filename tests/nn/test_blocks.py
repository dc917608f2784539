"""Blocks, convolutions as layers, and pooling before the activation, which changes nothing."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.config import Model, Norm
from cnnjax.nn import activations, ingredients, operations, pooling
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.convolution import Conv
from cnnjax.nn.initializers import INITIALIZERS
from cnnjax.nn.native import library

HE = functools.partial(INITIALIZERS["he_normal"], Model())(1)


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({}, {}),
        ({"strides": 2, "padding": "VALID"}, {"strides": 2, "padding": "VALID"}),
        ({"groups": 2, "use_bias": False}, {"feature_group_count": 2, "use_bias": False}),
        ({"dtype": jnp.bfloat16}, {"dtype": jnp.bfloat16}),
    ],
)
def test_conv_is_that_of_flax(fields, reference):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 4))
    ours = Conv(6, (3, 2), HE, **fields)
    flax = nn.Conv(6, (3, 2), kernel_init=HE, **reference)
    variables = ours.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, variables, flax.init(jax.random.key(1), x))
    result, expected = ours.apply(variables, x), flax.apply(variables, x)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def late(x):
    """An activation that is not in NON_DECREASING, so that pooling comes after it."""
    return jax.nn.relu(x)


@pytest.mark.parametrize("form", ["PLAIN", "SLICED", "NATIVE"])
@pytest.mark.parametrize(
    ("kind", "placement"), [("none", "before"), ("batch", "before"), ("batch", "after")]
)
def test_pooling_first_changes_nothing(kind, placement, form):
    if form == "NATIVE" and library.missing():
        pytest.skip(library.missing())
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 3))

    def results(activation):
        norm = Norm(kind=kind, placement=placement)
        model = Model(norm=norm, pooling="max", initializer="he_normal")
        model = model.model_copy(update={"activation": activation})
        levels = {"activation": {"late": late}}
        form_ = getattr(operations, form)
        make = ingredients.build(model, levels=levels, operations=form_)
        assert make.pooling_commutes is (activation == "relu")
        block = ConvBlock(make, 5, pool=make.pool("pool"))
        variables = block.init(jax.random.key(1), x, train=True)

        def loss(params, x):
            y, state = block.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats"],
            )
            return (jnp.cos(jnp.arange(y.size)).reshape(y.shape) * y).sum(), (y, state)

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        return gradient(variables["params"], x)

    early_pool, late_pool = (jax.tree.leaves(results(name)) for name in ("relu", "late"))
    for early, late_ in zip(early_pool, late_pool, strict=True):
        np.testing.assert_allclose(early, late_, rtol=1e-4, atol=1e-5)


def test_pooling_first_computes_less():
    """The activation sees a quarter of the numbers."""
    seen = []

    def counted(x):
        seen.append(x.shape)
        return x

    for non_decreasing in (activations.NON_DECREASING, (*activations.NON_DECREASING, counted)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingredients, "NON_DECREASING", non_decreasing)
            model = Model(pooling="max").model_copy(update={"activation": "counted"})
            make = ingredients.build(model, levels={"activation": {"counted": counted}})
            x = jnp.zeros((1, 8, 8, 2))
            block = ConvBlock(make, 3, pool=make.pool("pool"))
            block.init(jax.random.key(0), x, train=False)
    assert seen == [(1, 8, 8, 3), (1, 4, 4, 3)]


@pytest.mark.parametrize("name", [f.__name__ for f in activations.NON_DECREASING])
def test_non_decreasing_activations(name):
    function = next(f for f in activations.NON_DECREASING if f.__name__ == name)
    x = jnp.linspace(-12, 12, 10_001)
    assert float(jnp.diff(function(x)).min()) >= -1e-6
    assert function in activations.ACTIVATIONS.values()


@pytest.mark.parametrize("name", ["leaky_relu", "gelu", "silu", "prelu"])
def test_activations_that_may_decrease_are_pooled_last(name):
    make = ingredients.build(Model(activation=name, leaky_slope=-0.5, pooling="max"))
    assert not make.pooling_commutes


def test_the_choice_of_operations():
    assert operations.choose("gpu", "xla").convolve is lax.conv_general_dilated
    assert operations.choose("tpu", "xla").max_pool is pooling.reduce_window_max
    assert operations.choose("cpu", "xla").max_pool is pooling.max_pool
    native = operations.choose("cpu", "native")
    assert native is operations.NATIVE
    assert native.batch_norm is not nn.BatchNorm
