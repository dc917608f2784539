"""The native convolution against XLA's, which is `jax.lax.conv_general_dilated`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.nn.native import library
from cnnjax.nn.native.convolution import conv_general_dilated

pytestmark = pytest.mark.skipif(bool(library.missing()), reason=str(library.missing()))

LAYOUT = ("NHWC", "HWIO", "NHWC")
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
# batch, (height, width), (inputs, outputs), kernel, strides, dilation, padding, groups
GRID = {
    "usual": (4, (8, 8), (8, 16), (3, 3), (1, 1), (1, 1), "SAME", 1),
    "odd sizes": (3, (9, 7), (5, 7), (3, 5), (2, 1), (1, 1), ((1, 0), (2, 3)), 1),
    "1x1": (2, (6, 5), (16, 8), (1, 1), (1, 1), (1, 1), "VALID", 1),
    "1x1 image and kernel": (5, (1, 1), (3, 4), (1, 1), (1, 1), (1, 1), "VALID", 1),
    "kernel as large as the image": (2, (5, 5), (4, 6), (5, 5), (1, 1), (1, 1), "VALID", 1),
    "kernel larger than the image": (2, (3, 4), (4, 6), (7, 7), (1, 1), (1, 1), "SAME", 1),
    "stride larger than the kernel": (2, (9, 8), (3, 5), (2, 2), (4, 3), (1, 1), "VALID", 1),
    "groups": (2, (7, 6), (8, 12), (3, 3), (1, 1), (1, 1), "SAME", 4),
    "depthwise": (2, (7, 6), (6, 6), (3, 3), (2, 2), (1, 1), "SAME", 6),
    "dilation": (2, (11, 10), (3, 4), (3, 2), (1, 1), (2, 3), "SAME", 1),
    "dilation, strides and groups": (2, (11, 12), (4, 6), (3, 3), (2, 3), (2, 1), "SAME", 2),
    "one channel": (2, (28, 28), (1, 6), (5, 5), (1, 1), (1, 1), "SAME", 1),
    "batch 1": (1, (8, 8), (4, 4), (3, 3), (1, 1), (1, 1), "SAME", 1),
}


def operands(case, dtype, seed=0):
    batch, size, (inputs, outputs), kernel, _, _, _, groups = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, *size, inputs))
    k = rng.normal(size=(*kernel, inputs // groups, outputs))
    return jnp.asarray(x, dtype), jnp.asarray(k, dtype)


def both(case):
    """The convolution of a case, native and XLA's, as functions of the two operands."""
    _, _, _, _, strides, dilation, padding, groups = case

    def bind(convolve):
        return lambda x, k: convolve(
            x,
            k,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=LAYOUT,
            feature_group_count=groups,
        )

    return bind(conv_general_dilated), bind(lax.conv_general_dilated)


def with_gradients(convolve):
    """(x, k, seed) -> output and the gradients of a fixed weighting of it."""

    def run(x, k):
        y, pullback = jax.vjp(convolve, x, k)
        weights = jnp.cos(jnp.arange(float(y.size))).reshape(y.shape).astype(y.dtype)
        return y, *pullback(weights)

    return run


def calls(function, *arguments):
    """How many native calls a compiled function makes."""
    return jax.jit(function).lower(*arguments).as_text().count(f"@{library.target('convolution')}")


def assert_close(result, expected, tolerance):
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    assert result.shape == expected.shape
    if expected.size:
        assert np.abs(result - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-30)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", GRID)
def test_it_agrees_with_xla_forward_and_backward(name, dtype):
    native, xla = both(GRID[name])
    x, k = operands(GRID[name], dtype)
    if dtype == "float32":
        assert calls(with_gradients(native), x, k) == 3
    result = jax.jit(with_gradients(native))(x, k)
    expected = jax.jit(with_gradients(xla))(x, k)
    for one, other in zip(result, expected, strict=True):
        assert one.dtype == other.dtype == dtype
        assert_close(one, other, TOLERANCE[dtype])


def test_an_empty_batch():
    x, k = jnp.zeros((0, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    result = with_gradients(both(GRID["usual"])[0])(x, k)
    assert [one.shape for one in result] == [(0, 8, 8, 4), x.shape, k.shape]
    assert not result[2].any()


@pytest.mark.parametrize(
    ("strides", "size", "padding", "dilation", "groups"),
    [
        ((2, 2), (4, 4), ((3, 3), (2, 3)), (1, 1), 1),
        ((3, 2), (3, 2), ((2, 2), (1, 1)), (1, 1), 2),
        ((2, 2), (3, 3), ((1, 2), (4, 0)), (2, 2), 1),
        ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    ],
)
def test_transposed_convolution(strides, size, padding, dilation, groups):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 4)), jnp.float32)
    k = jnp.asarray(rng.normal(size=(*size, 4 // groups, 6)), jnp.float32)

    def bind(convolve):
        return lambda x, k: convolve(
            x, k, (1, 1), padding, strides, dilation, LAYOUT, feature_group_count=groups
        )

    native, xla = bind(conv_general_dilated), bind(lax.conv_general_dilated)
    assert calls(with_gradients(native), x, k) == 3
    for one, other in zip(with_gradients(native)(x, k), with_gradients(xla)(x, k), strict=True):
        assert_close(one, other, 1e-5)


def test_forward_mode_and_second_derivatives():
    case = GRID["odd sizes"]
    native, xla = both(case)
    x, k = operands(case, jnp.float32)
    tangents = operands(case, jnp.float32, seed=1)

    def curvature(convolve):
        def slope(x, k):
            return jax.grad(lambda x, k: (convolve(x, k) ** 3).sum(), argnums=(0, 1))(x, k)

        return jax.jvp(slope, (x, k), tangents)[1]

    forward = [jax.jvp(convolve, (x, k), tangents)[1] for convolve in (native, xla)]
    assert_close(*forward, 1e-5)
    for one, other in zip(curvature(native), curvature(xla), strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_is_xlas(axes):
    case = GRID["usual"]
    native, xla = both(case)
    pair = [
        jnp.stack([one, -2 * one]) if axis == 0 else one
        for one, axis in zip(operands(case, jnp.float32), axes, strict=True)
    ]
    mapped = jax.vmap(with_gradients(native), axes)
    assert calls(jax.vmap(native, axes), *pair) == 0
    for one, other in zip(mapped(*pair), jax.vmap(with_gradients(xla), axes)(*pair), strict=True):
        assert_close(one, other, 1e-5)


def test_what_it_does_not_know_is_xlas():
    x, k = operands(GRID["usual"], jnp.float32)
    native, xla = both(GRID["usual"])
    assert calls(native, x.astype(jnp.float16), k.astype(jnp.float16)) == 0
    negative = ((-1, 0), (0, 0))
    crop = [
        convolve(x, k, (1, 1), negative, dimension_numbers=LAYOUT)
        for convolve in (conv_general_dilated, lax.conv_general_dilated)
    ]
    assert_close(*crop, 1e-6)
    nchw = ("NCHW", "HWIO", "NCHW")
    image = x.transpose(0, 3, 1, 2)
    turned = [
        convolve(image, k, (1, 1), "SAME", dimension_numbers=nchw)
        for convolve in (conv_general_dilated, lax.conv_general_dilated)
    ]
    assert_close(*turned, 1e-6)
    assert_close(native(x, k), xla(x, k), 1e-5)


def test_the_image_gets_no_gradient_that_nobody_asks_for():
    native, _ = both(GRID["usual"])
    x, k = operands(GRID["usual"], jnp.float32)
    assert calls(jax.grad(lambda k: native(x, k).sum()), k) == 1


def test_outside_of_jit_it_is_compiled_once(monkeypatch):
    native, xla = both(GRID["odd sizes"])
    x, k = operands(GRID["odd sizes"], jnp.float32)
    asked = []
    supports = library.supports
    monkeypatch.setattr(library, "supports", lambda n: asked.append(n) or supports(n))
    x = x[:2]  # a shape of its own
    for _ in range(3):
        assert_close(native(x, k), xla(x, k), 1e-5)
    assert len(asked) == 1


def test_the_same_bits_on_a_second_run():
    native, _ = both(GRID["usual"])
    x, k = operands(GRID["usual"], jnp.float32)
    run = jax.jit(with_gradients(native))
    for one, other in zip(run(x, k), run(x, k), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_three_are_transposes_of_each_other():
    """<conv(x, k), w> is one number, whichever of the three is computed."""
    for case in itertools.islice(GRID.values(), 6):
        native, _ = both(case)
        x, k = operands(case, jnp.float32)
        y, back_x, back_k = with_gradients(native)(x, k)
        w = jnp.cos(jnp.arange(float(y.size))).reshape(y.shape)
        values = [float((a * b).sum()) for a, b in ((y, w), (back_x, x), (back_k, k))]
        scale = float(jnp.linalg.norm(y) * jnp.linalg.norm(w))
        assert max(values) - min(values) < 1e-5 * scale
