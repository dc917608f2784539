"""Upsampling, by hand-computed values, adjointness, gradients, and against torch where it is."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from cnnjax.nn import operations, upsampling
from cnnjax.nn.initializers import he_sd, normal
from cnnjax.nn.native import library
from cnnjax.nn.pooling import HALVE, Window, max_pool
from cnnjax.nn.upsampling import TransposedConv, bilinear, bilinear_kernel, fit, max_unpool, nearest

LECTURE = jnp.array([[1.0, 2, 4, 3], [2, 5, 2, 0], [1, 5, 2, 1], [7, 3, 3, 8]]).reshape(1, 4, 4, 1)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def maps(rows):
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


def test_nearest_repeats_pixels():
    x = maps([[1, 2], [3, 4]])
    assert nearest(x, (4, 4))[0, :, :, 0].tolist() == [
        [1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4],
    ]  # fmt: skip
    # Centres of three pixels on two: 1/3 - 1/2 + 1/2 ... the middle one lies on the border.
    assert nearest(x, (2, 5))[0, :, :, 0].tolist() == [[1, 1, 2, 2, 2], [3, 3, 4, 4, 4]]
    assert nearest(x, (2, 2)).tolist() == x.tolist()


def test_bilinear_interpolates_between_centres():
    x = maps([[0, 4], [8, 12]])
    assert bilinear(x, (2, 4))[0, :, :, 0].tolist() == [[0, 1, 3, 4], [8, 9, 11, 12]]
    assert bilinear(x, (4, 2))[0, :, 0, 0].tolist() == [0, 2, 6, 8]
    # Centres of three pixels are at -1/6, 1/2 and 7/6 of the two.
    np.testing.assert_allclose(bilinear(x, (2, 3))[0, 0, :, 0], [0, 2, 4], atol=1e-6)
    assert bilinear(x, (2, 2)).tolist() == x.tolist()


@pytest.mark.parametrize("size", [(6, 8), (9, 4), (7, 11), (5, 4)])
@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_resizing_is_that_of_jax_image(size, method):
    x = draw(2, 3, 4, 5)
    function = nearest if method == "nearest" else bilinear
    expected = jax.image.resize(x, (2, *size, 5), method, antialias=False)
    np.testing.assert_allclose(function(x, size), expected, atol=1e-5)
    check_grads(functools.partial(function, size=size), (x,), 2, rtol=1e-2)


def test_the_example_of_the_lecture():
    """The maxima are at 5, 4, 7 and 8; the values 1, 2, 3, 4 go there."""
    assert max_pool(LECTURE)[0, :, :, 0].tolist() == [[5, 4], [7, 8]]
    assert max_unpool(maps([[1, 2], [3, 4]]), LECTURE)[0, :, :, 0].tolist() == [
        [0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4],
    ]  # fmt: skip


POOLS = {
    "plain": operations.PLAIN.max_pool,
    "sliced": operations.SLICED.max_pool,
    "native": operations.NATIVE.max_pool,
}


@pytest.fixture(params=POOLS)
def pool(request):
    if request.param == "native" and library.missing():
        pytest.skip(str(library.missing()))
    return POOLS[request.param]


def test_of_equal_elements_the_first_gets_the_value(pool):
    x = maps([[0, 0, 2, 3], [0, 0, 3, 2], [1, 0, 0, 7], [1, 1, 7, 7]])
    y = maps([[1, 2], [3, 4]])
    assert max_unpool(y, x, max_pool=pool)[0, :, :, 0].tolist() == [
        [1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4], [0, 0, 0, 0],
    ]  # fmt: skip


def test_windows_that_share_a_maximum_have_their_values_summed(pool):
    """3x3 windows with stride 2 over 5x5 pixels; 9 in the middle is the maximum of all four."""
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(9)
    y = maps([[1, 20], [300, 4000]])
    result = max_unpool(y, x, Window(3, 2), pool)
    assert result[0, 2, 2, 0] == 4321
    assert result.sum() == 4321


WINDOWS = (HALVE, Window(3, 2), Window(3, 2, 1), Window(3, 2, 0, ceil=True), Window(2, 1))


@pytest.mark.parametrize("form", ["PLAIN", "SLICED", "NATIVE"])
@pytest.mark.parametrize("window", [HALVE, Window(3, 2, 1)])
def test_every_form_finds_the_same_maxima(form, window):
    """Many are equal: small whole numbers."""
    if form == "NATIVE" and library.missing():
        pytest.skip(str(library.missing()))
    operation = getattr(operations, form)
    x = jnp.round(draw(2, 7, 6, 3))
    y = draw(*operation.max_pool(x, window).shape, seed=1)
    expected = max_unpool(y, x, window, operation.max_pool)
    np.testing.assert_allclose(operation.max_unpool(y, x, window), expected, atol=1e-6)
    np.testing.assert_allclose(max_unpool(y, x, window), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (4, 6)])
@pytest.mark.parametrize("window", WINDOWS)
def test_unpooling_is_the_transpose_of_pooling(window, height, width, pool):
    """<P x', y> = <x', P' y>, where P takes the elements at the maxima of x; P x = max_pool(x)."""
    x, other = draw(2, height, width, 3), draw(2, height, width, 3, seed=1)
    y = draw(*pool(x, window).shape, seed=2)
    unpooled = max_unpool(y, x, window, pool)
    assert unpooled.shape == x.shape
    np.testing.assert_allclose((pool(x, window) * y).sum(), (x * unpooled).sum(), rtol=1e-4)
    _, taken = jax.jvp(lambda x: pool(x, window), (x,), (other,))
    np.testing.assert_allclose((taken * y).sum(), (other * unpooled).sum(), rtol=1e-4)


def test_pixels_in_no_window_are_zero(pool):
    x = draw(1, 5, 7, 2)
    unpooled = max_unpool(jnp.ones((1, 2, 3, 2)), x, max_pool=pool)
    assert (unpooled != 0).sum() == 12
    assert not unpooled[:, 4].any()
    assert not unpooled[:, :, 6].any()
    np.testing.assert_array_equal(x * unpooled, max_unpool(pool(x, HALVE), x, max_pool=pool))


def test_the_gradient_of_unpooling(pool):
    x, y = draw(1, 5, 6, 2), draw(1, 2, 3, 2, seed=1)
    weights = draw(1, 5, 6, 2, seed=2)
    check_grads(lambda y: max_unpool(y, x, max_pool=pool), (y,), 2, modes=["rev"], rtol=1e-2)
    to_y, to_x = jax.grad(
        lambda y, x: (weights * max_unpool(y, x, max_pool=pool)).sum(), argnums=(0, 1)
    )(y, x)
    assert not to_x.any()
    _, taken = jax.jvp(lambda x: pool(x, HALVE), (x,), (weights,))
    np.testing.assert_allclose(to_y, taken, rtol=1e-5)


def initializer(key, shape, dtype):
    return normal(key, shape, dtype, he_sd(np.prod(shape[:3]), shape[3]))


def transposed(x, size, kernel, features=3, **fields):
    layer = TransposedConv(features, size, fields.pop("init", initializer), kernel, **fields)
    return layer, layer.init(jax.random.key(0), x)


def by_hand(x, kernel, stride, padding, size):
    """Every pixel puts the kernel, weighted, into the image: sums in loops."""
    batch, height, width, _ = x.shape
    rows, columns, _, features = kernel.shape
    canvas = np.zeros((batch, 64, 64, features))
    for i, j in itertools.product(range(height), range(width)):
        top, left = i * stride[0], j * stride[1]
        canvas[:, top : top + rows, left : left + columns] += np.einsum(
            "bi,hwio->bhwo", x[:, i, j], kernel
        )
    return canvas[:, padding : padding + size[0], padding : padding + size[1]]


# For stride 2: (kernel, size [pixels] -> new size, torch's padding); the rest is output_padding.
CASES = [
    (2, 3, 6, 0), (2, 3, 7, 0), (2, 3, 5, 1), (3, 3, 6, 1), (3, 3, 7, 0), (3, 3, 5, 1),
    (4, 3, 6, 1), (4, 3, 7, 1), (4, 3, 5, 2), (4, 1, 2, 1), (3, 2, 5, 0), (2, 2, 5, 0),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "old", "new", "padding"), CASES)
@pytest.mark.parametrize("convolve", ["xla", "native"])
def test_a_transposed_convolution_by_hand(kernel, old, new, padding, convolve):
    if convolve == "native" and library.missing():
        pytest.skip(str(library.missing()))
    form = operations.NATIVE if convolve == "native" else operations.PLAIN
    x = draw(2, old, old, 4)
    layer, variables = transposed(x, (new, new), kernel, convolve=form.convolve)
    weights = variables["params"]["kernel"]
    assert weights.shape == (kernel, kernel, 4, 3)
    y = layer.apply(variables, x)
    expected = by_hand(np.asarray(x), np.asarray(weights), (2, 2), padding, (new, new))
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "old", "new", "padding"), CASES)
def test_a_transposed_convolution_is_that_of_torch(kernel, old, new, padding):
    torch = pytest.importorskip("torch")
    x = draw(2, old, old, 4)
    layer, variables = transposed(x, (new, new), kernel)
    weights = np.array(variables["params"]["kernel"])
    extra = new - ((old - 1) * 2 - 2 * padding + kernel)
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(np.array(x).transpose(0, 3, 1, 2)),
        torch.tensor(weights.transpose(2, 3, 0, 1)),
        stride=2,
        padding=padding,
        output_padding=extra,
    )
    y = layer.apply(variables, x)
    np.testing.assert_allclose(y, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("size", [(6, 8), (7, 11), (9, 4)])
def test_resizing_is_that_of_torch(size):
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 4, 5)
    given = torch.tensor(np.array(x).transpose(0, 3, 1, 2))
    resize = torch.nn.functional.interpolate
    for function, fields in (
        (nearest, {"mode": "nearest-exact"}),
        (bilinear, {"mode": "bilinear", "align_corners": False}),
    ):
        expected = resize(given, size, **fields).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(function(x, size), expected, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("length", [4, 5, 7])
def test_it_is_the_transpose_of_a_convolution(kernel, length):
    """<A x, y> = <x, A' y>, where A is the convolution with the same weights and stride."""
    half = length // 2
    y = draw(2, half, half, 4)
    layer, variables = transposed(y, (length, length), kernel, use_bias=False)
    before = max(0, -(-((half - 1) * 2 + kernel - length) // 2))
    after = (half - 1) * 2 + kernel - before - length

    def convolution(x):
        return lax.conv_general_dilated(
            x,
            variables["params"]["kernel"].swapaxes(2, 3),
            (2, 2),
            ((before, after),) * 2,
            dimension_numbers=LAYOUT,
        )

    x = draw(2, length, length, 3, seed=1)
    np.testing.assert_allclose(
        (convolution(x) * y).sum(), (x * layer.apply(variables, y)).sum(), rtol=1e-4
    )


def test_gradients_of_a_transposed_convolution():
    x = draw(1, 2, 3, 2)
    layer, variables = transposed(x, (5, 6), 3, features=2)
    check_grads(lambda p, x: layer.apply({"params": p}, x), (variables["params"], x), 2, rtol=1e-2)


def test_strides_follow_the_sizes():
    """The kernel grows with the stride: 64 for a stride of 32, 8 for a stride of 4."""
    x = jnp.zeros((1, 2, 1, 1))
    for kernel, (rows, columns), size in (
        (4, (64, 8), (64, 4)), (3, (12, 3), (17, 2)), (2, (3, 1), (6, 1)),
    ):  # fmt: skip
        layer, variables = transposed(x, size, kernel, features=1)
        assert variables["params"]["kernel"].shape == (rows, columns, 1, 1)
        assert layer.apply(variables, x).shape == (1, *size, 1)


def test_far_beyond_the_stride_there_are_zeros_around():
    """16 pixels of AlexNet's first layer see 67: 15 * 4 + 4 = 64, and three are added."""
    x = jnp.ones((1, 16, 1, 1))
    layer, variables = transposed(x, (71, 1), 2, features=1, use_bias=False)
    shown = (layer.apply(variables, x)[0, :, 0, 0] != 0).tolist()
    assert shown == [False] * 2 + [True] * 64 + [False] * 5


def test_it_can_start_as_bilinear_interpolation():
    """Except that it fades to zero at the border, where it has no pixels to repeat."""
    x = draw(2, 3, 4, 3)
    for init in (None, initializer):
        layer, variables = transposed(x, (6, 8), 4, init=init)
        difference = layer.apply(variables, x) - bilinear(x, (6, 8))
        assert (np.abs(difference[:, 1:-1, 1:-1]).max() < 1e-5) == (init is None)


def test_bilinear_kernels():
    """Of FCN (Long et al. 2015): 1/4, 3/4, 3/4, 1/4 for stride 2; and 1/2, 1, 1/2 for side 3."""
    assert bilinear_kernel((4, 1, 1, 1), (2, 1), jnp.float32)[:, 0, 0, 0].tolist() == [
        0.25, 0.75, 0.75, 0.25,
    ]  # fmt: skip
    assert bilinear_kernel((3, 2, 1, 1), (2, 2), jnp.float32)[:, :, 0, 0].tolist() == [
        [0.5, 0.5], [1, 1], [0.5, 0.5],
    ]  # fmt: skip
    mixing = bilinear_kernel((2, 2, 4, 2), (2, 2), jnp.float32)[0, 0]
    assert mixing.tolist() == [[0.5, 0], [0, 0.5], [0.5, 0], [0, 0.5]]
    mixing = bilinear_kernel((2, 2, 2, 3), (2, 2), jnp.float32)[0, 0]
    assert mixing.tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_every_phase_is_drawn_as_a_convolution(kernel):
    """He's initialisation keeps the mean square of rectified inputs, which the fans of the whole
    kernel would divide by the square of the stride."""
    x = jax.nn.relu(draw(8, 16, 16, 64)) * np.sqrt(2)
    layer, variables = transposed(x, (32, 32), kernel, features=64)
    y = layer.apply(variables, x)[:, 2:-2, 2:-2]
    squares = (y**2).mean((0, 3)).reshape(14, 2, 14, 2).mean((0, 2))
    np.testing.assert_allclose(squares, 2 * np.ones((2, 2)), rtol=0.15)


def test_fitting_keeps_the_centre():
    x = maps([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert fit(x, (5, 1))[0, :, :, 0].tolist() == [[0], [2], [5], [8], [0]]
    assert fit(x, (2, 4))[0, :, :, 0].tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]
    assert upsampling.fit(x, (3, 3)) is x
