import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.nn.dropout import Dropout

ONES = jnp.ones((100, 10, 10, 10))


def drop(layer, x=ONES, *, train=True, keep_prob=None, key=0):
    rngs = {"dropout": jax.random.key(key, impl="rbg")}
    return layer.apply({}, x, train=train, keep_prob=keep_prob, rngs=rngs)


@pytest.mark.parametrize(("scaling", "value", "test"), [("inverted", 1.25, 1), ("classic", 1, 0.8)])
def test_values_and_expectation(scaling, value, test):
    layer = Dropout(0.8, scaling)
    y = drop(layer)
    np.testing.assert_allclose(np.unique(y), [0, value])
    assert float(y.mean()) == pytest.approx(0.8 * value, abs=0.008)
    np.testing.assert_allclose(np.unique(drop(layer, train=False)), [test])
    # What a unit gives on average in training, it gives at test time.
    assert float(y.mean()) == pytest.approx(test, abs=0.008)


def test_keep_prob_may_be_traced():
    layer = Dropout(0.5)
    compiled = jax.jit(lambda keep: drop(layer, keep_prob=keep))
    for keep in (0.25, 0.9):
        y = compiled(keep)
        np.testing.assert_allclose(np.unique(y), [0, 1 / keep], rtol=1e-6)
        assert float((y > 0).mean()) == pytest.approx(keep, abs=0.01)
    assert compiled._cache_size() == 1
    classic = jax.jit(lambda keep: drop(Dropout(0.5, "classic"), train=False, keep_prob=keep))
    assert float(classic(0.3).mean()) == pytest.approx(0.3)


def test_given_one_everything_is_kept():
    assert (drop(Dropout(0.5), keep_prob=1.0) == 1).all()


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
def test_configured_one_is_no_dropout(scaling):
    layer = Dropout(1.0, scaling)
    assert layer.apply({}, ONES, train=True, keep_prob=0.5) is ONES


def test_spatial_drops_whole_channels():
    y = np.asarray(drop(Dropout(0.5, kind="spatial"))).reshape(100, 100, 10)
    assert (y.min(axis=1) == y.max(axis=1)).all()
    share = (y[:, 0] > 0).mean()
    assert share == pytest.approx(0.5, abs=0.07)
    plain = np.asarray(drop(Dropout(0.5))).reshape(100, 100, 10)
    assert (plain.min(axis=1) < plain.max(axis=1)).all()


def test_keys_matter_and_bfloat16_stays():
    layer = Dropout(0.5)
    assert (drop(layer, key=1) != drop(layer, key=2)).any()
    assert drop(layer, ONES.astype(jnp.bfloat16), keep_prob=jnp.float32(0.9)).dtype == jnp.bfloat16
