"""Native max pooling against slices and maxima, and flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.nn import pooling
from cnnjax.nn.native import library
from cnnjax.nn.native.pooling import max_pool

pytestmark = pytest.mark.skipif(bool(library.missing()), reason=str(library.missing()))

SHAPES = [(3, 6, 4, 5), (2, 7, 5, 16), (1, 2, 2, 1), (2, 9, 8, 33), (2, 3, 2, 1), (2, 4, 1, 3)]


def integers(shape, dtype="float32", seed=0):
    """Small integers, so that many are equal."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 3, shape), dtype)


def with_gradient(pool):
    def run(x):
        y, pullback = jax.vjp(pool, x)
        return y, pullback((1 + jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))[0]

    return run


def calls(function, *arguments):
    text = jax.jit(function).lower(*arguments).as_text()
    names = ("pool_max", "pool_take", "pool_put")
    return [text.count(f"@{library.target(name)}") for name in names]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_max_pool_forward_and_backward(shape, dtype):
    x = integers(shape, dtype)
    if min(shape[1:3]) > 1:
        assert calls(with_gradient(max_pool), x) == [1, 0, 1]
    result = jax.jit(with_gradient(max_pool))(x)
    expected = jax.jit(with_gradient(pooling.max_pool))(x)
    for one, other in zip(result, expected, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_array_equal(one, other)


def test_it_is_the_max_pool_of_flax():
    x = integers((2, 6, 8, 3))
    flax = with_gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2)))(x)
    jax.tree.map(np.testing.assert_array_equal, with_gradient(max_pool)(x), flax)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("index", range(4))
def test_nan_is_not_lost(index, dtype):
    x = jnp.arange(4.0).at[index].set(jnp.nan).reshape(1, 2, 2, 1).astype(dtype)
    y, gradient = with_gradient(max_pool)(x)
    assert np.isnan(y).all()
    assert gradient.ravel()[index] == 1


def test_infinities_and_zeros_of_both_signs():
    x = jnp.array([-jnp.inf, -jnp.inf, -0.0, 0.0]).reshape(1, 2, 2, 1)
    y, gradient = with_gradient(max_pool)(x)
    assert y.ravel().tolist() == [0.0]
    assert gradient.ravel().tolist() == [0, 0, 1, 0]


def test_forward_mode_and_second_derivatives():
    x, tangent = integers((2, 5, 4, 3)), integers((2, 5, 4, 3), seed=1)
    assert calls(lambda x, t: jax.jvp(max_pool, (x,), (t,)), x, tangent) == [1, 1, 0]
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.jvp(max_pool, (x,), (tangent,)),
        jax.jvp(pooling.max_pool, (x,), (tangent,)),
    )

    def curvature(pool):
        return jax.jvp(jax.grad(lambda x: (pool(x) ** 3).sum()), (x,), (tangent,))[1]

    np.testing.assert_array_equal(curvature(max_pool), curvature(pooling.max_pool))
    x = integers((1, 4, 2, 1))
    hessians = [jax.hessian(lambda x: (f(x) ** 3).sum())(x) for f in (max_pool, pooling.max_pool)]  # noqa: B023
    np.testing.assert_array_equal(*hessians)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_under_vmap_it_stays_native(axis):
    x = integers((3, 4, 6, 5, 2))
    native, plain = (jax.vmap(with_gradient(pool), axis) for pool in (max_pool, pooling.max_pool))
    assert calls(native, x) == [1, 0, 1]
    jax.tree.map(np.testing.assert_array_equal, native(x), plain(x))


def test_vmap_over_nothing():
    assert jax.vmap(with_gradient(max_pool))(integers((0, 2, 4, 4, 3)))[1].shape == (0, 2, 4, 4, 3)


def test_what_it_does_not_know_is_xlas():
    x = integers((2, 4, 4, 3))
    for other in (x.astype(jnp.float16), x[:0], x[:, :1]):
        assert calls(max_pool, other) == [0, 0, 0]
        np.testing.assert_array_equal(max_pool(other), pooling.max_pool(other))


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_the_form_for_accelerators_is_the_same(size):
    x = integers((2, *size, 3))
    result = with_gradient(pooling.reduce_window_max)(x)
    jax.tree.map(np.testing.assert_array_equal, result, with_gradient(pooling.max_pool)(x))
