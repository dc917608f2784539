import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Model
from cnnjax.nn import ingredients, pooling
from cnnjax.nn.pooling import (
    HALVE,
    POOLINGS,
    Window,
    average_pool,
    blur_pool,
    max_plus_average_pool,
    max_pool,
    reduce_window_max,
    sum_pool,
)

LECTURE = jnp.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 5]]).reshape(1, 4, 4, 1)


def test_the_example_of_the_lecture():
    assert max_pool(LECTURE)[0, :, :, 0].tolist() == [[6, 8], [3, 5]]
    assert average_pool(LECTURE)[0, :, :, 0].tolist() == [[3.25, 5.25], [2.0, 2.25]]
    assert sum_pool(LECTURE)[0, :, :, 0].tolist() == [[13.0, 21.0], [8.0, 9.0]]
    assert max_plus_average_pool(LECTURE)[0, :, :, 0].tolist() == [[9.25, 13.25], [5.0, 7.25]]


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_max_pool_is_flax_max_pool(size):
    def reference(x, window=HALVE):
        return nn.max_pool(x, (2, 2), (window.stride, window.stride))

    def results(pool, x):
        y, pullback = jax.vjp(pool, x)
        weights = jnp.arange(float(y.size)).reshape(y.shape)
        return y, pullback(weights), pool(x, Window(stride=1))

    both = jax.jit(lambda x: (results(max_pool, x), results(reference, x)))
    ours, theirs = both(jax.random.normal(jax.random.key(0, impl="rbg"), (2, *size, 3)))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


TIES = {
    "all": ([[1, 1], [1, 1]], [[1, 0], [0, 0]]),
    "right column": ([[0, 2], [0, 2]], [[0, 1], [0, 0]]),
    "lower row": ([[0, 1], [3, 3]], [[0, 0], [1, 0]]),
    "antidiagonal": ([[0, 5], [5, 0]], [[0, 1], [0, 0]]),
    "diagonal": ([[5, 0], [0, 5]], [[1, 0], [0, 0]]),
}


@pytest.mark.parametrize("case", TIES)
def test_of_equal_elements_the_first_gets_the_gradient(case):
    values, expected = TIES[case]
    x = jnp.array(values, jnp.float32).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert gradient[0, :, :, 0].tolist() == expected


def test_an_odd_last_row_gets_no_gradient():
    x = jax.random.normal(jax.random.key(0, impl="rbg"), (1, 5, 5, 1))
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert not gradient[:, 4].any()
    assert not gradient[:, :, 4].any()
    assert float(gradient.sum()) == 4


@pytest.mark.parametrize("index", range(4))
def test_nan_is_not_lost(index):
    x = jnp.arange(4.0).at[index].set(jnp.nan).reshape(1, 2, 2, 1)
    assert np.isnan(max_pool(x)).all()


def reference_blur(x):
    """Zhang 2019: maxima at stride 1, then the 3x3 binomial filter at every second position."""
    height, width = x.shape
    dense = np.array(
        [[x[i : i + 2, j : j + 2].max() for j in range(width - 1)] for i in range(height - 1)]
    )
    padded = np.pad(dense, 1, mode="reflect")
    filter_ = np.outer([1, 2, 1], [1, 2, 1]) / 16
    return np.array(
        [
            [(padded[i : i + 3, j : j + 3] * filter_).sum() for j in range(0, width - 1, 2)]
            for i in range(0, height - 1, 2)
        ]
    )


@pytest.mark.parametrize("size", [(7, 6), (2, 3)])
def test_blur_pool(size):
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    y = jax.jit(blur_pool)(jnp.asarray(x).reshape(1, *size, 1))[0, :, :, 0]
    assert y.shape == (size[0] // 2, size[1] // 2)
    np.testing.assert_allclose(y, reference_blur(x), atol=1e-5)


def build(level, activation="identity"):
    return ingredients.build(Model(pooling=level, activation=activation, initializer="constant"))


def test_subsampling():
    layer = build("subsampling", "scaled_tanh").pool("pool")
    x = jnp.concatenate([LECTURE, -LECTURE], axis=-1)
    variables = layer.init(jax.random.key(0, impl="rbg"), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"coefficient": (2,), "bias": (2,)}
    linear = build("subsampling").pool("pool")
    np.testing.assert_allclose(linear.apply(variables, x)[..., :1], average_pool(LECTURE))
    changed = {"params": {"coefficient": jnp.array([1.0, 0.5]), "bias": jnp.array([2.0, 0.0])}}
    y = linear.apply(changed, x)[0, 0, 0]
    assert y.tolist() == [13 + 2, -6.5]
    squashed = layer.apply(changed, x)[0, 0, 0, 1]
    assert float(squashed) == pytest.approx(1.7159 * np.tanh(-6.5 * 2 / 3), rel=1e-5)


def test_strided_convolution():
    layer = build("strided", "relu").pool("pool")
    variables = layer.init(jax.random.key(0, impl="rbg"), LECTURE)
    assert variables["params"]["conv"]["kernel"].shape == (2, 2, 1, 1)
    np.testing.assert_allclose(
        layer.apply(variables, LECTURE), 0.04 * average_pool(LECTURE), rtol=1e-5
    )
    assert not layer.apply(variables, -LECTURE).any()


@pytest.mark.parametrize("level", POOLINGS)
def test_all_levels_have_the_same_geometry(level):
    layer = build(level).pool("pool")
    x = jnp.zeros((2, 7, 4, 3))
    y = (
        layer.init_with_output(jax.random.key(0, impl="rbg"), x)[0]
        if isinstance(layer, nn.Module)
        else layer(x)
    )
    assert y.shape == ((2, 7, 4, 3) if level == "none" else (2, 3, 2, 3))


def test_windows_are_in_row_major_order():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    assert [float(w.squeeze()) for w in pooling.windows(x)] == [0, 1, 2, 3]


WINDOWS = [Window(3, 2), Window(3, 2, 1), Window(3, 2, 0, ceil=True), Window(3, 1, 1), Window(2, 3)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("size", [(7, 6), (5, 8), (3, 4)])
def test_other_windows(window, size):
    """Against flax's poolings of the image with explicit borders."""
    x = jax.random.normal(jax.random.key(0, impl="rbg"), (2, *size, 3))
    padding = [window.pads(length) for length in size]
    fields = ((window.size,) * 2, (window.stride,) * 2, padding)

    def gradient(pool):
        return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

    for pool in (max_pool, reduce_window_max):
        np.testing.assert_array_equal(pool(x, window), nn.max_pool(x, *fields))
    np.testing.assert_allclose(
        gradient(lambda x: max_pool(x, window)), gradient(lambda x: nn.max_pool(x, *fields))
    )
    average = nn.avg_pool(x, *fields, count_include_pad=False)
    np.testing.assert_allclose(average_pool(x, window), average, atol=1e-6)
    expected = tuple(window.output_size(length) for length in size)
    for level in POOLINGS:
        layer = build(level).pool("pool", window)
        shapes = jax.eval_shape(
            lambda x: (
                layer.init_with_output(jax.random.key(0), x)[0]  # noqa: B023
                if isinstance(layer, nn.Module)  # noqa: B023
                else layer(x)  # noqa: B023
            ),
            x,
        )
        assert shapes.shape[1:3] == (size if level == "none" else expected)


@pytest.mark.parametrize(
    ("window", "length", "output_size"),
    [
        (Window(3, 2), 55, 27),
        (Window(3, 2, 1), 112, 56),
        (Window(3, 2, 0, ceil=True), 112, 56),
        (Window(3, 2, 0, ceil=True), 56, 28),
        (Window(2, 2, 0, ceil=True), 5, 3),
        (Window(3, 2, 1, ceil=True), 3, 2),
        (Window(3, 2), 2, 0),
    ],
)
def test_output_sizes_of_published_networks(window, length, output_size):
    """AlexNet's, ResNet's and GoogLeNet's; no window begins in the border after the image."""
    assert window.output_size(length) == output_size
