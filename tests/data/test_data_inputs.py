import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import inputs

BYTES = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("centered", [-0.5, -0.3, 0.5]), ("none", [0, 0.2, 1]), ("standardize", [-0.4, 0.4, 3.6])],
)
def test_normalization_by_hand(kind, expected):
    normalize = inputs.normalizer(kind, mean=(0.1,), sd=(0.25,))
    result = normalize(inputs.to_float(jnp.asarray(BYTES)))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result[0, 0, :, 0], expected, atol=1e-6)


def test_standardize_goes_by_channel_and_leaves_constant_ones_finite():
    images = jnp.ones((2, 4, 4, 3)) * jnp.array([0.5, 0.2, 0.7])
    result = inputs.normalizer("standardize", (0.5, 0.0, 0.7), (0.1, 0.4, 0.0))(images)
    np.testing.assert_allclose(result[0, 0, 0], [0, 0.5, 0], atol=1e-6)


def test_given_mean_and_sd_and_reversed_channels():
    """As Keras's `caffe` mode: blue, green, red in 0..255 less the means."""
    pixels = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3)
    mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
    normalize = inputs.normalizer("given", mean, (1 / 255,) * 3, "bgr")
    result = normalize(inputs.to_float(jnp.asarray(pixels)))
    np.testing.assert_allclose(
        result[0, 0, 0], [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-5
    )


def test_gather_takes_both_kinds_of_batch():
    images = jnp.arange(5 * 2 * 2, dtype=jnp.uint8).reshape(5, 2, 2, 1)
    store = {"images": images, "label": jnp.arange(5)}
    batch = inputs.gather(store, {"indices": jnp.array([4, 0, 4])})
    assert batch["images"].dtype == jnp.uint8
    np.testing.assert_array_equal(batch["images"], images[jnp.array([4, 0, 4])])
    np.testing.assert_array_equal(batch["label"], [4, 0, 4])
    batch = inputs.gather({}, {"images": images[:2], "label": jnp.array([1, 2])})
    np.testing.assert_array_equal(batch["images"], images[:2])
    np.testing.assert_array_equal(batch["label"], [1, 2])
