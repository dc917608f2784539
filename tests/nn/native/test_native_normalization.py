"""Batch normalisation with native sums against flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.nn.native import library
from cnnjax.nn.native.normalization import _SUMS, BatchNorm

pytestmark = pytest.mark.skipif(bool(library.missing()), reason=str(library.missing()))

SHAPES = [(4, 6, 5, 16), (3, 5, 5, 6), (50, 7), (2, 3, 3, 100), (300, 1), (1, 4, 4, 64)]
FIELDS = {"momentum": 0.8, "epsilon": 1e-3}
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}


def inputs(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(1, 2, shape), dtype)


def run(module_class, x, *, train=True, axis_name=None, **fields):
    """Output, new statistics and the gradients to the input and the parameters."""
    module = module_class(use_running_average=not train, axis_name=axis_name, **FIELDS, **fields)
    channels = x.shape[-1]
    params = {"scale": jnp.linspace(0.5, 2, channels), "bias": jnp.linspace(-1, 1, channels)}
    stats = {"mean": jnp.full(channels, 0.5), "var": jnp.full(channels, 3.0)}

    def apply(params, x):
        y, state = module.apply(
            {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
        )
        return y, state["batch_stats"]

    y, pullback, stats = jax.vjp(apply, params, x, has_aux=True)
    weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
    return {"y": y, "stats": stats, "gradients": pullback(weights)}


def assert_near(result, expected, tolerance):
    def near(one, other):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())

    jax.tree.map(near, result, expected)


def calls(function, *arguments):
    return jax.jit(function).lower(*arguments).as_text().count(f"@{library.target('sums')}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_flaxs_forward_and_backward(shape, dtype):
    x = inputs(shape, dtype)
    fields = {"dtype": jnp.dtype(dtype)}
    assert calls(lambda x: run(BatchNorm, x, **fields), x) == 2
    result = jax.jit(lambda x: run(BatchNorm, x, **fields))(x)
    assert_near(result, jax.jit(lambda x: run(nn.BatchNorm, x, **fields))(x), TOLERANCE[dtype])


def test_it_has_the_variables_of_flaxs():
    x = inputs((2, 3))
    result, expected = (
        kind(use_running_average=False, **FIELDS).init(jax.random.key(0), x)
        for kind in (BatchNorm, nn.BatchNorm)
    )
    jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_running_statistics_are_used_and_kept():
    x = inputs((4, 3, 3, 5))
    assert calls(lambda x: run(BatchNorm, x, train=False)["y"], x) == 0
    assert_near(run(BatchNorm, x, train=False), run(nn.BatchNorm, x, train=False), 1e-5)


def test_forward_mode_and_second_derivatives():
    x, tangent = inputs((4, 3, 3, 5)), inputs((4, 3, 3, 5), seed=1)

    def both(module_class):
        def loss(x):
            return (run(module_class, x)["y"] ** 3).sum()

        slope = jax.grad(loss)
        return jax.jvp(loss, (x,), (tangent,))[1], jax.jvp(slope, (x,), (tangent,))[1]

    assert_near(both(BatchNorm), both(nn.BatchNorm), 1e-4)


def test_under_vmap_and_over_devices():
    x = inputs((3, 4, 5, 5, 2))
    for axis_name in (None, "devices"):
        result, expected = (
            jax.vmap(lambda x: run(kind, x, axis_name=axis_name), axis_name="devices")(x)  # noqa: B023
            for kind in (BatchNorm, nn.BatchNorm)
        )
        assert_near(result, expected, 2e-5)


def test_sums_of_many_numbers_are_exact_to_rounding():
    """2.4 million numbers near 1, where adding one by one in float32 is off by 1e-3."""
    x = 1 + 1e-3 * np.random.default_rng(0).random((60, 200, 200, 1), np.float32)
    exact = np.asarray(x, np.float64)
    for centre in (0.0, 1.0):
        result = _SUMS.bind(jnp.asarray(x), jnp.asarray(x), jnp.full(1, centre))
        expected = [exact.sum(), (exact * (exact - centre)).sum()]
        np.testing.assert_allclose(result[:, 0], expected, rtol=1e-6)


def test_an_empty_batch_and_other_types_are_xlas():
    for x in (jnp.zeros((0, 3)), jnp.ones((4, 3), jnp.float16)):
        assert calls(_SUMS.bind, x, x, jnp.zeros(3)) == 0
        assert _SUMS.bind(x, x, jnp.zeros(3)).dtype == jnp.float32
        np.testing.assert_array_equal(_SUMS.bind(x, x, jnp.zeros(3)), np.full((2, 3), len(x)))
    assert run(BatchNorm, jnp.zeros((0, 3)))["y"].shape == (0, 3)


@pytest.mark.parametrize("value", [5.0, 0.1, -300.0])
def test_a_channel_of_equal_numbers_becomes_its_bias(value):
    """And its scale gets no gradient, as there is nothing to scale."""
    x = jnp.full((16, 8, 8, 4), value)
    result = run(BatchNorm, x)
    bias = jnp.linspace(-1, 1, 4)
    np.testing.assert_allclose(result["y"], jnp.broadcast_to(bias, x.shape), atol=2e-2)
    assert float(jnp.abs(result["gradients"][0]["scale"]).max()) < 0.05
    if value == 5.0:
        np.testing.assert_array_equal(result["y"], jnp.broadcast_to(bias, x.shape))
        assert not result["gradients"][0]["scale"].any()


@pytest.mark.parametrize("mean", [300.0, 3000.0])
def test_large_means_lose_nothing_at_test_time(mean):
    x = inputs((4, 3, 3, 5)) + mean
    module = BatchNorm(use_running_average=True, **FIELDS)
    stats = {"mean": jnp.full(5, mean), "var": jnp.full(5, 4.0)}
    params = {"scale": jnp.ones(5), "bias": jnp.zeros(5)}
    y = module.apply({"params": params, "batch_stats": stats}, x)
    exact = (np.asarray(x, np.float64) - mean) / np.sqrt(4.0 + FIELDS["epsilon"])
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-6)


def test_the_same_bits_on_a_second_run():
    x = inputs((16, 9, 9, 24))
    step = jax.jit(lambda x: run(BatchNorm, x))
    jax.tree.map(np.testing.assert_array_equal, step(x), step(x))
